//! What a registry does for, and asks of, those around it: caches of several registries, notifications, limits.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use berth_testkit::{Answer, Berth, Registry, Sandbox};
use serde_json::{Value, json};

use crate::{BERTH, eventually, registry::serve};

/// Pushes one blob in one request; its digest.
pub(crate) fn push_blob(registry: &Registry, repository: &str, bytes: &[u8]) -> String {
    let id = registry.request("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
    let place = id.expect(202).header("location").to_owned();
    let digest = sha256(bytes);
    registry.request("PUT", &format!("{place}?digest={digest}"), &[], bytes).expect(201);
    digest
}

fn sha256(bytes: &[u8]) -> String {
    let mut command = std::process::Command::new("sha256sum");
    let sum = berth_testkit::Outcome::of(&mut command, bytes).succeeds();
    format!("sha256:{}", sum.split(' ').next().unwrap_or_default())
}

/// Pushes an image of one layer; its digest.
fn push_image(registry: &Registry, repository: &str, tag: &str, layer: &[u8]) -> String {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let descriptor = |kind: &str, bytes: &[u8]| {
        let digest = push_blob(registry, repository, bytes);
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let document = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    let target = format!("/v2/{repository}/manifests/{tag}");
    let answer = registry.request("PUT", &target, &[("Content-Type", MANIFEST)], document.to_string().as_bytes());
    answer.expect(201).header("docker-content-digest").to_owned()
}

#[test]
fn one_cache_serves_several_registries_and_no_other() {
    let berth = Berth::start_empty(BERTH, &["--registry-mirror", "127.0.0.1:5002=http://127.0.0.1:5001"]);
    let sandbox = berth.sandbox();
    let (one, mut two) = (Registry::start(BERTH, sandbox, 5000, &[]), Registry::start(BERTH, sandbox, 5002, &[]));
    let options = ["--proxy", "http://127.0.0.1:5000", "--proxy", "http://127.0.0.1:5002"];
    let cache = Registry::start(BERTH, sandbox, 5001, &options);
    let (here, there) = (push_image(&one, "team/app", "v1", b"one"), push_image(&two, "team/app", "v1", b"two"));
    let get = |target: &str| cache.request("GET", target, &[], b"");
    let digest = |target: &str| get(target).expect(200).header("docker-content-digest").to_owned();
    assert_eq!(digest("/v2/team/app/manifests/v1"), here);
    assert_eq!(digest("/v2/team/app/manifests/v1?ns=127.0.0.1:5000"), here);
    assert_eq!(digest("/v2/team/app/manifests/v1?ns=127.0.0.1:5002"), there);
    assert_eq!(digest("/v2/127.0.0.1_5002/team/app/manifests/v1"), there);
    let layer = format!("/v2/team/app/blobs/{}", sha256(b"two"));
    assert_eq!(get(&format!("{layer}?ns=127.0.0.1%3A5002")).expect(200).body, b"two");
    get(&layer).refuses(404, "BLOB_UNKNOWN");
    let refused = get("/v2/team/app/manifests/v1?ns=quay.io");
    assert!(refused.refuses(404, "NAME_UNKNOWN").text().contains("does not serve the registry quay.io"));
    // An engine that knows it as a mirror says itself which registry it means.
    let archive = sandbox.path().join("small.tar");
    assert_eq!(
        sandbox.shell(&format!(
            "echo hello > {0}/file && tar -C {0} -cf {1} file",
            sandbox.path().display(),
            archive.display()
        )),
        ""
    );
    let name = "127.0.0.1:5002/team/file:1";
    berth.run(&format!("import {} {name}", archive.display())).succeeds();
    berth.run(&format!("push {name}")).succeeds();
    berth.run(&format!("rmi {name}")).succeeds();
    berth.run(&format!("pull {name}")).succeeds();
    let kept = get("/v2/_catalog").expect(200).json();
    assert_eq!(kept["repositories"], json!(["127.0.0.1_5002/team/app", "127.0.0.1_5002/team/file", "team/app"]));
    // What it keeps it has without the registry.
    two.stop();
    berth.run(&format!("rmi {name}")).succeeds();
    berth.run(&format!("pull {name}")).succeeds();
}

#[test]
fn a_cache_of_several_registries_opens_to_tokens_for_the_names_it_has() {
    let sandbox = Sandbox::new();
    let (one, two) = (Registry::start(BERTH, &sandbox, 5000, &[]), Registry::start(BERTH, &sandbox, 5002, &[]));
    let passwords = sandbox.path().join("htpasswd");
    let mut add = std::process::Command::new(BERTH);
    add.args(["registry", "user", "add"]).arg(&passwords).arg("ann");
    berth_testkit::Outcome::of(&mut add, b"one\n").succeeds();
    let config = sandbox.path().join("cache.json");
    let rules = json!({"htpasswd": passwords, "auth": "token", "rules": [
        {"users": ["ann"], "repositories": ["127.0.0.1_5002/**"], "actions": ["pull"]},
    ]});
    std::fs::write(&config, rules.to_string()).expect("configuration");
    let config = config.to_string_lossy();
    let options = ["--proxy", "http://127.0.0.1:5000", "--proxy", "http://127.0.0.1:5002", "--config", &config];
    let cache = Registry::start(BERTH, &sandbox, 5001, &options);
    push_image(&one, "app", "v1", b"one");
    let digest = push_image(&two, "app", "v1", b"two");
    // What is asked for by the one name is told of by the other, which is the one that rules are about.
    let target = "/v2/app/manifests/v1?ns=127.0.0.1:5002";
    let challenge = cache.request("GET", target, &[], b"");
    let challenge = challenge.refuses(401, "UNAUTHORIZED").header("www-authenticate");
    assert!(challenge.contains("scope=\"repository:127.0.0.1_5002/app:pull\""), "{challenge}");
    let token = |scope: &str| {
        // ann:one
        let login = [("Authorization", "Basic YW5uOm9uZQ==")];
        let answer = cache.request("GET", &format!("/token?service=127.0.0.1:5001&scope={scope}"), &login, b"");
        format!("Bearer {}", answer.expect(200).json()["token"].as_str().expect("a token"))
    };
    let get = |target: &str, token: &str| cache.request("GET", target, &[("Authorization", token)], b"");
    // Clients ask for the name they know, and for what they are told.
    let wide = token("repository:app:pull&scope=repository:127.0.0.1_5002/app:pull");
    assert_eq!(get(target, &wide).expect(200).header("docker-content-digest"), digest);
    get("/v2/127.0.0.1_5002/app/manifests/v1", &wide).expect(200);
    get(target, &token("repository:app:pull")).refuses(401, "UNAUTHORIZED");
    // The same name at the other registry is another repository.
    get("/v2/app/manifests/v1", &wide).refuses(401, "UNAUTHORIZED");
    get("/v2/app/manifests/v1?ns=127.0.0.1:5000", &wide).refuses(401, "UNAUTHORIZED");
}

/// A server that hears notifications; it is too busy for the first ones.
fn listen(sandbox: &Sandbox, mut busy: u32) -> (u16, Arc<Mutex<Vec<Value>>>) {
    let listener = sandbox.inside(|| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let port = listener.local_addr().expect("bound").port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&heard);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Some(envelope) = read_envelope(&client) else { continue };
            let status = if busy > 0 { "503 Service Unavailable" } else { "200 OK" };
            if busy == 0 {
                let list = envelope["events"].as_array().cloned().unwrap_or_default();
                events.lock().expect("no panic").extend(list);
            }
            busy = busy.saturating_sub(1);
            let _ = write!(&client, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (port, heard)
}

fn read_envelope(client: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(client);
    let (mut length, mut kind, mut key) = (0, String::new(), String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "content-type" => kind = value.trim().to_owned(),
            "x-key" => key = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    assert_eq!((kind.as_str(), key.as_str()), ("application/vnd.docker.distribution.events.v2+json", "secret"));
    serde_json::from_slice(&body).ok()
}

#[test]
fn servers_are_told_what_happens_and_nobody_waits_for_them() {
    let sandbox = Sandbox::new();
    let (port, heard) = listen(&sandbox, 2);
    let config = sandbox.path().join("registry.json");
    let listeners = json!({"notifications": [
        {"name": "ci", "url": format!("http://127.0.0.1:{port}/hook"), "headers": {"X-Key": "secret"}},
        {"name": "gone", "url": "http://127.0.0.1:9/", "actions": ["push"], "attempts": 1},
    ]});
    std::fs::write(&config, listeners.to_string()).expect("configuration");
    let mut registry = Registry::start(BERTH, &sandbox, 5000, &["--config", &config.to_string_lossy()]);
    let digest = push_image(&registry, "team/app", "v1", b"layer");
    let layer = sha256(b"layer");
    registry.request("GET", "/v2/team/app/manifests/v1", &[("User-Agent", "test/1")], b"").expect(200);
    registry.request("GET", &format!("/v2/team/app/blobs/{layer}"), &[], b"").expect(200);
    let mount = format!("/v2/other/blobs/uploads/?mount={layer}&from=team/app");
    registry.request("POST", &mount, &[], b"").expect(201);
    registry.request("DELETE", "/v2/team/app/manifests/v1", &[], b"").expect(202);
    eventually("all is heard", || heard.lock().expect("no panic").len() >= 7);
    let events = heard.lock().expect("no panic").clone();
    let told: Vec<_> =
        events.iter().map(|event| (event["action"].as_str(), event["target"]["repository"].as_str())).collect();
    let of = |action, repository| (Some(action), Some(repository));
    let app = |action| of(action, "team/app");
    let expected =
        [app("push"), app("push"), app("push"), app("pull"), app("pull"), of("mount", "other"), app("delete")];
    assert_eq!(told, expected);
    let (manifest, pulled) = (&events[2], &events[3]);
    assert_eq!((&manifest["target"]["digest"], &manifest["target"]["tag"]), (&json!(digest), &json!("v1")));
    assert_eq!(manifest["target"]["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert!(
        manifest["target"]["url"]
            .as_str()
            .is_some_and(|url| url.ends_with(&format!("/v2/team/app/manifests/{digest}")))
    );
    assert_eq!((&pulled["request"]["method"], &pulled["request"]["useragent"]), (&json!("GET"), &json!("test/1")));
    assert_eq!((&events[0]["target"]["size"], &events[0]["target"]["length"]), (&json!(2), &json!(2)));
    assert_eq!(events[5]["target"]["fromRepository"], "team/app");
    assert_eq!(events[6]["target"]["tag"], "v1");
    let metrics = || registry.request("GET", "/metrics", &[], b"").expect(200).text();
    eventually("the other one is given up", || metrics().contains("{listener=\"gone\",result=\"failed\"} 3"));
    assert!(metrics().contains("{listener=\"ci\",result=\"sent\"} 7"), "{}", metrics());
    // What was not sent yet is sent at the end.
    push_blob(&registry, "last", b"moment");
    registry.stop();
    assert_eq!(heard.lock().expect("no panic").last().expect("events")["target"]["repository"], "last");
}

#[test]
fn what_was_not_told_when_the_registry_was_killed_is_told_by_the_next_one() {
    let sandbox = Sandbox::new();
    let (port, heard) = listen(&sandbox, 1);
    let config = sandbox.path().join("registry.json");
    let configure = |name: &str| {
        let url = format!("http://127.0.0.1:{port}/hook");
        let listeners =
            json!({"notifications": [{"name": name, "url": url, "headers": {"X-Key": "secret"}, "actions": ["push"]}]});
        std::fs::write(&config, listeners.to_string()).expect("configuration");
    };
    configure("ci");
    let mut registry = Registry::start(BERTH, &sandbox, 5000, &["--config", &config.to_string_lossy()]);
    let digest = push_image(&registry, "team/app", "v1", b"layer");
    // Whatever is acknowledged after an event has the event before it on the disk.
    push_blob(&registry, "fence", b"fence");
    registry.kill();
    registry.restart();
    let manifest = |event: &Value| event["target"]["digest"] == digest;
    eventually("the manifest is told of", || heard.lock().expect("no panic").iter().any(manifest));
    let told = heard.lock().expect("no panic").clone();
    let ids: std::collections::HashSet<_> = told.iter().map(|event| event["id"].to_string()).collect();
    assert!(ids.len() >= 3, "the image's two blobs and its manifest: {told:?}");
    // A listener of another name begins with nothing.
    let before = told.len();
    registry.kill();
    configure("other");
    registry.restart();
    let last = push_blob(&registry, "last", b"last");
    eventually("it hears what comes", || {
        heard.lock().expect("no panic").iter().any(|event| event["target"]["digest"] == last)
    });
    assert!(heard.lock().expect("no panic").len() <= before + 2, "the fence at most, and the last one");
}

#[test]
fn clients_that_ask_for_too_much_are_told_when_to_come_again() {
    let sandbox = Sandbox::new();
    let options = ["--limit-pulls", "3/1h", "--limit-bytes", "1MB/1h", "--limit-requests", "200/1h"];
    let registry = Registry::start(BERTH, &sandbox, 5000, &options);
    push_image(&registry, "app", "v1", b"layer");
    let large = push_blob(&registry, "app", &vec![7; 2 << 20]);
    let ask = |method: &str| registry.request(method, "/v2/app/manifests/v1", &[], b"");
    let told = |answer: &Answer| {
        (answer.header("ratelimit-limit").to_owned(), answer.header("ratelimit-remaining").to_owned())
    };
    for left in [2, 1, 0] {
        let answer = ask("GET");
        assert_eq!(told(answer.expect(200)), ("3;w=3600".to_owned(), format!("{left};w=3600")));
        assert_eq!(answer.header("docker-ratelimit-source"), "local");
    }
    let refused = ask("GET");
    assert_eq!(told(refused.refuses(429, "TOOMANYREQUESTS")), ("3;w=3600".to_owned(), "0;w=3600".to_owned()));
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=1200).contains(&wait), "{wait}");
    assert!(refused.text().contains("local has reached its limit of 3 pulls in 3600 seconds"), "{}", refused.text());
    // Looking is free.
    assert_eq!(told(ask("HEAD").expect(200)).1, "0;w=3600");
    // Another client has its own.
    let other = sandbox
        .command("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg("http://127.0.0.1:5000/v2/app/manifests/v1")
        .output();
    match other {
        Ok(other) if other.status.success() => assert_eq!(String::from_utf8_lossy(&other.stdout), "200"),
        _ => eprintln!("curl is not installed: not asked from another address"),
    }
    let blob = || registry.request("GET", &format!("/v2/app/blobs/{large}"), &[], b"");
    assert_eq!(blob().expect(200).body.len(), 2 << 20);
    blob().refuses(429, "TOOMANYREQUESTS");
    let refused = (0..300).map(|_| registry.request("GET", "/v2/", &[], b"")).find(|answer| answer.status == 429);
    refused.expect("an end").refuses(429, "TOOMANYREQUESTS");
    registry.request("GET", "/healthz", &[], b"").expect(200);
}

/// Other people's clients, beside each other.
#[test]
fn skopeo_copies_to_and_from_the_registry() {
    let server = serve(&[]);
    let layout = server.sandbox.path().join("layout");
    server.image("origin/app", "v1", b"layer");
    let skopeo = |words: &str| {
        let mut command = server.sandbox.command("skopeo");
        command.args(words.split(' ')).env("TMPDIR", server.sandbox.path());
        berth_testkit::Outcome::of(&mut command, b"").succeeds()
    };
    let address = server.registry.address();
    let plain = "--src-tls-verify=false --dest-tls-verify=false";
    skopeo(&format!("copy {plain} docker://{address}/origin/app:v1 oci:{}:v1", layout.display()));
    skopeo(&format!("copy {plain} oci:{}:v1 docker://{address}/copy/app:v2", layout.display()));
    let tags: Value =
        serde_json::from_str(&skopeo(&format!("list-tags --tls-verify=false docker://{address}/copy/app")))
            .expect("JSON");
    assert_eq!(tags["Tags"], json!(["v2"]));
    let origin = server.send("HEAD", "/v2/origin/app/manifests/v1").header("docker-content-digest").to_owned();
    assert_eq!(server.send("HEAD", "/v2/copy/app/manifests/v2").header("docker-content-digest"), origin);
    skopeo(&format!("delete --tls-verify=false docker://{address}/copy/app:v2"));
    server.get("/v2/copy/app/manifests/v2").refuses(404, "MANIFEST_UNKNOWN");
}
