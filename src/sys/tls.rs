//! TLS through rustls with the ring provider, for every socket dbgate opens or accepts.

use std::error::Error;
use std::sync::{Arc, Once};
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};

use crate::core::time::Moment;
use crate::core::wire::scram;
use crate::core::{encoding, text};

/// What is wrong with a certificate, key or authority.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no certificate in the PEM text")]
    NoCertificate,
    #[error("unreadable PEM text")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("it holds a `{0}`: only certificates may stand in it")]
    NotACertificate(String),
    #[error("no private key in the PEM text, or one with a password")]
    NoKey(#[source] rustls::pki_types::pem::Error),
    #[error("it cannot be used")]
    Rustls(#[from] rustls::Error),
    #[error("the machine has no trusted certificate authorities")]
    NoRoots,
}

/// Why clients refuse a certificate that a server can be started with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unfit {
    #[error("it ended at {}", .0.rfc3339())]
    Over(Moment),
    #[error("it begins at {}", .0.rfc3339())]
    NotYet(Moment),
    #[error("it is not for `{host}`; the names in it: {}", named(names))]
    OtherName { host: String, names: Vec<String> },
    #[error("it cannot be used")]
    Unusable(#[source] rustls::Error),
}

fn named(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{}`", text::escape(name))).collect::<Vec<_>>().join(", "),
    }
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

/// The machine's own authorities as one PEM text, for programs that read a file.
pub fn machine_roots() -> Result<String, TlsError> {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() { Err(TlsError::NoRoots) } else { Ok(armoured(&found)) }
}

/// The authorities in a text that holds nothing else, written anew: what is handed to everybody
/// brings along no key that stood beside or between them.
pub fn authorities_alone(pem: &str) -> Result<String, TlsError> {
    for begun in pem.split("-----BEGIN ").skip(1) {
        let label = begun.split(['-', '\n']).next().unwrap_or_default();
        if label != "CERTIFICATE" {
            return Err(TlsError::NotACertificate(text::escape(label).into_owned()));
        }
    }
    let found = certificates(pem)?;
    // Bytes that only call themselves a certificate are none.
    let mut authorities = RootCertStore::empty();
    found.iter().try_for_each(|certificate| authorities.add(certificate.clone()))?;
    Ok(armoured(&found))
}

fn armoured(certificates: &[CertificateDer<'_>]) -> String {
    let one = |certificate: &CertificateDer<'_>| {
        let base64 = encoding::base64(certificate);
        let lines = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
        format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
    };
    certificates.iter().map(one).collect()
}

/// Why clients that dial one of these hosts will refuse a chain at the moment `now`.
pub fn unfit(chain_pem: &str, hosts: &[&str], now: Moment) -> Result<Vec<Unfit>, TlsError> {
    let chain = certificates(chain_pem)?;
    let mut found: Vec<Unfit> = chain.iter().filter_map(|certificate| untimely(certificate, now)).collect();
    let Some(leaf) = chain.first() else { return Ok(found) };
    let leaf = ParsedCertificate::try_from(leaf)?;
    for host in hosts {
        let other = |names| Unfit::OtherName { host: (*host).to_owned(), names };
        match ServerName::try_from(*host).map(|name| verify_server_name(&leaf, &name)) {
            Ok(Ok(())) => {}
            Ok(Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                presented, ..
            }))) => {
                found.push(other(presented.iter().map(|name| bare(name)).collect()));
            }
            Ok(Err(error)) => found.push(Unfit::Unusable(error)),
            Err(_) => found.push(other(Vec::new())),
        }
    }
    Ok(found)
}

/// What the time says of one certificate. The verifier looks at it before anything else, so that no
/// authority is needed to be told.
fn untimely(certificate: &CertificateDer<'_>, now: Moment) -> Option<Unfit> {
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.seconds()).unwrap_or(0)));
    let moment = |time: UnixTime| Moment::from_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let nobody = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], at, &[]) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(Unfit::Over(moment(not_after)))
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            Some(Unfit::NotYet(moment(not_before)))
        }
        Ok(()) | Err(_) => None,
    }
}

/// A name as the verifier prints it, without what it puts around: `DnsName("localhost")`.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

/// What to do about a certificate that is not trusted, where that is what an error is about.
pub fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let problem = causes(error).find_map(|cause| match cause.downcast_ref()? {
        rustls::Error::InvalidCertificate(problem) => Some(problem),
        _ => None,
    })?;
    Some(match problem {
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "No authority that is trusted here has issued the server's certificate: name the file of the one that has"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "The server's certificate is over: renew it"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "The server's certificate is for another host name: connect by a name that stands in it"
        }
        CertificateError::Other(other) if is_authority(other) => {
            "The server shows the certificate of an authority (CA:TRUE): issue one for the server itself, or make a \
             self-signed one with basicConstraints=CA:FALSE"
        }
        _ => "The server's certificate cannot be used: have it issued anew",
    })
}

/// Whether an error is that a connection ended or broke, rather than what a peer said or showed.
pub fn is_broken_off(error: &(dyn Error + 'static)) -> bool {
    let mut broken = causes(error).filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    broken.any(|io| !io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()))
}

/// An error and what caused it; `io::Error` hides what it wraps from `source`.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| {
        let error = *error;
        if let Some(wrapped) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            return Some(wrapped);
        }
        error.source()
    })
}

fn is_authority(other: &rustls::OtherError) -> bool {
    // The name of the error in webpki, which rustls hands on without its type.
    other.0.to_string() == "CaUsedAsEndEntity"
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
    let key = private_key(key_pem)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates(chain_pem)?, key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// The first private key in a PEM text.
pub fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(TlsError::NoKey)
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

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn nothing_but_certificates_is_handed_on() {
        let ((one, key), (two, _)) = (made(&["a.example"]), made(&["b.example"]));
        let noted = format!("subject=/CN=a\nsecret: x\n{one}\n{two}");
        let bare = |pem: &str| pem.replace("\r\n", "\n");
        assert_eq!(authorities_alone(&noted).expect("two certificates"), bare(&format!("{one}{two}")));
        let disguised = key.replace("PRIVATE KEY", "CERTIFICATE");
        let indented = format!("{one}  {key}");
        for refused in [&format!("{one}{key}"), &format!("{key}{one}"), &indented, &disguised, "", "rubbish"] {
            assert!(authorities_alone(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn names_and_times_that_clients_refuse_are_found() {
        let (chain, _) = made(&["*.example.com", "127.0.0.1"]);
        let now = Moment::from_seconds(1_800_000_000);
        let hosts = ["gate.example.com", "127.0.0.1"];
        assert_eq!(unfit(&chain, &hosts, now).expect("a certificate"), []);
        let found = unfit(&chain, &["gate.example.org"], now).expect("a certificate");
        let names = vec!["*.example.com".to_owned(), "127.0.0.1".to_owned()];
        assert_eq!(found, [Unfit::OtherName { host: "gate.example.org".into(), names }]);
        let found = unfit(&chain, &hosts, Moment::from_seconds(99_000_000_000)).expect("a certificate");
        assert!(matches!(found.as_slice(), [Unfit::Over(_)]), "{found:?}");
    }
}
