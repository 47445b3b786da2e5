//! Servers of several kinds: with tokens, with certificates, mirrors, proxies.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use berth_distribution::{Credentials, DistributionError, HostSettings, Proxies, Proxy, Registries};
use berth_model::{Cancel, ImageRef};
use rustls::{ServerConfig, ServerConnection, StreamOwned, server::WebPkiClientVerifier};

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// What was asked, in small letters, and an answer: status, headers, body.
type Answer = Box<dyn Fn(&str) -> (u16, String, String) + Send + Sync>;

struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str) -> (u16, String, String) + Send + Sync + 'static) -> Self {
        Self::with_tls(None, Box::new(answer))
    }

    fn with_tls(tls: Option<Arc<ServerConfig>>, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log, tls) = (Arc::clone(&answer), Arc::clone(&log), tls.clone());
                thread::spawn(move || match tls {
                    None => serve(stream, &answer, &log),
                    Some(tls) => serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &answer, &log),
                });
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> String {
        self.asked.lock().unwrap().concat()
    }

    fn domain(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn serve(stream: impl Read + Write, answer: &Answer, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // What is no text is a handshake: plain servers hang up.
            if reader.read_until(b'\n', &mut head).is_ok_and(|n| n == 0)
                || head.first().is_none_or(|b| !b.is_ascii_graphic())
            {
                return;
            }
        }
        let mut text = String::from_utf8_lossy(&head).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        text.push_str(&String::from_utf8_lossy(&body));
        log.lock().unwrap().push(text.clone());
        let (status, headers, body) = answer(&text);
        let shown = if text.starts_with("head ") { "" } else { body.as_str() };
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n{shown}", body.len());
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn manifest() -> (u16, String, String) {
    let kind = "application/vnd.oci.image.manifest.v1+json";
    (200, format!("Content-Type: {kind}\r\nDocker-Content-Digest: {DIGEST}\r\n"), "{}".to_owned())
}

fn none() -> (u16, String, String) {
    (404, String::new(), String::new())
}

fn resolve(settings: HostSettings, name: &str, credentials: &Credentials) -> Result<String, DistributionError> {
    let reference: ImageRef = name.parse().unwrap();
    let repository = Registries::new(settings).repository(&reference, credentials, &Cancel::default())?;
    repository.resolve(&reference).map(|descriptor| descriptor.digest.to_string())
}

fn me() -> Credentials {
    Credentials { username: "me".into(), password: "secret".into(), ..Credentials::default() }
}

/// A registry that wants tokens, and the server that gives them.
fn guarded(token_answer: impl Fn(&str) -> (u16, String, String) + Send + Sync + 'static) -> (Server, Server) {
    let tokens = Server::start(token_answer);
    let realm = format!("http://127.0.0.1:{}/token", tokens.port);
    let registry = Server::start(move |asked| {
        if asked.contains("authorization: bearer good") {
            return manifest();
        }
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:a/b:pull\"\r\n");
        (
            401,
            challenge,
            "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}".to_owned(),
        )
    });
    (registry, tokens)
}

