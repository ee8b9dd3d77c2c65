//! A hundred thousand random documents: no panic, and what is accepted reads back.

use super::fixtures::{at, catalog, on, publish, registry, tiny, window};
use fallway::registry::store::{Fs, Memory};
use fallway::registry::{Catalog, Envelope, Publication, import};
use fallway::rng::Rng;

/// How many inputs: more with `FALLWAY_FUZZ`.
fn inputs() -> u64 {
    std::env::var("FALLWAY_FUZZ").ok().and_then(|many| many.parse().ok()).unwrap_or(100_000)
}

/// Words that make a document go wrong in deeper places than random bytes do.
const WORDS: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "0",
    "-1",
    "1e999",
    "NaN",
    "null",
    "true",
    "\"models\"",
    "\"versions\"",
    "\"state\"",
    "\"live\"",
    "\"aliases\"",
    "\"targets\"",
    "\"to\"",
    "\"share\"",
    "10000",
    "\"placements\"",
    "\"price\"",
    "\"input\"",
    "\"cost\"",
    "\"limit\"",
    "\"mode\"",
    "\"chat\"",
    "\\u0000",
    "\\ud800",
    "é",
    "9999999999999999999999",
    "\"catalog\"",
];

fn mutate(document: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = document.to_vec();
    for _ in 0..=rng.below(6) / 4 {
        let at = rng.below(bytes.len() + 1);
        match rng.below(5) {
            0 if at < bytes.len() => bytes[at] = rng.next_u64() as u8,
            1 => bytes.truncate(at),
            2 => {
                let end = (at + rng.below(30)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + rng.below(60)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = rng.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            _ => {
                let word = WORDS[rng.below(WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
        }
    }
    bytes
}

#[test]
fn random_documents_never_panic_and_what_is_accepted_reads_back() {
    let litellm = br#"{"gpt": {"mode": "chat", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07, "max_input_tokens": 128000, "input_cost_per_token_above_200k_tokens": 3e-07, "deprecation_date": "2026-09-30", "tiered_pricing": [{"range": [0, 5], "input_cost_per_token": 1e-9}]}}"#;
    let models_dev = br#"{"acme": {"models": {"m": {"cost": {"input": 2.5, "output": 10, "tiers": [{"input": 5, "output": 20, "tier": {"size": 200000}}]}, "limit": {"context": 128000, "output": 5}, "status": "deprecated"}}}}"#;
    let small = br#"{"models":{"m":{"versions":{"1":{"state":"live","context":5}}}},"placements":{"p":{"version":"m@1","provider":"a","region":"b","endpoint":"c"}},"aliases":{"x":{"targets":[{"to":"m@1","share":10000}]}}}"#;
    let envelope = Envelope::new(catalog(), 7).to_bytes();
    let mut rng = Rng::new(3);
    let mut accepted = [0u32; 4];
    let inputs = inputs();
    for n in 0..inputs {
        match n % 4 {
            0 => {
                let bytes = mutate(small, &mut rng);
                if let Ok(catalog) = Catalog::parse(&bytes) {
                    accepted[0] += 1;
                    assert_eq!(Catalog::parse(&catalog.to_bytes()).as_ref(), Ok(&catalog));
                    catalog.check();
                }
                let _ = Publication::parse(&bytes);
            }
            1 => accepted[1] += u32::from(Envelope::parse(&mutate(&envelope, &mut rng)).is_ok()),
            kind => {
                let imported = match kind {
                    2 => import::litellm(&mutate(litellm, &mut rng)),
                    _ => import::models_dev(&mutate(models_dev, &mut rng)),
                };
                let Ok(import) = imported else { continue };
                accepted[kind as usize] += 1;
                assert_eq!(import.total(), import.accepted() + import.rejected().len());
                assert_eq!(import.catalog().versions().count(), import.accepted());
                assert_eq!(import.catalog().check(), []);
            }
        }
    }
    println!("{inputs} documents, of which {accepted:?} could be read");
    assert!(accepted.iter().all(|accepted| u64::from(*accepted) > inputs / 200), "{accepted:?}");
}

#[test]
fn random_publications_leave_the_registry_valid_and_its_generations_in_order() {
    let registry = registry();
    let whole = catalog().to_bytes();
    let mut rng = Rng::new(5);
    let (mut taken, mut last) = (0, registry.view().generation());
    for _ in 0..5_000 {
        // Most mutations break the form; another digit mostly does not.
        let mut bytes = whole.clone();
        for _ in 0..20 {
            let at = rng.below(bytes.len());
            if bytes[at].is_ascii_digit() {
                bytes[at] = b'0' + rng.below(10) as u8;
                break;
            } else if rng.below(100) == 0 {
                bytes = mutate(&bytes, &mut rng);
                break;
            }
        }
        let published = Publication::parse(&bytes).and_then(|publication| registry.publish(&publication, at(1)));
        let generation = registry.view().generation();
        match published {
            Ok(ack) => {
                taken += 1;
                assert!(ack.generation() == generation && generation >= last && generation <= last + 1);
            }
            Err(_) => assert_eq!(generation, last),
        }
        last = generation;
        assert_eq!(registry.view().snapshot().catalog().check(), []);
    }
    println!("{taken} of 5000 publications were taken, {last} generations");
    assert!((100..4_900).contains(&taken), "{taken}");
}

#[test]
fn random_files_never_panic_a_start_and_are_never_believed() {
    let whole = Memory::default();
    let registry = on(&whole);
    (1_000..1_002).for_each(|context| assert!(publish(&registry, tiny(context)).is_ok()));
    drop(registry);
    let names: Vec<_> = whole.list().unwrap().into_iter().filter(|name| name != "LOCK").collect();
    let mut rng = Rng::new(5);
    // Each is a start, which costs as much as ten documents.
    let starts = inputs() / 20;
    let mut seen = 0;
    for n in 0..starts {
        let disk = Memory::default();
        let (damaged, mut changed) = (rng.below(names.len()), false);
        for (which, name) in names.iter().enumerate() {
            let bytes = whole.read(name, 1 << 20).unwrap();
            let written = if which == damaged { mutate(&bytes, &mut rng) } else { bytes.clone() };
            changed |= written != bytes;
            disk.corrupt(name, &written);
        }
        let registry = on(&disk);
        assert!(matches!(window(&registry), Some(1_000 | 1_001)), "{n}: {}", names[damaged]);
        let noted = registry.status(at(0)).tried.iter().any(|tried| tried.failure().is_some());
        assert_eq!(noted, changed, "{n}: {}", names[damaged]);
        assert_eq!(publish(&registry, tiny(2_000)).map(drop), Ok(()), "{n}");
        seen += u32::from(changed);
    }
    println!("{starts} starts, {seen} of them on changed bytes");
}
