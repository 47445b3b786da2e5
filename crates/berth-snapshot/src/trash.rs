//! Deleting costs time, renaming does not: what goes is renamed into the trash, and deleted by a thread of its own when things are quiet.
//!
//! The thread waits for a pause, because on ext4 without a journal every deleted inode makes each new one dearer for minutes. Writable layers
//! are not deleted but emptied, and given to the next container; one that its container left empty needs neither the thread nor the pause.
//! Their upper directory is a new one each time: whoever has the old one open, or an overlay that shows it, sees nothing of the next container.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use berth_model::Digest;
use rustix::{
    fs::{AtFlags, Dir, Gid, IFlags, Mode, OFlags, Uid},
    io::Errno,
};

use crate::{
    SnapshotError,
    container::allow_another_mount,
    names,
    pool::{Pool, Pooled},
    standing::{Standing, is_empty},
};

/// Nothing is deleted until nothing was thrown away for so long...
const QUIET: Duration = Duration::from_secs(2);
/// ... or the oldest has waited so long, or there is so much of it.
const LONGEST: Duration = Duration::from_secs(30);
const MOST: usize = 1024;
/// The mode of a new upper directory.
const UPPER: Mode = Mode::from_raw_mode(0o755);
/// Deeper directories are first brought to the top: a container may nest them deeper than a stack or a descriptor table allows.
const DEPTH: usize = 32;

/// The trash and its thread.
pub(crate) struct Trash {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

struct Shared {
    root: PathBuf,
    next: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<String>,
    oldest: Option<Instant>,
    newest: Option<Instant>,
    pool: Pool,
    /// Somebody waits for the trash to be empty.
    hurry: bool,
    busy: bool,
    end: bool,
}

impl Trash {
    /// Opens the trash, with whatever lies in it and in the pool.
    pub fn open(root: &Path) -> Result<Self, SnapshotError> {
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            next: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let old: Vec<String> =
            names(&root.join("trash"))?.into_iter().filter_map(|name| name.into_string().ok()).collect();
        let taken = old.iter().filter_map(|name| name.parse::<u64>().ok()).max();
        shared.next.store(taken.map_or(0, |n| n + 1), Ordering::Relaxed);
        if !old.is_empty() {
            let mut state = shared.lock();
            let now = Some(Instant::now());
            (state.waiting, state.oldest, state.newest) = (old, now, now);
        }
        let mut trash = Self { worker: None, shared };
        // A pool of another life may hold anything.
        for name in names(&root.join("pool"))? {
            trash.take(&root.join("pool").join(name));
        }
        let shared = Arc::clone(&trash.shared);
        let worker =
            std::thread::Builder::new().name("trash".to_owned()).stack_size(256 * 1024).spawn(move || shared.run());
        trash.worker = Some(worker.map_err(SnapshotError::io("starting the thread for", &root.join("trash")))?);
        Ok(trash)
    }

    /// Throws a directory away. When this returns, it is out of sight.
    pub fn take(&self, path: &Path) {
        self.shared.take(path);
    }

    /// Keeps a writable layer, which nothing shows any more, for the next container: at once if its own has written nothing, and with the overlay
    /// that shows it if there is one.
    pub fn take_layer(&self, path: &Path, standing: Option<Standing>) {
        let standing = standing.filter(|standing| standing.is_untouched(path));
        // Whatever is in the way, the thread finds it too, and tells.
        let kept = match standing {
            Some(standing) => self.shared.keep(path, Some(standing)).is_ok(),
            None => self.shared.lock().pool.has_room() && matches!(self.shared.recycle_empty(path), Ok(true)),
        };
        if !kept {
            self.shared.take(path);
        }
    }

    /// A writable layer without content for a container that is made from `description`, if there is one.
    pub fn recycled(&self, description: Option<&Digest>) -> Option<Pooled> {
        self.shared.lock().pool.take(description)
    }

