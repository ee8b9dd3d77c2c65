//! Starting on what is left: whatever a medium did to the files.

use super::fixtures::{at, on, publish, served, tiny, variant, window};
use fallway::registry::store::{Directory, Fs, Memory, Store};
use fallway::registry::{Registry, Source};

/// A disk with two publications, of windows 1,000 and 1,001.
fn written() -> Memory {
    let disk = Memory::default();
    let registry = on(&disk);
    publish(&registry, tiny(1_000)).unwrap();
    publish(&registry, tiny(1_001)).unwrap();
    disk
}

/// The files of a disk, on another.
fn copy(disk: &Memory) -> Memory {
    let copy = Memory::default();
    for name in disk.list().unwrap() {
        copy.corrupt(&name, &disk.read(&name, 1 << 20).unwrap());
    }
    copy
}

/// Starts with `name` damaged in each of these ways. Returns how many were tried.
fn damage(name: &str, ways: impl IntoIterator<Item = Vec<u8>>) -> usize {
    let (mut tried, whole) = (0, written());
    for bytes in ways {
        tried += 1;
        let disk = copy(&whole);
        disk.corrupt(name, &bytes);
        let registry = on(&disk);
        let status = registry.status(at(0));
        let failure = status.tried.iter().find(|tried| tried.file() == name).and_then(|tried| tried.failure());
        assert!(failure.is_some_and(|reason| !reason.is_empty()), "{name}: the damage went unseen: {:?}", status.tried);
        // Without the newest snapshot, or what points to it, the one before is served, as a later generation.
        let (generation, expected) = match name {
            "snapshot-00000000000000000002" | "CURRENT" => (3, 1_000),
            _ => (2, 1_001),
        };
        assert_eq!((window(&registry), status.generation), (Some(expected), generation), "{name}");
        assert_eq!(status.source, Source::Disk);
        assert_eq!(status.durability, fallway::registry::Durability::Durable);
        // And it publishes again.
        assert_eq!(publish(&registry, tiny(2_000)), Ok(generation + 1));
    }
    tried
}

const FILES: [&str; 5] = ["snapshot-00000000000000000002", "CURRENT", "PREVIOUS", "STATE", "STATE-COPY"];

#[test]
fn every_truncation_is_seen_and_survived() {
    for name in FILES {
        let whole = written().read(name, 1 << 20).unwrap();
        let tried = damage(name, (0..whole.len()).map(|length| whole[..length].to_vec()));
        println!("{name}: {tried} truncations");
        assert_eq!(tried, whole.len());
    }
}

