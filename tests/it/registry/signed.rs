//! Signed publications: who may, for how long, and what was signed.

use super::fixtures::{at, on, served, variant};
use fallway::registry::signed::{InvalidKey, Keyring, Publisher};
use fallway::registry::source::{Answer, Http};
use fallway::registry::store::{Memory, Store};
use fallway::registry::{Code, Envelope, Polled, Poller, Registry};
use fallway::time::Instant;
use std::time::Duration;

fn publisher(name: &str) -> Publisher {
    Publisher::new(name, &[name.len() as u8; 32])
}

fn keyring() -> Keyring {
    let (ci, old) = (publisher("ci"), publisher("old"));
    Keyring::new().trust("ci", &ci.public_key()).unwrap().trust_until("old", &old.public_key(), at(1_000)).unwrap()
}

fn open(disk: &Memory) -> Registry {
    Registry::builder().store(Store::open(disk.clone()).unwrap()).verifier(keyring()).open(at(0))
}

fn signed(by: &str, price: u64, serial: u64) -> Envelope {
    publisher(by).sign(Envelope::new(variant(price), serial), at(5_000))
}

fn receive(registry: &Registry, document: &[u8], seconds: u64) -> Result<u64, Code> {
    let before = registry.view().generation();
    let answer = registry.receive(document, at(seconds));
    if answer.is_err() {
        assert_eq!(registry.view().generation(), before);
    }
    answer.map(|ack| ack.generation()).map_err(|nack| nack.violations()[0].code())
}

#[test]
fn only_what_is_signed_by_a_trusted_key_in_time_is_taken() {
    let registry = open(&Memory::default());
    assert_eq!(receive(&registry, &signed("ci", 1, 7).to_bytes(), 0), Ok(1));
    let good = signed("ci", 2, 8);
    let text = String::from_utf8(good.to_bytes()).unwrap();
    let signature = good.signature_text().unwrap();
    let flipped = format!("{}{}", if signature.starts_with('0') { '1' } else { '0' }, &signature[1..]);
    for (document, code) in [
        (String::from_utf8(variant(2).to_bytes()).unwrap(), Code::Unsigned),
        (String::from_utf8(Envelope::new(variant(2), 8).to_bytes()).unwrap(), Code::Unsigned),
        (String::from_utf8(signed("mallory", 2, 8).to_bytes()).unwrap(), Code::UnknownKey),
        (text.replace(signature, &flipped), Code::BadSignature),
        (text.replace(signature, "zz"), Code::BadSignature),
        // Content, serial, key and end of validity are all signed.
        (text.replace("50002", "50003"), Code::BadSignature),
        (text.replace("\"serial\":8", "\"serial\":9"), Code::BadSignature),
        (text.replace("\"key\":\"ci\"", "\"key\":\"old\""), Code::BadSignature),
        (
            text.replace(&format!("\"expires_ms\":{}", good.expires_ms().unwrap()), "\"expires_ms\":9999999999999"),
            Code::BadSignature,
        ),
        (text.replace("\"serial\":8,", ""), Code::Missing),
    ] {
        assert_ne!(document, text);
        assert_eq!(receive(&registry, document.as_bytes(), 1), Err(code), "{document}");
    }
    assert_eq!(receive(&registry, text.as_bytes(), 5_000), Err(Code::Expired), "beyond its time");
    assert_eq!(receive(&registry, text.as_bytes(), 4_999), Ok(2));
    // A stolen key cannot use up the numbers.
    assert_eq!(receive(&registry, &signed("ci", 3, u64::MAX).to_bytes(), 2), Err(Code::SerialJump));
}

#[test]
fn keys_rotate_and_each_counts_for_itself() {
    let disk = Memory::default();
    let registry = open(&disk);
    assert_eq!(receive(&registry, &signed("old", 1, 900).to_bytes(), 0), Ok(1));
    assert_eq!(receive(&registry, &signed("ci", 2, 1).to_bytes(), 0), Ok(2));
    assert_eq!(receive(&registry, &signed("old", 3, 899).to_bytes(), 0), Err(Code::Replayed));
    assert_eq!(receive(&registry, &signed("old", 3, 901).to_bytes(), 1_000), Err(Code::Expired), "the key is retired");
    drop(registry);
    let registry = open(&disk);
    assert_eq!(receive(&registry, &signed("ci", 9, 1).to_bytes(), 1), Err(Code::Equivocation));
    assert_eq!(receive(&registry, &signed("old", 3, 900).to_bytes(), 1), Err(Code::Equivocation));
    assert_eq!(receive(&registry, &signed("ci", 4, 2).to_bytes(), 1), Ok(3));
    assert_eq!(served(&registry), Some(4));
    drop(registry);
    // Without keys the name is nobody's: strangers cannot take the serials of others.
    let registry = on(&disk);
    assert_eq!(receive(&registry, &signed("ci", 5, 1).to_bytes(), 1), Ok(4));
    assert_eq!(registry.history().last().unwrap().origin(), Some(("unsigned", 1)));
}

#[test]
fn a_key_that_anybody_can_sign_for_is_none() {
    assert_eq!(Keyring::new().trust("zero", &[0; 32]).unwrap_err(), InvalidKey);
    assert!(!format!("{:?}", publisher("ci")).contains("key:"), "the secret is not printed");
}

/// Somebody who holds back what is new says 304 for ever.
#[test]
fn unchanged_confirms_nothing_beyond_the_time_of_the_signature() {
    let registry = open(&Memory::default());
    let (mut poller, mut http) = (Poller::new(1), Http::new(()));
    let mut answered = |status, seconds, body| {
        let answer = Answer { status, etag: Some("a".to_owned()), body };
        poller.fetched(http.answered(answer), &registry, Instant::from_nanos(0), at(seconds))
    };
    assert!(matches!(answered(200, 1, signed("ci", 1, 1).to_bytes()), Polled::Taken(_)));
    assert_eq!(answered(304, 4_999, Vec::new()), Polled::Unchanged);
    let late = answered(304, 5_000, Vec::new());
    assert!(matches!(late, Polled::Refused(nack) if nack.has(Code::Expired)));
    assert_eq!(registry.status(at(5_000)).age, Duration::from_secs(1), "what was confirmed last");
    assert_eq!(served(&registry), Some(1), "and is served");
}
