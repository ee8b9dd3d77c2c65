//! Asking sources: when, how often, and what an answer means.

use super::fixtures::{at, catalog, publish, registry, served, variant};
use fallway::registry::source::{Answer, Fetch, Fetched, Http, HttpGet, InMemory, Pointer, Shared, SharedStore};
use fallway::registry::store::{Fs, Memory};
use fallway::registry::{Alias, Code, Envelope, Freshness, Keys, Nack, Polled, Poller, Registry};
use fallway::time::Instant;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The host's clock and the wall clock, in step.
fn moment(millis: u64) -> (Instant, std::time::SystemTime) {
    (Instant::from_nanos(millis * 1_000_000), at(0) + Duration::from_millis(millis))
}

/// Polls whenever it is due until `until`. Returns how often the source was asked, and when what it sent was taken first.
fn run(poller: &mut Poller, source: &mut dyn Fetch, registry: &Registry, from: u64, until: u64) -> (u32, Option<u64>) {
    let (mut asked, mut taken) = (0, None);
    let mut now = from.max(poller.due().as_nanos().div_ceil(1_000_000));
    while now < until {
        let (instant, wall) = moment(now);
        match poller.poll(source, registry, instant, wall) {
            Polled::NotDue => panic!("due and not due"),
            Polled::Taken(_) => taken = taken.or(Some(now)),
            _ => {}
        }
        asked += 1;
        registry.tick(wall);
        assert!(registry.resolve("chat", Keys::seed(now)).is_ok());
        now = poller.due().as_nanos().div_ceil(1_000_000);
    }
    (asked, taken)
}

/// A server with one answer at a time.
#[derive(Clone, Debug)]
struct Server(Arc<Mutex<(u16, Vec<u8>)>>);

impl Server {
    fn new(status: u16, body: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new((status, body))))
    }

    fn set(&self, status: u16, body: Vec<u8>) {
        *self.0.lock().unwrap() = (status, body);
    }
}

impl HttpGet for Server {
    fn get(&mut self, etag: Option<&str>) -> Result<Answer, String> {
        let (status, body) = self.0.lock().unwrap().clone();
        if status == 0 {
            return Err("connection refused".to_owned());
        }
        let tag = fallway::registry::Digest::of(&body).to_string();
        let unchanged = status == 200 && etag == Some(&tag);
        Ok(Answer {
            status: if unchanged { 304 } else { status },
            etag: Some(tag),
            body: if unchanged { Vec::new() } else { body },
        })
    }
}

const HOUR: u64 = 3_600_000;

#[test]
fn a_source_that_is_down_for_a_day_costs_no_request_and_few_fetches() {
    for (status, body) in [(0, Vec::new()), (401, Vec::new()), (500, Vec::new()), (200, b"garbage".to_vec())] {
        let registry = registry();
        let server = Server::new(status, body);
        let (asked, taken) = run(&mut Poller::new(7), &mut Http::new(server), &registry, 0, 24 * HOUR);
        assert_eq!((taken, registry.view().generation()), (None, 1));
        // Garbage is an answer: it is asked for again at the usual pace, which costs a 304 each.
        let most = if status == 200 { 24 * 3_600 / 24 } else { 200 };
        assert!((140..=most).contains(&asked), "{status}: {asked} fetches");
        assert_eq!(registry.status(at(24 * 3_600)).freshness, Freshness::Expired);
    }
}

#[test]
fn after_an_hour_of_401_the_next_200_is_applied_within_ten_minutes() {
    for seed in 0..50 {
        let registry = registry();
        let server = Server::new(401, Vec::new());
        let (mut poller, mut http) = (Poller::new(seed), Http::new(server.clone()));
        run(&mut poller, &mut http, &registry, 0, HOUR);
        server.set(200, variant(5).to_bytes());
        let (_, taken) = run(&mut poller, &mut http, &registry, HOUR, 2 * HOUR);
        assert!(taken.is_some_and(|taken| taken - HOUR <= 600_000), "seed {seed}: {taken:?}");
        assert_eq!(served(&registry), Some(5));
    }
}

