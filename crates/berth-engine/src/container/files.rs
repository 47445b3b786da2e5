//! Opening a container's files to somebody outside: a tree of mounts with its root, its volumes and its binds.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use berth_sys::{
    mount::{self, AttributeChange, Attributes, Depth, Filesystem, Interface},
    private_tree::{Base, PrivateTree},
    rooted,
};
use rustix::fs::{Mode, OFlags};
use tokio::sync::RwLock;

use super::Container;
use crate::{
    Access, ContainerFiles, EngineError, blocking,
    view::{ContainerView, MountPointKind},
};

/// Who is in a container's files from outside. Locks that are only ever read while in use, and written to wait for their end.
#[derive(Clone, Default)]
pub(crate) struct Visitors {
    /// Everybody: the files are not given away meanwhile.
    all: Arc<RwLock<()>>,
    /// Those who write: the container does not start meanwhile.
    writers: Arc<RwLock<()>>,
    /// The files of a container that does not run, shared: its layer must not be mounted twice.
    tree: std::sync::Weak<PrivateTree>,
}

/// Keeps a container's files where they are.
pub(crate) type Visit = Vec<tokio::sync::OwnedRwLockReadGuard<()>>;

impl Visitors {
    /// Begins a visit.
    pub(crate) async fn enter(&self, access: Access) -> Visit {
        let mut visit = vec![Arc::clone(&self.all).read_owned().await];
        if access == Access::Write {
            visit.push(Arc::clone(&self.writers).read_owned().await);
        }
        visit
    }

    /// Waits until nobody writes. Whoever opens the files from here on opens them anew.
    pub(super) async fn writers_left(&mut self) {
        self.tree = std::sync::Weak::new();
        drop(self.writers.write().await);
    }

    /// Waits until nobody is in the files.
    pub(super) async fn all_left(&self) {
        drop(self.all.write().await);
    }
}

/// Something that is mounted in a container.
struct Furniture {
    source: PathBuf,
    destination: String,
    depth: Depth,
    writable: bool,
}

impl Container {
    /// Keeps the files where they are.
    pub(super) async fn enter(&mut self, access: Access) -> Result<Visit, EngineError> {
        Ok(self.visitors.enter(access).await)
    }

    /// Opens the files of a container, whether it runs or not.
    pub(crate) async fn open_files(&mut self, access: Access) -> Result<ContainerFiles, EngineError> {
        let visit = self.visitors.enter(access).await;
        let view = self.view();
        let engine = Arc::clone(&self.engine);
        let shared = self.visitors.tree.upgrade().filter(|_| !view.state.is_running());
        if let Some(tree) = shared {
            return Ok(ContainerFiles { engine, view, tree, _visit: visit });
        }
        if !view.state.is_running() {
            // The layer must not be mounted twice.
            self.clear_shim().await;
        }
        let build = {
            let (engine, view) = (Arc::clone(&engine), Arc::clone(&view));
            move || build(&engine, &view)
        };
        let tree = Arc::new(blocking(build).await?);
        if !view.state.is_running() {
            self.visitors.tree = Arc::downgrade(&tree);
        }
        Ok(ContainerFiles { engine, view, tree, _visit: visit })
    }
}

fn build(engine: &Arc<crate::Inner>, view: &ContainerView) -> Result<PrivateTree, EngineError> {
    let place = engine.config.run.join("view");
    std::fs::create_dir_all(&place).map_err(EngineError::io("making", &place))?;
    let furniture = furniture(view);
    let furnish = |root: BorrowedFd<'_>| furniture.iter().try_for_each(|piece| put(piece, root));
    let failed = EngineError::io("opening the files of a container at", &place);
    if let Some(pid) = view.state.pid() {
        let namespace = match File::open(format!("/proc/{pid}/ns/mnt")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(EngineError::conflict(format!("container {} has just ended: try again", view.id)));
            }
            namespace => namespace.map_err(EngineError::io("opening the mounts of", format!("process {pid}")))?,
        };
        return PrivateTree::build(Base::RootOf(namespace.as_fd()), &place, furnish).map_err(failed);
    }
    let mounts = super::start::root_mounts(engine, view)?;
    let overlay = mounts.first().ok_or_else(|| EngineError::internal("a container's root is one mount"))?;
    let base = Filesystem { kind: &overlay.kind, source: &overlay.source, data: &overlay.options };
    PrivateTree::build(Base::New(base), &place, furnish).map_err(failed)
}

/// What belongs into the tree, parents before children.
fn furniture(view: &ContainerView) -> Vec<Furniture> {
    let file = |source: &PathBuf, destination: &str| Furniture {
        source: source.clone(),
        destination: destination.to_owned(),
        depth: Depth::Single,
        writable: true,
    };
    let paths = &view.paths;
    let own = [
        file(&paths.resolv_conf, "/etc/resolv.conf"),
        file(&paths.hostname, "/etc/hostname"),
        file(&paths.hosts, "/etc/hosts"),
    ];
    let mounted = view.mounts.iter().filter(|point| point.kind != MountPointKind::Tmpfs).map(|point| Furniture {
        source: point.source.clone().into(),
        destination: point.destination.clone(),
        depth: if point.kind == MountPointKind::Bind { Depth::Tree } else { Depth::Single },
        writable: point.writable,
    });
    // Files of a container that has not run yet are not there, and neither are sources that somebody removed.
    let mut all: Vec<Furniture> = own.into_iter().chain(mounted).filter(|piece| piece.source.exists()).collect();
    all.sort_by_key(|piece| Path::new(&piece.destination).components().count());
    all
}

fn put(piece: &Furniture, root: BorrowedFd<'_>) -> io::Result<()> {
    let source = rustix::fs::open(&piece.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let is_directory = piece.source.is_dir();
    let place = || rooted::open(root, &piece.destination, OFlags::PATH, Mode::empty());
    let target = match place() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_directory => {
            rooted::make_directories(root, &piece.destination, Mode::from_raw_mode(0o755))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            rooted::make_file(root, &piece.destination, Mode::from_raw_mode(0o644))?
        }
        found => found?,
    };
    let set = if piece.writable { Attributes::NONE } else { Attributes::READ_ONLY };
    let change = AttributeChange { set, ..AttributeChange::default() };
    let interface = Interface::probe();
    if interface == Interface::Modern {
        let tree = mount::clone_tree(source, piece.depth)?;
        mount::change_attributes(&tree, piece.depth, &change)?;
        return mount::attach(&tree, target.as_fd());
    }
    mount::bind_changed(interface, source.as_fd(), piece.depth, &change, target.as_fd(), place)
}
