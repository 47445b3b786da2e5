//! From the flags of `create` and `run` to the body of the request.
//!
//! The body is the one that docker's client sends, field for field: a daemon cannot tell which of the two spoke.

use std::collections::{BTreeMap, BTreeSet};

use berth_api::container_config::{ContainerConfig, CreateRequest, HealthConfig, NetworkingConfig};
use berth_api::host_config::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, NetworkShape, Resources, RestartPolicy,
};

use super::environment::{labels, pair, variables};
use super::mount::{short_forms, tmpfs_forms};
use super::network::networking;
use super::port::ports;
use super::security::security;
use super::{ContainerOptions, Stream};

/// Which streams the client means to attach to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attached {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl ContainerOptions {
    /// The image and the command behind it.
    pub(crate) fn image_and_command(&self) -> (&str, &[String]) {
        match self.words.split_first() {
            Some((image, command)) => (image, command),
            None => ("", &[]),
        }
    }

    /// The streams that `-a` names; without it stdout and stderr, and stdin with `-i`.
    pub(crate) fn attached(&self) -> Attached {
        if self.attach.is_empty() {
            return Attached { stdin: self.interactive, stdout: true, stderr: true };
        }
        let has = |stream| self.attach.contains(&stream);
        Attached { stdin: has(Stream::Stdin), stdout: has(Stream::Stdout), stderr: has(Stream::Stderr) }
    }

    /// The body of the create request. The text of an error is docker's.
    pub(crate) fn request(&self, attached: Attached) -> Result<CreateRequest, String> {
        let (image, command) = self.image_and_command();
        let ports = ports(&self.publish, &self.expose)?;
        let binds = short_forms(&self.volumes)?;
        let networking = networking(self)?;
        let security = security(&self.security_options)?;
        self.check_modes()?;
        let config = ContainerConfig {
            hostname: word(&self.hostname),
            domainname: word(&self.domainname),
            user: word(&self.user),
            attach_stdin: attached.stdin,
            attach_stdout: attached.stdout,
            attach_stderr: attached.stderr,
            exposed_ports: (!ports.exposed.is_empty()).then_some(ports.exposed),
            tty: self.tty,
            open_stdin: self.interactive,
            // Stdin ends with the client that is attached to it; a container without one keeps it for whoever comes.
            stdin_once: self.interactive && attached.stdin,
            env: list(variables(&self.env_files, &self.environment)?),
            cmd: list(command.to_vec()),
            healthcheck: self.healthcheck()?,
            image: image.to_owned(),
            volumes: Some(binds.anonymous),
            working_dir: word(&self.workdir),
            entrypoint: self.entrypoint.as_ref().map(|program| vec![program.clone()]),
            labels: Some(labels(&self.label_files, &self.labels)?),
            stop_signal: word(&self.stop_signal),
            stop_timeout: self.stop_timeout,
            ..ContainerConfig::default()
        };
        let no_paths = security.bare_system_paths.then(Vec::new);
        let (cap_add, cap_drop) = capabilities(&self.cap_add, &self.cap_drop);
        let host_config = HostConfig {
            binds: list(binds.binds),
            container_id_file: word(&self.cidfile),
            log_config: self.log_config()?,
            network_mode: networking.mode,
            port_bindings: Some(ports.bindings),
            restart_policy: restart_policy(&self.restart)?,
            auto_remove: self.remove,
            volume_driver: word(&self.volume_driver),
            volumes_from: list(self.volumes_from.clone()),
            annotations: self.annotations.iter().map(|text| pair(text)).collect(),
            cap_add,
            cap_drop,
            cgroupns_mode: word(&self.cgroupns),
            dns: Some(self.dns.clone()),
            dns_options: Some(self.dns_options.clone()),
            dns_search: Some(self.dns_search.clone()),
            extra_hosts: list(self.extra_hosts.clone()),
            group_add: list(self.groups.clone()),
            ipc_mode: word(&self.ipc),
            links: list(self.links.clone()),
            oom_score_adj: self.oom_score_adj,
            pid_mode: word(&self.pid),
            privileged: self.privileged,
            publish_all_ports: self.publish_all,
            readonly_rootfs: self.read_only,
            security_opt: list(security.options),
            storage_opt: self.storage_options()?,
            tmpfs: tmpfs_forms(&self.tmpfs),
            uts_mode: word(&self.uts),
            userns_mode: word(&self.userns),
            shm_size: self.shm_size,
            sysctls: self.sysctls.iter().map(|text| pair(text)).collect(),
            runtime: word(&self.runtime),
            isolation: word(&self.isolation),
            resources: self.resources()?,
            mounts: self.mounts.clone(),
            masked_paths: no_paths.clone(),
            readonly_paths: no_paths,
            init: self.init,
            ..HostConfig::default()
        };
        if self.remove && !matches!(host_config.restart_policy.name.as_str(), "" | "no") {
            return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
        }
        let networking_config = NetworkingConfig { endpoints_config: Some(networking.endpoints) };
        Ok(CreateRequest { config, host_config: Some(host_config), networking_config: Some(networking_config) })
    }

    fn resources(&self) -> Result<Resources, String> {
        if self.memory_swappiness != -1 && !(0..=100).contains(&self.memory_swappiness) {
            return Err(format!("invalid value: {}. Valid memory swappiness range is 0-100", self.memory_swappiness));
        }
        let (devices, cdi) = devices(&self.devices)?;
        let mut requests = self.gpus.clone();
        requests.extend(cdi);
        Ok(Resources {
            cpu_shares: self.cpu_shares,
            memory: self.memory,
            nano_cpus: self.cpus,
            cgroup_parent: word(&self.cgroup_parent),
            blkio_weight: self.blkio_weight,
            blkio_weight_device: Some(self.blkio_weight_devices.clone()),
            blkio_device_read_bps: Some(self.device_read_bps.clone()),
            blkio_device_write_bps: Some(self.device_write_bps.clone()),
            blkio_device_read_iops: Some(self.device_read_iops.clone()),
            blkio_device_write_iops: Some(self.device_write_iops.clone()),
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_realtime_period: self.cpu_rt_period,
            cpu_realtime_runtime: self.cpu_rt_runtime,
            cpuset_cpus: word(&self.cpuset_cpus),
            cpuset_mems: word(&self.cpuset_mems),
            devices: Some(devices),
            device_cgroup_rules: list(self.device_cgroup_rules.clone()),
            device_requests: list(requests),
            memory_reservation: self.memory_reservation,
            memory_swap: self.memory_swap,
            memory_swappiness: Some(self.memory_swappiness),
            network_shape: network_shape(self.net_rate, self.net_delay, self.net_loss),
            oom_kill_disable: Some(self.oom_kill_disable),
            pids_limit: Some(self.pids_limit),
            ulimits: Some(self.sorted_ulimits()),
            cpu_count: self.cpu_count,
            cpu_percent: self.cpu_percent,
            io_maximum_iops: self.io_maxiops,
            io_maximum_bandwidth: self.io_maxbandwidth.unsigned_abs(),
            ..Resources::default()
        })
    }

    /// The last of two limits of the same name counts.
    fn sorted_ulimits(&self) -> Vec<berth_api::host_config::Ulimit> {
        let by_name: BTreeMap<_, _> = self.ulimits.iter().map(|limit| (limit.name.clone(), limit.clone())).collect();
        by_name.into_values().collect()
    }

    fn log_config(&self) -> Result<LogConfig, String> {
        let kind = word(&self.log_driver);
        if kind == "none" && !self.log_options.is_empty() {
            return Err("invalid logging opts for driver none".to_owned());
        }
        Ok(LogConfig { kind, config: Some(self.log_options.iter().map(|text| pair(text)).collect()) })
    }

    fn storage_options(&self) -> Result<BTreeMap<String, String>, String> {
        let split = |text: &String| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.storage_options.iter().map(|text| split(text).ok_or_else(|| "invalid storage option".to_owned())).collect()
    }

    fn healthcheck(&self) -> Result<Option<HealthConfig>, String> {
        let command = word(&self.health_cmd);
        let durations = [
            ("--health-interval", self.health_interval),
            ("--health-timeout", self.health_timeout),
            ("--health-start-period", self.health_start_period),
            ("--health-start-interval", self.health_start_interval),
            ("--health-retries", self.health_retries),
        ];
        let given = !command.is_empty() || durations.iter().any(|(_, value)| *value != 0);
        if self.no_healthcheck {
            let none = HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() };
            return if given {
                Err("--no-healthcheck conflicts with --health-* options".to_owned())
            } else {
                Ok(Some(none))
            };
        }
        if let Some((flag, _)) = durations.iter().find(|(_, value)| *value < 0) {
            return Err(format!("{flag} cannot be negative"));
        }
        Ok(given.then(|| HealthConfig {
            test: (!command.is_empty()).then(|| vec!["CMD-SHELL".to_owned(), command]),
            interval: self.health_interval,
            timeout: self.health_timeout,
            start_period: self.health_start_period,
            start_interval: self.health_start_interval,
            retries: self.health_retries,
        }))
    }

    fn check_modes(&self) -> Result<(), String> {
        let of_container = |mode: &str| mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
        let pid = word(&self.pid);
        if !(pid.is_empty() || pid == "host" || of_container(&pid)) {
            return Err("--pid: invalid PID mode".to_owned());
        }
        for (mode, flag, name) in [(&self.uts, "--uts", "UTS"), (&self.userns, "--userns", "USER")] {
            if !matches!(word(mode).as_str(), "" | "host") {
                return Err(format!("{flag}: invalid {name} mode"));
            }
        }
        if !matches!(word(&self.cgroupns).as_str(), "" | "host" | "private") {
            return Err("--cgroupns: invalid CGROUP mode".to_owned());
        }
        Ok(())
    }
}

