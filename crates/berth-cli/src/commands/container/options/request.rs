//! From the flags of `create` and `run` to the body of the request.
//!
//! The body is the one that docker's client sends, field for field: a daemon cannot tell which of the two spoke.

use berth_api::container_config::{ContainerConfig, CreateRequest, NetworkingConfig};
use berth_api::host_config::{HostConfig, RestartPolicy};

use super::confinement::capabilities;
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
        if self.handling.attach.is_empty() {
            return Attached { stdin: self.interactive, stdout: true, stderr: true };
        }
        let has = |stream| self.handling.attach.contains(&stream);
        Attached { stdin: has(Stream::Stdin), stdout: has(Stream::Stdout), stderr: has(Stream::Stderr) }
    }

    /// The body of the create request. The text of an error is docker's.
    pub(crate) fn request(&self, attached: Attached) -> Result<CreateRequest, String> {
        let (image, command) = self.image_and_command();
        let ports = ports(&self.publish, &self.network.expose)?;
        let binds = short_forms(&self.volumes)?;
        let networking = networking(self)?;
        let security = security(&self.confinement.security_options)?;
        self.confinement.check_modes()?;
        let config = ContainerConfig {
            hostname: word(&self.hostname),
            domainname: word(&self.network.domainname),
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
            healthcheck: self.health.healthcheck()?,
            image: image.to_owned(),
            volumes: Some(binds.anonymous),
            working_dir: word(&self.workdir),
            entrypoint: self.entrypoint.as_ref().map(|program| vec![program.clone()]),
            labels: Some(labels(&self.handling.label_files, &self.labels)?),
            stop_signal: word(&self.handling.stop_signal),
            stop_timeout: self.handling.stop_timeout,
            ..ContainerConfig::default()
        };
        let no_paths = security.bare_system_paths.then(Vec::new);
        let (cap_add, cap_drop) = capabilities(&self.confinement.cap_add, &self.confinement.cap_drop);
        let host_config = HostConfig {
            binds: list(binds.binds),
            container_id_file: word(&self.handling.cidfile),
            log_config: self.handling.log_config()?,
            network_mode: networking.mode,
            port_bindings: Some(ports.bindings),
            restart_policy: restart_policy(self.restart.as_deref().unwrap_or("no"))?,
            auto_remove: self.remove,
            volume_driver: word(&self.storage.volume_driver),
            volumes_from: list(self.storage.volumes_from.clone()),
            annotations: self.confinement.annotations.iter().map(|text| pair(text)).collect(),
            cap_add,
            cap_drop,
            cgroupns_mode: word(&self.confinement.cgroupns),
            dns: Some(self.network.dns.clone()),
            dns_options: Some(self.network.dns_options.clone()),
            dns_search: Some(self.network.dns_search.clone()),
            extra_hosts: list(self.network.extra_hosts.clone()),
            group_add: list(self.confinement.groups.clone()),
            ipc_mode: word(&self.confinement.ipc),
            links: list(self.network.links.clone()),
            oom_score_adj: self.confinement.oom_score_adj,
            pid_mode: word(&self.confinement.pid),
            privileged: self.confinement.privileged,
            publish_all_ports: self.network.publish_all,
            readonly_rootfs: self.confinement.read_only,
            security_opt: list(security.options),
            storage_opt: self.storage.storage_options()?,
            tmpfs: tmpfs_forms(&self.storage.tmpfs),
            uts_mode: word(&self.confinement.uts),
            userns_mode: word(&self.confinement.userns),
            shm_size: self.confinement.shm_size,
            sysctls: self.confinement.sysctls.iter().map(|text| pair(text)).collect(),
            runtime: word(&self.confinement.runtime),
            isolation: word(&self.confinement.isolation),
            resources: self.resources.resources()?,
            mounts: self.mounts.clone(),
            masked_paths: no_paths.clone(),
            readonly_paths: no_paths,
            init: self.confinement.init,
            ..HostConfig::default()
        };
        if self.remove && !matches!(host_config.restart_policy.name.as_str(), "" | "no") {
            return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
        }
        let networking_config = NetworkingConfig { endpoints_config: Some(networking.endpoints) };
        Ok(CreateRequest { config, host_config: Some(host_config), networking_config: Some(networking_config) })
    }
}

pub(super) fn word(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

pub(super) fn list<T>(values: Vec<T>) -> Option<Vec<T>> {
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
}