#[test]
fn every_flipped_bit_is_seen_and_survived() {
    for name in FILES {
        let whole = written().read(name, 1 << 20).unwrap();
        let flip = |bit: usize| {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        let tried = damage(name, (0..whole.len() * 8).map(flip));
        println!("{name}: {tried} flipped bits");
    }
}

#[test]
fn added_bytes_are_seen_too() {
    for name in FILES {
        let whole = written().read(name, 1 << 20).unwrap();
        let added = |byte: u8| [&whole[..], &[byte]].concat();
        assert_eq!(damage(name, [added(b'\n'), added(b' '), added(0)]), 3);
    }
}

#[test]
fn the_order_is_current_previous_newest_bootstrap_compiled_in() {
    const LAST: &[u8] = br#"{"models": {"last": {"versions": {"1": {"state": "live"}}}}}"#;
    let bootstrap = tiny(7).to_bytes();
    let disk = Memory::default();
    let registry = on(&disk);
    for context in 1..=5 {
        publish(&registry, tiny(1_000 + context)).unwrap();
    }
    drop(registry);
    let start = |document: &[u8]| {
        let store = Store::open(disk.clone()).unwrap();
        Registry::builder().store(store).bootstrap(document.to_vec()).compiled_in(LAST).open(at(0))
    };
    let snapshot = |generation: u64| format!("snapshot-{generation:020}");
    let mut generation = 5;
    let begun = start(&bootstrap);
    assert_eq!((window(&begun), begun.view().generation()), (Some(1_005), generation));
    drop(begun);
    // Each start repairs the pointers, so every one is broken again: current, previous, the newest that is left.
    for (broken, expected) in [(vec!["CURRENT"], 1_004), (vec!["CURRENT", "PREVIOUS"], 1_004)] {
        broken.iter().for_each(|name| disk.corrupt(name, b"nonsense"));
        let begun = start(&bootstrap);
        generation += 1;
        assert_eq!((window(&begun), begun.view().generation()), (Some(expected), generation), "{broken:?}");
        for name in broken {
            assert!(begun.status(at(0)).tried.iter().any(|tried| tried.file() == name && tried.failure().is_some()));
        }
    }
    for damaged in 1..=generation {
        disk.corrupt(&snapshot(damaged), b"nonsense");
    }
    let begun = start(&bootstrap);
    assert_eq!((window(&begun), begun.view().source()), (Some(7), Source::Bootstrap));
    assert!(begun.view().generation() > generation, "no generation comes twice");
    let told = begun.status(at(0)).tried;
    assert_eq!(told.last().unwrap().to_string(), "bootstrap: used");
    assert_eq!(told.iter().filter(|tried| tried.failure().is_some()).count(), generation as usize);
    drop(begun);

    let empty = Memory::default();
    let begun = Registry::builder()
        .store(Store::open(empty).unwrap())
        .bootstrap(&b"{\"models\": 5}"[..])
        .compiled_in(LAST)
        .open(at(0));
    assert!(begun.view().snapshot().catalog().find("last@1").is_some());
    let told: Vec<_> = begun.status(at(0)).tried.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["bootstrap: refused: /models wrong_type: expected an object, found a number", "compiled in: used"]
    );
    let nothing = Registry::builder().compiled_in(b"").open(at(0));
    assert_eq!((nothing.view().source(), nothing.view().generation()), (Source::Nothing, 0));
    assert_eq!(nothing.status(at(0)).tried[0].to_string(), "compiled in: refused: / empty: an empty document");
}