fn word(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

fn list<T>(values: Vec<T>) -> Option<Vec<T>> {
    (!values.is_empty()).then_some(values)
}

/// `name[:maximum]`; the daemon knows which names there are.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let invalid = |why: &str| format!("invalid restart policy format: {why}");
    match text.split_once(':') {
        None => Ok(RestartPolicy { name: text.to_owned(), maximum_retry_count: 0 }),
        Some(("", _)) => Err(invalid("no policy provided before colon")),
        Some((name, count)) => {
            let count = count.parse().map_err(|_| invalid("maximum retry count must be an integer"))?;
            Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count: count })
        }
    }
}

/// `host[:container][:rwm]`, or the qualified name of a CDI device.
fn devices(given: &[String]) -> Result<(Vec<DeviceMapping>, Vec<DeviceRequest>), String> {
    let mut mappings = Vec::new();
    let mut cdi = Vec::new();
    for text in given {
        if is_cdi_name(text) {
            cdi.push(text.clone());
        } else {
            mappings.push(device(text)?);
        }
    }
    let request = (!cdi.is_empty()).then(|| DeviceRequest {
        driver: "cdi".to_owned(),
        device_ids: Some(cdi),
        ..DeviceRequest::default()
    });
    Ok((mappings, request.into_iter().collect()))
}

