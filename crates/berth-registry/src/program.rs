//! The life of the registry's process: options, directory, listeners, serving, stopping.

use std::{
    error::Error,
    ffi::OsString,
    fs,
    io::{IsTerminal as _, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use berth_distribution::{Credentials, HostSettings, Proxies, Registries};
use clap::Parser as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    auth::{
        Gate,
        htpasswd::{self, Htpasswd},
        token::Tokens,
    },
    limit::{Limit, Limits},
    listen::{self, Listener, tls},
    metrics::Metrics,
    notify::Notifier,
    options::{Command, CommandLine, Gc, Serve, Upstream, User},
    proxy::{Proxy, TAG_LIFE, upstreams::Upstreams},
    registry::Registry,
    settings::{Settings, Tls},
    storage::{
        Storage, StorageError,
        collect::{self, Collected, GRACE, Policy},
        layout,
    },
};

/// Threads that wait for the disk. Each costs memory, and the disk is not faster with more.
const BLOCKING_THREADS: usize = 32;
const BLOCKING_IDLE: Duration = Duration::from_secs(2);
/// How long requests in progress may go on after the server was told to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// How long servers may still be told what happened.
const LAST_NOTIFICATIONS: Duration = Duration::from_secs(5);
/// Changes are laid out together that come within this time.
const LAYOUT_PAUSE: Duration = Duration::from_secs(1);

/// Runs `berth registry` with its arguments.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = std::iter::once(OsString::from("berth registry")).chain(args);
    let command = match CommandLine::try_parse_from(args) {
        Ok(parsed) => parsed.command,
        Err(error) => {
            // Help is no failure; clap knows where each is printed.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS };
        }
    };
    let done = match command {
        Command::Serve(options) => serve(*options),
        Command::Gc(options) => collect_garbage(&options),
        Command::User(User::Add { file, name }) => add_user(&file, &name),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berth registry: {error}");
            ExitCode::from(1)
        }
    }
}

