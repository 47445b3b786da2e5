//! The engine's side of `berth-dns`: starting it, finding it again, and telling it who is called what.
//!
//! Who is to be known is never kept here: it follows from the views of running containers. So whatever happened to the
//! resolver, [`restore`] makes it right: it finds the resolver or starts one, and tells it of those it does not know,
//! giving them new sockets. Design: docs/design/dns.md.

mod member;
mod process;

use std::{
    collections::HashSet,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use berth_dns::{Member, Resolver, ResolverError, Sockets, Upstream};
use berth_model::ErrorKind;

use crate::{EngineError, Inner, bundle, network::Attachment, view::ContainerView};

use member::member_of;
pub(crate) use member::{address_of_host, has_names};

/// The way to the resolver.
#[derive(Default)]
pub(crate) struct NameService {
    /// None until a container needs it, and after it was lost.
    link: Mutex<Option<Resolver>>,
}

impl NameService {
    /// Whether there is a resolver that may know containers.
    fn is_linked(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Resolver>> {
        // What a panic left is at worst a connection that gives no sensible answer, and is replaced then.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a container that is about to start its name service, if its networks have one. Blocks.
pub(crate) fn join(engine: &Arc<Inner>, view: &ContainerView, network: &Attachment) -> Result<(), EngineError> {
    let Some(namespace) = network.namespace().filter(|_| has_names(&view.networks)) else { return Ok(()) };
    let mut networks = view.networks.clone();
    network.fill(&mut networks);
    let member = member_of(engine, view, &networks);
    enter(engine, &member, namespace).map_err(|error| refused(&error))
}

/// Tells what has changed about a running container: its name, its networks, its aliases. Blocks.
pub(crate) fn refresh(engine: &Arc<Inner>, view: &ContainerView) -> Result<(), EngineError> {
    let Some(pid) = view.state.pid() else { return Ok(()) };
    let member = member_of(engine, view, &view.networks);
    match engine.name_service.lock().as_mut().map(|resolver| resolver.update(&member)) {
        Some(Ok(())) => return Ok(()),
        // It never had the name service; it may need it from now on.
        Some(Err(_)) | None if !has_names(&view.networks) => return Ok(()),
        Some(Err(_)) | None => {}
    }
    let namespace = namespace_of(pid)?;
    enter(engine, &member, namespace.as_fd()).map_err(|error| refused(&error))?;
    // Written in place: the file is bound into the container.
    let path = &view.paths.resolv_conf;
    std::fs::write(path, bundle::resolv_conf(engine, view, true)).map_err(EngineError::io("writing", path))
}

/// Tells that a container has ended, or was not started after all.
pub(crate) async fn leave(engine: &Arc<Inner>, view: &Arc<ContainerView>) {
    if engine.name_service.is_linked() {
        let (engine, view) = (Arc::clone(engine), Arc::clone(view));
        // Waited for: the container's next start must not be mistaken for this one.
        let told = crate::blocking(move || {
            tell_end(&engine, &view);
            Ok(())
        });
        if let Err(error) = told.await {
            tracing::debug!(%error, "the name service was not told of an end");
        }
    }
}

/// As [`refresh`], for a container that goes on whatever comes of it.
pub(crate) async fn refresh_or_warn(engine: &Arc<Inner>, view: &Arc<ContainerView>) {
    let (inner, changed) = (Arc::clone(engine), Arc::clone(view));
    if let Err(error) = crate::blocking(move || refresh(&inner, &changed)).await {
        tracing::warn!(container = %view.id.short(), %error, "the name service does not know of a change");
    }
}

fn tell_end(engine: &Inner, view: &ContainerView) {
    let mut link = engine.name_service.lock();
    if let Some(resolver) = link.as_mut()
        && let Err(error) = resolver.leave(view.id.as_str())
    {
        // Without it nothing holds the container's sockets; the next one is told of the living only.
        tracing::debug!(container = %view.id.short(), %error, "the name service was not told of an end");
        *link = None;
    }
}

/// Has the resolver know whoever runs; finds or starts one if any container needs it. Blocks.
pub(crate) fn restore(engine: &Arc<Inner>) -> Result<(), EngineError> {
    let mut link = engine.name_service.lock();
    restore_on(engine, &mut link).map_err(|error| refused(&error))
}

/// As [`restore`], and has the resolver forget all others. For an engine that has just begun: later there are
/// containers that are about to run. Blocks.
pub(crate) fn reconcile(engine: &Arc<Inner>) -> Result<(), EngineError> {
    let mut link = engine.name_service.lock();
    let forget = |resolver: &mut Resolver| -> Result<(), ResolverError> {
        for id in resolver.members()? {
            if !engine.registry.find(&id).is_ok_and(|handle| handle.view().state.is_running()) {
                resolver.leave(&id)?;
            }
        }
        Ok(())
    };
    restore_on(engine, &mut link).map_err(|error| refused(&error))?;
    link.as_mut().map_or(Ok(()), forget).map_err(|error| refused(&error.into()))
}

/// Ends the resolver if it has nobody left to serve; else it stays, and the next engine finds it. Blocks.
pub(crate) fn shut_down(engine: &Arc<Inner>) {
    if wanting(engine).next().is_none()
        && let Some(resolver) = engine.name_service.lock().take()
    {
        // It ends by itself, a little later, once we are gone.
        let _ = resolver.retire();
    }
}

/// The socket at which the resolver is found.
fn socket(engine: &Inner) -> PathBuf {
    engine.config.run.join("dns.sock")
}

/// Why the name service is not there for a container.
#[derive(Debug, thiserror::Error)]
enum NameError {
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    #[error(transparent)]
    Network(#[from] berth_net::NetError),
    #[error("{step}: {source}")]
    Io { step: &'static str, source: std::io::Error },
}

fn refused(error: &NameError) -> EngineError {
    EngineError::Refused {
        kind: ErrorKind::Internal,
        message: format!("failed to set up container networking: name service: {error}"),
    }
}

fn failed(step: &'static str) -> impl FnOnce(std::io::Error) -> NameError {
    move |source| NameError::Io { step, source }
}

/// Makes a container's sockets and gives them to the resolver; a lost one is replaced, once.
fn enter(engine: &Arc<Inner>, member: &Member, namespace: BorrowedFd<'_>) -> Result<(), NameError> {
    let sockets = sockets(engine, member, namespace)?;
    let mut link = engine.name_service.lock();
    if link.is_none() {
        restore_on(engine, &mut link)?;
    }
    let resolver = running(engine, &mut link)?;
    match resolver.join(member, &sockets) {
        Err(ResolverError::Gone(_)) => {
            *link = None;
            restore_on(engine, &mut link)?;
            Ok(running(engine, &mut link)?.join(member, &sockets)?)
        }
        outcome => Ok(outcome?),
    }
}

fn sockets(engine: &Inner, member: &Member, namespace: BorrowedFd<'_>) -> Result<Sockets, NameError> {
    let copy = || namespace.try_clone_to_owned().map_err(failed("copying a descriptor"));
    let made = engine.networks.name_sockets(copy()?)?;
    let named = matches!(member.upstream, Upstream::Named(_));
    Ok(Sockets { udp: made.udp, tcp: made.tcp, namespace: if named { Some(copy()?) } else { None } })
}

/// The resolver: the one we have, or a new one.
fn running<'a>(engine: &Arc<Inner>, link: &'a mut Option<Resolver>) -> Result<&'a mut Resolver, NameError> {
    let resolver = match link.take() {
        Some(resolver) => resolver,
        None => process::start(engine)?,
    };
    Ok(link.insert(resolver))
}

/// Running containers whose networks have names.
fn wanting(engine: &Inner) -> impl Iterator<Item = Arc<ContainerView>> {
    engine.registry.views().into_iter().filter(|view| view.state.is_running() && has_names(&view.networks))
}

fn restore_on(engine: &Arc<Inner>, link: &mut Option<Resolver>) -> Result<(), NameError> {
    let wanting: Vec<_> = wanting(engine).collect();
    if link.is_none() {
        *link = process::find(engine);
    }
    if wanting.is_empty() && link.is_none() {
        return Ok(());
    }
    let resolver = running(engine, link)?;
    let known: HashSet<String> = resolver.members()?.into_iter().collect();
    for view in &wanting {
        if let Err(error) = restore_one(engine, resolver, view, known.contains(view.id.as_str())) {
            // One that ends just now, or has no namespace of its own, must not keep others from their names.
            tracing::warn!(container = %view.id.short(), %error, "a container is without its name service");
        }
    }
    Ok(())
}

fn restore_one(
    engine: &Arc<Inner>,
    resolver: &mut Resolver,
    view: &ContainerView,
    is_known: bool,
) -> Result<(), NameError> {
    let member = member_of(engine, view, &view.networks);
    if is_known {
        return Ok(resolver.update(&member)?);
    }
    let Some(pid) = view.state.pid() else { return Ok(()) };
    let namespace = namespace_of(pid).map_err(|error| NameError::Io {
        step: "opening the container's network",
        source: std::io::Error::other(error.to_string()),
    })?;
    let sockets = sockets(engine, &member, namespace.as_fd())?;
    Ok(resolver.join(&member, &sockets)?)
}

fn namespace_of(pid: u32) -> Result<OwnedFd, EngineError> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    berth_sys::netns::open(&path).map_err(EngineError::io("opening", &path))
}