#[test]
fn one_process_writes() {
    let disk = Memory::default();
    let first = Store::open(disk.clone()).unwrap();
    assert_eq!(Store::open(disk.clone()).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    assert!(Store::open(disk).is_ok());
}

#[test]
fn a_real_directory_does_the_same() {
    let path = std::env::temp_dir().join(format!("fallway-registry-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let open = || Store::open(Directory::open(&path).unwrap());
    let registry = Registry::builder().store(open().unwrap()).open(at(0));
    assert_eq!(open().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    for price in 0..20 {
        publish(&registry, variant(price)).unwrap();
    }
    drop(registry);
    std::fs::write(path.join("tmp-CURRENT"), "half").unwrap();
    std::fs::write(path.join("snapshot-00000000000000000099"), "an orphan").unwrap();
    let registry = Registry::builder().store(open().unwrap()).open(at(0));
    assert_eq!((served(&registry), registry.history().len()), (Some(19), Store::KEPT));
    let mut names: Vec<_> =
        std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), Store::KEPT + 5, "{names:?}");
    // A file of any length is read up to a limit.
    std::fs::File::create(path.join("CURRENT")).unwrap().set_len(1 << 40).unwrap();
    drop(registry);
    let registry = Registry::builder().store(open().unwrap()).open(at(0));
    assert_eq!(served(&registry), Some(18));
    assert!(registry.status(at(0)).tried.iter().any(|tried| tried.file() == "CURRENT" && tried.failure().is_some()));
    drop(registry);
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn a_document_of_the_wrong_digest_is_not_served() {
    // The frame is right, what it holds is not: somebody edited the file and repaired the line.
    let disk = written();
    let name = FILES[0];
    let text = String::from_utf8(disk.read(name, 1 << 20).unwrap()).unwrap();
    let payload = text.split_once('\n').unwrap().1.replace("1001", "9009");
    let digest = fallway::registry::Digest::of(payload.as_bytes());
    disk.corrupt(name, format!("fallway-registry 1 snapshot {} {digest}\n{payload}", payload.len()).as_bytes());
    let registry = on(&disk);
    assert_eq!(window(&registry), Some(1_000));
    let failure = registry.status(at(0)).tried[0].failure().unwrap().to_owned();
    assert!(failure.contains("digest_mismatch"), "{failure}");
}

#[test]
fn a_generation_at_the_end_of_the_numbers_is_not_believed() {
    for far in [u64::MAX, u64::MAX - 1, (1 << 53) + 1] {
        let name = format!("snapshot-{far:020}");
        let framed = |kind: &str, payload: &str| {
            let digest = fallway::registry::Digest::of(payload.as_bytes());
            format!("fallway-registry 1 {kind} {} {digest}\n{payload}", payload.len())
        };
        // A stray file, and one with all that belongs to it: somebody wrote them with the right hashes.
        for whole in [false, true] {
            let disk = written();
            let snapshot = String::from_utf8(disk.read(FILES[0], 1 << 20).unwrap()).unwrap();
            let payload = snapshot.split_once('\n').unwrap().1;
            let far_one = payload.replace("\"generation\":2", &format!("\"generation\":{far}"));
            disk.corrupt(&name, framed("snapshot", &far_one).as_bytes());
            if whole {
                let state = String::from_utf8(disk.read("STATE", 1 << 20).unwrap()).unwrap();
                let state = state.split_once('\n').unwrap().1.to_owned();
                let state = state.replace("\"generation\":2", &format!("\"generation\":{far}"));
                ["STATE", "STATE-COPY"].iter().for_each(|name| disk.corrupt(name, framed("state", &state).as_bytes()));
                disk.corrupt("CURRENT", framed("pointer", &far.to_string()).as_bytes());
            }
            let registry = on(&disk);
            let expected = if whole { (3, Some(1_000)) } else { (2, Some(1_001)) };
            assert_eq!((registry.view().generation(), window(&registry)), expected, "{far}");
            let tried = registry.status(at(0)).tried;
            let of = |file: &str| tried.iter().any(|tried| tried.file() == file && tried.failure().is_some());
            assert!(of(&name) && (!whole || (of("STATE") && of("STATE-COPY") && of("CURRENT"))), "{tried:?}");
            assert_eq!(publish(&registry, tiny(2_000)), Ok(expected.0 + 1));
            assert!(!disk.list().unwrap().contains(&name), "it is swept");
        }
    }
}

#[test]
fn a_snapshot_under_the_name_of_another_generation_is_not_served() {
    let disk = written();
    let older = disk.read("snapshot-00000000000000000001", 1 << 20).unwrap();
    disk.corrupt(FILES[0], &older);
    let registry = on(&disk);
    assert_eq!((window(&registry), registry.view().generation()), (Some(1_000), 3));
    let told = registry.status(at(0)).tried[0].to_string();
    assert_eq!(told, format!("{}: it is of another generation than its name", FILES[0]));
}

#[test]
fn a_damaged_state_takes_no_quarantine_no_pin_and_no_generation_along() {
    let disk = Memory::default();
    let registry = on(&disk);
    publish(&registry, variant(1)).unwrap();
    registry.quarantine("llama-70b@4", at(0)).unwrap();
    registry.pin("chat", "llama-70b@3", at(500), at(0)).unwrap();
    let before = registry.status(at(0));
    drop(registry);
    for name in ["STATE", "STATE-COPY", "STATE"] {
        disk.corrupt(name, b"fallway-registry 1 sta");
        let registry = on(&disk);
        let status = registry.status(at(0));
        assert_eq!(
            (status.generation, status.quarantined, status.pins),
            (before.generation, before.quarantined.clone(), before.pins.clone()),
            "{name}"
        );
        let failed: Vec<_> = status.tried.iter().filter(|tried| tried.failure().is_some()).collect();
        assert_eq!(failed.iter().map(|tried| tried.file()).collect::<Vec<_>>(), [name], "said, and written again");
    }
}