    /// Sees to it that no overlay waits, now or later, that was made while a layer was there that goes now.
    pub fn outdate_overlays(&self) {
        let overlays = self.shared.lock().pool.outdate();
        overlays.into_iter().for_each(|pooled| self.shared.let_go(pooled));
    }

    /// For an overlay that is made now.
    pub fn generation(&self) -> u64 {
        self.shared.lock().pool.generation()
    }

    /// Waits until the trash is empty.
    pub fn empty(&self) {
        let mut state = self.shared.lock();
        state.hurry = true;
        self.shared.changed.notify_all();
        while !state.waiting.is_empty() || state.busy {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Trash {
    fn drop(&mut self) {
        self.shared.lock().end = true;
        self.shared.changed.notify_all();
        if let Some(worker) = self.worker.take() {
            // What still lies in the trash is deleted after the next start.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, path: &Path) {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        match std::fs::rename(path, self.root.join("trash").join(&name)) {
            Ok(()) => self.add(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot be thrown away, stays until the next start");
            }
        }
    }

    /// Unmounts an overlay; its layer is of use still.
    fn let_go(&self, pooled: Pooled) {
        drop(pooled.standing);
        self.take(&pooled.path);
    }

    fn let_overlays_go(&self) {
        let overlays = self.lock().pool.overlays();
        overlays.into_iter().for_each(|pooled| self.let_go(pooled));
    }

    fn add(&self, name: String) {
        let mut state = self.lock();
        let now = Instant::now();
        state.waiting.push(name);
        state.newest = Some(now);
        state.oldest.get_or_insert(now);
        drop(state);
        self.changed.notify_all();
    }

    fn run(&self) {
        while let Some(batch) = self.next_batch() {
            for name in batch {
                if self.lock().end {
                    return;
                }
                self.dispose(&name);
            }
            let mut state = self.lock();
            state.busy = false;
            state.hurry &= !state.waiting.is_empty();
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for the time to delete; `None` at the end.
    fn next_batch(&self) -> Option<Vec<String>> {
        let mut state = self.lock();
        loop {
            if state.end {
                return None;
            }
            let due = state.oldest.zip(state.newest).map(|(oldest, newest)| (newest + QUIET).min(oldest + LONGEST));
            let now = Instant::now();
            let idle = state.pool.idle_at();
            if idle.is_some_and(|idle| idle <= now) {
                drop(state);
                self.let_overlays_go();
                state = self.lock();
                continue;
            }
            match due {
                Some(_) if state.hurry || state.waiting.len() >= MOST => break,
                Some(due) if due <= now => break,
                _ => {}
            }
            let wait = due.into_iter().chain(idle).min().map(|next| next - now);
            state.hurry &= due.is_some();
            state = match wait {
                Some(wait) => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.busy = true;
        (state.oldest, state.newest) = (None, None);
        Some(std::mem::take(&mut state.waiting))
    }

    /// Empties a writable layer for the next container, or deletes whatever else it is.
    fn dispose(&self, name: &str) {
        let trash = self.root.join("trash");
        let path = trash.join(name);
        let done = (|| {
            let top = open_directory(&trash)?;
            let wanted = self.lock().pool.has_room();
            if wanted && path.join("upper").is_dir() && path.join("work").is_dir() && path.join("layers").is_file() {
                self.recycle(&top, &path)?;
                return Ok(());
            }
            self.delete(&top, top.as_fd(), name.as_bytes(), 0)
        })();
        if let Err(error) = done {
            tracing::warn!(path = %path.display(), error = %io::Error::from(error), "cannot be deleted, is tried again after the next start");
        }
    }

    fn recycle(&self, top: &OwnedFd, path: &Path) -> rustix::io::Result<()> {
        let (layer, work) = (open_directory(path)?, open_directory(&path.join("work"))?);
        self.delete(top, layer.as_fd(), b"upper", 1)?;
        rustix::fs::mkdirat(&layer, c"upper", UPPER)?;
        make_mutable(work.as_fd());
        self.clear(top, work.as_fd(), 0)?;
        reset(work.as_fd())?;
        self.keep(path, None)
    }

    /// As [`Shared::recycle`] where there is nothing to delete but overlay's own mark; says whether that was so.
    fn recycle_empty(&self, path: &Path) -> io::Result<bool> {
        if !is_empty(&path.join("upper"))? {
            return Ok(false);
        }
        let layer = open_directory(path)?;
        unlink(layer.as_fd(), b"upper", AtFlags::REMOVEDIR)?;
        rustix::fs::mkdirat(&layer, c"upper", UPPER)?;
        // The rest of what overlay keeps there it replaces by itself at the next mount.
        allow_another_mount(&path.join("work")).map_err(io::Error::other)?;
        self.keep(path, None)?;
        Ok(true)
    }

    /// Puts a writable layer without content where the next container finds it.
    fn keep(&self, path: &Path, standing: Option<Standing>) -> rustix::io::Result<()> {
        let pooled = self.root.join("pool").join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        rustix::fs::rename(path, &pooled)?;
        let (wake, surplus) = {
            let pool = &mut self.lock().pool;
            let before = pool.idle_at();
            let surplus = pool.put(Pooled { path: pooled, standing });
            (before.is_none() && pool.idle_at().is_some(), surplus)
        };
        if wake {
            // The thread did not know that there is something to wait for.
            self.changed.notify_all();
        }
        surplus.into_iter().for_each(|pooled| self.let_go(pooled));
        Ok(())
    }

    fn delete(&self, top: &OwnedFd, parent: BorrowedFd<'_>, name: &[u8], depth: usize) -> rustix::io::Result<()> {
        match unlink(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            Err(Errno::NOENT) => return Ok(()),
            done => return done,
        }
        if depth >= DEPTH {
            let moved = self.next.fetch_add(1, Ordering::Relaxed).to_string();
            rustix::fs::renameat(parent, name, top, moved.as_str())?;
            self.add(moved);
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        self.clear(top, directory.as_fd(), depth)?;
        drop(directory);
        unlink(parent, name, AtFlags::REMOVEDIR)
    }

    fn clear(&self, top: &OwnedFd, directory: BorrowedFd<'_>, depth: usize) -> rustix::io::Result<()> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                self.delete(top, directory, entry.file_name().to_bytes(), depth + 1)?;
            }
        }
        Ok(())
    }
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Removes a name, also where a container made it or its directory immutable.
fn unlink(parent: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, flags) {
        Err(Errno::PERM) => {
            make_mutable(parent);
            let open = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if let Ok(file) = rustix::fs::openat(parent, name, open, Mode::empty()) {
                make_mutable(file.as_fd());
            }
            rustix::fs::unlinkat(parent, name, flags)
        }
        done => done,
    }
}

fn make_mutable(file: BorrowedFd<'_>) {
    let fixed = IFlags::IMMUTABLE | IFlags::APPEND;
    if let Ok(flags) = rustix::fs::ioctl_getflags(file)
        && flags.intersects(fixed)
    {
        // Whether it helped shows when the name is removed.
        let _ = rustix::fs::ioctl_setflags(file, flags - fixed);
    }
}

/// Takes back what a container, or overlay itself, did to a directory that is used again.
fn reset(directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut names = vec![0_u8; 65_536];
    let len = match rustix::fs::flistxattr(directory, &mut names[..]) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error),
    };
    for name in names[..len].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        match rustix::fs::fremovexattr(directory, name) {
            // Labels of the host's security modules cannot be removed, nor did the container set them.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NODATA | Errno::ACCESS) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    if rustix::process::geteuid().is_root() {
        rustix::fs::fchown(directory, Some(Uid::ROOT), Some(Gid::ROOT))?;
    }
    rustix::fs::fchmod(directory, Mode::from_raw_mode(0o755))
}
