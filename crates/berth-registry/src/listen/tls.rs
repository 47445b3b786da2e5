//! Certificates: given as files, or made on request and kept in the registry's directory.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

use crate::listen::Address;

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {}: {reason}", .path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

fn failed(path: &Path) -> impl FnOnce(&dyn std::fmt::Display) -> TlsError {
    let path = path.to_owned();
    move |reason| TlsError { path, reason: reason.to_string() }
}

/// TLS 1.2 and newer with the certificate and key of two files.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(certificate)(&error))?;
    if chain.is_empty() {
        return Err(failed(certificate)(&"there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key)(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| failed(certificate)(&error))?
        .with_no_client_auth();
    let mut config = config.with_single_cert(chain, private).map_err(|error| failed(certificate)(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The certificate and key that lie in the registry's directory; made if they are missing, for this host's names and addresses.
pub fn own(root: &Path, listen: &[Address], names: &[String]) -> Result<(PathBuf, PathBuf), TlsError> {
    let directory = root.join("tls");
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    fs::create_dir_all(&directory).map_err(|error| failed(&directory)(&error))?;
    let made =
        rcgen::generate_simple_self_signed(subjects(listen, names)).map_err(|error| failed(&certificate)(&error))?;
    let write = |path: &Path, text: &str, mode: u32| {
        let opened = fs::File::options().write(true).create(true).truncate(true).mode(mode).open(path);
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(|error| failed(path)(&error))
    };
    write(&key, &made.signing_key.serialize_pem(), 0o600)?;
    write(&certificate, &made.cert.pem(), 0o644)?;
    Ok((certificate, key))
}

/// Every name that clients may know this host by.
fn subjects(listen: &[Address], names: &[String]) -> Vec<String> {
    let mut subjects = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    subjects.push(rustix::system::uname().nodename().to_string_lossy().into_owned());
    for address in listen {
        if let Address::Tcp(socket) = address {
            let ip: IpAddr = socket.ip();
            if !ip.is_unspecified() {
                subjects.push(ip.to_string());
            }
        }
    }
    subjects.extend_from_slice(names);
    subjects.retain(|name| !name.is_empty());
    subjects.sort();
    subjects.dedup();
    subjects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (certificate, key) = own(dir.path(), &[], &["registry.test".to_owned()]).expect("made");
        acceptor(&certificate, &key).expect("usable");
        let first = fs::read(&certificate).expect("read");
        own(dir.path(), &[], &[]).expect("found");
        assert_eq!(fs::read(&certificate).expect("read"), first);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).expect("key").permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn files_that_are_no_certificates_are_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.pem");
        fs::write(&path, "nothing").expect("write");
        let error = acceptor(&path, &path).err().expect("refused").to_string();
        assert!(error.contains("x.pem"), "{error}");
    }
}
