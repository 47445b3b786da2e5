//! Checking the image store: what is wrong, one line each, while it is found. Not of the reference API.

use std::io::Write;
use std::sync::Arc;

use berth_image::{CheckOptions, Checked, Fault, ImageError, PullOptions, RegistryResolver, Width};
use berth_model::{Cancel, Digest, ImageRef};
use serde::Serialize;

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{BodyWriter, Payload, Reply, line};
use crate::http::router::{Endpoint, endpoint};
use crate::resources::{images, registry};

pub static ENDPOINTS: &[Endpoint] = &[endpoint!("POST" "/images/check", "ImageCheck", check)];

/// One fault, as it is told.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    kind: &'a str,
    id: &'a str,
    reason: &'a str,
    repaired: Option<&'a str>,
}

/// The last line.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sum {
    images: usize,
    blobs: usize,
    layers: usize,
    faults: usize,
    left: usize,
}

async fn check(call: Call) -> Result<Reply, ApiError> {
    let repair = call.query.flag("repair");
    let daemon = Arc::clone(&call.daemon);
    let credentials = registry::credentials(&call);
    let (chunks, payload) = Payload::stream();
    tokio::task::spawn_blocking(move || {
        let mut writer = BodyWriter::new(chunks);
        let fetch = |reference: &ImageRef| -> Result<(), ImageError> {
            let cancel = Cancel::default();
            let source = RegistryResolver::open(&daemon.registries, reference, &credentials, &cancel)?;
            let settings = &daemon.settings;
            let width = Width::of_layers(settings.downloads).with_attempts(settings.download_attempts);
            let options = PullOptions { platform: None, source: Some(Arc::new(source)), cancel, width };
            daemon.engine.images().pull(reference, &options, &mut |_| {}).map(drop)
        };
        let in_use = in_use(&daemon);
        let options = CheckOptions { repair, fetch: &fetch, in_use: &in_use };
        // A client that no longer listens does not stop a repair half way.
        let mut tell = |fault: &Fault| drop(writer.write_all(&shown(fault)).and_then(|()| writer.flush()));
        let checked = daemon.engine.images().check(&options, &mut tell);
        let ended = checked.map(|checked| drop(writer.write_all(&sum(checked))));
        writer.finish(ended);
    });
    Ok(Reply::stream("application/json", payload))
}

/// The images of all containers, and whether each runs.
fn in_use(daemon: &Daemon) -> Vec<(Digest, bool)> {
    images::users(&daemon.engine).into_iter().map(|user| (user.image, user.running)).collect()
}

fn shown(fault: &Fault) -> Vec<u8> {
    let repaired = fault.repaired.as_deref();
    line(&Line { kind: fault.kind, id: &fault.id, reason: &fault.reason, repaired })
}

fn sum(checked: Checked) -> Vec<u8> {
    let Checked { images, blobs, layers, faults, left } = checked;
    line(&Sum { images, blobs, layers, faults, left })
}
