//! A process that publishes is killed at random moments, and started again.
//!
//! `FALLWAY_KILLS=500 cargo test --test kill` for the long run.

// A test may unwrap: that is how it fails.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use fallway::facts::Price;
use fallway::registry::store::{Directory, Store};
use fallway::registry::{Alias, Catalog, Durability, ModelVersion, Placement, Registry, State};
use fallway::rng::Rng;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Where the child publishes; it is a child if it is set.
const DIRECTORY: &str = "FALLWAY_KILL_DIRECTORY";

fn catalog(price: u64) -> Catalog {
    let mut catalog = Catalog::new().alias("chat", Alias::to("m0@1"));
    for n in 0..40 {
        let version = ModelVersion::new(State::Live).price(Price::pico(1_000_000 + price, 1_000_000));
        let placement = Placement::new(format!("m{n}@1"), "acme", "eu", format!("e{n}"));
        catalog = catalog.version(format!("m{n}"), "1", version).placement(format!("p{n}"), placement);
    }
    catalog
}

fn open(directory: &Path) -> Registry {
    let store = Store::open(Directory::open(directory).unwrap()).unwrap();
    Registry::builder().store(store).open(SystemTime::UNIX_EPOCH)
}

/// The process that is killed: it publishes, and says what was acknowledged. A test only by name.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let registry = open(Path::new(&directory));
    let mut out = std::io::stdout().lock();
    // The harness has begun a line of its own.
    writeln!(out, "\nstarted").unwrap();
    out.flush().unwrap();
    loop {
        let before = registry.view().generation();
        let ack = registry.publish(&catalog(before % 1_000).into(), SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(ack.durability(), &Durability::Durable);
        writeln!(out, "ack {}", ack.generation()).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_process_is_killed() {
    let kills: u32 = std::env::var("FALLWAY_KILLS").ok().and_then(|many| many.parse().ok()).unwrap_or(25);
    let directory = std::env::temp_dir().join(format!("fallway-kill-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let mut rng = Rng::new(7);
    let (mut acknowledged, mut orphans) = (0, 0);
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(DIRECTORY, &directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It runs; now some time goes by, which is what "at a random moment" means.
        assert!(lines.by_ref().map(Result::unwrap).any(|line| line == "started"), "kill {kill}: it did not start");
        std::thread::sleep(Duration::from_micros(rng.below(120_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map(Result::unwrap) {
            if let Some(generation) = line.strip_prefix("ack ").and_then(|number| number.parse().ok()) {
                acknowledged = generation;
            }
        }
        let registry = open(&directory);
        let status = registry.status(SystemTime::UNIX_EPOCH);
        assert!(status.generation >= acknowledged, "kill {kill}: {acknowledged} was acknowledged, {status:?}");
        assert!(status.tried.iter().all(|tried| tried.failure().is_none()), "kill {kill}: {:?}", status.tried);
        assert!(status.published > 0 || acknowledged == 0);
        // And what is served is what that generation was.
        let view = registry.view();
        let served = view.snapshot().catalog().find("m0@1").and_then(ModelVersion::known_price);
        let served = served.map(|price| price.input() - 1_000_000);
        assert_eq!(served, status.published.checked_sub(1).map(|before| before % 1_000), "kill {kill}: {status:?}");
        let kept = registry.history().len();
        let names =
            std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files = names.filter(|name| name.starts_with("snapshot-") || name.starts_with("tmp-")).count();
        orphans = orphans.max(files - kept);
    }
    println!("{kills} kills, {acknowledged} generations, at most {orphans} orphans after a start");
    assert!(orphans <= 1);
    assert!(acknowledged > u64::from(kills), "it was killed before it could do anything");
    std::fs::remove_dir_all(&directory).unwrap();
}