fn device(text: &str) -> Result<DeviceMapping, String> {
    let is_mode = |word: &str| !word.is_empty() && word.bytes().all(|b| b"rwm".contains(&b));
    let parts: Vec<_> = text.split(':').collect();
    let (host, container, mode) = match *parts.as_slice() {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, container] => (host, container, "rwm"),
        [_, _, mode] if !is_mode(mode) => return Err(format!("bad mode specified: {mode}")),
        [host, container, mode] => (host, container, mode),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if let Some(path) = [host, container].into_iter().find(|path| !path.starts_with('/')) {
        return Err(format!("{path} is not an absolute path"));
    }
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// `vendor/class=name`.
fn is_cdi_name(text: &str) -> bool {
    let word = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let parts = text.split_once('=').and_then(|(kind, name)| Some((kind.split_once('/')?, name)));
    parts.is_some_and(|((vendor, class), name)| word(vendor) && word(class) && word(name))
}

/// Capabilities in the kernel's spelling, sorted, none twice; one that is both added and dropped is added.
fn capabilities(add: &[String], drop: &[String]) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let normal = |words: &[String]| -> BTreeSet<String> {
        let spell = |word: &String| {
            let word = word.trim().to_ascii_uppercase();
            if word == "ALL" || word.starts_with("CAP_") { word } else { format!("CAP_{word}") }
        };
        let set: BTreeSet<_> = words.iter().map(spell).collect();
        if set.contains("ALL") { BTreeSet::from(["ALL".to_owned()]) } else { set }
    };
    let add = normal(add);
    let drop = normal(drop).difference(&add).cloned().collect::<Vec<_>>();
    (list(add.into_iter().collect()), list(drop))
}

/// What is asked of the traffic, if anything is.
pub(crate) fn network_shape(rate: Option<u64>, delay: Option<u64>, loss: Option<u32>) -> Option<NetworkShape> {
    let shape = NetworkShape { rate, delay, loss };
    (shape != NetworkShape::default()).then_some(shape)
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;
    use crate::commands::container::create;
    use crate::parse::{Parsed, parse};

    fn request(line: &str) -> Result<CreateRequest, String> {
        let words: Vec<_> = line.split_whitespace().map(Into::into).collect();
        let Parsed::Matches(matches) =
            parse(&create::ENTRY, "berth create", &words).map_err(|error| error.to_string())?
        else {
            return Err("help was asked for".to_owned());
        };
        let options = ContainerOptions::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        options.request(options.attached())
    }

    #[test]
    fn flags_end_at_the_image() {
        let request = request("--name n busybox sh -c --rm -- x").expect("request");
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.cmd, Some(["sh", "-c", "--rm", "--", "x"].map(str::to_owned).to_vec()));
        assert!(!request.host_config.expect("host").auto_remove);
    }

    #[test]
    fn what_only_several_flags_show() {
        for (line, want) in [
            ("--rm --restart always x", "conflicting options: cannot specify both --restart and --rm"),
            ("--no-healthcheck --health-cmd y x", "--no-healthcheck conflicts with --health-* options"),
            ("--log-driver none --log-opt a=b x", "invalid logging opts for driver none"),
            ("--network a --network a x", "network \"a\" is specified multiple times"),
            (
                "--network host --network b x",
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ),
            ("--device a:b:c:d x", "bad format for path: a:b:c:d"),
            ("--device /dev/a:/dev/b:q x", "bad mode specified: q"),
            ("--device foo x", "foo is not an absolute path"),
            ("--pid foo x", "--pid: invalid PID mode"),
        ] {
            assert_eq!(request(line).map(|_| ()), Err(want.to_owned()), "{line}");
        }
    }

    #[test]
    fn devices_by_path_and_by_name() {
        let (mappings, requests) = devices(&["/dev/null:/dev/x:r".into(), "a.b/class=dev".into()]).expect("devices");
        assert_eq!(mappings[0].path_in_container, "/dev/x");
        assert_eq!(requests[0].device_ids, Some(vec!["a.b/class=dev".to_owned()]));
    }
}
