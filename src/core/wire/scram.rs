//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both halves (RFC 5802, RFC 7677, RFC 5929).
//!
//! What must stay true at the server half: `y` is refused when -PLUS was offered (a downgrade),
//! `p=` is refused on plain SCRAM, the only binding is tls-server-end-point, the client's nonce
//! must come back, a proof is exactly 32 bytes, and comparison takes constant time. An unknown
//! user gets a full exchange with a made-up salt, so that answers do not tell who exists.

use std::num::NonZeroU32;

use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

use crate::core::encoding::{base64, unbase64};
use crate::core::secret::Secret;

/// The plain mechanism.
pub const PLAIN: &str = "SCRAM-SHA-256";
/// The mechanism that binds the exchange to the TLS channel.
pub const PLUS: &str = "SCRAM-SHA-256-PLUS";
/// PostgreSQL's default number of PBKDF2 rounds.
pub const ITERATIONS: u32 = 4096;

/// Why an exchange failed. The peer hears only that it failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    #[error("malformed SCRAM message")]
    Malformed,
    #[error("channel binding does not match: somebody may stand between client and server")]
    Binding,
    #[error("password authentication failed")]
    Proof,
    #[error("the server did not prove that it knows the password")]
    Server,
}

/// What a server keeps instead of a password, in `pg_authid` format.
#[derive(Clone)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl Verifier {
    /// Derives one from a password. 4,096 rounds cost about a millisecond.
    pub fn derive(password: &Secret, salt: &[u8], iterations: u32) -> Self {
        let salted = salted_password(password, salt, iterations);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: sha256(&mac(&salted, b"Client Key")),
            server_key: mac(&salted, b"Server Key"),
        }
    }

    /// One that no password matches, for users that do not exist. The salt depends on the name
    /// and a server secret, so that asking twice gives the same answer.
    pub fn decoy(user: &str, server_secret: &[u8; 32]) -> Self {
        let seed = mac(server_secret, user.as_bytes());
        Self {
            iterations: ITERATIONS,
            salt: seed.get(..16).unwrap_or_default().to_vec(),
            stored_key: mac(&seed, b"no stored key"),
            server_key: mac(&seed, b"no server key"),
        }
    }

    /// Reads `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        Some(Self {
            iterations: iterations.parse().ok().filter(|n| *n > 0)?,
            salt: unbase64(salt)?,
            stored_key: unbase64(stored)?.try_into().ok()?,
            server_key: unbase64(server)?.try_into().ok()?,
        })
    }
}

/// The `pg_authid` text: safe to put into `CREATE ROLE … PASSWORD`, since it is no password.
impl std::fmt::Display for Verifier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { iterations, salt, stored_key, server_key } = self;
        write!(out, "SCRAM-SHA-256${iterations}:{}${}:{}", base64(salt), base64(stored_key), base64(server_key))
    }
}

/// Printing a verifier by accident would help an offline guess.
impl std::fmt::Debug for Verifier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("[verifier]")
    }
}

/// The server half after the client's first message.
pub struct Server {
    verifier: Verifier,
    nonce: String,
    first: String,
    client_bare: String,
    expected_binding: Vec<u8>,
}

impl Server {
    /// Reads client-first and makes server-first. `binding` is the hash of our certificate when
    /// the client chose -PLUS; `plus_offered` says whether it could have.
    pub fn start(
        verifier: Verifier,
        client_first: &str,
        nonce: &[u8; 18],
        binding: Option<&[u8]>,
        plus_offered: bool,
    ) -> Result<Self, ScramError> {
        let (flag, rest) = client_first.split_once(',').ok_or(ScramError::Malformed)?;
        match (flag, binding) {
            ("n", None) => {}
            // "I could bind but you cannot": true only if we did not offer it.
            ("y", None) if !plus_offered => {}
            ("y", None) => return Err(ScramError::Binding),
            ("p=tls-server-end-point", Some(_)) => {}
            _ => return Err(ScramError::Malformed),
        }
        let (authzid, bare) = rest.split_once(',').ok_or(ScramError::Malformed)?;
        let (_, client_nonce) = bare.split_once(",r=").ok_or(ScramError::Malformed)?;
        if !authzid.is_empty() || !bare.starts_with("n=") || !is_nonce(client_nonce) {
            return Err(ScramError::Malformed);
        }
        let nonce = format!("{client_nonce}{}", base64(nonce));
        let first = format!("r={nonce},s={},i={}", base64(&verifier.salt), verifier.iterations);
        let mut expected_binding = format!("{flag},{authzid},").into_bytes();
        expected_binding.extend_from_slice(binding.unwrap_or_default());
        Ok(Self { verifier, nonce, first, client_bare: bare.to_owned(), expected_binding })
    }

