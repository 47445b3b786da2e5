//! TLS to the daemon, with docker's files: `ca.pem`, `cert.pem`, `key.pem`.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use berth_http::tls::AnyPeer;
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::endpoint::{Endpoint, TlsFiles, TlsMode};
use crate::error::ClientError;

/// Makes the TLS connection over `socket`, so that a bad certificate is reported before the first request.
pub(crate) fn handshake(
    mut socket: TcpStream,
    endpoint: &Endpoint,
    host: &str,
    files: &TlsFiles,
) -> Result<StreamOwned<ClientConnection, TcpStream>, ClientError> {
    let failed = |reason: String| ClientError::Tls { endpoint: endpoint.to_string(), reason };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    let mut conn = ClientConnection::new(Arc::new(configuration(files)?), name).map_err(|e| failed(e.to_string()))?;
    while conn.is_handshaking() {
        conn.complete_io(&mut socket).map_err(|error| failed(error.to_string()))?;
    }
    Ok(StreamOwned::new(conn, socket))
}

fn configuration(files: &TlsFiles) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Tls { endpoint: "the TLS library".to_owned(), reason: error.to_string() })?;
    let builder = match files.mode {
        TlsMode::Verify => builder.with_root_certificates(authorities(files)?),
        TlsMode::Encrypt => builder.dangerous().with_custom_certificate_verifier(AnyPeer::new(provider)),
    };
    // A client without a certificate is allowed to try: the daemon decides whether it needs one.
    match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| unreadable(cert, &error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn authorities(files: &TlsFiles) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &files.ca else { return Ok(roots) };
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unreadable(path, &error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    berth_http::tls::certificates(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Tls { endpoint: path.display().to_string(), reason: error.to_string() }
}
