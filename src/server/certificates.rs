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
use crate::server::config::{Server, TlsFiles};
use crate::sys::files::{self, FileError};
use crate::sys::tls::{self, TlsError, Unfit};

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

/// Why there is no usable certificate, or one that clients refuse.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("`{key}` `{}` cannot be read", file.display())]
    Unreadable { key: &'static str, file: PathBuf, source: std::io::Error },
    #[error("`{key}` `{}` is not usable", file.display())]
    Unusable { key: &'static str, file: PathBuf, source: TlsError },
    #[error("`{}` is not the key of the certificate in `{}`", key.display(), certificate.display())]
    OtherKey { certificate: PathBuf, key: PathBuf },
    #[error("clients refuse the certificate in `{}`", file.display())]
    Unfit { file: PathBuf, source: Unfit },
    #[error("`tls_key_file`")]
    Key(#[source] FileError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{}` is not text", .0.display())]
    NotText(PathBuf),
    #[error("`{}` holds no key", file.display())]
    NotAKey { file: PathBuf, source: rcgen::Error },
    #[error("a certificate for `{host}` cannot be made")]
    Make { host: String, source: rcgen::Error },
}

/// Reads the configured certificate, or tells everything that is wrong with its files.
pub fn configured(files: &TlsFiles) -> Result<Certificates, Vec<CertificateError>> {
    let mut problems = Vec::new();
    let mut noted = |error| problems.push(error);
    let chain = chain_text(&files.certificate).map_err(&mut noted).ok();
    let key = key_text(&files.key).map_err(&mut noted).ok();
    let ca_pem = files.authority.as_deref().map(authority_text).transpose().map_err(&mut noted).ok();
    let listeners = chain.zip(key).map(|((chain, end_point), key)| {
        let both = || Ok((wire(&chain, &key)?, tls::server(&chain, &key, &["http/1.1"])?, end_point));
        both().map_err(|error| not_together(error, files))
    });
    let listeners = listeners.transpose().map_err(&mut noted).ok().flatten();
    match (listeners, ca_pem) {
        (Some((wire, api, end_point)), Some(ca_pem)) => Ok(Certificates { wire, end_point, api: Some(api), ca_pem }),
        _ => Err(problems),
    }
}

/// Makes a certificate for loopback, under the authority in the data folder.
pub fn own(server: &Server, now: Moment) -> Result<Certificates, CertificateError> {
    let (ca_pem, chain, key) = self_made(&server.data_dir, &server.gateway_host, now)?;
    let file = server.data_dir.join(CA_CERTIFICATE);
    let failed = unusable("data_dir", &file);
    let made = || Ok((wire(&chain, &key)?, tls::end_point(&chain)?, tls::authorities_alone(&ca_pem)?));
    let (wire, end_point, ca_pem) = made().map_err(failed)?;
    Ok(Certificates { wire, end_point, api: None, ca_pem: Some(ca_pem) })
}

/// What would keep a start from making one, as far as that can be told without writing.
pub fn unmakeable(server: &Server) -> Vec<CertificateError> {
    let failed = |source| CertificateError::Make { host: server.gateway_host.clone(), source };
    let mut problems = Vec::new();
    problems.extend(CertificateParams::new(vec![server.gateway_host.clone()]).map_err(failed).err());
    let (ca_file, key_file) = (server.data_dir.join(CA_CERTIFICATE), server.data_dir.join(CA_KEY));
    if ca_file.exists() && key_file.exists() {
        problems.extend(private_text(&ca_file).err());
        problems.extend(kept_key(&key_file).err());
    }
    problems
}

/// Why clients refuse the configured certificate, which the listeners can be started with all the same.
pub fn unfit(server: &Server, now: Moment) -> Vec<CertificateError> {
    let Some(TlsFiles { certificate: file, .. }) = &server.tls else { return Vec::new() };
    let mut hosts = vec![server.public_host(), &server.gateway_host];
    hosts.dedup();
    // A chain that cannot be read is an error of its own.
    let found = std::fs::read_to_string(file).ok().and_then(|chain| tls::unfit(&chain, &hosts, now).ok());
    let unfit = |source| CertificateError::Unfit { file: file.clone(), source };
    found.unwrap_or_default().into_iter().map(unfit).collect()
}

/// The authority's certificate in the data folder.
const CA_CERTIFICATE: &str = "wire-ca.pem";
/// The authority's key in the data folder.
const CA_KEY: &str = "wire-ca-key.pem";

fn wire(chain: &str, key: &str) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    // "postgresql" is the name that direct TLS asks for.
    tls::server(chain, key, &["postgresql"])
}

/// Why a certificate and a key, each of which can be read, do not serve.
fn not_together(error: TlsError, files: &TlsFiles) -> CertificateError {
    match error {
        TlsError::Rustls(rustls::Error::InconsistentKeys(_)) => {
            CertificateError::OtherKey { certificate: files.certificate.clone(), key: files.key.clone() }
        }
        error => unusable("tls_cert_file", &files.certificate)(error),
    }
}

fn unusable(key: &'static str, file: &Path) -> impl FnOnce(TlsError) -> CertificateError {
    let file = file.to_owned();
    move |source| CertificateError::Unusable { key, file, source }
}

fn public_text(key: &'static str, file: &Path) -> Result<String, CertificateError> {
    std::fs::read_to_string(file).map_err(|source| CertificateError::Unreadable { key, file: file.to_owned(), source })
}

/// The authorities of `tls_ca_file`, which everybody is given who asks.
fn authority_text(file: &Path) -> Result<String, CertificateError> {
    let text = public_text("tls_ca_file", file)?;
    tls::authorities_alone(&text).map_err(unusable("tls_ca_file", file))
}

/// The chain, and its channel binding.
fn chain_text(file: &Path) -> Result<(String, Option<Vec<u8>>), CertificateError> {
    let chain = public_text("tls_cert_file", file)?;
    let end_point = tls::end_point(&chain).map_err(unusable("tls_cert_file", file))?;
    Ok((chain, end_point))
}

fn key_text(file: &Path) -> Result<String, CertificateError> {
    let bytes = files::read_private(file).map_err(CertificateError::Key)?;
    let text = String::from_utf8(bytes).map_err(|_| CertificateError::NotText(file.to_owned()))?;
    tls::private_key(&text).map_err(unusable("tls_key_file", file))?;
    Ok(text)
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
    let ca_key = kept_key(&key_file)?;
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

fn kept_key(file: &Path) -> Result<KeyPair, CertificateError> {
    let unusable = |source| CertificateError::NotAKey { file: file.to_owned(), source };
    KeyPair::from_pem(&private_text(file)?).map_err(unusable)
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