#[test]
fn tokens_are_fetched_once_and_used_again() {
    let (registry, tokens) = guarded(|_| (200, String::new(), r#"{"token":"good","expires_in":300}"#.to_owned()));
    let reference: ImageRef = format!("{}/a/b:1", registry.domain()).parse().unwrap();
    let registries = Registries::new(HostSettings::default());
    let repository = registries.repository(&reference, &me(), &Cancel::default()).unwrap();
    for _ in 0..3 {
        assert_eq!(repository.resolve(&reference).unwrap().digest.as_str(), DIGEST);
    }
    let asked = tokens.asked();
    assert_eq!(asked.matches("get /token?service=reg&scope=repository:a/b:pull&account=me ").count(), 1, "{asked}");
    assert!(asked.contains("authorization: basic bwu6c2vjcmv0"), "{asked}");
    assert!(!registry.asked().contains("authorization: basic"), "the registry gets the token alone");
    // Without credentials the token server is asked too: public images need a token all the same.
    assert_eq!(resolve(HostSettings::default(), &reference.to_string(), &Credentials::default()).unwrap(), DIGEST);
    let identity = Credentials { identity_token: "ref resh".into(), ..Credentials::default() };
    assert_eq!(resolve(HostSettings::default(), &reference.to_string(), &identity).unwrap(), DIGEST);
    assert!(tokens.asked().contains("grant_type=refresh_token&service=reg&client_id=berth"), "{}", tokens.asked());
    assert!(tokens.asked().contains("refresh_token=ref%20resh"));
}

#[test]
fn a_token_server_that_refuses_or_gives_nothing_is_told_of() {
    let (registry, _tokens) =
        guarded(|_| (401, String::new(), r#"{"details":"incorrect username or password"}"#.to_owned()));
    let name = format!("{}/a/b:1", registry.domain());
    let error = resolve(HostSettings::default(), &name, &me()).unwrap_err().to_string();
    assert!(error.ends_with("401 Unauthorized: incorrect username or password"), "{error}");
    let login = Registries::new(HostSettings::default()).log_in(&registry.domain(), me(), &Cancel::default());
    assert_eq!(login.unwrap_err().to_string(), "unauthorized: incorrect username or password");
    let (registry, _tokens) = guarded(|_| (200, String::new(), "<html>".to_owned()));
    let error = resolve(HostSettings::default(), &format!("{}/a/b:1", registry.domain()), &me()).unwrap_err();
    assert!(error.to_string().starts_with("token server http://127.0.0.1:"), "{error}");
    // A token that does not help is not asked for again and again.
    let (registry, tokens) = guarded(|_| (200, String::new(), r#"{"access_token":"bad"}"#.to_owned()));
    assert!(resolve(HostSettings::default(), &format!("{}/a/b:1", registry.domain()), &me()).is_err());
    assert!(tokens.asked().matches("get /token").count() <= 2, "{}", tokens.asked());
}

#[test]
fn login_gives_the_token_to_keep() {
    let (registry, tokens) = guarded(|_| (200, String::new(), r#"{"token":"good","refresh_token":"keep"}"#.to_owned()));
    let registries = Registries::new(HostSettings::default());
    let answer = registries.log_in(&registry.domain(), me(), &Cancel::default()).unwrap();
    assert_eq!(answer.identity_token.as_deref(), Some("keep"));
    assert!(tokens.asked().contains("offline_token=true"));
}

#[test]
fn mirrors_are_asked_first_and_the_registry_in_the_end() {
    let empty = Server::start(|_| none());
    let registry = Server::start(|_| manifest());
    let mirrors = vec![
        format!("{}=http://127.0.0.1:1/dead", registry.domain()).parse().unwrap(),
        format!("*=http://{}/cache", empty.domain()).parse().unwrap(),
    ];
    let settings = HostSettings { mirrors, ..HostSettings::default() };
    let name = format!("{}/a/b:1", registry.domain());
    assert_eq!(resolve(settings.clone(), &name, &me()).unwrap(), DIGEST);
    let asked = empty.asked();
    assert!(asked.starts_with(&format!("head /cache/v2/a/b/manifests/1?ns={} ", registry.domain())), "{asked}");
    assert!(!asked.contains("authorization"));
    assert!(registry.asked().contains("head /v2/a/b/manifests/1 "));
}

#[test]
fn a_plain_proxy_gets_the_whole_url_and_its_own_password() {
    let proxy = Server::start(|_| manifest());
    let proxies = Proxies {
        http: Proxy::parse(&format!("http://user:pw@{}", proxy.domain())),
        https: Proxy::parse("http://127.0.0.1:1"),
        none: String::new(),
    };
    let mirrors = vec!["reg.example=http://mirror.example:8080".parse().unwrap()];
    let settings = HostSettings { mirrors, proxies, ..HostSettings::default() };
    assert_eq!(resolve(settings.clone(), "reg.example/a:1", &Credentials::default()).unwrap(), DIGEST);
    let asked = proxy.asked();
    assert!(asked.starts_with("head http://mirror.example:8080/v2/a/manifests/1?ns=reg.example "), "{asked}");
    assert!(asked.contains("proxy-authorization: basic dxnlcjpwdw=="), "{asked}");
    let error = resolve(settings, "other.example/a:1", &Credentials::default()).unwrap_err().to_string();
    assert!(error.contains("proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused"), "{error}");
}

/// An authority, a server's configuration, and the files of a client, beneath a directory of hosts.
fn certified(directory: &std::path::Path, with_client: bool) -> Arc<ServerConfig> {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(parameters, authority_key);
    let signed = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (certificate, key)
    };
    let (server, server_key) = signed("127.0.0.1");
    let (client, client_key) = signed("client");
    std::fs::write(directory.join("ca.crt"), authority.pem()).unwrap();
    if with_client {
        std::fs::write(directory.join("client.cert"), client.pem()).unwrap();
        std::fs::write(directory.join("client.key"), client_key.serialize_pem()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let builder = builder.with_client_cert_verifier(verifier);
    Arc::new(builder.with_single_cert(vec![server.der().clone()], key).unwrap())
}

#[test]
fn certificates_of_a_host_are_believed_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    for with_client in [true, false] {
        // The directory is named after the port, which is known only once the server runs.
        let files = tempfile::tempdir_in(directory.path()).unwrap();
        let server = Server::with_tls(Some(certified(files.path(), with_client)), Box::new(|_| manifest()));
        std::fs::rename(files.keep(), directory.path().join(server.domain())).unwrap();
        let settings = HostSettings { certificates: vec![directory.path().to_owned()], ..HostSettings::default() };
        let resolved = resolve(settings, &format!("{}/a:1", server.domain()), &Credentials::default());
        assert_eq!(resolved.is_ok(), with_client, "{resolved:?}");
    }
}

#[test]
fn a_server_that_nobody_vouches_for_is_refused_unless_it_may_be_insecure() {
    let directory = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir_in(directory.path()).unwrap();
    let server = Server::with_tls(Some(certified(files.path(), true)), Box::new(|_| manifest()));
    // The name leads to the same place, and is no loopback address.
    let name = format!("{}/a:1", server.domain());
    let mirrors = vec![format!("reg.example=https://127.0.0.1:{}", server.port).parse().unwrap()];
    let settings = HostSettings {
        mirrors,
        proxies: Proxies { https: Proxy::parse("127.0.0.1:1"), ..Proxies::default() },
        ..HostSettings::default()
    };
    assert!(resolve(settings, "reg.example/a:1", &Credentials::default()).is_err());
    // Without a client's certificate even an insecure one is closed to us: but not for want of trust.
    let error = resolve(HostSettings::default(), &name, &Credentials::default()).unwrap_err().to_string();
    assert!(!error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn nobody_waits_for_a_server_that_stops_in_the_middle() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let held: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let keep = Arc::clone(&held);
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| keep.lock().unwrap().push(stream)));
    let reference: ImageRef = format!("127.0.0.1:{port}/a:1").parse().unwrap();
    let cancel = Cancel::default();
    let repository = Registries::new(HostSettings::default()).repository(&reference, &me(), &cancel).unwrap();
    let asking = thread::spawn(move || repository.resolve(&reference));
    thread::sleep(std::time::Duration::from_millis(100));
    cancel.cancel();
    assert!(matches!(asking.join().unwrap(), Err(DistributionError::Cancelled)));
}