fn serve(options: Serve) -> Result<(), Box<dyn Error>> {
    let settings = Settings::of(options)?;
    tracing_subscriber::fmt()
        .with_max_level(settings.log_level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    raise_descriptor_limit();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_IDLE)
        .thread_name("registry")
        .enable_all()
        .build()?;
    let result = runtime.block_on(run(settings));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let storage = Arc::new(Storage::open(&settings.directory)?);
    let passwords = settings.htpasswd.as_deref().map(Htpasswd::open).transpose()?.map(Arc::new);
    let acceptor = match &settings.tls {
        Tls::Off => None,
        Tls::Files(certificate, key) => Some(tls::acceptor(certificate, key)?),
        Tls::Own(names) => {
            let (certificate, key) = tls::own(&settings.directory, &settings.listen, names)?;
            tracing::info!(certificate = %certificate.display(), "clients must trust this certificate");
            Some(tls::acceptor(&certificate, &key)?)
        }
    };
    let mut listeners = Vec::new();
    for address in &settings.listen {
        listeners.push(Listener::open(address, acceptor.clone()).await?);
    }
    listeners.push(Listener::control(&settings.directory)?);
    let gate = Gate {
        passwords,
        tokens: Tokens::open(&settings.directory)?,
        rules: settings.rules,
        scheme: settings.scheme,
        public_url: settings.public_url,
    };
    let upstreams = Upstreams::of(settings.proxies.into_iter().map(cache_of).collect())?;
    let notifier = Notifier::start(settings.notifications, &storage)?;
    let [requests, pulls, bytes] = settings.limits.map(|rate| rate.map(Limit::new));
    let registry = Arc::new(Registry {
        storage,
        gate,
        writes: settings.writes,
        upstreams,
        limits: Limits { requests, pulls, bytes },
        notifier,
        metrics: Metrics::new(),
    });
    let (stop, stopping) = watch::channel(false);
    let mut served = tokio::task::JoinSet::new();
    for listener in listeners {
        tracing::info!(address = %listener.address, tls = acceptor.is_some(), "listening");
        served.spawn(listener.serve(Arc::clone(&registry), stopping.clone()));
    }
    let layouts = tokio::spawn(keep_layouts(Arc::clone(&registry.storage)));
    let collections = tokio::spawn(collect_regularly(Arc::clone(&registry.storage), settings.gc_interval));
    tell_service_manager(&sd_notify::NotifyState::Ready);
    wait_for_signal().await?;
    tracing::info!("stopping");
    tell_service_manager(&sd_notify::NotifyState::Stopping);
    collections.abort();
    layouts.abort();
    // Nobody may be left to hear it.
    let _ = stop.send(true);
    if timeout(LAST_REQUESTS, async { while served.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("some requests did not end in time");
        served.shutdown().await;
    }
    let told = Arc::clone(&registry);
    tokio::task::spawn_blocking(move || told.notifier.stop(LAST_NOTIFICATIONS)).await?;
    // Whatever was pushed last is to be found in its layout, too.
    layout::catch_up(&registry.storage).await?;
    Ok(())
}

fn cache_of(upstream: Upstream) -> Proxy {
    let (host, is_plain) = match upstream.host.strip_prefix("http://") {
        Some(host) => (host, true),
        None => (upstream.host.trim_start_matches("https://"), false),
    };
    let domain = host.trim_end_matches('/').to_owned();
    let settings = HostSettings {
        insecure: if is_plain { vec![domain.clone()] } else { Vec::new() },
        certificates: upstream.certificates,
        proxies: Proxies::of(|name| std::env::var(name).ok()),
        ..HostSettings::default()
    };
    let credentials =
        Credentials { username: upstream.username, password: upstream.password, ..Credentials::default() };
    let tag_life = upstream.tag_seconds.map_or(TAG_LIFE, Duration::from_secs);
    Proxy::new(Registries::new(settings), domain, credentials, tag_life)
}

/// Lets the layouts follow the index.
async fn keep_layouts(storage: Arc<Storage>) {
    loop {
        if let Err(error) = layout::catch_up(&storage).await {
            tracing::warn!(%error, "the layouts of the repositories lag behind");
        }
        storage.changed.notified().await;
        sleep(LAYOUT_PAUSE).await;
    }
}

async fn collect_regularly(storage: Arc<Storage>, interval: Option<Duration>) {
    let Some(interval) = interval else { return };
    loop {
        sleep(interval).await;
        let policy = Policy { grace: GRACE, untagged: false, is_offline: false };
        match collect::collect(&storage, policy).await {
            Ok(collected) => tracing::info!(files = collected.files, bytes = collected.bytes, "collected garbage"),
            Err(error) => tracing::warn!(%error, "collecting garbage"),
        }
    }
}

/// Collects in this process, or asks the server that holds the directory to.
fn collect_garbage(options: &Gc) -> Result<(), Box<dyn Error>> {
    if !options.directory.join("berth-registry.json").exists() {
        return Err(format!("{} is not a registry's directory", options.directory.display()).into());
    }
    let collected = match Storage::open(&options.directory) {
        Ok(storage) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let storage = Arc::new(storage);
            let grace = Duration::from_secs(options.grace);
            let policy = Policy { grace, untagged: options.untagged, is_offline: true };
            runtime.block_on(async {
                let collected = collect::collect(&storage, policy).await?;
                layout::catch_up(&storage).await?;
                Ok::<_, StorageError>(collected)
            })?
        }
        Err(StorageError::InUse { .. }) => ask_server(options)?,
        Err(error) => return Err(error.into()),
    };
    println!(
        "removed {} manifests, {} blobs of repositories, {} files with {} bytes, {} abandoned uploads",
        collected.manifests, collected.blobs, collected.files, collected.bytes, collected.uploads
    );
    Ok(())
}

fn ask_server(options: &Gc) -> Result<Collected, Box<dyn Error>> {
    let directory = fs::File::open(&options.directory)?;
    let mut stream = UnixStream::connect(listen::short_path(&directory))
        .map_err(|error| format!("the server of {} cannot be asked: {error}", options.directory.display()))?;
    let (grace, untagged) = (options.grace, options.untagged);
    write!(
        stream,
        "POST /-/collect?grace={grace}&untagged={untagged} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the server did not answer")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("the server refused: {}", body.trim()).into());
    }
    Ok(serde_json::from_str(body)?)
}

fn add_user(file: &Path, name: &str) -> Result<(), Box<dyn Error>> {
    if std::io::stdin().is_terminal() {
        eprint!("Password (it is shown): ");
    }
    let mut password = String::new();
    std::io::stdin().read_line(&mut password)?;
    let password = password.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err("the password must not be empty: write it to the standard input".into());
    }
    htpasswd::set(file, name, password)?;
    Ok(())
}

/// A thousand clients need more descriptors than the usual limit of 1024.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open descriptors");
    }
}

/// Without a service manager this does nothing.
fn tell_service_manager(state: &sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::debug!(%error, "cannot reach the service manager");
    }
}

async fn wait_for_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
