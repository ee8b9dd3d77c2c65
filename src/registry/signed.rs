//! Publications signed with ed25519 (feature `signed`).
//!
//! The signature is over the digest of the content, the serial, the name of the key and the end of validity, so none of
//! them can be exchanged. Keys rotate by overlap: the new one is trusted before it signs, the old one until it has
//! stopped.

use super::envelope::{Envelope, Verify, beyond_its_time};
use super::handle::millis;
use super::violation::{Code, Path, Violation};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

/// The public keys that may publish, by name.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: BTreeMap<String, (VerifyingKey, Option<u64>)>,
}

/// Bytes that are no public key, or one that anybody can sign for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an ed25519 public key")]
pub struct InvalidKey;

impl Keyring {
    /// Nobody may publish.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts a public key.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] where it is none.
    pub fn trust(self, name: impl Into<String>, public_key: &[u8; 32]) -> Result<Self, InvalidKey> {
        self.add(name.into(), public_key, None)
    }

    /// Trusts a public key until then, for the time in which another takes its place.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] where it is none.
    pub fn trust_until(
        self,
        name: impl Into<String>,
        public_key: &[u8; 32],
        until: SystemTime,
    ) -> Result<Self, InvalidKey> {
        self.add(name.into(), public_key, Some(millis(until)))
    }

    fn add(mut self, name: String, public_key: &[u8; 32], until: Option<u64>) -> Result<Self, InvalidKey> {
        let key = VerifyingKey::from_bytes(public_key).ok().filter(|key| !key.is_weak()).ok_or(InvalidKey)?;
        self.keys.insert(name, (key, until));
        Ok(self)
    }
}

impl Verify for Keyring {
    fn verify(&self, envelope: &Envelope, now: SystemTime) -> Result<(), Violation> {
        let against = |code, field: &str, message: &str| Err(Violation::new(code, Path::of([field]), message));
        let (Some(name), Some(text), Some(expires)) =
            (envelope.key(), envelope.signature_text(), envelope.expires_ms())
        else {
            return against(Code::Unsigned, "signature", "a key, an end of validity and a signature are required");
        };
        if envelope.serial().is_none() {
            return against(Code::Missing, "serial", "a signed publication has a number");
        }
        let Some((key, until)) = self.keys.get(name) else {
            return against(Code::UnknownKey, "key", "nobody trusts this key");
        };
        let Some(signature) = unhex(text) else {
            return against(Code::BadSignature, "signature", "not 128 hexadecimal digits");
        };
        if key.verify_strict(&envelope.signed_bytes(), &Signature::from_bytes(&signature)).is_err() {
            return against(Code::BadSignature, "signature", "not of this content by this key");
        }
        if expires <= millis(now) {
            return Err(beyond_its_time());
        }
        if until.is_some_and(|until| until <= millis(now)) {
            return against(Code::Expired, "key", "the key is beyond its time");
        }
        Ok(())
    }
}

/// The private key of a publisher.
pub struct Publisher {
    name: String,
    key: SigningKey,
}

impl Publisher {
    /// The publisher that signs as `name` with this secret.
    pub fn new(name: impl Into<String>, secret: &[u8; 32]) -> Self {
        Self { name: name.into(), key: SigningKey::from_bytes(secret) }
    }

    /// What others need to trust it.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Signs until then.
    pub fn sign(&self, envelope: Envelope, expires: SystemTime) -> Envelope {
        let named = envelope.signature(&*self.name, millis(expires), "");
        let signature = self.key.sign(&named.signed_bytes());
        let text: String = signature.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        named.signature(&*self.name, millis(expires), text)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("name", &self.name).finish_non_exhaustive()
    }
}

fn unhex(text: &str) -> Option<[u8; 64]> {
    let mut bytes = [0; 64];
    if text.len() != 128 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(bytes)
}