#[test]
fn pauses_are_thirty_seconds_give_or_take_a_fifth() {
    let registry = registry();
    let mut poller = Poller::new(1);
    let mut pauses = Vec::new();
    for _ in 0..2_000 {
        let now = poller.due();
        poller.fetched(Fetched::Unchanged, &registry, now, at(0));
        pauses.push((poller.due() - now).as_millis());
    }
    let (least, most) = (*pauses.iter().min().unwrap(), *pauses.iter().max().unwrap());
    assert_eq!((least, most), (24_000, 36_000));
    let mean = pauses.iter().sum::<u128>() / 2_000;
    assert!((29_700..30_300).contains(&mean), "{mean}");
}

#[test]
fn a_push_shortens_the_wait_and_a_storm_of_them_does_no_harm() {
    let registry = registry();
    let mut poller = Poller::new(1);
    poller.fetched(Fetched::Unchanged, &registry, moment(1_000).0, at(0));
    let before = poller.due();
    poller.nudge(moment(100_000).0);
    assert_eq!(poller.due(), before, "never prolonged");
    poller.nudge(moment(1_001).0);
    assert_eq!(poller.due(), moment(2_000).0, "a second after the last at the earliest");
    let mut source = Shared::new(InMemory::default());
    let mut asked = 0;
    for millis in 2_000..12_000 {
        let (now, wall) = moment(millis);
        poller.nudge(now);
        asked += u32::from(poller.poll(&mut source, &registry, now, wall) != Polled::NotDue);
    }
    assert_eq!(asked, 10);
}

#[test]
fn unchanged_confirms_what_was_taken_and_not_what_was_refused() {
    let registry = registry();
    let server = Server::new(200, variant(1).to_bytes());
    let (mut poller, mut http) = (Poller::new(1), Http::new(server.clone()));
    run(&mut poller, &mut http, &registry, 0, HOUR);
    assert_eq!(registry.status(at(3_600)).freshness, Freshness::Fresh);
    server.set(200, b"{}  ".to_vec());
    let refused = poller.poll(&mut http, &registry, poller.due(), at(3_600));
    assert!(matches!(refused, Polled::Refused(_)), "{refused:?}");
    run(&mut poller, &mut http, &registry, HOUR, 2 * HOUR);
    assert_eq!(registry.status(at(7_200)).freshness, Freshness::Stale, "the source has something else");
    assert_eq!(served(&registry), Some(1));
}

#[test]
fn a_file_is_followed_by_its_name() {
    let (registry, disk) = (registry(), Memory::default());
    let mut pointer = Pointer::new(disk.clone(), "models.json");
    assert!(matches!(pointer.fetch(), Fetched::Failed(reason) if reason.starts_with("models.json: ")));
    disk.write("tmp", &variant(3).to_bytes()).unwrap();
    disk.rename("tmp", "models.json").unwrap();
    let Fetched::Document(document) = pointer.fetch() else { panic!() };
    registry.receive(&document, at(1)).unwrap();
    assert_eq!((served(&registry), pointer.fetch()), (Some(3), Fetched::Unchanged));
    disk.write("models.json", &vec![b' '; (16 << 20) + 1]).unwrap();
    assert!(matches!(pointer.fetch(), Fetched::Failed(_)), "too large to be read at all");
}

#[test]
fn a_shared_store_has_one_winner() {
    let store = InMemory::default();
    assert_eq!(Shared::new(store.clone()).fetch(), Fetched::Failed("nobody has published there yet".to_owned()));
    assert_eq!(store.replace(0, &variant(1).to_bytes()), Ok(true));
    assert_eq!(store.replace(0, &variant(2).to_bytes()), Ok(false));
    let mut shared = Shared::new(store.clone());
    assert!(matches!(shared.fetch(), Fetched::Document(document) if document == variant(1).to_bytes()));
    assert_eq!(shared.fetch(), Fetched::Unchanged);
    assert_eq!(store.replace(1, &variant(2).to_bytes()), Ok(true));
    assert!(matches!(shared.fetch(), Fetched::Document(_)));
}

