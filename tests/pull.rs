//! Pull, push and login through the real binary, beside Debian's `docker-registry` and the unmodified docker client.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use berth_testkit::{Berth, Client, Sandbox};

use crate::{BERTH, eventually, start};

/// Bcrypt of `secret`, with the cheapest cost.
const SECRET: &str = "$2b$04$2cVsnd2za49Wm9uLTT1TsuXdmN2NHX6Dr8uDKekgVriSGdVKGYNPG";

/// Debian's registry in a sandbox; ends with the test.
struct DebianRegistry(Child);

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl DebianRegistry {
    /// Starts it on a port of the sandbox's loopback; `None` where it is not installed.
    fn start(sandbox: &Sandbox, port: u16, auth: bool) -> Option<Self> {
        let directory = sandbox.path().join(format!("debian-{port}"));
        std::fs::create_dir_all(&directory).expect("a directory");
        let users = directory.join("users");
        std::fs::write(&users, format!("me:{SECRET}\n")).expect("users");
        let asks = format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", users.display());
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{}",
            directory.display(),
            if auth { &asks } else { "" }
        );
        let path = directory.join("config.yml");
        std::fs::write(&path, config).expect("a configuration");
        if !std::path::Path::new("/usr/bin/docker-registry").exists() {
            eprintln!("docker-registry is not installed: not compared");
            return None;
        }
        let mut command = sandbox.command("docker-registry");
        let child = command.arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let registry = Self(child.expect("docker-registry"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually("docker-registry answers", || sandbox.inside(|| TcpStream::connect(address).is_ok()));
        Some(registry)
    }
}

#[test]
fn what_one_client_pushes_the_other_pulls() {
    let berth = start();
    let Some(_registry) = DebianRegistry::start(berth.sandbox(), 5000, false) else { return };
    let name = "localhost:5000/a/busybox:1";
    for (pusher, puller) in [(Client::Berth, Client::Docker), (Client::Docker, Client::Berth)] {
        berth.run(&format!("tag busybox {name}")).succeeds();
        let id = berth.run(&format!("images -q --no-trunc {name}")).succeeds();
        let said = berth.run_as(pusher, &format!("push {name}")).succeeds();
        assert!(said.starts_with("The push refers to repository [localhost:5000/a/busybox]\n"), "{said}");
        assert!(said.contains(&format!("1: digest: {} size: ", id.trim())), "{said}");
        berth.run(&format!("rmi {name} busybox")).succeeds();
        let said = berth.run_as(puller, &format!("pull {name}")).succeeds();
        assert!(said.starts_with("1: Pulling from a/busybox\n") && said.contains(": Pull complete\n"), "{said}");
        assert!(said.ends_with(&format!("Status: Downloaded newer image for {name}\n{name}")), "{said}");
        berth.run(&format!("run --rm {name} echo here")).prints("here\n");
        berth.run_as(puller, &format!("pull -q {name}")).prints(&format!("{name}\n"));
        berth.run_as(puller, &format!("pull {name}")).shows("Status: Image is up to date for");
        berth.run(&format!("tag {name} busybox")).succeeds();
    }
    berth.run("tag busybox localhost:5000/a/busybox:2").succeeds();
    berth.run("push -a localhost:5000/a/busybox").shows("2: digest: sha256:");
    berth.run("rmi localhost:5000/a/busybox:1 localhost:5000/a/busybox:2").succeeds();
    berth.run("pull -a localhost:5000/a/busybox").shows("2: Pulling from a/busybox");
    berth.run("tag busybox localhost:5000/b:1").succeeds();
    berth.run("push localhost:5000/b:1").shows("Mounted from a/busybox");
    // Where it was is remembered, also when no name says so any more.
    berth.run("rmi localhost:5000/b:1 localhost:5000/a/busybox:1 localhost:5000/a/busybox:2").succeeds();
    berth.run("tag busybox localhost:5000/c:1").succeeds();
    berth.run("push localhost:5000/c:1").shows("Mounted from b");
    berth.run("pull localhost:5000/nosuch").fails(
        1,
        "failed to resolve reference \"localhost:5000/nosuch:latest\": localhost:5000/nosuch:latest: not found",
    );
    berth.run("push localhost:5000/a/busybox:9").fails(1, "tag does not exist: localhost:5000/a/busybox:9");
    berth.run("pull 127.0.0.1:5999/x").fails(1, "dial tcp 127.0.0.1:5999: connect: connection refused");
    let (status, found) = berth.api("GET", "/v1.47/distribution/localhost:5000/b:1/json", None);
    assert_eq!((status, found["Descriptor"]["mediaType"].is_string()), (200, true), "{found}");
}

#[test]
fn who_is_logged_in_may_pull_until_he_logs_out() {
    let berth = start();
    let Some(_registry) = DebianRegistry::start(berth.sandbox(), 5001, true) else { return };
    berth.run("tag busybox localhost:5001/x:1").succeeds();
    let denied = "push access denied, repository does not exist or may require authorization: authorization failed: no basic auth";
    berth.run("push localhost:5001/x:1").fails(1, denied);
    for client in [Client::Berth, Client::Docker] {
        berth.run_as(client, "login -u me -p wrong localhost:5001").fails(1, "failed with status: 401 Unauthorized");
        let mut login = berth.command(client, &["login", "-u", "me", "--password-stdin", "localhost:5001"]);
        let said = berth_testkit::Outcome::of(&mut login, b"secret\n");
        said.shows("Login Succeeded");
        berth.run_as(client, "push localhost:5001/x:1").shows("1: digest: sha256:");
        // What one client stored the other finds.
        berth.run("rmi localhost:5001/x:1").succeeds();
        berth.run("pull localhost:5001/x:1").shows("Downloaded newer image");
        berth.docker("pull localhost:5001/x:1").shows("Image is up to date");
        berth.run_as(client, "logout localhost:5001").prints("Removing login credentials for localhost:5001\n");
        berth.run("pull localhost:5001/x:1").fails(1, "no basic auth credentials");
    }
    // A helper keeps what it is given.
    let helper = berth.sandbox().path().join("docker-credential-box");
    let script = format!(
        "#!/bin/sh\ncase $1 in store) cat > {0}/box;; get) cat {0}/box;; erase) rm {0}/box;; esac\n",
        berth.sandbox().path().display()
    );
    std::fs::write(&helper, script).expect("helper");
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    let config = berth.sandbox().path().join("client/config.json");
    std::fs::write(&config, r#"{"credsStore":"box"}"#).expect("config");
    let with_helper = |words: &[&str], input: &[u8]| {
        let path = format!("{}:/usr/bin:/bin", berth.sandbox().path().display());
        berth_testkit::Outcome::of(berth.command(Client::Berth, words).env("PATH", path), input)
    };
    with_helper(&["login", "-u", "me", "--password-stdin", "localhost:5001"], b"secret").prints("Login Succeeded\n");
    assert!(!std::fs::read_to_string(&config).expect("config").contains("auth\""), "the file does not have it");
    with_helper(&["pull", "localhost:5001/x:1"], b"").shows("Image is up to date");
    with_helper(&["logout", "localhost:5001"], b"").succeeds();
    assert!(!berth.sandbox().path().join("box").exists());
}

/// Passes bytes on to a registry, slowly, and breaks each connection after so many.
struct Proxy {
    passed: Arc<AtomicU64>,
}

const CUT: u64 = 2 << 20;
const BYTES_A_TICK: usize = 128 << 10;

impl Proxy {
    fn start(sandbox: &Sandbox, port: u16, upstream: u16) -> Self {
        let passed = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&passed);
        sandbox.inside(move || {
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
            // Threads are in the namespace of whoever made them.
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let counter = Arc::clone(&counter);
                    thread::spawn(move || drop(pass(client, upstream, &counter)));
                }
            });
        });
        Self { passed }
    }
}

