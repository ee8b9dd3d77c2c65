//! Snapshots on disk: the last known good, whatever happens in between.
//!
//! | file | what it is |
//! | --- | --- |
//! | `snapshot-<generation>` | content, written once |
//! | `CURRENT`, `PREVIOUS` | which of them is served, and which was before |
//! | `STATE`, `STATE-COPY` | how far generations and publishers have come, pins, quarantines; twice, for no snapshot says it |
//! | `LOCK` | held by the one process that writes |
//!
//! Every file is written under another name, synced, renamed, and the directory synced. `CURRENT` is what makes a
//! publication real: what was written before it is an orphan until then, and swept at the next start.

mod directory;
mod frame;
mod fs;
mod memory;

pub use directory::Directory;
pub use fs::Fs;
pub use memory::{Failing, Memory};

use super::history::Record;
use super::json::{self, Json};
use super::ledger::Ledger;
use std::collections::BTreeSet;
use std::{fmt, io};

const CURRENT: &str = "CURRENT";
const PREVIOUS: &str = "PREVIOUS";
/// Both say the same. There is nothing to go back to where one is damaged, and what was quarantined must stay so.
const STATES: [&str; 2] = ["STATE", "STATE-COPY"];
const SNAPSHOT: &str = "snapshot-";
const TEMPORARY: &str = "tmp-";
/// The highest generation that is believed: whoever counts up from it will not see the end of 64 bits.
const LAST: u64 = 1 << 53;
/// The longest file that is read: the largest payload and its line.
const LIMIT: usize = json::MAX_KEPT + 256;

/// Files of a registry in a directory that is locked for it.
#[derive(Debug)]
pub struct Store {
    fs: Box<dyn Fs>,
    _lock: Box<dyn fmt::Debug + Send>,
    /// Snapshots that are known to be on the medium.
    written: BTreeSet<u64>,
    /// Snapshots whose files were looked at. What the medium did not show is not swept: it may be there tomorrow.
    seen: BTreeSet<u64>,
    /// What `CURRENT` and `PREVIOUS` say, and the bytes of both states.
    pointers: (Option<u64>, Option<u64>),
    state: Vec<u8>,
}

/// One thing that was tried at the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tried {
    file: String,
    failure: Option<String>,
}

impl Tried {
    pub(super) fn used(file: impl Into<String>) -> Self {
        Self { file: file.into(), failure: None }
    }

    pub(super) fn failed(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { file: file.into(), failure: Some(reason.into()) }
    }

    /// The file; `bootstrap` and `compiled in` for what is none.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Why it could not be used; none where it was.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.failure.as_deref().unwrap_or("used"))
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Every snapshot that reads, by generation.
    pub(super) records: Vec<Record>,
    /// The one to serve, and whether it is that of `CURRENT`.
    pub(super) chosen: Option<(u64, bool)>,
    pub(super) ledger: Ledger,
    /// The highest generation that any file's name tells.
    pub(super) highest: u64,
    pub(super) tried: Vec<Tried>,
}

fn snapshot_name(generation: u64) -> String {
    format!("{SNAPSHOT}{generation:020}")
}

fn decoded(kind: &str, bytes: &[u8]) -> Result<Json, String> {
    let payload = frame::decode(kind, bytes).map_err(|broken| broken.to_string())?;
    json::parse_kept(payload).map_err(|violation| violation.to_string())
}

fn generation_of(name: &str) -> Option<u64> {
    let generation = name.strip_prefix(SNAPSHOT)?.parse().ok()?;
    (snapshot_name(generation) == name).then_some(generation)
}

impl Store {
    /// How many snapshots are kept.
    pub const KEPT: usize = 16;

    /// Takes the directory.
    ///
    /// # Errors
    ///
    /// Of kind `WouldBlock` where another process has it: a registry has one writer.
    pub fn open(fs: impl Fs) -> io::Result<Self> {
        let lock = fs.lock()?;
        let fs = Box::new(fs);
        let (written, seen) = (BTreeSet::new(), BTreeSet::new());
        Ok(Self { fs, _lock: lock, written, seen, pointers: (None, None), state: Vec::new() })
    }

