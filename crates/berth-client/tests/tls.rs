//! A daemon behind TLS with client certificates: who is trusted, and who is not.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use berth_client::{Client, ClientError, Endpoint, TlsFiles, TlsMode};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Writes an authority, a server certificate for 127.0.0.1 and a client certificate.
fn certificates(directory: &Path) {
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("write");
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", &params.self_signed(&key).expect("authority").pem());
    let authority = Issuer::new(params, key);
    for (name, host, usage) in [
        ("server", "127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", "client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &authority).expect("certificate");
        write(&format!("{name}.pem"), &certificate.pem());
        write(&format!("{name}-key.pem"), &key.serialize_pem());
    }
}

/// Answers every request with `OK` to clients that the authority signed; gives its port.
fn serve(directory: &Path) -> u16 {
    let certificate = |name| CertificateDer::from_pem_file(directory.join(name)).expect("certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).expect("authority");
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().expect("verifier");
    let key = PrivateKeyDer::from_pem_file(directory.join("server-key.pem")).expect("key");
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_client_cert_verifier(verifier).with_single_cert(vec![certificate("server.pem")], key);
    let config = Arc::new(config.expect("configuration"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let tls = StreamOwned::new(ServerConnection::new(config.clone()).expect("connection"), socket);
            let mut reader = BufReader::new(tls);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                if line == "\r\n" {
                    let answer = b"HTTP/1.1 200 OK\r\nApi-Version: 1.56\r\nContent-Length: 4\r\n\r\n\"OK\"";
                    let _ = reader.get_mut().write_all(answer);
                }
                line.clear();
            }
        }
    });
    port
}

fn ask(port: u16, host: &str, files: Option<TlsFiles>) -> Result<String, ClientError> {
    let endpoint = Endpoint::Tcp { host: host.to_owned(), port, tls: files };
    let client = Client::new(endpoint, "test");
    client.get("/a").send()?.json::<String>()?;
    // The second request uses the same connection.
    client.get("/b").send()?.json()
}

#[test]
fn both_sides_are_checked() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    certificates(path);
    let port = serve(path);
    let file = |name: &str| Some(path.join(name));
    let files = |mode, ca: Option<_>, cert: Option<_>, key: Option<_>| TlsFiles { mode, ca, cert, key };
    let whole = files(TlsMode::Verify, file("ca.pem"), file("client.pem"), file("client-key.pem"));
    assert_eq!(ask(port, "127.0.0.1", Some(whole.clone())).expect("answer"), "OK");
    let unchecked = files(TlsMode::Encrypt, None, file("client.pem"), file("client-key.pem"));
    assert_eq!(ask(port, "127.0.0.1", Some(unchecked)).expect("answer"), "OK");
    for (host, files, why) in [
        ("localhost", whole.clone(), "a name that the certificate does not have"),
        (
            "127.0.0.1",
            files(TlsMode::Verify, file("client.pem"), file("client.pem"), file("client-key.pem")),
            "another authority",
        ),
        ("127.0.0.1", files(TlsMode::Verify, file("ca.pem"), None, None), "no client certificate"),
        ("127.0.0.1", files(TlsMode::Verify, file("nowhere.pem"), None, None), "a file that is not there"),
    ] {
        assert!(ask(port, host, Some(files)).is_err(), "{why} was accepted");
    }
    assert!(ask(port, "127.0.0.1", None).is_err(), "a client without TLS got an answer");
}
