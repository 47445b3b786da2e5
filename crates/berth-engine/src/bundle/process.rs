//! The process of a bundle, and those of execs: arguments, environment, user, capabilities, limits.

use std::{collections::BTreeMap, sync::Arc};

use berth_archive::LayerView;
use berth_oci::runtime::{Capabilities, ConsoleSize, Process, Rlimit, User};

use super::{capabilities, etc};
use crate::{EngineError, Inner, exec::ExecCreate, spec::Ulimit, user, view::ContainerView};

/// Where the small init is inside a container that wants it (B120).
pub(super) const INIT_PATH: &str = "/sbin/docker-init";
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a container may put into /etc/passwd; more is no user file.
const MAX_USER_FILE: u64 = 16 << 20;

pub(super) fn build(engine: &Arc<Inner>, view: &ContainerView) -> Result<Process, EngineError> {
    let (config, host) = (&view.spec.config, &view.spec.host);
    let mut args = config.command_line();
    if wants_init(engine, view) {
        args.splice(0..0, [INIT_PATH.to_owned(), "--".to_owned()]);
    }
    let groups = host.isolation.group_add.as_deref().unwrap_or_default();
    let user = find_user(engine, view, &config.user, groups)?;
    let [height, width] = host.console_size.map(u64::from);
    Ok(Process {
        terminal: config.tty,
        console_size: (config.tty && height > 0 && width > 0).then_some(ConsoleSize { height, width }),
        capabilities: Some(capability_sets(capabilities::effective(&host.isolation)?, &user)),
        user,
        args,
        env: environment(view, config.tty, &[]),
        cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
        rlimits: rlimits(&engine.config.default_ulimits, host.resources.ulimits.as_deref().unwrap_or_default()),
        no_new_privileges: host.isolation.no_new_privileges || engine.config.no_new_privileges,
        apparmor_profile: apparmor_profile(&host.isolation.apparmor, host.isolation.privileged),
        oom_score_adj: Some(host.isolation.oom_score_adj),
        ..Process::default()
    })
}

/// The process of an exec in a running container.
pub(crate) fn exec_process(
    engine: &Arc<Inner>,
    view: &ContainerView,
    request: &ExecCreate,
) -> Result<Process, EngineError> {
    let (config, host) = (&view.spec.config, &view.spec.host);
    let wanted = if request.user.is_empty() { &config.user } else { &request.user };
    let groups = host.isolation.group_add.as_deref().unwrap_or_default();
    let user = find_user(engine, view, wanted, groups)?;
    let mut isolation = host.isolation.clone();
    isolation.privileged |= request.privileged;
    let cwd = [&request.working_dir, &config.working_dir].into_iter().find(|dir| !dir.is_empty());
    Ok(Process {
        terminal: request.tty,
        capabilities: Some(capability_sets(capabilities::effective(&isolation)?, &user)),
        user,
        args: request.command.clone(),
        env: environment(view, request.tty, &request.env),
        cwd: cwd.cloned().unwrap_or_else(|| "/".to_owned()),
        rlimits: rlimits(&engine.config.default_ulimits, host.resources.ulimits.as_deref().unwrap_or_default()),
        no_new_privileges: (host.isolation.no_new_privileges || engine.config.no_new_privileges) && !request.privileged,
        apparmor_profile: apparmor_profile(&isolation.apparmor, isolation.privileged),
        oom_score_adj: Some(host.isolation.oom_score_adj),
        ..Process::default()
    })
}

pub(super) fn wants_init(engine: &Inner, view: &ContainerView) -> bool {
    let host = &view.spec.host;
    // With a shared PID namespace it would not be PID 1, and could not do its work.
    matches!(host.isolation.pid_mode, crate::spec::NamespaceMode::Default | crate::spec::NamespaceMode::Private)
        && host.init.unwrap_or(engine.config.init)
}

/// Whether the container knows a user.
pub(crate) fn check_user(engine: &Inner, view: &ContainerView, wanted: &str) -> Result<(), EngineError> {
    find_user(engine, view, wanted, &[]).map(drop)
}

fn find_user(engine: &Inner, view: &ContainerView, wanted: &str, groups: &[String]) -> Result<User, EngineError> {
    let failed = |path: &'static str| EngineError::io("reading in the container", path);
    let mut layers = engine.snapshots.layers_of(&view.id)?;
    layers.push(engine.snapshots.upper(&view.id));
    let files = LayerView::open(&layers).map_err(failed("/"))?;
    let read = |path: &'static str| -> Result<String, EngineError> {
        let bytes = files.read_file(path, MAX_USER_FILE).map_err(failed(path))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
    };
    user::resolve(wanted, groups, &read("etc/passwd")?, &read("etc/group")?)
}

/// A user other than root gets nothing in force: that is what `execve` would leave it.
fn capability_sets(set: Vec<String>, user: &User) -> Capabilities {
    let in_force = if user.uid == 0 { set.clone() } else { Vec::new() };
    Capabilities { effective: in_force.clone(), permitted: in_force, bounding: set, ..Capabilities::default() }
}

/// B113: the engine's own, then the container's in place of equal names, then new ones.
fn environment(view: &ContainerView, tty: bool, extra: &[String]) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", etc::hostname(view))];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    replace_or_append(&mut env, &view.spec.config.env);
    replace_or_append(&mut env, extra);
    env
}

/// A line without `=` takes the variable of that name away.
fn replace_or_append(env: &mut Vec<String>, lines: &[String]) {
    for line in lines {
        let Some((name, _)) = line.split_once('=') else {
            env.retain(|old| old.split('=').next() != Some(line));
            continue;
        };
        match env.iter_mut().find(|old| old.split('=').next() == Some(name)) {
            Some(old) => old.clone_from(line),
            None => env.push(line.clone()),
        }
    }
}

fn rlimits(defaults: &BTreeMap<String, Ulimit>, own: &[Ulimit]) -> Vec<Rlimit> {
    let inherited = defaults.values().filter(|default| own.iter().all(|limit| limit.name != default.name));
    // -1 is "without limit", which the kernel writes as all ones.
    let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    let one = |limit: &Ulimit| Rlimit {
        kind: format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
        soft: value(limit.soft),
        hard: value(limit.hard),
    };
    own.iter().chain(inherited).map(one).collect()
}

/// The profile that is loaded as the default of container engines, where the host has AppArmor.
fn apparmor_profile(asked: &str, privileged: bool) -> String {
    if !std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        return String::new();
    }
    match asked {
        "" if privileged => "unconfined".to_owned(),
        asked => asked.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_in_place_appended_or_taken_away() {
        let mut env = vec!["PATH=/bin".to_owned(), "A=1".to_owned(), "B=2".to_owned()];
        replace_or_append(&mut env, &["A=3".to_owned(), "B".to_owned(), "C=4".to_owned(), "E=".to_owned()]);
        assert_eq!(env, ["PATH=/bin", "A=3", "C=4", "E="]);
    }

    #[test]
    fn a_container_s_own_limits_win() {
        let limit = |name: &str, soft| Ulimit { name: name.to_owned(), soft, hard: -1 };
        let defaults = [("nofile".to_owned(), limit("nofile", 10)), ("core".to_owned(), limit("core", 0))].into();
        let kinds: Vec<_> =
            rlimits(&defaults, &[limit("nofile", 20)]).into_iter().map(|l| (l.kind, l.soft, l.hard)).collect();
        assert_eq!(kinds, [("RLIMIT_NOFILE".to_owned(), 20, u64::MAX), ("RLIMIT_CORE".to_owned(), 0, u64::MAX)]);
    }
}
