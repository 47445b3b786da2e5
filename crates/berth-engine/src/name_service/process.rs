//! The resolver's process: started from the sealed copy of this program, found again by its socket, replaced when it is
//! of another version, and missed when it ends.

use std::{
    io::Write,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
    time::{Duration, Instant},
};

use berth_cgroup::Version;
use berth_dns::{Legacy, Resolver};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{NameError, failed, restore, socket};
use crate::Inner;

/// A resolver that ends sooner than this is not replaced at once: it would do so again and again.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// After this long containers that were starting while the resolver was lost run, and are given new sockets too.
const STARTING: Duration = Duration::from_secs(5);
/// The hierarchies of version 1 in which a process is placed that only waits, as shims are.
const HIERARCHIES: [&str; 3] = ["memory", "pids", "name=systemd"];

/// Finds a resolver that an earlier engine has started; one of another version is replaced by one of ours, which takes
/// over its sockets.
pub(super) fn find(engine: &Arc<Inner>) -> Option<Resolver> {
    let mut resolver = Resolver::find(&socket(engine)).ok()?;
    if resolver.version() != env!("CARGO_PKG_VERSION") {
        match replace(engine, &mut resolver) {
            Ok(newer) => {
                // It has copies of everything; the old one finishes what it has begun, and ends.
                if let Err(error) = resolver.retire() {
                    tracing::warn!(%error, "the old name service cannot be asked to end");
                }
                resolver = newer;
            }
            Err(error) => tracing::warn!(%error, "an older name service stays in service"),
        }
    }
    watch(engine, &resolver);
    Some(resolver)
}

/// Starts a resolver that knows nobody yet.
pub(super) fn start(engine: &Arc<Inner>) -> Result<Resolver, NameError> {
    let mut resolver = spawn(engine)?;
    let listener = berth_dns::bind(&socket(engine)).map_err(failed("making the name service's socket"))?;
    resolver.listen(&listener)?;
    watch(engine, &resolver);
    Ok(resolver)
}

fn replace(engine: &Arc<Inner>, old: &mut Resolver) -> Result<Resolver, NameError> {
    let Legacy { listener, members } = old.hand_over()?;
    let mut newer = spawn(engine)?;
    for (member, sockets) in &members {
        newer.join(member, sockets)?;
    }
    match listener {
        Some(listener) => newer.listen(&listener)?,
        None => newer.listen(&berth_dns::bind(&socket(engine)).map_err(failed("making the name service's socket"))?)?,
    }
    Ok(newer)
}

fn spawn(engine: &Arc<Inner>) -> Result<Resolver, NameError> {
    let (ours, theirs) = UnixStream::pair().map_err(failed("making a socket for the name service"))?;
    let spawned =
        engine.launcher.start(&[berth_dns::PROGRAM], theirs.as_fd()).map_err(failed("starting the name service"))?;
    drop(theirs);
    place(engine, spawned.pid.as_raw_nonzero().get());
    tokio::runtime::Handle::current().spawn(crate::shim::reap(spawned.pidfd));
    Ok(Resolver::on(ours)?)
}

/// Moves the resolver out of the daemon's cgroup, so that what ends the daemon spares it. A host that does not allow it
/// has a name service all the same.
fn place(engine: &Inner, pid: i32) {
    let below = format!("{}/dns", engine.config.cgroup_parent.trim_start_matches('/'));
    let v1 = engine.layout.version() == Version::V1;
    let matters = |hierarchy: &&berth_cgroup::Hierarchy| {
        !v1 || hierarchy.controllers().iter().any(|name| HIERARCHIES.contains(&name.as_str()))
    };
    for hierarchy in engine.layout.hierarchies().iter().filter(matters) {
        let directory = hierarchy.mount_point().join(&below);
        let placed = std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::File::options().write(true).open(directory.join("cgroup.procs")))
            .and_then(|mut file| file.write_all(pid.to_string().as_bytes()));
        if let Err(error) = placed {
            tracing::warn!(directory = %directory.display(), %error, "the name service stays in the daemon's cgroup");
        }
    }
}

/// Has the resolver missed when it ends: whoever runs then is given new sockets.
fn watch(engine: &Arc<Inner>, resolver: &Resolver) {
    let pid = resolver.pid();
    let opened = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK));
    let Some(Ok(pidfd)) = opened else { return };
    let engine = Arc::downgrade(engine);
    tokio::runtime::Handle::current().spawn(async move {
        let began = Instant::now();
        if crate::shim::ended(pidfd).await.is_err() {
            return;
        }
        let at_once = SHORT_LIFE.saturating_sub(began.elapsed());
        for (pause, again) in [(at_once, false), (STARTING, true)] {
            tokio::time::sleep(pause).await;
            let Some(engine) = engine.upgrade() else { return };
            let restored = crate::blocking(move || {
                let mut link = engine.name_service.lock();
                // One that was asked to end, or was replaced already, is not missed.
                let missed = link.as_ref().is_some_and(|resolver| resolver.pid() == pid);
                if missed {
                    *link = None;
                }
                drop(link);
                if missed || again { restore(&engine) } else { Ok(()) }
            });
            if let Err(error) = restored.await {
                tracing::error!(%error, "containers are without their name service");
            }
        }
    });
}
