//! Who may do what at a registry and by which way: passwords, rules, tokens, TLS, read-only, as a cache, and with a browser.

use std::process::Command;

use berth_testkit::{Registry, Sandbox};
use serde_json::json;

use crate::{BERTH, registry::*};

#[test]
fn passwords_and_rules_decide_who_may_do_what() {
    let sandbox = Sandbox::new();
    let (passwords, config) = (sandbox.path().join("htpasswd"), sandbox.path().join("config.json"));
    for (name, password) in [("ann", "one"), ("bob", "two")] {
        let mut add = Command::new(BERTH);
        add.args(["registry", "user", "add"]).arg(&passwords).arg(name);
        berth_testkit::Outcome::of(&mut add, format!("{password}\n").as_bytes()).succeeds();
    }
    let rules = json!({
        "htpasswd": passwords,
        "auth": "basic",
        "groups": {"writers": ["ann"]},
        "rules": [
            {"users": ["anonymous"], "repositories": ["public/*"], "actions": ["pull"]},
            {"users": ["*"], "repositories": ["**"], "actions": ["pull"]},
            {"users": ["@writers"], "repositories": ["public/*", "team/**"], "actions": ["pull", "push", "delete"]},
        ],
    });
    std::fs::write(&config, rules.to_string()).expect("configuration");
    let registry = Registry::start(BERTH, &sandbox, 5000, &["--config", &config.to_string_lossy()]);
    let server = Server { registry, sandbox };
    let ask = |method: &str, target: &str, login: &str, body: &[u8]| {
        let header = format!("Basic {}", base64(login));
        let headers = if login.is_empty() { vec![] } else { vec![("Authorization", header.as_str())] };
        server.registry.request(method, target, &headers, body)
    };
    let challenged = ask("GET", "/v2/", "", b"");
    assert!(challenged.refuses(401, "UNAUTHORIZED").header("www-authenticate").starts_with("Basic realm="));
    ask("GET", "/v2/", "ann:one", b"").expect(200);
    ask("GET", "/v2/", "ann:two", b"").refuses(401, "UNAUTHORIZED");
    let push = |repository: &str, login: &str| {
        ask("POST", &format!("/v2/{repository}/blobs/uploads/?digest={}", sha256(b"x")), login, b"x")
    };
    push("team/a/b", "ann:one").expect(201);
    push("public/x", "ann:one").expect(201);
    push("elsewhere", "ann:one").refuses(403, "DENIED");
    push("team/a/b", "bob:two").refuses(403, "DENIED");
    push("public/x", "").refuses(401, "UNAUTHORIZED");
    let read =
        |repository: &str, login: &str| ask("GET", &format!("/v2/{repository}/blobs/{}", sha256(b"x")), login, b"");
    read("public/x", "").expect(200);
    read("team/a/b", "").refuses(401, "UNAUTHORIZED");
    read("team/a/b", "bob:two").expect(200);
    // What one may not read, one cannot mount.
    let mount = format!("/v2/public/y/blobs/uploads/?mount={}&from=team/a/b", sha256(b"x"));
    ask("POST", &mount, "ann:one", b"").expect(201);
    assert_eq!(
        ask("GET", "/v2/_catalog", "bob:two", b"").expect(200).json()["repositories"],
        json!(["public/x", "public/y", "team/a/b"])
    );
    // A token that opens only the target of a mount is not enough, and the client is told what is.
    let narrow = ask("GET", "/token?service=127.0.0.1:5000&scope=repository:public/z:pull,push", "ann:one", b"");
    let narrow = format!("Bearer {}", narrow.expect(200).json()["token"].as_str().expect("a token"));
    let mount = format!("/v2/public/z/blobs/uploads/?mount={}&from=team/a/b", sha256(b"x"));
    server.registry.request("POST", &mount, &[("Authorization", &narrow)], b"").refuses(401, "UNAUTHORIZED");
    let scope = "repository:public/z:pull,push%20repository:team/a/b:pull";
    let wide = ask("GET", &format!("/token?service=127.0.0.1:5000&scope={scope}"), "ann:one", b"");
    let wide = format!("Bearer {}", wide.expect(200).json()["token"].as_str().expect("a token"));
    server.registry.request("POST", &mount, &[("Authorization", &wide)], b"").expect(201);
    // A token for less than the password opens.
    let token = ask("GET", "/token?service=127.0.0.1:5000&scope=repository:team/a/b:pull,push", "bob:two", b"");
    let token = format!("Bearer {}", token.expect(200).json()["token"].as_str().expect("a token"));
    let bearer = [("Authorization", token.as_str())];
    let blob = format!("/v2/team/a/b/blobs/{}", sha256(b"x"));
    server.registry.request("GET", &blob, &bearer, b"").expect(200);
    server.registry.request("DELETE", &blob, &bearer, b"").refuses(401, "UNAUTHORIZED");
    server
        .registry
        .request("GET", &blob, &[("Authorization", "Bearer forged.token.x")], b"")
        .refuses(401, "UNAUTHORIZED");
}

