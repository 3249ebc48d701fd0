//! TLS through rustls with the ring provider, for every socket dbgate opens or accepts.

use std::sync::{Arc, Once};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::core::wire::scram;

/// What is wrong with a certificate, key or authority.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no certificate in the PEM text")]
    NoCertificate,
    #[error("unreadable PEM text")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("certificate or key is not usable")]
    Rustls(#[from] rustls::Error),
    #[error("the machine has no trusted certificate authorities")]
    NoRoots,
}

/// Makes ring the process's crypto provider. Safe to call again.
pub fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Someone else may have installed one first; then theirs stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The authorities in a PEM text, or the machine's own where there is none.
pub fn roots(ca_pem: Option<&str>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in certificates(pem)? {
                roots.add(certificate)?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(TlsError::NoRoots);
            }
        }
    }
    Ok(roots)
}

/// A client that verifies name and chain of the server, always.
pub fn client(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca_pem)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A server with this certificate chain and key, speaking PostgreSQL or HTTP.
pub fn server(chain_pem: &str, key_pem: &str, alpn: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(TlsError::Pem)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates(chain_pem)?, key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// The channel binding of the first certificate in a PEM chain.
pub fn end_point(chain_pem: &str) -> Result<Option<Vec<u8>>, TlsError> {
    let chain = certificates(chain_pem)?;
    Ok(chain.first().and_then(|leaf| scram::end_point(leaf)))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(TlsError::Pem)?;
    if chain.is_empty() { Err(TlsError::NoCertificate) } else { Ok(chain) }
}
