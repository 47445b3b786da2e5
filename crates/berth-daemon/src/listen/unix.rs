//! Unix sockets: their file, its mode and owner (B022).

use std::io;
use std::os::unix::fs::{FileTypeExt, chown};
use std::path::Path;

use rustix::fs::Mode;
use tokio::net::UnixListener;

/// Binds a socket with mode 0660 that belongs to root and a group. A file that nobody listens on any more is replaced.
pub fn bind(path: &Path, gid: Option<u32>) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    remove_stale(path)?;
    // The file has its final mode from its first moment: nobody connects before it is meant for them.
    let old = rustix::process::umask(Mode::from_raw_mode(0o117));
    let bound = UnixListener::bind(path);
    rustix::process::umask(old);
    let listener = bound?;
    chown(path, Some(0), gid.or(Some(0)))?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there"));
    }
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("berth-unix-{}.sock", std::process::id()));
        let first = bind(&path, None).expect("bound");
        let mode = std::fs::metadata(&path).expect("file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o660);
        assert_eq!(bind(&path, None).expect_err("live").kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = bind(&path, None).expect("stale file replaced");
        drop(second);
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "").expect("file");
        assert_eq!(bind(&path, None).expect_err("no socket").kind(), io::ErrorKind::AlreadyExists);
        std::fs::remove_file(&path).expect("removed");
    }
}
