//! Images in and out: load, save, import, pull. Archives stream; nothing is held in memory as a whole.

use berth_api::progress::ProgressMessage;
use berth_engine::Engine;
use berth_image::{ImageError, ImportOptions, Progress, image_name};
use berth_model::{ImageRef, Platform};
use tokio::sync::oneshot;

use crate::daemon::Daemon;
use crate::http::body::Upload;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{BodyWriter, Chunks, Payload, Reply};
use crate::http::router::{Endpoint, endpoint};
use crate::resources::images::publish;
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
struct Messages {
    chunks: Chunks,
    started: Option<oneshot::Sender<()>>,
}

impl Messages {
    fn send(&mut self, message: &ProgressMessage) {
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
    let platform = image::platform(call.query.text("platform"))?;
    let quiet = call.query.flag_or("quiet", true);
    let upload = call.upload()?;
    let engine = call.daemon.engine.clone();
    // Clients of the reference engine expect every failure of a load inside the stream (B024).
    with_messages(move |messages| {
        if let Err(error) = load_archive(&engine, upload, platform.as_ref(), quiet, messages) {
            messages.send(&ProgressMessage::failure(error.to_string()));
        }
        Ok(())
    })
    .await
}

fn load_archive(
    engine: &Engine,
    upload: Upload,
    platform: Option<&Platform>,
    quiet: bool,
    messages: &mut Messages,
) -> Result<(), ImageError> {
    let mut show = |progress: Progress| {
        let is_text = matches!(progress, Progress::Stream(_));
        if is_text || !quiet {
            messages.send(&image::progress(&progress));
        }
    };
    let loaded = engine.images().load(upload, platform, &mut show)?;
    for image in loaded {
        publish(engine, "load", &image.id, image.id.as_str());
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
    let platform = image::platform(call.query.text("platform"))?;
    let engine = call.daemon.engine.clone();
    // What is wrong with the names is found out before the head is sent; after it only the stream can break off.
    let checked = {
        let (engine, names, platform) = (engine.clone(), names.clone(), platform.clone());
        Daemon::blocking(move || {
            for name in &names {
                engine.images().resolve_for(name, platform.as_ref())?;
            }
            Ok(())
        })
    };
    checked.await?;
    let (chunks, payload) = Payload::stream();
    tokio::task::spawn_blocking(move || {
        let mut writer = BodyWriter::new(chunks);
        let saved = engine.images().save(&names, platform.as_ref(), &mut writer);
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
        ("", "-") => import(call, platform).await,
        ("", _) => {
            Err(ApiError::not_implemented("importing from a URL is not there yet: send the archive (fromSrc=-)"))
        }
        (name, _) => {
            let reference = image_name(name, call.query.text("tag"))?;
            pull(call, reference, platform).await
        }
    }
}

async fn import(mut call: Call, platform: Option<Platform>) -> Result<Reply, ApiError> {
    let repo = call.query.text("repo");
    let reference = if repo.is_empty() { None } else { Some(image_name(repo, call.query.text("tag"))?) };
    let message = match call.query.text("message") {
        "" => "Imported from -".to_owned(),
        text => text.to_owned(),
    };
    let changes = call.query.all("changes").map(str::to_owned).collect();
    let options = ImportOptions { reference: reference.clone(), changes, message, platform };
    let upload = call.upload()?;
    let engine = call.daemon.engine.clone();
    with_messages(move |messages| {
        let id = engine.images().import(upload, options)?;
        if let Some(reference) = &reference {
            publish(&engine, "tag", &id, &reference.familiar());
        }
        publish(&engine, "import", &id, id.as_str());
        messages.send(&ProgressMessage::status(id.to_string()));
        Ok(())
    })
    .await
}

async fn pull(call: Call, reference: ImageRef, platform: Option<Platform>) -> Result<Reply, ApiError> {
    let engine = call.daemon.engine.clone();
    with_messages(move |messages| {
        let mut show = |progress: Progress| messages.send(&image::progress(&progress));
        let pulled = engine.images().pull(&reference, platform.as_ref(), &mut show)?;
        publish(&engine, "pull", &pulled.id, &reference.familiar());
        Ok(())
    })
    .await
}
