//! How encrypted connections are made: whom to believe, and who we are.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use berth_http::tls::AnyPeer;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::error::DistributionError;

/// Where systems keep the certificates of the authorities that everybody believes.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Files about one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTls {
    /// Authorities to believe besides the system's.
    pub authorities: Vec<PathBuf>,
    /// Certificate and key to show.
    pub clients: Vec<(PathBuf, PathBuf)>,
    /// Whether to believe anybody.
    pub skip_verify: bool,
}

impl HostTls {
    /// The configuration that these files make.
    pub(crate) fn configuration(&self) -> Result<Arc<ClientConfig>, DistributionError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| DistributionError::Tls(error.to_string()))?;
        let builder = if self.skip_verify {
            builder.dangerous().with_custom_certificate_verifier(AnyPeer::new(provider))
        } else {
            let mut roots = system_roots().clone();
            for path in &self.authorities {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| unreadable(path, &error))?;
                }
            }
            builder.with_root_certificates(roots)
        };
        let configuration = match self.clients.first() {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
                let chain = certificates(certificate)?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| unreadable(certificate, &error))?
            }
        };
        Ok(Arc::new(configuration))
    }
}

/// What this machine believes. Read once: the file is large, and each host's configuration begins with it.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let files = named.into_iter().chain(BUNDLES.map(PathBuf::from));
        if let Some(bundle) = files.into_iter().find(|path| path.is_file()) {
            // One certificate of many that cannot be read must not make the others useless.
            let read = CertificateDer::pem_file_iter(&bundle).into_iter().flatten().flatten();
            roots.add_parsable_certificates(read);
        }
        roots
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DistributionError> {
    berth_http::tls::certificates(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> DistributionError {
    DistributionError::Tls(format!("{}: {error}", path.display()))
}
