//! Signs tokens with ES256 and publishes the keys. ring makes no RSA keys, and none are needed.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::core::encoding;
use crate::sys::random;

/// As JOSE calls it.
pub const ALGORITHM: &str = "ES256";

/// One signing key.
pub struct Signer {
    key: EcdsaKeyPair,
    id: String,
    random: SystemRandom,
}

impl Signer {
    /// A new key with a new id.
    pub fn new() -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let failed = |_| anyhow::anyhow!("the demo issuer cannot make a key");
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(failed)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
            .map_err(|error| anyhow::anyhow!("the demo issuer cannot read its own key: {error}"))?;
        Ok(Self { key, id: encoding::hex(&random::bytes::<8>()), random })
    }

    /// The public half as a JSON web key.
    pub fn public(&self) -> Value {
        // Uncompressed point: 0x04, 32 bytes x, 32 bytes y.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(32);
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": ALGORITHM, "kid": self.id,
            "x": encoding::base64url(x), "y": encoding::base64url(y),
        })
    }

    /// A JWT with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": ALGORITHM, "typ": "JWT", "kid": self.id });
        let encoded = |part: &Value| encoding::base64url(part.to_string().as_bytes());
        let message = format!("{}.{}", encoded(&header), encoded(claims));
        let signature = self.key.sign(&self.random, message.as_bytes()).expect("the key fits its algorithm");
        format!("{message}.{}", encoding::base64url(signature.as_ref()))
    }
}
