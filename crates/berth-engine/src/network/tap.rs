//! Packets of a running container's network, as a capture file.

use std::{io, path::PathBuf, sync::Arc};

use berth_model::ContainerId;
use berth_net::TapOptions;

use crate::{Engine, EngineError, Inner, spec::NetworkMode};

/// A capture that ends with the container's run.
pub struct Tap {
    engine: Arc<Inner>,
    container: ContainerId,
    pid: u32,
    packets: berth_net::Tap,
}

impl Engine {
    /// Begins to capture the packets of a running container. Blocks.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`]; a refusal for a container in the host's network, which is not its own.
    pub fn tap(&self, id: &ContainerId, options: TapOptions) -> Result<Tap, EngineError> {
        let view = self.handle(id)?.view();
        if view.spec.host.network == NetworkMode::Host {
            return Err(EngineError::conflict(format!(
                "container {} uses the host's network: capture on the host's interfaces instead",
                view.name
            )));
        }
        let pid = view.state.pid().ok_or_else(|| EngineError::NotRunning(view.id.to_string()))?;
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let netns = berth_sys::netns::open(&path).map_err(EngineError::io("opening", path))?;
        let packets = self.inner.networks.tap(netns, options)?;
        Ok(Tap { engine: Arc::clone(&self.inner), container: view.id.clone(), pid, packets })
    }
}

impl Tap {
    /// What stands at the beginning of the file.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        self.packets.header().to_vec()
    }

    /// Appends the next packet to `file`, or nothing if none came for a while; tells which. `None` when the run has
    /// ended. Blocks.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn next(&mut self, file: &mut Vec<u8>) -> io::Result<Option<bool>> {
        if self.packets.next(file)? {
            return Ok(Some(true));
        }
        // Nobody sends any more where nobody is; the namespace is held by this very capture.
        let handle = self.engine.registry.find(self.container.as_str());
        let runs = handle.is_ok_and(|handle| handle.view().state.pid() == Some(self.pid));
        Ok(runs.then_some(false))
    }

    /// Whether a packet waits.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.packets.has_more()
    }
}
