//! The zygote: a process that has begun as far as a shim can without a container, and forks one for each launch.
//!
//! Starting a large program costs more than all that a shim does before its container runs; a fork of one that has started costs a tenth, and
//! its memory is shared until it changes. The engine starts the zygote from its sealed program, with one end of a socket as its stdin.
//! Each message on it is one launch: the container's id, and the socket on which the new shim will hear what to launch. The zygote itself
//! knows no container and ends with its engine; shims neither notice nor care. See `docs/design/zygote.md`.

use std::io;
use std::os::fd::OwnedFd;

use berth_proto::ttrpc::{Code, Server, Status};
use berth_sys::clone::{CloneRequest, Cloned};
use berth_sys::title::Title;
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::origin::Origin;
use crate::reuse::{Blank, Reuse};

/// The word that starts one; after it come the shims' cgroup, and blanks as room for the words that `ps` shows of shims.
pub const WORD: &str = "--zygote";
/// The longest message: an id.
const LONGEST: usize = 256;

/// Forks shims until the engine has gone; in a shim it returns when that has done all its work.
pub fn serve(cgroup: &str) -> io::Result<()> {
    let title = Title::find()?;
    let mut origin = Origin::find()?;
    // Once for all: who is forked in a cgroup is born in it.
    origin.enter(cgroup).map_err(io::Error::other)?;
    title.set(["berth-shim", WORD, cgroup]);
    // Nobody asks how a shim ended; what it has to say is in its records.
    berth_sys::signalfd::ignore(Signal::CHILD.as_raw())?;
    // The first digest asks the processor what it can do, which in a virtual machine takes as long as many digests.
    let _ = Sha256::digest([]);
    origin.reuse = Some(Reuse::of_here(title)?);
    berth_sys::heap::release_unused(origin.stack);
    berth_sys::heap::release_program();
    while let Some((id, socket)) = next_launch()? {
        match CloneRequest::default().run() {
            Ok(Cloned::Parent { .. }) => {}
            Ok(Cloned::Child) => {
                return be_shim(origin, id, socket);
            }
            Err(error) => refuse(&socket, &error),
        }
    }
    Ok(())
}

/// Waits for a launch; `None` when the engine has gone. A message that is none is passed over.
fn next_launch() -> io::Result<Option<(String, OwnedFd)>> {
    loop {
        let (mut bytes, mut descriptors) = ([0; LONGEST], Vec::new());
        let count = match berth_sys::fdpass::receive(rustix::stdio::stdin(), &mut bytes, &mut descriptors) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // An engine that died with messages on their way to it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            received => received?,
        };
        if count == 0 {
            return Ok(None);
        }
        if let (Ok(id), Some(socket)) = (std::str::from_utf8(&bytes[..count]), descriptors.pop()) {
            return Ok(Some((id.to_owned(), socket)));
        }
    }
}

/// The life of a shim. Its descriptors take the place of the zygote's, whose socket is closed by that.
fn be_shim(origin: Origin, id: String, socket: OwnedFd) -> io::Result<()> {
    // From here on what is freed is wiped. The id is the first that is of a container.
    berth_sys::wiping::begin();
    if let Some(reuse) = &origin.reuse {
        reuse.show(&id);
    }
    drop(id);
    rustix::process::setsid()?;
    berth_sys::signalfd::restore(Signal::CHILD.as_raw())?;
    Blank::new(origin, socket).serve_all()
}

/// Tells the engine why there is no shim, as a shim would: by the answer to its first call.
fn refuse(socket: &OwnedFd, error: &io::Error) {
    const FIRST_STREAM: u32 = 1;
    let mut server = Server::default();
    let status = Status::new(Code::ResourceExhausted, format!("making a process for the shim: {error}"));
    server.answer(FIRST_STREAM, Err(status));
    // It fits into an empty socket; an engine that has gone needs no answer.
    let _ = rustix::net::send(socket, &server.outgoing, rustix::net::SendFlags::NOSIGNAL);
}
