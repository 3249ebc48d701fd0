//! The certificate of both listeners: the operator's, or one of our own making on loopback.
//!
//! The self-made authority lives in the data folder and is handed to clients over the API; it
//! stays the same across restarts, so that tools which saved it go on working. The certificate
//! itself is made anew at each start and its key is never written down.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::core::time::Moment;
use crate::server::config::Server;
use crate::sys::files::{self, FileError};
use crate::sys::tls::{self, TlsError};

/// How long the self-made authority and certificates last.
const YEARS: i64 = 10;

/// What the listeners need.
#[derive(Clone)]
pub struct Certificates {
    /// For PostgreSQL clients; there is always one.
    pub wire: Arc<rustls::ServerConfig>,
    /// `tls-server-end-point` of the wire certificate, for SCRAM-SHA-256-PLUS.
    pub end_point: Option<Vec<u8>>,
    /// For the API; none where it speaks plain http on loopback.
    pub api: Option<Arc<rustls::ServerConfig>>,
    /// The authority that clients must trust for the wire; none: the machine's own.
    pub ca_pem: Option<String>,
}

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("`{}` cannot be read", file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("`{}` is not a usable certificate or key", file.display())]
    Unusable { file: PathBuf, source: TlsError },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{}` is not text", .0.display())]
    NotText(PathBuf),
    #[error("a certificate for `{host}` cannot be made")]
    Make { host: String, source: rcgen::Error },
}

/// Reads the configured certificate, or makes one for loopback.
pub fn load(server: &Server, now: Moment) -> Result<Certificates, CertificateError> {
    let Some(configured) = &server.tls else {
        let (ca_pem, chain, key) = self_made(&server.data_dir, &server.gateway_host, now)?;
        let file = server.data_dir.join(CA_CERTIFICATE);
        return assemble(&chain, &key, None, Some(ca_pem), &file);
    };
    let chain = std::fs::read_to_string(&configured.certificate)
        .map_err(|source| CertificateError::Unreadable { file: configured.certificate.clone(), source })?;
    let key = private_text(&configured.key)?;
    let ca_pem = configured.authority.as_deref().map(authority_text).transpose()?;
    let unusable = |source| CertificateError::Unusable { file: configured.certificate.clone(), source };
    let api = tls::server(&chain, &key, &["http/1.1"]).map_err(unusable)?;
    assemble(&chain, &key, Some(api), ca_pem, &configured.certificate)
}

/// The authority's certificate in the data folder.
const CA_CERTIFICATE: &str = "wire-ca.pem";
/// The authority's key in the data folder.
const CA_KEY: &str = "wire-ca-key.pem";

/// The authorities of `tls_ca_file`, which everybody is given who asks.
fn authority_text(file: &Path) -> Result<String, CertificateError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| CertificateError::Unreadable { file: file.to_owned(), source })?;
    tls::authorities_alone(&text).map_err(|source| CertificateError::Unusable { file: file.to_owned(), source })
}

fn assemble(
    chain: &str,
    key: &str,
    api: Option<Arc<rustls::ServerConfig>>,
    ca_pem: Option<String>,
    file: &Path,
) -> Result<Certificates, CertificateError> {
    let unusable = |source| CertificateError::Unusable { file: file.to_owned(), source };
    // "postgresql" is the name that direct TLS asks for.
    let wire = tls::server(chain, key, &["postgresql"]).map_err(unusable)?;
    let end_point = tls::end_point(chain).map_err(unusable)?;
    Ok(Certificates { wire, end_point, api, ca_pem })
}

/// Authority, chain and key for `host` and the names of loopback.
fn self_made(folder: &Path, host: &str, now: Moment) -> Result<(String, String, String), CertificateError> {
    let make = |source| CertificateError::Make { host: host.to_owned(), source };
    let (ca_file, key_file) = (folder.join(CA_CERTIFICATE), folder.join(CA_KEY));
    if !ca_file.exists() || !key_file.exists() {
        let key = KeyPair::generate().map_err(make)?;
        let certificate = authority(now).self_signed(&key).map_err(make)?;
        files::write_private(&key_file, key.serialize_pem().as_bytes())?;
        files::write_private(&ca_file, certificate.pem().as_bytes())?;
    }
    let ca_pem = private_text(&ca_file)?;
    let ca_key = KeyPair::from_pem(&private_text(&key_file)?).map_err(make)?;
    let issuer = Issuer::new(authority(now), ca_key);

    let mut names = vec![host.to_owned(), "localhost".into(), "127.0.0.1".into(), "::1".into()];
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names).map_err(make)?;
    params.distinguished_name = name("dbgate gateway");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    lasting(&mut params, now);
    let key = KeyPair::generate().map_err(make)?;
    let certificate = params.signed_by(&key, &issuer).map_err(make)?;
    Ok((ca_pem, certificate.pem(), key.serialize_pem()))
}

fn authority(now: Moment) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("dbgate gateway authority");
    // No further authority below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(&mut params, now);
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn lasting(params: &mut CertificateParams, now: Moment) {
    let day = 24 * 60 * 60;
    let at = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    // A day earlier, for clients whose clocks are behind.
    if let (Some(from), Some(until)) = (at(now.seconds() - day), at(now.seconds() + YEARS * 365 * day)) {
        params.not_before = from;
        params.not_after = until;
    }
}

fn private_text(file: &Path) -> Result<String, CertificateError> {
    String::from_utf8(files::read_private(file)?).map_err(|_| CertificateError::NotText(file.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn the_authority_stays_and_certificates_verify_under_it() {
        let scratch = crate::sys::scratch::Scratch::new();
        let folder = scratch.path();
        let (first, ..) = self_made(folder, "gate.localhost", clock::now()).expect("made");
        let (again, chain, key) = self_made(folder, "gate.localhost", clock::now()).expect("made again");
        assert_eq!(first, again);
        assert!(tls::server(&chain, &key, &["postgresql"]).is_ok());
        assert!(tls::roots(Some(&again)).is_ok());
        assert_eq!(tls::end_point(&chain).expect("a certificate").map(|hash| hash.len()), Some(32));
    }
}
