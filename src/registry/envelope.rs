//! What comes from a source: a catalogue, with the publisher's number and signature where it has one.

use super::catalog::Catalog;
use super::fields::Fields;
use super::handle::{Registry, millis};
use super::json::{self, Json};
use super::publication::Ack;
use super::violation::{Code, Findings, Nack, Path, Violation};
use std::fmt;
use std::time::SystemTime;

/// A catalogue as a publisher sends it: `{"catalog": {…}, "serial": 7, "key": "ci", "expires_ms": …, "signature": "…"}`. A
/// bare catalogue is one too, without a number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    catalog: Catalog,
    /// It is the whole document, without a number or anything else.
    bare: bool,
    key: Option<String>,
    serial: Option<u64>,
    expires_ms: Option<u64>,
    signature: Option<String>,
}

/// Vouches for what comes from a source. `registry::signed::Keyring` is one (feature `signed`).
pub trait Verify: fmt::Debug + Send + Sync + 'static {
    /// Whether `envelope` comes from somebody who may publish.
    ///
    /// # Errors
    ///
    /// What speaks against it: [`Code::Unsigned`], [`Code::UnknownKey`], [`Code::BadSignature`], [`Code::Expired`].
    fn verify(&self, envelope: &Envelope, now: SystemTime) -> Result<(), Violation>;
}

impl Envelope {
    /// A catalogue with the publisher's number, which strictly increases.
    pub const fn new(catalog: Catalog, serial: u64) -> Self {
        Self { catalog, bare: false, key: None, serial: Some(serial), expires_ms: None, signature: None }
    }

    /// With the name of a key, the end of its validity, and the signature in hexadecimal digits.
    #[must_use]
    pub fn signature(mut self, key: impl Into<String>, expires_ms: u64, signature: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self.expires_ms = Some(expires_ms);
        self.signature = Some(signature.into());
        self
    }

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Nack> {
        let json = json::parse(bytes)?;
        let root = Path::root();
        let Json::Object(members) = &json else {
            return Err(Nack::one(Code::WrongType, root, "expected an object"));
        };
        let Some(inner) = members.get("catalog") else {
            let catalog = Catalog::from_json(&json, &root)?;
            return Ok(Self { catalog, bare: true, key: None, serial: None, expires_ms: None, signature: None });
        };
        let mut found = Findings::default();
        let mut fields = Fields::open(&json, &root, &mut found);
        fields.take("catalog");
        let envelope = Self {
            catalog: Catalog::from_json(inner, &Path::of(["catalog"]))?,
            bare: false,
            key: fields.text("key", &mut found),
            serial: fields.integer("serial", &mut found),
            expires_ms: fields.integer("expires_ms", &mut found),
            signature: fields.text("signature", &mut found),
        };
        fields.done(&mut found);
        if found.is_empty() { Ok(envelope) } else { Err(found.into()) }
    }

    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let members = [
            ("catalog", Some(self.catalog.to_json())),
            ("expires_ms", self.expires_ms.map(Into::into)),
            ("key", self.key.as_deref().map(Into::into)),
            ("serial", self.serial.map(Into::into)),
            ("signature", self.signature.as_deref().map(Into::into)),
        ];
        Json::Object(members.into_iter().filter_map(|(key, value)| Some((key.into(), value?))).collect()).to_bytes()
    }

    /// What is signed: the digest of the content, the key's name, the serial and the end of validity.
    pub fn signed_bytes(&self) -> Vec<u8> {
        Json::object([
            ("digest", (&*self.catalog.digest().to_string()).into()),
            ("expires_ms", self.expires_ms.unwrap_or(0).into()),
            ("key", self.key.as_deref().unwrap_or("").into()),
            ("serial", self.serial.unwrap_or(0).into()),
        ])
        .to_bytes()
    }

    /// The content.
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The name of the key.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The publisher's number.
    pub const fn serial(&self) -> Option<u64> {
        self.serial
    }

    /// The end of validity, in milliseconds since 1970.
    pub const fn expires_ms(&self) -> Option<u64> {
        self.expires_ms
    }

    /// The signature, as it was written.
    pub fn signature_text(&self) -> Option<&str> {
        self.signature.as_deref()
    }
}

/// Under which serials of publishers are kept whom nobody vouches for: they cannot choose the name.
const UNSIGNED: &str = "unsigned";

impl Registry {
    /// The farthest that a publisher's serial may jump, once it has published: a stolen key cannot use up the numbers.
    pub const MAX_STEP: u64 = 1 << 32;

    /// Takes what a source sent. The same again only confirms what is served, also after a
    /// [rollback](Self::rollback): a source that still has the bad content does not bring it back.
    ///
    /// # Errors
    ///
    /// [`Nack`] with everything that is wrong with it; nothing has changed then.
    pub fn receive(&self, document: &[u8], now: SystemTime) -> Result<Ack, Nack> {
        self.take(document, now).map(|(ack, _)| ack)
    }

    /// As [`receive`](Self::receive), with the end of validity of what a verifier has vouched for.
    pub(super) fn take(&self, document: &[u8], now: SystemTime) -> Result<(Ack, Option<u64>), Nack> {
        let envelope = Envelope::parse(document)?;
        let mut writer = self.writer.lock();
        let key = match &self.rules.verifier {
            Some(verifier) => {
                verifier.verify(&envelope, now)?;
                envelope.key.clone().unwrap_or_default()
            }
            None => UNSIGNED.to_owned(),
        };
        let until = envelope.expires_ms.filter(|_| self.rules.verifier.is_some());
        let digest = envelope.catalog.digest();
        let last = writer.ledger.serials.get(&key).copied();
        let serial = match (envelope.serial, last) {
            (None, None) => 1,
            (None, Some((last, of))) if of == digest => last,
            (None, Some((last, _))) => last.saturating_add(1),
            (Some(serial), _) => serial,
        };
        let wrong = |code, message| Err(Nack::one(code, Path::of(["serial"]), message));
        match last {
            Some((last, of)) if serial == last && of == digest => {
                self.confirmed.confirm(millis(now));
                return Ok((self.ack(&writer, super::Review::default()), until));
            }
            Some((last, _)) if serial == last => {
                return wrong(Code::Equivocation, format!("serial {serial} was published with another content"));
            }
            Some((last, _)) if serial < last => {
                return wrong(Code::Replayed, format!("serial {serial} after {last}"));
            }
            Some((last, _)) if serial - last > Self::MAX_STEP => {
                return wrong(Code::SerialJump, format!("from serial {last} to {serial}"));
            }
            // The first may be a time in milliseconds, but must leave room.
            None if serial > 1 << 53 => return wrong(Code::SerialJump, format!("{serial} is no number to begin with")),
            _ => {}
        }
        let bare = envelope.bare;
        let candidate = self.judge(&writer, envelope.catalog, false, now);
        let candidate = candidate.map_err(|nack| if bare { nack } else { nack.within("catalog") })?;
        let new: &[String] = if self.rules.cold_from_sources { &candidate.review.to_warm } else { &[] };
        writer.cool(&candidate, new);
        let cause = format!("received serial {serial} of {key}");
        Ok((self.accept(&mut writer, candidate, &cause, Some((key, serial)), now), until))
    }
}

/// What is said of a signature that was good once.
pub(super) fn beyond_its_time() -> Violation {
    Violation::new(Code::Expired, Path::of(["expires_ms"]), "the signature is beyond its time")
}