#[test]
fn strangers_get_a_token_for_reading_where_everybody_may() {
    let sandbox = Sandbox::new();
    let passwords = sandbox.path().join("htpasswd");
    let mut add = Command::new(BERTH);
    add.args(["registry", "user", "add"]).arg(&passwords).arg("ann");
    berth_testkit::Outcome::of(&mut add, b"one\n").succeeds();
    let options = ["--htpasswd", &passwords.to_string_lossy(), "--anonymous-read"];
    let server = Server { registry: Registry::start(BERTH, &sandbox, 5000, &options), sandbox };
    let challenge = server.get("/v2/").refuses(401, "UNAUTHORIZED").header("www-authenticate").to_owned();
    assert_eq!(challenge, "Bearer realm=\"http://127.0.0.1:5000/token\",service=\"127.0.0.1:5000\"");
    let push =
        server.send("POST", "/v2/a/blobs/uploads/").refuses(401, "UNAUTHORIZED").header("www-authenticate").to_owned();
    assert!(push.ends_with("scope=\"repository:a:pull,push\""), "{push}");
    let token = |headers: &[(&str, &str)]| {
        let answer =
            server.registry.request("GET", "/token?service=127.0.0.1:5000&scope=repository:a:pull,push", headers, b"");
        answer.expect(200).json()["token"].as_str().expect("a token").to_owned()
    };
    let login = format!("Basic {}", base64("ann:one"));
    let begin = |token: String| {
        server.registry.request("POST", "/v2/a/blobs/uploads/", &[("Authorization", &format!("Bearer {token}"))], b"")
    };
    begin(token(&[("Authorization", &login)])).expect(202);
    let refused = begin(token(&[]));
    assert!(refused.refuses(401, "UNAUTHORIZED").header("www-authenticate").contains("error=\"insufficient_scope\""));
    let form = b"grant_type=password&username=ann&password=one&service=s&access_type=offline&scope=repository:a:pull";
    let offline = server.registry.request("POST", "/token", &[], form).expect(200).json();
    let refresh = offline["refresh_token"].as_str().expect("a refresh token");
    let form = format!("grant_type=refresh_token&refresh_token={refresh}&service=s&scope=repository:a:pull");
    server.registry.request("POST", "/token", &[], form.as_bytes()).expect(200);
    let wrong = b"grant_type=password&username=ann&password=two&service=s";
    server.registry.request("POST", "/token", &[], wrong).refuses(401, "UNAUTHORIZED");
}

#[test]
fn a_read_only_registry_answers_and_takes_nothing() {
    let mut server = serve(&[]);
    let digest = server.image("a", "t", b"layer");
    server.registry.stop();
    let registry = Registry::start(BERTH, &server.sandbox, 5000, &["--read-only"]);
    let server = Server { registry, sandbox: server.sandbox };
    server.get("/v2/a/manifests/t").expect(200);
    server.send("POST", "/v2/a/blobs/uploads/").refuses(405, "UNSUPPORTED");
    server.manifest("a", "t", MANIFEST, &json!({})).refuses(405, "UNSUPPORTED");
    server.send("DELETE", &format!("/v2/a/manifests/{digest}")).refuses(405, "UNSUPPORTED");
}

#[test]
fn tls_is_served_with_a_certificate_of_its_own() {
    let server = serve(&["--tls"]);
    server.image("a", "t", b"layer");
    let certificate = server.registry.directory().join("tls/certificate.pem").display().to_string();
    let get = |url: &str| server.sandbox.shell(&format!("curl -sS --cacert {certificate} {url} 2>&1"));
    assert_eq!(get("https://127.0.0.1:5000/v2/"), "{}");
    assert_eq!(get(&format!("https://localhost:5000/v2/a/blobs/{}", sha256(b"layer"))), "layer");
    assert!(server.sandbox.shell("curl -sS http://127.0.0.1:5000/v2/ 2>&1").contains("curl: ("));
    let old =
        server.sandbox.shell(&format!("curl -sS --tls-max 1.1 --cacert {certificate} https://127.0.0.1:5000/v2/ 2>&1"));
    assert!(old.contains("curl: ("), "{old}");
}