    /// server-first, to be sent as AuthenticationSASLContinue.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// Reads client-final; gives server-final when the client knows the password.
    pub fn finish(self, client_final: &str) -> Result<String, ScramError> {
        let (without_proof, proof) = client_final.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let (binding, nonce) =
            without_proof.strip_prefix("c=").and_then(|rest| rest.split_once(",r=")).ok_or(ScramError::Malformed)?;
        if unbase64(binding).ok_or(ScramError::Malformed)? != self.expected_binding {
            return Err(ScramError::Binding);
        }
        if nonce != self.nonce {
            return Err(ScramError::Malformed);
        }
        let proof: [u8; 32] = unbase64(proof).and_then(|p| p.try_into().ok()).ok_or(ScramError::Malformed)?;
        let auth = format!("{},{},{without_proof}", self.client_bare, self.first);
        let client_key = xor(&proof, &mac(&self.verifier.stored_key, auth.as_bytes()));
        if !bool::from(sha256(&client_key).ct_eq(&self.verifier.stored_key)) {
            return Err(ScramError::Proof);
        }
        Ok(format!("v={}", base64(&mac(&self.verifier.server_key, auth.as_bytes()))))
    }
}

/// The client half.
pub struct Client {
    password: Secret,
    header: String,
    binding: Vec<u8>,
    bare: String,
    nonce: String,
}

impl Client {
    /// With the hash of the server's certificate when -PLUS is used; `could_bind` says that we
    /// would have bound, had the server offered it, so that it can notice a downgrade.
    pub fn new(password: &Secret, nonce: &[u8; 18], binding: Option<&[u8]>, could_bind: bool) -> Self {
        let header = match (binding, could_bind) {
            (Some(_), _) => "p=tls-server-end-point,,",
            (None, true) => "y,,",
            (None, false) => "n,,",
        };
        let nonce = base64(nonce);
        Self {
            password: password.clone(),
            header: header.to_owned(),
            binding: binding.unwrap_or_default().to_vec(),
            // PostgreSQL takes the name from the startup message.
            bare: format!("n=,r={nonce}"),
            nonce,
        }
    }

    /// client-first.
    pub fn first(&self) -> String {
        format!("{}{}", self.header, self.bare)
    }

    /// Reads server-first; gives client-final and what server-final must be.
    pub fn respond(&self, server_first: &str) -> Result<(String, String), ScramError> {
        let mut parts = server_first.split(',');
        let mut next = |key: &str| parts.next().and_then(|part| part.strip_prefix(key)).ok_or(ScramError::Malformed);
        let nonce = next("r=")?;
        let salt = unbase64(next("s=")?).ok_or(ScramError::Malformed)?;
        // A server that asks for a billion rounds would keep us busy for ever.
        let iterations: u32 =
            next("i=")?.parse().ok().filter(|n| (1..=10_000_000).contains(n)).ok_or(ScramError::Malformed)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() <= self.nonce.len() {
            return Err(ScramError::Malformed);
        }
        let mut bound = self.header.clone().into_bytes();
        bound.extend_from_slice(&self.binding);
        let without_proof = format!("c={},r={nonce}", base64(&bound));
        let auth = format!("{},{server_first},{without_proof}", self.bare);
        let salted = salted_password(&self.password, &salt, iterations);
        let client_key = mac(&salted, b"Client Key");
        let proof = xor(&client_key, &mac(&sha256(&client_key), auth.as_bytes()));
        let server = base64(&mac(&mac(&salted, b"Server Key"), auth.as_bytes()));
        Ok((format!("{without_proof},p={}", base64(&proof)), format!("v={server}")))
    }

    /// Checks server-final against what [`Self::respond`] expected.
    pub fn accept(expected: &str, server_final: &str) -> Result<(), ScramError> {
        let same: bool = expected.as_bytes().ct_eq(server_final.as_bytes()).into();
        if same { Ok(()) } else { Err(ScramError::Server) }
    }
}

/// The mechanism and message of a SASLInitialResponse body.
pub fn initial_response(body: &[u8]) -> Result<(&str, &str), ScramError> {
    let mut reader = super::reader::Reader::new(b'p', body);
    let mechanism = reader.text().map_err(|_| ScramError::Malformed)?;
    let length = reader.i32().map_err(|_| ScramError::Malformed)?;
    let first = std::str::from_utf8(reader.rest()).map_err(|_| ScramError::Malformed)?;
    if usize::try_from(length) != Ok(first.len()) {
        return Err(ScramError::Malformed);
    }
    Ok((mechanism, first))
}

