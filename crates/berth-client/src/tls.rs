//! TLS to the daemon, with docker's files: `ca.pem`, `cert.pem`, `key.pem`.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

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
        TlsMode::Encrypt => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyPeer(provider))),
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
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, &error))?.collect();
    found.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Tls { endpoint: path.display().to_string(), reason: error.to_string() }
}

/// Accepts any certificate: what docker's `--tls` without `--tlsverify` asks for. Signatures are still checked.
#[derive(Debug)]
struct AnyPeer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyPeer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
