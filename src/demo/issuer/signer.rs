//! Signs tokens with Ed25519 and publishes the keys.

use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

use crate::core::encoding;
use crate::sys::random;

/// As JOSE calls it (RFC 8037).
pub const ALGORITHM: &str = "EdDSA";

/// One signing key.
pub struct Signer {
    key: SigningKey,
    id: String,
}

impl Signer {
    /// A new key with a new id.
    pub fn new() -> Self {
        Self { key: SigningKey::from_bytes(&random::bytes()), id: encoding::hex(&random::bytes::<8>()) }
    }

    /// The public half as a JSON web key.
    pub fn public(&self) -> Value {
        let point = encoding::base64url(self.key.verifying_key().as_bytes());
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": ALGORITHM, "kid": self.id, "x": point })
    }

    /// A JWT with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": ALGORITHM, "typ": "JWT", "kid": self.id });
        let encoded = |part: &Value| encoding::base64url(part.to_string().as_bytes());
        let message = format!("{}.{}", encoded(&header), encoded(claims));
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", encoding::base64url(&signature.to_bytes()))
    }
}