fn receive(registry: &Registry, price: u64, serial: u64) -> Result<u64, Code> {
    let envelope = Envelope::new(variant(price), serial).to_bytes();
    let code = |nack: Nack| nack.violations()[0].code();
    registry.receive(&envelope, at(1)).map(|ack| ack.generation()).map_err(code)
}

#[test]
fn serials_increase_across_restarts() {
    let disk = Memory::default();
    let registry = super::fixtures::on(&disk);
    assert_eq!(receive(&registry, 1, 1 << 54), Err(Code::SerialJump), "no number to begin with");
    assert_eq!(receive(&registry, 1, 10), Ok(1));
    let check = |registry: &Registry| {
        let generation = registry.view().generation();
        assert_eq!(receive(registry, 1, 10), Ok(generation), "the same again");
        assert_eq!(receive(registry, 2, 10), Err(Code::Equivocation));
        assert_eq!(receive(registry, 2, 9), Err(Code::Replayed));
        assert_eq!(receive(registry, 2, 11 + (1 << 32)), Err(Code::SerialJump));
        assert_eq!(receive(registry, 2, u64::MAX), Err(Code::SerialJump));
        assert_eq!(registry.view().generation(), generation);
    };
    check(&registry);
    drop(registry);
    let registry = super::fixtures::on(&disk);
    check(&registry);
    drop(registry);
    // Even without the ledger: the snapshots know.
    ["STATE", "STATE-COPY"].iter().for_each(|name| disk.corrupt(name, b"gone"));
    let registry = super::fixtures::on(&disk);
    check(&registry);
    assert_eq!(receive(&registry, 2, 11), Ok(2));
}

#[test]
fn a_source_does_not_bring_back_what_was_rolled_back() {
    let registry = registry();
    publish(&registry, variant(1)).unwrap();
    for bare in [true, false] {
        let document = if bare { variant(2).to_bytes() } else { Envelope::new(variant(2), 5).to_bytes() };
        registry.receive(&document, at(1)).unwrap();
        registry.rollback(None, at(2)).unwrap();
        let generation = registry.view().generation();
        registry.receive(&document, at(3)).unwrap();
        assert_eq!((served(&registry), registry.view().generation()), (Some(1), generation), "{bare}");
    }
    registry.receive(&Envelope::new(variant(3), 6).to_bytes(), at(4)).unwrap();
    assert_eq!(served(&registry), Some(3), "the next one it takes");
    assert_eq!(registry.history().last().unwrap().origin(), Some(("unsigned", 6)));
    assert_eq!(catalog().check(), []);
}

#[test]
fn what_was_refused_is_judged_again_when_the_source_says_unchanged() {
    let registry = registry();
    let only_new = catalog().alias("chat", Alias::to("llama-70b@4"));
    let server = Server::new(200, Envelope::new(only_new, 5).to_bytes());
    let (mut poller, mut http) = (Poller::new(1), Http::new(server));
    registry.quarantine("llama-70b@4", at(0)).unwrap();
    let mut poll = |seconds: u64| {
        let now = poller.due();
        registry.tick(at(seconds));
        (poller.poll(&mut http, &registry, now, at(seconds)), format!("{poller:?}"))
    };
    for seconds in [0, 30, 60] {
        let (polled, shown) = poll(seconds);
        assert!(matches!(polled, Polled::Refused(nack) if nack.has(Code::QuarantineEmpties)), "{seconds}");
        assert!(shown.contains("what was refused") && shown.len() < 200, "{shown}");
    }
    // The quarantine is over, and the server says 304 as before.
    assert!(matches!(poll(600).0, Polled::Taken(_)));
    assert_eq!(registry.resolve("chat", Keys::seed(0)).unwrap().version(), "llama-70b@4");
    assert_eq!(poll(630).0, Polled::Unchanged);
    assert_eq!(registry.status(at(630)).age, Duration::ZERO);
}