fn pass(mut client: TcpStream, upstream: u16, passed: &AtomicU64) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || std::io::copy(&mut from, &mut to));
    let (mut buffer, mut count) = (vec![0; BYTES_A_TICK], 0);
    while count < CUT {
        let read = server.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        client.write_all(&buffer[..read])?;
        passed.fetch_add(read as u64, Ordering::Relaxed);
        count += read as u64;
        thread::sleep(Duration::from_millis(5));
    }
    client.shutdown(Shutdown::Both)?;
    server.shutdown(Shutdown::Both)
}

#[test]
fn a_pull_of_several_layers_survives_its_daemon_twice_and_fetches_nothing_again() {
    let mut berth = Berth::start_empty(BERTH, &[]);
    let Some(_registry) = DebianRegistry::start(berth.sandbox(), 5000, false) else { return };
    // What a killed daemon had not read yet is lost: a line holds little, a kernel's loopback megabytes.
    for side in ["rmem", "wmem"] {
        let small = format!("echo 4096 65536 65536 2>&1 > /proc/sys/net/ipv4/tcp_{side}");
        assert_eq!(berth.sandbox().shell(&small), "");
    }
    let size = noise_image(&berth, "localhost:5000/noise:1");
    berth.run("push localhost:5000/noise:1").succeeds();
    let id = berth.run("images -q --no-trunc").succeeds();
    berth.run("rmi localhost:5000/noise:1").succeeds();
    let proxy = Proxy::start(berth.sandbox(), 5009, 5000);
    let passed = || proxy.passed.load(Ordering::Relaxed);
    for part in [1, 2] {
        let mut pulling = berth.command(Client::Berth, &["pull", "localhost:5009/noise:1"]);
        let mut pulling = pulling.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("berth");
        eventually("a third more has come", || passed() > part * size / 3);
        berth.kill_daemon();
        assert!(!pulling.wait().expect("berth").success());
        berth.start_daemon();
    }
    berth.run("pull localhost:5009/noise:1").shows("Downloaded newer image");
    assert_eq!(berth.run("images -q --no-trunc").succeeds(), id);
    assert!(passed() <= size * 105 / 100, "{} bytes for {size}", passed());
    // A client that goes away stops its pull; what came stays.
    berth.run("rmi localhost:5009/noise:1").succeeds();
    let before = passed();
    let mut pulling = berth.command(Client::Docker, &["pull", "localhost:5009/noise:1"]);
    let mut pulling = pulling.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("docker");
    eventually("a third has come", || passed() > before + size / 3);
    pulling.kill().expect("kill");
    pulling.wait().expect("wait");
    let ingest = berth.root().join("content/ingest");
    let kept = std::fs::read_dir(ingest).expect("ingest").count();
    assert!(kept >= 2, "a layer in pieces, and its map: {kept} files");
    berth.run("pull localhost:5009/noise:1").shows("Downloaded newer image");
    assert!(passed() - before <= size * 105 / 100, "{} bytes for {size}", passed() - before);
}

/// Makes an image of three layers of some megabytes that cannot be compressed, and tells how many bytes they have.
fn noise_image(berth: &Berth, name: &str) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut noise = || -> Vec<u8> { (0..1 << 20).flat_map(|_| next()).collect() };
    let file = berth.sandbox().path().join("noise.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&file).expect("file"));
    let mut header = tar::Header::new_gnu();
    let first = noise();
    header.set_size(first.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "noise", &first[..]).expect("write");
    tar.finish().expect("write");
    berth.run(&format!("import {} {name}", file.display())).succeeds();
    for layer in ["second", "third"] {
        std::fs::write(&file, noise()).expect("file");
        berth.run(&format!("create --name noise {name} none")).succeeds();
        berth.run(&format!("cp {} noise:/{layer}", file.display())).succeeds();
        berth.run(&format!("commit noise {name}")).succeeds();
        berth.run("rm noise").succeeds();
    }
    berth.run("image prune -f").succeeds();
    3 * first.len() as u64
}