    /// Reads everything, in the order in which it would be served. Never fails: what cannot be read is noted.
    pub(super) fn load(&mut self) -> Found {
        let mut found = Found::default();
        let names = self.fs.list().unwrap_or_else(|error| {
            found.tried.push(Tried::failed("the directory", error.to_string()));
            Vec::new()
        });
        let mut generations: Vec<u64> = names.iter().filter_map(|name| generation_of(name)).collect();
        generations.sort_unstable();
        while let Some(far) = generations.pop_if(|generation| *generation > LAST) {
            self.seen.insert(far);
            found.tried.push(Tried::failed(snapshot_name(far), "its generation leaves no room for others"));
        }
        found.highest = generations.last().copied().unwrap_or(0);

        self.pointers = (self.pointer(CURRENT, &mut found), self.pointer(PREVIOUS, &mut found));
        let mut order: Vec<(u64, bool)> = Vec::new();
        order.extend(self.pointers.0.map(|generation| (generation, true)));
        order.extend(self.pointers.1.map(|generation| (generation, false)));
        order.extend(generations.iter().rev().map(|generation| (*generation, false)));
        let mut tried = BTreeSet::new();
        for (generation, current) in order {
            if !tried.insert(generation) {
                continue;
            }
            let name = snapshot_name(generation);
            let bytes = match self.fs.read(&name, LIMIT) {
                Ok(bytes) => bytes,
                Err(error) => {
                    found.tried.push(Tried::failed(name, error.to_string()));
                    continue;
                }
            };
            self.seen.insert(generation);
            let record =
                decoded("snapshot", &bytes).and_then(|json| Record::from_json(&json).map_err(|e| e.to_string()));
            match record {
                Ok(record) if record.generation() != generation => {
                    found.tried.push(Tried::failed(name, "it is of another generation than its name"));
                }
                Ok(record) => {
                    self.written.insert(generation);
                    found.records.push(record);
                    if found.chosen.is_none() {
                        found.chosen = Some((generation, current));
                        found.tried.push(Tried::used(name));
                    }
                }
                Err(reason) => found.tried.push(Tried::failed(name, reason)),
            }
        }
        found.records.sort_by_key(Record::generation);
        if let Some((generation, true)) = found.chosen {
            // Written and never made current: nobody was told of them.
            found.records.retain(|record| record.generation() <= generation);
        }

        let mut ledgers = Vec::new();
        for name in STATES {
            match self.ledger(name) {
                Ok(ledger) => ledgers.extend(ledger),
                Err(reason) => found.tried.push(Tried::failed(name, reason)),
            }
        }
        if let [first, second] = &*ledgers
            && first == second
        {
            self.state = first.to_json().to_bytes();
        }
        // The first is written first.
        found.ledger = ledgers.into_iter().next().unwrap_or_default();
        found
    }

    /// What a state says; none where it was never written.
    fn ledger(&self, name: &str) -> Result<Option<Ledger>, String> {
        let bytes = match self.fs.read(name, LIMIT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| error.to_string())?,
        };
        let ledger = Ledger::from_json(&decoded("state", &bytes)?).map_err(|nack| nack.to_string())?;
        match ledger.generation {
            0..=LAST => Ok(Some(ledger)),
            _ => Err("its generation leaves no room for others".to_owned()),
        }
    }

    fn pointer(&self, name: &str, found: &mut Found) -> Option<u64> {
        if let Err(error) = self.fs.read(name, LIMIT)
            && error.kind() == io::ErrorKind::NotFound
        {
            return None;
        }
        let read = self.read("pointer", name).map(|json| match json {
            Json::Number(number) => number.parse().ok().filter(|generation| *generation <= LAST),
            _ => None,
        });
        let read = read.and_then(|generation| generation.ok_or_else(|| "it points nowhere".to_owned()));
        read.map_err(|reason| found.tried.push(Tried::failed(name, reason))).ok()
    }

    fn read(&self, kind: &str, name: &str) -> Result<Json, String> {
        decoded(kind, &self.fs.read(name, LIMIT).map_err(|error| error.to_string())?)
    }

    /// Makes the medium say what the registry says. What it already says is not written again, so after a failure
    /// the same call makes up for it.
    pub(super) fn persist(&mut self, history: &[Record], ledger: &Ledger) -> io::Result<()> {
        if let Some(current) = history.last() {
            let generation = current.generation();
            if !self.written.contains(&generation) {
                self.seen.insert(generation);
                self.write("snapshot", &snapshot_name(generation), &current.to_json().to_bytes())?;
                self.written.insert(generation);
            }
            if self.pointers.0 != Some(generation) {
                let previous = history.iter().rev().skip(1).map(Record::generation);
                let previous = previous.into_iter().find(|generation| self.written.contains(generation));
                if let Some(previous) = previous.filter(|previous| self.pointers.1 != Some(*previous)) {
                    self.write("pointer", PREVIOUS, previous.to_string().as_bytes())?;
                    self.pointers.1 = Some(previous);
                }
                // Unknown until it is written: a failure may have come before or after the fact.
                self.pointers.0 = None;
                self.write("pointer", CURRENT, generation.to_string().as_bytes())?;
                self.pointers.0 = Some(generation);
            }
        }
        let state = ledger.to_json().to_bytes();
        if self.state != state {
            self.state.clear();
            for name in STATES {
                self.write("state", name, &state)?;
            }
            self.state = state;
        }
        Ok(())
    }

    fn write(&self, kind: &str, name: &str, payload: &[u8]) -> io::Result<()> {
        let temporary = format!("{TEMPORARY}{name}");
        let written = self
            .fs
            .write(&temporary, &frame::encode(kind, payload))
            .and_then(|()| self.fs.rename(&temporary, name))
            .and_then(|()| self.fs.sync_dir());
        if written.is_err() {
            // On a full disk its space is needed. If even that fails, the next start sweeps it.
            let _ = self.fs.remove(&temporary);
        }
        written
    }

    /// Removes snapshots that were looked at and are in nobody's history, and what a crash left behind.
    pub(super) fn sweep(&mut self, history: &[Record]) {
        let kept: BTreeSet<_> =
            history.iter().map(Record::generation).chain(self.pointers.0).chain(self.pointers.1).collect();
        let superfluous = |name: &&String| {
            let known = |generation| !kept.contains(&generation) && self.seen.contains(&generation);
            name.starts_with(TEMPORARY) || generation_of(name).is_some_and(known)
        };
        let names = self.fs.list().unwrap_or_default();
        let superfluous: Vec<_> = names.iter().filter(superfluous).collect();
        for name in superfluous {
            if self.fs.remove(name).is_ok()
                && let Some(generation) = generation_of(name)
            {
                self.seen.remove(&generation);
            }
        }
        self.written.retain(|generation| kept.contains(generation));
    }
}
