//! Changing limits and the restart policy of a container (B192).

use std::sync::Arc;

use super::Container;
use crate::{
    EngineError, bundle, limits,
    network::{self, Attachment},
    spec::{Resources, RestartPolicy},
};

/// What is to change. 0, empty and `None` leave what there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateContainer {
    /// New limits.
    pub resources: Resources,
    /// New policy.
    pub restart: Option<RestartPolicy>,
}

impl Container {
    /// Changes limits and policy; the kernel first, then the record.
    pub(crate) async fn update(&mut self, update: UpdateContainer) -> Result<Vec<String>, EngineError> {
        let view = self.view();
        if view.state.word() == "removing" {
            return Err(EngineError::conflict(format!("cannot update container {}: it is being removed", view.id)));
        }
        let mut next = (*view).clone();
        let spec = Arc::make_mut(&mut next.spec);
        if let Some(policy) = update.restart {
            if spec.host.auto_remove && policy != RestartPolicy::No {
                return Err(refused(
                    &view.id,
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            spec.host.restart = policy;
        }
        let mut changes = update.resources;
        if let Some(reason) = conflict(&spec.host.resources, &changes) {
            return Err(refused(&view.id, reason));
        }
        let warnings = settle(&mut changes)?;
        merge(&mut spec.host.resources, changes);
        network::check_shape(&spec.host)?;
        if view.state.is_running() {
            if view.spec.host.resources.network_shape != next.spec.host.resources.network_shape {
                let records = self.network.as_ref().map(Attachment::records).unwrap_or_default();
                network::shape_running(&self.engine, &next, records.to_vec()).await?;
            }
            self.running_shim()?.update(bundle::limits_document(&next.spec.host)?).await?;
        }
        self.commit_record_of(&next).await?;
        self.engine.publish(&next, "update", []);
        self.install(next);
        Ok(warnings)
    }
}

fn refused(id: &berth_model::ContainerId, reason: &str) -> EngineError {
    EngineError::conflict(format!("Cannot update container {id}: {reason}"))
}

/// Why changes do not go with the limits there are.
fn conflict(old: &Resources, changes: &Resources) -> Option<&'static str> {
    let alone = changes.memory > 0 && changes.memory_swap == 0;
    if alone && old.memory_swap > 0 && changes.memory > old.memory_swap {
        return Some(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    if changes.memory_swap > 0 && changes.memory == 0 && old.memory > 0 && changes.memory_swap < old.memory {
        return Some("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    // A share of CPUs and a quota exclude each other.
    let share = changes.nano_cpus > 0;
    match old.nano_cpus > 0 {
        true if changes.cpu_period > 0 => {
            Some("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
        }
        true if changes.cpu_quota > 0 => {
            Some("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
        }
        false if share && old.cpu_period > 0 => {
            Some("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
        }
        false if share && old.cpu_quota > 0 => {
            Some("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
        }
        _ => None,
    }
}

fn settle(changes: &mut Resources) -> Result<Vec<String>, EngineError> {
    let mut settled = changes.clone();
    let warnings = limits::settle(&mut settled)?;
    changes.blkio_weight = settled.blkio_weight;
    changes.oom_kill_disable = settled.oom_kill_disable;
    Ok(warnings)
}

/// Takes over what is given.
fn merge(old: &mut Resources, new: Resources) {
    fn number<T: Default + PartialEq>(old: &mut T, new: T) {
        if new != T::default() {
            *old = new;
        }
    }
    number(&mut old.memory, new.memory);
    number(&mut old.memory_reservation, new.memory_reservation);
    number(&mut old.memory_swap, new.memory_swap);
    number(&mut old.memory_swappiness, new.memory_swappiness);
    number(&mut old.kernel_memory, new.kernel_memory);
    number(&mut old.kernel_memory_tcp, new.kernel_memory_tcp);
    number(&mut old.oom_kill_disable, new.oom_kill_disable);
    number(&mut old.cpu_shares, new.cpu_shares);
    number(&mut old.nano_cpus, new.nano_cpus);
    number(&mut old.cpu_period, new.cpu_period);
    number(&mut old.cpu_quota, new.cpu_quota);
    number(&mut old.cpu_realtime_period, new.cpu_realtime_period);
    number(&mut old.cpu_realtime_runtime, new.cpu_realtime_runtime);
    number(&mut old.cpuset_cpus, new.cpuset_cpus);
    number(&mut old.cpuset_mems, new.cpuset_mems);
    number(&mut old.pids_limit, new.pids_limit);
    number(&mut old.blkio_weight, new.blkio_weight);
    number(&mut old.blkio_weight_device, new.blkio_weight_device);
    number(&mut old.blkio_device_read_bps, new.blkio_device_read_bps);
    number(&mut old.blkio_device_write_bps, new.blkio_device_write_bps);
    number(&mut old.blkio_device_read_iops, new.blkio_device_read_iops);
    number(&mut old.blkio_device_write_iops, new.blkio_device_write_iops);
    number(&mut old.ulimits, new.ulimits);
    old.network_shape.merge(new.network_shape);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_above_the_swap_limit_needs_both() {
        let old = Resources { memory: 100, memory_swap: 200, ..Resources::default() };
        let refused = |changes: Resources| conflict(&old, &changes).expect("refused");
        assert!(
            refused(Resources { memory: 300, ..Resources::default() })
                .contains("update the memoryswap at the same time")
        );
        assert!(refused(Resources { memory_swap: 50, ..Resources::default() }).contains("larger than memory limit"));
        assert_eq!(conflict(&old, &Resources { memory: 300, memory_swap: -1, ..Resources::default() }), None);
    }

    #[test]
    fn a_share_of_cpus_and_a_quota_exclude_each_other() {
        let share = Resources { nano_cpus: 5, ..Resources::default() };
        let quota = Resources { cpu_quota: 5, ..Resources::default() };
        assert!(conflict(&share, &quota).is_some_and(|reason| reason.contains("CPU Quota cannot be updated")));
        assert!(conflict(&quota, &share).is_some_and(|reason| reason.contains("Nano CPUs cannot be updated")));
        assert_eq!(conflict(&share, &share), None);
    }

    #[test]
    fn what_is_not_given_stays() {
        let mut old = Resources { memory: 100, cpu_quota: 5, cpu_period: 10, ..Resources::default() };
        merge(&mut old, Resources { cpu_quota: 7, pids_limit: Some(9), ..Resources::default() });
        assert_eq!((old.memory, old.cpu_quota, old.cpu_period, old.pids_limit), (100, 7, 10, Some(9)));
    }
}