/// tls-server-end-point: the hash of a certificate by the hash of its own signature algorithm,
/// SHA-256 where that is MD5 or SHA-1 (RFC 5929 section 4.1). `None` for algorithms without one.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match signature_oid(certificate)? {
        // ecdsa-with-SHA256, sha256WithRSA; and the MD5 and SHA-1 ones, which RFC 5929 lifts to SHA-256.
        b"\x2a\x86\x48\xce\x3d\x04\x03\x02" | b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b" => &digest::SHA256,
        b"\x2a\x86\x48\xce\x3d\x04\x01" | b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05" => &digest::SHA256,
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04" => &digest::SHA256,
        b"\x2a\x86\x48\xce\x3d\x04\x03\x03" | b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c" => &digest::SHA384,
        b"\x2a\x86\x48\xce\x3d\x04\x03\x04" | b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The OID in `Certificate.signatureAlgorithm` (RFC 5280 section 4.1): the first element of the
/// second element of the outer SEQUENCE.
fn signature_oid(certificate: &[u8]) -> Option<&[u8]> {
    let (_, outer, _) = element(certificate)?;
    let (_, _, after_body) = element(outer)?;
    let (_, algorithm, _) = element(after_body)?;
    let (tag, oid, _) = element(algorithm)?;
    (tag == 6).then_some(oid)
}

/// One DER element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(d, _)| d.len() <= 4)?;
        (digits.iter().fold(0usize, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((*tag, content, after))
}

fn salted_password(password: &Secret, salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut salted = [0u8; 32];
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.expose().as_bytes(), &mut salted);
    salted
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("HMAC-SHA-256 is 32 bytes")
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 is 32 bytes")
}

fn xor(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut both = *left;
    both.iter_mut().zip(right).for_each(|(byte, other)| *byte ^= other);
    both
}

/// Printable ASCII without comma (RFC 5802 section 7), of a length worth the name.
fn is_nonce(text: &str) -> bool {
    text.len() >= 8 && text.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(binding: Option<&[u8]>, server_binding: Option<&[u8]>, password: &str) -> Result<(), ScramError> {
        let verifier = Verifier::derive(&Secret::new("pencil"), b"0123456789abcdef", 64);
        let client = Client::new(&Secret::new(password), &[1; 18], binding, false);
        let server = Server::start(verifier, &client.first(), &[2; 18], server_binding, server_binding.is_some())?;
        let (last, expected) = client.respond(server.first())?;
        Client::accept(&expected, &server.finish(&last)?)
    }

    #[test]
    fn the_right_password_passes_and_another_does_not() {
        assert_eq!(exchange(None, None, "pencil"), Ok(()));
        assert_eq!(exchange(Some(b"hash"), Some(b"hash"), "pencil"), Ok(()));
        assert_eq!(exchange(None, None, "pen"), Err(ScramError::Proof));
        assert_eq!(exchange(Some(b"hash"), Some(b"other"), "pencil"), Err(ScramError::Binding));
    }

    #[test]
    fn rfc_7677_section_3_gives_the_published_verifier_keys() {
        let salt = unbase64("W22ZaJ0SNY7soEsUEjb6gQ==").expect("vector");
        let verifier = Verifier::derive(&Secret::new("pencil"), &salt, 4096);
        let server = Server {
            verifier,
            nonce: "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into(),
            first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".into(),
            client_bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".into(),
            expected_binding: b"n,,".to_vec(),
        };
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(server.finish(last).as_deref(), Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    }

    #[test]
    fn downgrades_and_foreign_bindings_are_refused() {
        let start = |first: &str, binding: Option<&[u8]>, offered| {
            let verifier = Verifier::derive(&Secret::new("x"), b"salt", 1);
            Server::start(verifier, first, &[0; 18], binding, offered).map(|_| ())
        };
        assert_eq!(start("n,,n=,r=abcdefgh", None, true), Ok(()));
        assert_eq!(start("y,,n=,r=abcdefgh", None, false), Ok(()));
        assert_eq!(start("y,,n=,r=abcdefgh", None, true), Err(ScramError::Binding));
        assert_eq!(start("p=tls-server-end-point,,n=,r=abcdefgh", None, true), Err(ScramError::Malformed));
        assert_eq!(start("p=tls-unique,,n=,r=abcdefgh", Some(b"x"), true), Err(ScramError::Malformed));
        assert_eq!(start("n,,n=,r=abcdefgh", Some(b"x"), true), Err(ScramError::Malformed));
        assert_eq!(start("n,a=root,n=,r=abcdefgh", None, false), Err(ScramError::Malformed));
    }

    #[test]
    fn a_verifier_is_read_back_and_a_decoy_looks_the_same_twice() {
        let verifier = Verifier::derive(&Secret::new("x"), b"salt", 5);
        assert_eq!(Verifier::parse(&verifier.to_string()).map(|v| v.to_string()), Some(verifier.to_string()));
        let decoy = || Verifier::decoy("nobody", &[9; 32]).to_string();
        assert_eq!(decoy(), decoy());
    }
}