#[test]
fn what_people_see_needs_no_script() {
    let server = serve(&[]);
    let digest = server.image("team/app", "v1", b"layer");
    let list = server.get("/");
    assert!(list.expect(200).text().contains("<a href=\"/ui/team/app\">team/app</a>"));
    assert!(list.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(server.get("/ui/team/app").expect(200).text().contains("<a href=\"/ui/team/app?ref=v1\">v1</a>"));
    let image = server.get("/ui/team/app?ref=v1").expect(200).text();
    assert!(image.contains(&digest) && image.contains(&sha256(b"layer")) && !image.contains("<script"));
    assert_eq!(server.get("/ui/%3Cscript%3E").expect(404).text().matches("<script>").count(), 0);
    assert!(server.get("/metrics").expect(200).text().contains("berth_registry_tags 1\n"));
    assert_eq!(server.get("/healthz").expect(200).text(), "ok\n");
    server.get("/nothing").expect(404);
}

#[test]
fn what_cannot_be_served_is_said_in_one_line() {
    let server = serve(&[]);
    let fails = |words: &[&str], reason: &str| {
        let mut command = server.sandbox.command(BERTH);
        command.args(["registry", "serve"]).args(words);
        let outcome = berth_testkit::Outcome::of(&mut command, b"");
        let stderr = outcome.exits(1).stderr.clone();
        let line = stderr.lines().last().unwrap_or_default();
        assert!(line.starts_with("berth registry: ") && line.contains(reason), "{stderr}");
    };
    let here = server.registry.directory().display().to_string();
    fails(&[&here], "another registry server (pid ");
    let other = server.sandbox.path().join("other").display().to_string();
    fails(&[&other], "127.0.0.1:5000 is in use: stop what listens there, or choose another address with --listen");
    fails(&["/proc/nowhere"], "making /proc/nowhere");
    fails(&["/etc"], "/etc is not a registry's directory: it holds ");
    fails(&[&other, "--htpasswd", "/nowhere"], "reading the password file /nowhere");
    fails(&[&other, "--anonymous-read"], "--anonymous-read needs a password file");
}

#[test]
fn a_cache_fetches_once_and_serves_what_it_has_when_the_other_registry_is_away() {
    let mut origin = serve(&[]);
    let large = vec![5; 3 << 20];
    let digest = origin.image("team/app", "v1", &large);
    origin.blob("team/app", b"needed by nothing");
    let config = origin.sandbox.path().join("cache.json");
    let upstream = json!({"proxy": {"host": format!("http://{}", origin.registry.address()), "tag-seconds": 0}});
    std::fs::write(&config, upstream.to_string()).expect("configuration");
    let cache = Registry::start(BERTH, &origin.sandbox, 5001, &["--config", &config.to_string_lossy()]);
    let get = |target: &str| cache.request("GET", target, &[], b"");
    let layer = format!("/v2/team/app/blobs/{}", sha256(&large));
    // What no manifest here needs is not fetched.
    get(&layer).expect(404);
    assert_eq!(get("/v2/team/app/manifests/v1").expect(200).header("docker-content-digest"), digest);
    let head = cache.request("HEAD", &layer, &[], b"");
    assert_eq!(head.expect(200).header("content-length"), large.len().to_string());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert!(get(&layer).expect(200).body == large));
        }
    });
    let part = cache.request("GET", &layer, &[("Range", "bytes=1-2")], b"");
    assert_eq!(part.expect(206).body, [5, 5]);
    get(&format!("/v2/team/app/blobs/{}", sha256(b"{}"))).expect(200);
    get(&format!("/v2/team/app/blobs/{}", sha256(b"needed by nothing"))).refuses(404, "BLOB_UNKNOWN");
    get("/v2/team/app/manifests/v2").refuses(404, "MANIFEST_UNKNOWN");
    let refused = cache.request("POST", "/v2/team/app/blobs/uploads/", &[], b"");
    assert!(refused.refuses(405, "UNSUPPORTED").text().contains("cache of 127.0.0.1:5000"), "{}", refused.text());
    // A tag that moves there moves here.
    let moved = origin.image("team/app", "v1", b"newer");
    let found = get("/v2/team/app/manifests/v1");
    assert_eq!((found.expect(200).header("docker-content-digest"), found.header("warning")), (moved.as_str(), ""));
    assert_eq!(get("/v2/team/app/tags/list").expect(200).json()["tags"], json!(["v1"]));
    origin.registry.stop();
    let stale = get("/v2/team/app/manifests/v1");
    assert_eq!(stale.expect(200).header("docker-content-digest"), moved);
    assert!(stale.header("warning").starts_with("299 - "), "{:?}", stale.headers);
    assert!(get(&layer).expect(200).body == large);
    get("/v2/team/app/manifests/v3").refuses(502, "UNAVAILABLE");
}

fn base64(text: &str) -> String {
    let mut command = Command::new("base64");
    berth_testkit::Outcome::of(command.arg("-w0"), text.as_bytes()).succeeds()
}
