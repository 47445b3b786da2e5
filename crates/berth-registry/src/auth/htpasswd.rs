//! Passwords: `user:hash` lines with bcrypt hashes, as `htpasswd -B` writes them.
//!
//! Verifying one takes a tenth of a second by design, and Basic sends it with each request. So what was right once is remembered, as a
//! keyed hash, until the file changes; and only a few are verified at a time, so that guessing does not take the whole machine.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use ring::hmac;
use tokio::sync::Semaphore;

/// Verifications at a time.
const AT_ONCE: usize = 2;
/// Passwords that are remembered to be right.
const REMEMBERED: usize = 4096;
/// What the password of an unknown user is verified against, so that he takes as long as a known one. It is nobody's password.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuJ6wH0zP1mS0g7Y6vO4l3y1fXqXrXWz2";

/// A password file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// Not readable.
    #[error("reading the password file {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A line that is not understood.
    #[error("password file {}, line {line}: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The passwords of a file, read again when it changes.
pub struct Htpasswd {
    path: PathBuf,
    state: Mutex<State>,
    gate: Semaphore,
    /// Only of this process.
    key: hmac::Key,
}

struct State {
    changed: Option<SystemTime>,
    users: Arc<HashMap<String, String>>,
    right: HashSet<[u8; 32]>,
}

impl Htpasswd {
    /// Reads a file.
    ///
    /// # Errors
    /// [`HtpasswdError`].
    pub fn open(path: &Path) -> Result<Self, HtpasswdError> {
        let mut secret = [0_u8; 32];
        let _ = rustix::rand::getrandom(&mut secret[..], rustix::rand::GetRandomFlags::empty());
        let state = State { changed: changed(path), users: Arc::new(read(path)?), right: HashSet::new() };
        Ok(Self {
            path: path.to_owned(),
            state: Mutex::new(state),
            gate: Semaphore::new(AT_ONCE),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })
    }

    /// Whether this is the user's password.
    pub async fn verify(&self, user: &str, password: &str) -> bool {
        let users = self.current();
        let mark = self.mark(user, password);
        if self.lock().right.contains(&mark) {
            return true;
        }
        let Ok(_permit) = self.gate.acquire().await else { return false };
        let (hash, is_known) = match users.get(user) {
            Some(hash) => (hash.clone(), true),
            None => (NOBODY.to_owned(), false),
        };
        let password = password.to_owned();
        let verified = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
        let is_right = verified.await.unwrap_or(false) && is_known;
        if is_right {
            let mut state = self.lock();
            if state.right.len() >= REMEMBERED {
                state.right.clear();
            }
            // Unless the file has changed meanwhile.
            if Arc::ptr_eq(&state.users, &users) {
                state.right.insert(mark);
            }
        }
        is_right
    }

    /// Whether there is such a user still.
    pub fn knows(&self, user: &str) -> bool {
        self.current().contains_key(user)
    }

    /// The users of the file as it is now. One that has become unreadable leaves those that were.
    fn current(&self) -> Arc<HashMap<String, String>> {
        let mut state = self.lock();
        let now = changed(&self.path);
        if now != state.changed {
            match read(&self.path) {
                Ok(users) => {
                    state.users = Arc::new(users);
                    state.right.clear();
                }
                Err(error) => tracing::warn!(%error, "the passwords stay as they were"),
            }
            state.changed = now;
        }
        Arc::clone(&state.users)
    }

    fn mark(&self, user: &str, password: &str) -> [u8; 32] {
        let tag = hmac::sign(&self.key, format!("{}:{user}:{password}", user.len()).as_bytes());
        tag.as_ref().try_into().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a user to a file, or changes his password.
///
/// # Errors
/// [`HtpasswdError`].
pub fn set(path: &Path, user: &str, password: &str) -> Result<(), HtpasswdError> {
    let wrong = |reason| HtpasswdError::Line { path: path.to_owned(), line: 0, reason };
    if user.is_empty() || user.contains([':', '\n', '\r']) {
        return Err(wrong("a user's name must not be empty, nor have a colon in it"));
    }
    let failed = |source| HtpasswdError::Read { path: path.to_owned(), source };
    let old = if path.exists() { fs::read_to_string(path).map_err(failed)? } else { String::new() };
    let hash = bcrypt::hash(password, bcrypt::DEFAULT_COST).map_err(|_| wrong("the password cannot be hashed"))?;
    let mut text: String =
        old.lines().filter(|line| line.split(':').next() != Some(user)).map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("{user}:{hash}\n"));
    let partial = path.with_extension("partial");
    let written = write_private(&partial, &text).and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| HtpasswdError::Read { path: path.to_owned(), source })
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn read(path: &Path) -> Result<HashMap<String, String>, HtpasswdError> {
    let text = fs::read_to_string(path).map_err(|source| HtpasswdError::Read { path: path.to_owned(), source })?;
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |reason| HtpasswdError::Line { path: path.to_owned(), line: number + 1, reason };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, hash) = line.split_once(':').ok_or(wrong("it must be USER:HASH"))?;
        let is_bcrypt = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) && hash.len() == 60;
        if user.is_empty() || !is_bcrypt {
            return Err(wrong(
                "only bcrypt hashes are accepted; write it with `htpasswd -B` or `berth registry user add`",
            ));
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least that bcrypt allows: these are no secrets.
    fn line(user: &str, password: &str) -> String {
        format!("{user}:{}\n", bcrypt::hash(password, 4).expect("hash"))
    }

    #[tokio::test]
    async fn passwords_are_verified_and_the_file_is_read_again() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("htpasswd");
        fs::write(&path, format!("# people\n\n{}", line("ann", "one"))).expect("write");
        let passwords = Htpasswd::open(&path).expect("open");
        for _ in 0..2 {
            assert!(passwords.verify("ann", "one").await);
        }
        assert!(!passwords.verify("ann", "two").await && !passwords.verify("bob", "one").await);
        fs::write(&path, line("ann", "two")).expect("write");
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        fs::File::open(&path).and_then(|file| file.set_modified(later)).expect("dated");
        assert!(passwords.verify("ann", "two").await && !passwords.verify("ann", "one").await);
    }

    #[test]
    fn an_unknown_user_takes_as_long_as_a_known_one() {
        assert!(matches!(bcrypt::verify("password", NOBODY), Ok(false)));
    }

    #[test]
    fn other_hashes_are_refused_with_their_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("htpasswd");
        for text in ["ann:{SHA}abc=\n", "ann:$apr1$x$y\n", "ann\n", ":$2y$05$x\n"] {
            fs::write(&path, format!("\n{text}")).expect("write");
            let error = Htpasswd::open(&path).err().expect("refused").to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn setting_a_password_twice_keeps_one_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("htpasswd");
        fs::write(&path, line("bob", "x")).expect("write");
        set(&path, "ann", "one").expect("set");
        set(&path, "ann", "two").expect("set");
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(text.lines().count(), 2);
        assert!(set(&path, "a:b", "x").is_err());
    }
}
