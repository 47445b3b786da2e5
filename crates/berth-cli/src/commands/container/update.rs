//! `berth update`.

use berth_api::container::UpdateRequest;
use berth_api::host_config::Resources;

use super::options::request::restart_policy;
use super::options::resources::network_shape;
use super::options::value;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Update>(
    "container",
    "update",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    Arity::AtLeast(1),
)
.top(&["update"]);

/// Changes limits and the restart policy of containers (B192).
#[derive(clap::Args)]
pub struct Update {
    /// Relative block IO weight 10 to 1000, 0 turns it off
    #[arg(long, value_name = "uint16")]
    blkio_weight: Option<u16>,
    /// CFS period in microseconds
    #[arg(long, value_name = "int")]
    cpu_period: Option<i64>,
    /// CFS quota in microseconds per period
    #[arg(long, value_name = "int")]
    cpu_quota: Option<i64>,
    /// Real-time scheduler period in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<i64>,
    /// Real-time scheduler budget in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_runtime: Option<i64>,
    /// Relative CPU weight
    #[arg(long, short = 'c', value_name = "int")]
    cpu_shares: Option<i64>,
    /// Limit expressed as a decimal number of CPUs
    #[arg(long, value_name = "decimal", value_parser = value::cpus)]
    cpus: Option<i64>,
    /// CPUs the processes may run on (0-3 or 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// NUMA memory nodes the processes may use
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Deprecated, accepted and ignored
    #[arg(long, hide = true, value_name = "bytes", value_parser = value::bytes)]
    kernel_memory: Option<i64>,
    /// Hard memory limit
    #[arg(long, short = 'm', value_name = "bytes", value_parser = value::bytes)]
    memory: Option<i64>,
    /// Soft memory limit
    #[arg(long, value_name = "bytes", value_parser = value::bytes)]
    memory_reservation: Option<i64>,
    /// Memory plus swap limit, -1 is unlimited
    #[arg(long, value_name = "bytes", value_parser = value::bytes_or_unlimited)]
    memory_swap: Option<i64>,
    /// Delay of the packets that the container sends (20ms), 0 lifts it
    #[arg(long, value_name = "duration", value_parser = value::delay)]
    net_delay: Option<u64>,
    /// Share of the packets that the container sends and that get lost (0.5%), 0 lifts it
    #[arg(long, value_name = "percentage", value_parser = value::loss)]
    net_loss: Option<u32>,
    /// Limit of traffic in each direction (10mbit), 0 lifts it
    #[arg(long, value_name = "rate", value_parser = value::bit_rate)]
    net_rate: Option<u64>,
    /// Process count limit, -1 is unlimited
    #[arg(long, value_name = "int")]
    pids_limit: Option<i64>,
    /// Restart policy: no, always, unless-stopped or on-failure[:max]
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    containers: Vec<String>,
}

impl Command for Update {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let request = self.request()?;
        let warnings = std::cell::RefCell::new(Vec::new());
        let done = cx.for_each(&self.containers, |client, name| {
            let answer = client.container_update(name, &request)?;
            warnings.borrow_mut().extend(answer.warnings.unwrap_or_default());
            Ok(())
        });
        for warning in warnings.into_inner() {
            cx.warn(warning);
        }
        done
    }
}

impl Update {
    fn request(&self) -> Result<UpdateRequest, CliError> {
        let numbers = [
            self.cpu_period,
            self.cpu_quota,
            self.cpu_rt_period,
            self.cpu_rt_runtime,
            self.cpu_shares,
            self.cpus,
            self.kernel_memory,
            self.memory,
            self.memory_reservation,
            self.memory_swap,
            self.pids_limit,
        ];
        let words = [&self.cpuset_cpus, &self.cpuset_mems, &self.restart];
        let network_shape = network_shape(self.net_rate, self.net_delay, self.net_loss);
        let nothing = numbers.iter().all(Option::is_none) && words.iter().all(|word| word.is_none());
        if nothing && self.blkio_weight.is_none() && network_shape.is_none() {
            return Err(CliError::message("you must provide one or more flags when using this command"));
        }
        let resources = Resources {
            blkio_weight: self.blkio_weight.unwrap_or_default(),
            cpu_period: self.cpu_period.unwrap_or_default(),
            cpu_quota: self.cpu_quota.unwrap_or_default(),
            cpu_realtime_period: self.cpu_rt_period.unwrap_or_default(),
            cpu_realtime_runtime: self.cpu_rt_runtime.unwrap_or_default(),
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            nano_cpus: self.cpus.unwrap_or_default(),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            memory: self.memory.unwrap_or_default(),
            memory_reservation: self.memory_reservation.unwrap_or_default(),
            memory_swap: self.memory_swap.unwrap_or_default(),
            pids_limit: Some(self.pids_limit.unwrap_or_default()),
            network_shape,
            ..Resources::default()
        };
        let restart_policy = restart_policy(self.restart.as_deref().unwrap_or_default()).map_err(CliError::message)?;
        Ok(UpdateRequest { resources, restart_policy })
    }
}
