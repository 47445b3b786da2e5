//! Short changes of a container: signals, freezing, the terminal's size, the name.

use berth_model::{
    ContainerName, Signal,
    lifecycle::{Event, State},
};

use super::{Container, EarlyAttach};
use crate::{EngineError, shim::Shim};

impl Container {
    /// Sends a signal on somebody's wish (B050, B051).
    pub(crate) async fn kill(&mut self, signal: Signal) -> Result<(), EngineError> {
        let view = self.view();
        if matches!(view.state, State::Restarting { .. }) && ends_restarting(&view.spec.config.stop_signal, signal) {
            return self.cancel_restart().await;
        }
        if !view.state.is_running() {
            return Err(EngineError::NotRunning(view.id.to_string()));
        }
        if ends_restarting(&view.spec.config.stop_signal, signal) {
            self.publish_view(|view| view.stopped_by_hand = true);
            self.submit_state();
        }
        self.send(signal).await
    }

    /// Sends a signal and publishes it. A frozen container is thawed when the signal is to end it.
    pub(super) async fn send(&mut self, signal: Signal) -> Result<(), EngineError> {
        let view = self.view();
        let shim = self.running_shim()?;
        shim.kill(signal, false).await?;
        self.engine.publish(&view, "kill", [("signal", signal.number().to_string())]);
        if matches!(view.state, State::Paused { .. }) && ends_restarting(&view.spec.config.stop_signal, signal) {
            self.unpause().await?;
        }
        Ok(())
    }

    /// Freezes every process.
    pub(crate) async fn pause(&mut self) -> Result<(), EngineError> {
        let view = self.view();
        if matches!(view.state, State::Paused { .. }) {
            return Err(EngineError::conflict(format!("container {} is already paused", view.id)));
        }
        if matches!(view.state, State::Restarting { .. }) {
            return Err(EngineError::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                view.id
            )));
        }
        self.running_shim()?.pause().await?;
        self.transition(Event::Paused)?;
        self.submit_state();
        self.engine.publish(&self.view(), "pause", []);
        Ok(())
    }

    /// Thaws every process.
    pub(crate) async fn unpause(&mut self) -> Result<(), EngineError> {
        let view = self.view();
        if !matches!(view.state, State::Paused { .. }) {
            return Err(EngineError::conflict(format!("Container {} is not paused", view.id)));
        }
        self.running_shim()?.resume().await?;
        self.transition(Event::Resumed)?;
        self.submit_state();
        self.engine.publish(&self.view(), "unpause", []);
        Ok(())
    }

    /// Changes the size of the terminal.
    pub(crate) async fn resize(&mut self, width: u32, height: u32) -> Result<(), EngineError> {
        self.running_shim()?.resize("", width, height).await?;
        let size = [("height", height.to_string()), ("width", width.to_string())];
        self.engine.publish(&self.view(), "resize", size);
        Ok(())
    }

    /// Gives the container another name.
    pub(crate) async fn rename(&mut self, name: ContainerName) -> Result<(), EngineError> {
        let view = self.view();
        if view.name == name {
            return Err(EngineError::invalid("Renaming a container with the same name as its current name"));
        }
        let reservation = self.engine.registry.reserve(&name, &view.id)?;
        let mut next = (*view).clone();
        next.name = name;
        self.commit_record_of(&next).await?;
        reservation.keep();
        self.engine.registry.release(&view.name);
        self.engine.publish(&next, "rename", [("oldName", format!("/{}", view.name))]);
        self.install(next);
        crate::name_service::refresh_or_warn(&self.engine, &self.view()).await;
        Ok(())
    }

    /// Keeps a client's socket for the start that is to come; `false` if that has come already.
    pub(crate) async fn attach_early(&mut self, attach: EarlyAttach) -> Result<bool, EngineError> {
        if self.view().state.is_running() {
            return Ok(false);
        }
        self.early.push(attach);
        Ok(true)
    }

    /// The shim of a container that runs.
    pub(crate) fn running_shim(&self) -> Result<Shim, EngineError> {
        let not_running = || EngineError::NotRunning(self.id().to_string());
        if !self.view().state.is_running() {
            return Err(not_running());
        }
        self.shim.clone().ok_or_else(not_running)
    }
}

/// Whether a signal counts as stopping by hand: any, if the container has no stop signal of its own; else that one and SIGKILL.
fn ends_restarting(own: &Option<String>, signal: Signal) -> bool {
    match own.as_deref().and_then(|text| text.parse::<Signal>().ok()) {
        None => true,
        Some(own) => signal == own || signal == Signal::KILL,
    }
}
