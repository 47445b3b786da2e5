//! A container's files: changes, export, and files in and out (B170-B173). Archives stream.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_api::container::FilesystemChange;
use berth_engine::{Access, Change, ChangeKind, ContainerFiles, ExtractOptions, FoundPath, PathStat};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use crate::daemon::Daemon;
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{BodyWriter, Payload, Reply};
use crate::http::router::{Endpoint, endpoint};
use crate::resources::containers::named;

pub static ENDPOINTS: &[Endpoint] = &[
    endpoint!("GET" "/containers/{name}/changes", "ContainerChanges", changes),
    endpoint!("GET" "/containers/{name}/export", "ContainerExport", export),
    endpoint!("HEAD" "/containers/{name}/archive", "ContainerArchiveInfo", stat),
    endpoint!("GET" "/containers/{name}/archive", "ContainerArchive", archive),
    endpoint!("PUT" "/containers/{name}/archive", "PutContainerArchive", extract, Upload),
];

/// What an archive is about.
const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

async fn changes(call: Call) -> Result<Reply, ApiError> {
    let id = named(&call.daemon, &call.object)?.id.clone();
    let changes: Vec<_> = call.daemon.engine.changes(&id).await?.iter().map(change).collect();
    Ok(Reply::json(&changes))
}

fn change(change: &Change) -> FilesystemChange {
    FilesystemChange {
        path: format!("/{}", String::from_utf8_lossy(&change.path)),
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    }
}

async fn export(call: Call) -> Result<Reply, ApiError> {
    let id = named(&call.daemon, &call.object)?.id.clone();
    let exported = call.daemon.engine.export(&id).await?;
    let (chunks, payload) = Payload::stream();
    tokio::task::spawn_blocking(move || {
        let mut writer = BodyWriter::new(chunks);
        let written = exported.write_to(&mut writer);
        writer.finish(written);
    });
    Ok(Reply::stream("application/octet-stream", payload))
}

/// The path that a request is about.
fn path_of(call: &Call) -> Result<String, ApiError> {
    match call.query.text("path") {
        "" => Err(ApiError::invalid("bad parameter: path cannot be empty")),
        path => Ok(path.to_owned()),
    }
}

/// Opens the container's files and looks at a path.
async fn find(call: &Call) -> Result<FoundPath, ApiError> {
    let id = named(&call.daemon, &call.object)?.id.clone();
    let path = path_of(call)?;
    let files = call.daemon.engine.files(&id, Access::Read).await?;
    let name = call.object.clone();
    Daemon::blocking(move || Ok(files.find(&path, &name)?)).await
}

async fn stat(call: Call) -> Result<Reply, ApiError> {
    let found = find(&call).await?;
    Ok(Reply::empty(StatusCode::OK).header(PATH_STAT, path_stat(&found.stat)))
}

async fn archive(call: Call) -> Result<Reply, ApiError> {
    let found = find(&call).await?;
    let stat = path_stat(&found.stat);
    let (chunks, payload) = Payload::stream();
    tokio::task::spawn_blocking(move || {
        let mut writer = BodyWriter::new(chunks);
        let written = found.write_to(&mut writer);
        if written.is_ok() {
            found.note_read();
        }
        writer.finish(written);
    });
    Ok(Reply::stream("application/x-tar", payload).header(PATH_STAT, stat))
}

async fn extract(mut call: Call) -> Result<Reply, ApiError> {
    let id = named(&call.daemon, &call.object)?.id.clone();
    let path = path_of(&call)?;
    let options = ExtractOptions {
        keep_kinds: call.query.flag("noOverwriteDirNonDir"),
        to_container_user: call.query.flag("copyUIDGID"),
    };
    let upload = call.upload()?;
    let files: Arc<ContainerFiles> = call.daemon.engine.files(&id, Access::Write).await?;
    let name = call.object;
    Daemon::blocking(move || {
        files.extract(&path, upload, options, &name)?;
        files.note_written();
        Ok(())
    })
    .await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// What clients of Go expect, with the bits of its `os.FileMode`.
fn path_stat(stat: &PathStat) -> HeaderValue {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        name: &'a str,
        size: u64,
        mode: u32,
        mtime: String,
        link_target: &'a str,
    }
    let document = Document {
        name: &stat.name,
        size: stat.size,
        mode: go_mode(stat.mode),
        mtime: stat.modified.to_string(),
        link_target: &stat.link_target,
    };
    let text = STANDARD.encode(serde_json::to_vec(&document).expect("text and numbers"));
    HeaderValue::from_str(&text).expect("base64 is plain text")
}

/// Go keeps the type of a file above its permission bits, each at a place of its own.
fn go_mode(mode: u32) -> u32 {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const NAMED_PIPE: u32 = 1 << 25;
    const SOCKET: u32 = 1 << 24;
    const SET_UID: u32 = 1 << 23;
    const SET_GID: u32 = 1 << 22;
    const CHAR_DEVICE: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;
    let kind = match mode & 0o170_000 {
        0o040_000 => DIR,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHAR_DEVICE,
        0o010_000 => NAMED_PIPE,
        0o140_000 => SOCKET,
        _ => 0,
    };
    let special = [(0o4000, SET_UID), (0o2000, SET_GID), (0o1000, STICKY)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0).fold(0, |all, (_, bit)| all | bit);
    kind | special | mode & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_told_as_go_has_them() {
        for (mode, expected) in [
            (0o100_644, 420),
            (0o040_755, 2_147_484_141),
            (0o120_777, 134_218_239),
            (0o104_755, (1 << 23) | 0o755),
            (0o020_666, (1 << 26) | (1 << 21) | 0o666),
            (0o041_777, (1 << 31) | (1 << 20) | 0o777),
        ] {
            assert_eq!(go_mode(mode), expected, "{mode:o}");
        }
    }
}
