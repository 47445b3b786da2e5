//! Images in and out: load, save, import, pull. Archives stream; nothing is held in memory as a whole.

use std::sync::Arc;

use berth_api::progress::ProgressMessage;
use berth_distribution::DistributionError;
use berth_engine::Engine;
use berth_image::{ImageError, ImportOptions, Progress, PullOptions, Pulled, RegistryResolver, Width, image_name};
use berth_model::{Cancel, ImageRef, Platform};
use tokio::sync::oneshot;

use crate::daemon::Daemon;
use crate::http::body::Upload;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{BodyWriter, Chunks, Payload, Reply};
use crate::http::router::{Endpoint, endpoint};
use crate::resources::images::{publish, users};
use crate::resources::registry;
use crate::translate::image;

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("POST" "/images/load", "ImageLoad", load, Upload),
    endpoint!("GET" "/images/get", "ImageGetAll", save_all),
    endpoint!("GET" "/images/{name}/get", "ImageGet", save_one),
    endpoint!("POST" "/images/create", "ImageCreate", create, Upload),
];

/// The media type of an archive.
const TAR: &str = "application/x-tar";

/// A stream of progress messages whose producer blocks. Nothing is sent before the first message, so that an operation that
/// fails before it is still refused with its own status.
pub(super) struct Messages {
    chunks: Chunks,
    started: Option<oneshot::Sender<()>>,
}

impl Messages {
    pub(super) fn send(&mut self, message: &ProgressMessage) {
        if let Some(started) = self.started.take() {
            // The handler is gone when its client is.
            let _ = started.send(());
        }
        let mut line = serde_json::to_vec(message).expect("messages have text keys only");
        line.extend_from_slice(b"\r\n");
        // A client that no longer listens does not stop the operation: half an image helps nobody.
        drop(self.chunks.blocking_send(Ok(line.into())));
    }
}

/// Runs a blocking operation that sends messages. Its error becomes the last message, or the answer if it is the first.
async fn with_messages<F>(operation: F) -> Result<Reply, ApiError>
where
    F: FnOnce(&mut Messages) -> Result<(), ApiError> + Send + 'static,
{
    let (chunks, payload) = Payload::stream();
    run_with_messages(chunks, payload, operation).await
}

/// As [`with_messages`], for an operation that ends early when its client goes: what it has done until then is not lost.
pub(super) async fn while_listened_to<F>(cancel: Cancel, operation: F) -> Result<Reply, ApiError>
where
    F: FnOnce(&mut Messages) -> Result<(), ApiError> + Send + 'static,
{
    let (chunks, payload) = Payload::stream();
    let (ended, has_ended) = oneshot::channel::<()>();
    let watched = chunks.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = watched.closed() => cancel.cancel(),
            _ = has_ended => {}
        }
    });
    run_with_messages(chunks, payload, move |messages| {
        let result = operation(messages);
        // The stream ends when nobody holds it any more.
        drop(ended);
        result
    })
    .await
}

async fn run_with_messages<F>(chunks: Chunks, payload: Payload, operation: F) -> Result<Reply, ApiError>
where
    F: FnOnce(&mut Messages) -> Result<(), ApiError> + Send + 'static,
{
    let (started, has_started) = oneshot::channel();
    let mut running = tokio::task::spawn_blocking(move || {
        let mut messages = Messages { chunks, started: Some(started) };
        let result = operation(&mut messages);
        match result {
            Err(error) if messages.started.is_none() => {
                messages.send(&ProgressMessage::failure(error.message));
                Ok(())
            }
            other => other,
        }
    });
    tokio::select! {
        biased;
        Ok(()) = has_started => {}
        ended = &mut running => ended.map_err(|error| ApiError::internal(format!("broken off: {error}")))??,
    }
    Ok(Reply::stream("application/json", payload))
}

async fn load(mut call: Call) -> Result<Reply, ApiError> {
    let platforms = image::platforms(call.query.all("platform"))?;
    let quiet = call.query.flag_or("quiet", true);
    let upload = call.upload()?;
    let engine = call.daemon.engine.clone();
    // Clients of the reference engine expect every failure of a load inside the stream (B024).
    with_messages(move |messages| {
        if let Err(error) = load_archive(&engine, upload, &platforms, quiet, messages) {
            messages.send(&ProgressMessage::failure(error.to_string()));
        }
        Ok(())
    })
    .await
}

fn load_archive(
    engine: &Engine,
    upload: Upload,
    platforms: &[Platform],
    quiet: bool,
    messages: &mut Messages,
) -> Result<(), ImageError> {
    let mut show = |progress: Progress| {
        let is_text = matches!(progress, Progress::Stream(_));
        if is_text || !quiet {
            messages.send(&image::progress(&progress));
        }
    };
    let loaded = engine.images().load(upload, platforms, &mut show);
    let loaded = loaded.inspect_err(|_| engine.discard_unneeded_content())?;
    for image in &loaded {
        publish(engine, "load", &image.id, image.id.as_str());
    }
    let unwanted: Vec<_> = loaded.into_iter().flat_map(|image| image.unwanted).collect();
    if !unwanted.is_empty() {
        engine.images().discard_manifests(&unwanted, &|| users(engine))?;
    }
    Ok(())
}

async fn save_one(call: Call) -> Result<Reply, ApiError> {
    let names = vec![call.object.clone()];
    save(call, names).await
}

