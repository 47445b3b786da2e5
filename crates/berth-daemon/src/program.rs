//! The life of the daemon's process: options, locks, listeners, engine, serving, stopping.

use std::error::Error;
use std::ffi::OsString;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use berth_distribution::Registries;
use berth_engine::{Engine, EngineConfig};
use rustix::process::{Resource, Rlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::daemon::{self, Daemon};
use crate::host_facts::HostFacts;
use crate::list_entries::ListEntries;
use crate::lock::{PidFile, RootLock};
use crate::manifests::Manifests;
use crate::options::{self, OptionsError};
use crate::settings::{self, Settings};
use crate::{budget, idle, listen, logging};

/// Threads that serve requests: they only wait, so that two are enough on any host.
const MOST_SERVING_THREADS: usize = 2;
/// Threads for work that blocks. Bounded, because each one costs memory and the disk is not faster with more.
const BLOCKING_THREADS: usize = 32;
/// How long an idle one of those stays.
const BLOCKING_IDLE: Duration = Duration::from_secs(2);
/// How long requests in progress may go on after the daemon was told to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Exit code for options that cannot be used, as dockerd has it.
const EXIT_FAILURE: u8 = 1;

/// Runs the daemon until it is told to stop.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let options = match options::read(args) {
        Ok(options) => options,
        Err(OptionsError::CommandLine(error)) => {
            // Help and version are no failures; clap knows where each is printed.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(EXIT_FAILURE) } else { ExitCode::SUCCESS };
        }
        Err(error) => return refuse(&error),
    };
    let (settings, engine) = match settings::understand(&options.directives) {
        Ok(understood) => understood,
        Err(error) => return refuse(&error),
    };
    if options.validate {
        println!("configuration OK");
        return ExitCode::SUCCESS;
    }
    logging::start(&settings);
    match start(settings, engine) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(error.as_ref()),
    }
}

fn refuse(error: &dyn Error) -> ExitCode {
    eprintln!("berthd: {error}");
    ExitCode::from(EXIT_FAILURE)
}

fn start(settings: Settings, config: EngineConfig) -> Result<(), Box<dyn Error>> {
    if !rustix::process::geteuid().is_root() {
        return Err("the daemon needs to be root".into());
    }
    // Files that the engine makes for containers must be readable in them, whatever the umask of whoever started us.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    raise_descriptor_limit();
    for directory in [&config.root, &config.run] {
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    let _root = RootLock::take(&config.root)?;
    let _pidfile = PidFile::write(&settings.pidfile)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(serving_threads())
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_IDLE)
        .thread_name("berthd")
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(settings, config));
    // Streams of clients that never end do not hold up the end of the daemon.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Where there are two processors a second one would mostly wake up to find nothing left to do, in the time of the containers.
fn serving_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    (processors / 2).clamp(1, MOST_SERVING_THREADS)
}

/// A thousand containers need more descriptors than the usual limit of 1024.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open descriptors");
    }
}

async fn serve(settings: Settings, config: EngineConfig) -> Result<(), Box<dyn Error>> {
    // Listening comes first: clients that connect from now on wait for the engine instead of being refused.
    let listeners = listen::open(&settings)?;
    let id = daemon::identity(&config.root)?;
    let shutdown_timeout = config.shutdown_timeout;
    let engine = Engine::open(config).await?;
    let daemon = Arc::new(Daemon {
        engine,
        registries: Registries::new(settings.registries.clone()),
        settings,
        host: HostFacts::probe(),
        id,
        manifests: Manifests::default(),
        list_entries: ListEntries::default(),
        activity: Arc::default(),
        prune: std::sync::Mutex::new(()),
    });
    idle::keep_small(Arc::clone(&daemon.activity));
    if let Some(budget) = daemon.settings.budget {
        budget::keep(&daemon, budget);
    }
    let (stop, stopping) = watch::channel(false);
    let mut served = Vec::new();
    for listener in listeners {
        tracing::info!(address = listener.describe(), "listening");
        served.push(tokio::spawn(listener.serve(Arc::clone(&daemon), stopping.clone())));
    }
    tell_service_manager(&NotifyState::Ready);
    wait_for_signal().await?;
    tracing::info!("stopping");
    tell_service_manager(&NotifyState::Stopping);
    // Nobody may be left to hear it.
    let _ = stop.send(true);
    for listener in served {
        drop(listener.await);
    }
    let end = async {
        daemon.engine.shut_down().await;
        drop(tokio::time::timeout(LAST_REQUESTS, last_requests(&daemon)).await);
    };
    if tokio::time::timeout(shutdown_timeout + LAST_REQUESTS, end).await.is_err() {
        tracing::warn!("the engine did not stop in time");
    }
    Ok(())
}

/// Waits until no request holds the daemon any more.
async fn last_requests(daemon: &Arc<Daemon>) {
    while Arc::strong_count(daemon) > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Without a service manager this does nothing.
fn tell_service_manager(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::debug!(%error, "cannot reach the service manager");
    }
}

async fn wait_for_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A daemon whose terminal goes away stays; there is nothing to read again.
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => tracing::debug!("hangup ignored"),
        }
    }
}
