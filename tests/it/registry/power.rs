//! The power goes at any file call, and disks fail: what was acknowledged is there, and what is there is whole.

use super::fixtures::{at, on, publish, tiny, window};
use fallway::registry::store::{Failing, Fs, Memory, Store};
use fallway::registry::{Durability, Registry};
use fallway::rng::Rng;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

/// Which of the publications is served.
fn served(registry: &Registry) -> Option<u64> {
    window(registry).map(|window| window - 1)
}

/// How many power losses are simulated: more with `FALLWAY_POWER_LOSSES`.
fn losses() -> u64 {
    std::env::var("FALLWAY_POWER_LOSSES").ok().and_then(|many| many.parse().ok()).unwrap_or(2_000)
}

/// Publishes until the power goes, and starts again. Returns what was lost that was acknowledged, and how many
/// orphans stayed.
fn lose(seed: u64, open: &dyn Fn(&Memory) -> Registry) -> (bool, usize) {
    let mut rng = Rng::new(seed);
    let disk = Memory::default();
    let registry = open(&disk);
    let before = 1 + rng.below(4) as u64;
    for price in 0..before {
        publish(&registry, tiny(1 + price)).unwrap();
    }
    disk.power_off_after(rng.below(40) as u64);
    let mut durable = (before - 1, registry.view().generation());
    let mut newest = before - 1;
    for price in before..before + 5 {
        let ack = registry.publish(&tiny(1 + price).into(), at(0)).unwrap();
        newest = price;
        if ack.durability() == &Durability::Durable {
            durable = (price, ack.generation());
        }
    }
    drop(registry);
    disk.power_loss(rng.next_u64());
    let registry = open(&disk);
    let found = served(&registry);
    // Whole, and one of those that were published.
    assert!(found.is_none_or(|found| found <= newest), "seed {seed}: {found:?}");
    let lost = found.is_none_or(|found| found < durable.0) || registry.view().generation() < durable.1;
    let kept = registry.history().len();
    let files = disk.list().unwrap();
    let snapshots = files.iter().filter(|name| name.starts_with("snapshot-")).count();
    let temporary = files.iter().filter(|name| name.starts_with("tmp-")).count();
    let next = registry.publish(&tiny(51).into(), at(0)).unwrap();
    assert_eq!((next.durability(), served(&registry)), (&Durability::Durable, Some(50)), "seed {seed}");
    (lost, snapshots.saturating_sub(kept) + temporary)
}

#[test]
fn no_power_loss_loses_what_was_acknowledged() {
    let losses = losses();
    for seed in 0..losses {
        let (lost, orphans) = lose(seed, &|disk| on(disk));
        assert!(!lost, "seed {seed} lost what was acknowledged");
        assert!(orphans <= 1, "seed {seed} left {orphans} orphans");
    }
    println!("{losses} power losses");
}

/// A disk that is not asked to keep its names.
#[derive(Debug)]
struct Careless(Memory);

impl Fs for Careless {
    fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        self.0.read(name, limit)
    }
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.write(name, bytes)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn lock(&self) -> io::Result<Box<dyn Debug + Send>> {
        self.0.lock()
    }
}

#[test]
fn the_simulated_disk_finds_a_store_that_does_not_sync() {
    let careless = |disk: &Memory| Registry::builder().store(Store::open(Careless(disk.clone())).unwrap()).open(at(0));
    let lost = (0..200).filter(|seed| lose(*seed, &careless).0).count();
    assert!(lost > 50, "only {lost} of 200 power losses lost anything");
}

/// A disk of which one call to look at it fails.
#[derive(Debug)]
struct Blinking {
    disk: Memory,
    left: AtomicI64,
}

impl Blinking {
    fn look<T>(&self, seen: io::Result<T>) -> io::Result<T> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 { Err(io::Error::other("a bad moment")) } else { seen }
    }
}

impl Fs for Blinking {
    fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        self.look(self.disk.read(name, limit))
    }
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(name, bytes)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.look(self.disk.list())
    }
    fn lock(&self) -> io::Result<Box<dyn Debug + Send>> {
        self.disk.lock()
    }
}

#[test]
fn what_could_not_be_looked_at_for_a_moment_is_not_swept() {
    let kept = Store::KEPT as u64;
    // A start looks at the directory, at each pointer twice, at all snapshots, and at both states.
    for call in 0..kept as i64 + 7 {
        let disk = Memory::default();
        let registry = on(&disk);
        (0..kept + 4).for_each(|context| assert!(publish(&registry, tiny(1 + context)).is_ok()));
        drop(registry);
        let names = || {
            let names = disk.list().unwrap();
            names.into_iter().filter(|name| name.starts_with("snapshot-")).collect::<BTreeSet<_>>()
        };
        let before = names();
        assert_eq!(before.len(), Store::KEPT);
        let store = Store::open(Blinking { disk: disk.clone(), left: AtomicI64::new(call) }).unwrap();
        let registry = Registry::builder().store(store).open(at(0));
        assert!(served(&registry) >= Some(kept + 2), "call {call}");
        // A start from the one before is a new generation, and one is too many then.
        let lost = before.difference(&names()).count();
        let new = names().difference(&before).count();
        assert!(lost <= new, "call {call}: {lost} lost, {new} new");
        drop(registry);
        let registry = on(&disk);
        assert_eq!(registry.history().len(), Store::KEPT, "call {call}");
        assert_eq!(names().len(), Store::KEPT, "call {call}");
    }
}

#[test]
fn a_failing_disk_makes_durability_uncertain_and_nothing_worse() {
    for failing in [Failing::Full, Failing::ReadOnly, Failing::Rename, Failing::Everything] {
        let disk = Memory::default();
        let registry = on(&disk);
        publish(&registry, tiny(2)).unwrap();
        disk.fail(Some(failing));
        for price in 2..=4 {
            let ack = registry.publish(&tiny(1 + price).into(), at(0)).unwrap();
            assert!(matches!(ack.durability(), Durability::Uncertain(reason) if !reason.is_empty()), "{failing:?}");
            assert_eq!(served(&registry), Some(price), "{failing:?}: applied in memory");
        }
        registry.tick(at(1));
        assert!(matches!(registry.status(at(1)).durability, Durability::Uncertain(_)), "{failing:?}");
        disk.fail(None);
        registry.tick(at(2));
        assert_eq!(registry.status(at(2)).durability, Durability::Durable, "{failing:?}: recovers");
        let generation = registry.view().generation();
        drop(registry);
        disk.power_loss(1);
        let registry = on(&disk);
        assert_eq!((served(&registry), registry.view().generation()), (Some(4), generation), "{failing:?}");
        assert_eq!(disk.list().unwrap().iter().filter(|name| name.starts_with("tmp-")).count(), 0);
    }
}

#[test]
fn a_disk_that_cannot_be_read_at_the_start_is_noted() {
    let disk = Memory::default();
    publish(&on(&disk), tiny(2)).unwrap();
    let store = Store::open(disk.clone()).unwrap();
    disk.fail(Some(Failing::Everything));
    let registry = Registry::builder().store(store).bootstrap(tiny(10).to_bytes()).open(at(0));
    let status = registry.status(at(0));
    assert_eq!(served(&registry), Some(9));
    assert_eq!(status.tried[0].to_string(), "the directory: input/output error");
    assert!(matches!(status.durability, Durability::Uncertain(_)));
}
