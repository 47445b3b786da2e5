//! Finding containers again: from their records, from their shims, to their tasks.

use std::sync::Arc;

use berth_model::lifecycle::{Event, State};
use berth_net::EndpointRecord;
use berth_store::Durability;

use super::{Container, Handle};
use crate::{
    EngineError, Inner,
    network::Attachment,
    reconcile::{self, Found, Start},
    shim::{Exit, Shim},
    view::ContainerView,
};

/// Brings every recorded container back. Exits that happened meanwhile are replayed in the order of their times.
pub(crate) async fn load(engine: &Arc<Inner>) -> Result<Vec<Handle>, EngineError> {
    let inner = Arc::clone(engine);
    let records = crate::blocking(move || reconcile::records(&inner)).await?;
    let endpoints = {
        let inner = Arc::clone(engine);
        crate::blocking(move || Ok(inner.networks.endpoints()?)).await?
    };
    let mut handles = Vec::new();
    let mut searches = Vec::new();
    for (record, durability) in records {
        let view = reconcile::view_of(engine, record);
        engine.registry.reserve(&view.name, &view.id)?.keep();
        let may_run = view.state.is_running() || reconcile::has_shim(engine, &view.id);
        let handle = Handle::spawn(engine, view.clone(), durability);
        engine.registry.insert(handle.clone());
        handles.push(handle.clone());
        let own = |endpoint: &&EndpointRecord| endpoint.container == view.id;
        let endpoints: Vec<_> = endpoints.iter().filter(own).cloned().collect();
        if may_run {
            let engine = Arc::clone(engine);
            searches.push(tokio::spawn(async move {
                let found = reconcile::look_for(&engine, &view.id).await;
                let endpoints = match &found {
                    Found::Running(_, start) => recovered(engine, view, start.pid, endpoints).await,
                    Found::Ended(..) => endpoints,
                };
                (handle, found, endpoints)
            }));
        } else {
            take_up(&handle, &view, durability, Begun::No);
        }
    }
    let mut ended = Vec::new();
    for search in searches {
        let Ok((handle, found, endpoints)) = search.await else { continue };
        let network = Attachment::Held(endpoints);
        match found {
            Found::Running(shim, start) => {
                handle.run(move |container| Box::pin(container.adopt(shim, start, network))).await?;
            }
            Found::Ended(exit, shim, start) => ended.push((exit, handle, shim, start, network)),
        }
    }
    ended.sort_by_key(|(exit, ..)| exit.at);
    for (exit, handle, shim, start, network) in ended {
        let replayed = handle.run(move |container| Box::pin(container.replay(exit, shim, start, network))).await;
        match replayed {
            Ok(Replay::Done) => {}
            Ok(Replay::WasKnown(durability)) => take_up(&handle, &handle.view(), durability, Begun::Yes),
            Err(error) => {
                tracing::warn!(container = %handle.view().id.short(), %error, "an exit could not be replayed");
            }
        }
    }
    Ok(handles)
}

/// Whether a start had come as far as its shim.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Yes,
    No,
}

/// The endpoints that a running container really has.
async fn recovered(
    engine: Arc<Inner>,
    view: ContainerView,
    pid: u32,
    endpoints: Vec<EndpointRecord>,
) -> Vec<EndpointRecord> {
    let recorded = endpoints.clone();
    let id = view.id.clone();
    let recovered = crate::blocking(move || crate::network::recover(&engine, &view, pid, endpoints)).await;
    recovered.unwrap_or_else(|error| {
        tracing::warn!(container = %id.short(), %error, "its networks may not be what their records say");
        recorded
    })
}

/// Goes on with what a container was in the middle of.
fn take_up(handle: &Handle, view: &ContainerView, durability: Durability, begun: Begun) {
    let handle = handle.clone();
    let step = match view.state {
        State::Removing => Unfinished::Removal,
        State::Restarting { .. } => Unfinished::Restart,
        // With `--rm` there is nothing to come back to, unless it is still to be started.
        State::Exited { .. } if durability == Durability::Transient => Unfinished::Removal,
        // Its shim died with the last engine before it could say that the program ran.
        State::Created { .. } if durability == Durability::Transient && begun == Begun::Yes => Unfinished::Removal,
        _ => return,
    };
    tokio::spawn(async move {
        let done = handle.run(move |container| Box::pin(container.finish(step))).await;
        if let Err(error) = done {
            tracing::warn!(container = %handle.view().id.short(), %error, "what was begun could not be finished");
        }
    });
}

/// What came of an exit that was found.
enum Replay {
    /// It was news, and is recorded now.
    Done,
    /// The record had it already; only the shim had not been ended, or what was to follow not been done.
    WasKnown(Durability),
}

/// What an earlier engine did not get done.
#[derive(Clone, Copy)]
enum Unfinished {
    Removal,
    Restart,
}

impl Container {
    async fn finish(&mut self, step: Unfinished) -> Result<(), EngineError> {
        match step {
            Unfinished::Removal => self.remove_again().await,
            Unfinished::Restart => {
                self.schedule_restart();
                Ok(())
            }
        }
    }

    /// Takes over a container that runs.
    async fn adopt(&mut self, shim: Shim, start: Start, network: Attachment) -> Result<(), EngineError> {
        self.catch_up(start)?;
        self.publish_view(|view| {
            // An interface that was being taken away may be gone already.
            view.networks.iter_mut().for_each(|attachment| attachment.endpoint = None);
            network.fill(&mut view.networks);
            crate::network::forget_left(&self.engine, view);
            crate::network::show_ports(&self.engine, &mut view.networks);
        });
        self.submit_state();
        self.network = Some(network);
        self.watch_exit(shim.clone());
        self.shim = Some(shim);
        self.start_health_checks();
        Ok(())
    }

    /// Takes an exit that happened without an engine, unless an earlier one has recorded it.
    async fn replay(
        &mut self,
        exit: Exit,
        shim: Option<Shim>,
        start: Option<Start>,
        network: Attachment,
    ) -> Result<Replay, EngineError> {
        let state = self.view().state.clone();
        self.shim = shim;
        let is_news = state.is_running()
            || start.is_some_and(|start| {
                !matches!(state, State::Removing) && state.last_run().is_none_or(|run| run.started < start.at)
            });
        if !is_news {
            self.clear_shim_in_background();
            return Ok(Replay::WasKnown(self.durability));
        }
        self.network = Some(network);
        if let Some(start) = start {
            self.catch_up(start)?;
        }
        self.ended(exit).await?;
        Ok(Replay::Done)
    }

    /// Learns of a start that was not yet on record when the last engine ended.
    fn catch_up(&self, start: Start) -> Result<(), EngineError> {
        let state = self.view().state.clone();
        if state.is_running() || matches!(state, State::Removing) {
            return Ok(());
        }
        self.transition(Event::Started { pid: start.pid, at: start.at })
    }
}