async fn save_all(call: Call) -> Result<Reply, ApiError> {
    let names = call.query.all("names").map(str::to_owned).collect();
    save(call, names).await
}

async fn save(call: Call, names: Vec<String>) -> Result<Reply, ApiError> {
    let platforms = image::platforms(call.query.all("platform"))?;
    let engine = call.daemon.engine.clone();
    // What is wrong with the names is found out before the head is sent; after it only the stream can break off.
    let checked = {
        let (engine, names, platforms) = (engine.clone(), names.clone(), platforms.clone());
        Daemon::blocking(move || {
            for name in &names {
                engine.images().resolve(name)?;
                for platform in &platforms {
                    engine.images().resolve_for(name, Some(platform))?;
                }
            }
            Ok(())
        })
    };
    checked.await?;
    let (chunks, payload) = Payload::stream();
    tokio::task::spawn_blocking(move || {
        let mut writer = BodyWriter::new(chunks);
        let saved = engine.images().save(&names, &platforms, &mut writer);
        for id in saved.iter().flatten() {
            publish(&engine, "save", id, id.as_str());
        }
        writer.finish(saved.map(drop));
    });
    Ok(Reply::stream(TAR, payload))
}

/// Imports an archive (`fromSrc`) or pulls an image (`fromImage`).
async fn create(call: Call) -> Result<Reply, ApiError> {
    let platform = match call.query.text("platform") {
        "" => None,
        text => Some(text.parse().map_err(|error: berth_model::InvalidPlatform| ApiError::invalid(error.to_string()))?),
    };
    match (call.query.text("fromImage"), call.query.text("fromSrc")) {
        ("", "") => Err(ApiError::invalid("name an image (fromImage) or a source (fromSrc)")),
        ("", source) => {
            let source = source.to_owned();
            import(call, platform, source).await
        }
        (name, _) => {
            let reference = image_name(name, call.query.text("tag"))?;
            pull(call, reference, platform).await
        }
    }
}

/// The words for a server that is no registry (golden).
pub(super) fn not_fetched(error: &DistributionError) -> ApiError {
    match error {
        DistributionError::Request { method, url, source } => {
            ApiError::new(error.kind(), format!("{method} \"{url}\": {source}"))
        }
        error => ApiError::new(error.kind(), error.to_string()),
    }
}

/// Imports what the request brings (`-`), or what lies at a URL.
async fn import(mut call: Call, platform: Option<Platform>, source: String) -> Result<Reply, ApiError> {
    let repo = call.query.text("repo");
    let reference = if repo.is_empty() { None } else { Some(image_name(repo, call.query.text("tag"))?) };
    let message = match call.query.text("message") {
        "" => format!("Imported from {source}"),
        text => text.to_owned(),
    };
    let changes = call.query.all("changes").map(str::to_owned).collect();
    let options = ImportOptions { reference: reference.clone(), changes, message, platform };
    let upload = if source == "-" { Some(call.upload()?) } else { None };
    let daemon = Arc::clone(&call.daemon);
    with_messages(move |messages| {
        let engine = &daemon.engine;
        let imported = match upload {
            Some(upload) => engine.images().import(upload, options),
            None => {
                // Without a scheme it is a host's, as other engines have it.
                let url = if source.contains("://") { source } else { format!("http://{source}") };
                let fetched = daemon.registries.download(&url, &Cancel::default());
                let fetched = fetched.map_err(|error| not_fetched(&error))?;
                messages.send(&ProgressMessage::status(format!("Downloading from {url}")));
                engine.images().import(fetched, options)
            }
        };
        let id = imported.inspect_err(|_| engine.discard_unneeded_content())?;
        if let Some(reference) = &reference {
            publish(engine, "tag", &id, &reference.familiar());
        }
        publish(engine, "import", &id, id.as_str());
        messages.send(&ProgressMessage::status(id.to_string()));
        Ok(())
    })
    .await
}

async fn pull(call: Call, reference: ImageRef, platform: Option<Platform>) -> Result<Reply, ApiError> {
    // A name without a tag means all of them here, as clients know: `latest` is written out by those who want it.
    let all_tags =
        reference.digest().is_none() && call.query.text("tag").is_empty() && !has_tag(call.query.text("fromImage"));
    let daemon = Arc::clone(&call.daemon);
    let credentials = registry::credentials(&call);
    let cancel = Cancel::default();
    let options_cancel = cancel.clone();
    while_listened_to(cancel, move |messages| {
        let source = RegistryResolver::open(&daemon.registries, &reference, &credentials, &options_cancel);
        let options = PullOptions {
            platform,
            source: Some(Arc::new(source.map_err(ImageError::from)?)),
            cancel: options_cancel,
            width: Width::of_layers(daemon.settings.downloads).with_attempts(daemon.settings.download_attempts),
        };
        let images = daemon.engine.images();
        let mut show = |progress: Progress| messages.send(&image::progress(&progress));
        let told = |reference: &ImageRef, pulled: &Pulled| {
            publish(&daemon.engine, "pull", &pulled.id, &reference.familiar());
        };
        if all_tags {
            images.pull_all(&reference, &options, &mut show, &mut |reference, pulled| told(reference, pulled))?;
        } else {
            let pulled = images.pull(&reference, &options, &mut show)?;
            told(&reference, &pulled);
        }
        Ok(())
    })
    .await
}

/// Whether a name as it was given says which of a repository's images it means.
fn has_tag(name: &str) -> bool {
    name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'))
}
