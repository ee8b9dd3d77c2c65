//! A directory that forgets, for tests: what was not synced is gone after a power loss, or half there.

use super::fs::Fs;
use crate::rng::Rng;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A simulated directory. Clones are the same directory, so a test keeps one while a store has the other.
///
/// ```
/// use fallway::registry::store::{Fs, Memory};
/// let disk = Memory::default();
/// disk.write("tmp", b"new").unwrap();
/// disk.rename("tmp", "CURRENT").unwrap();
/// // Without sync_dir the name may or may not survive.
/// disk.sync_dir().unwrap();
/// disk.power_loss(1);
/// assert_eq!(disk.read("CURRENT", 100).unwrap(), b"new");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Memory {
    inner: Arc<Mutex<Disk>>,
    locked: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Disk {
    /// Contents by number; `synced` once on the medium.
    files: Vec<File>,
    /// What the process sees.
    names: BTreeMap<String, usize>,
    /// What is on the medium.
    durable: BTreeMap<String, usize>,
    /// Changes of names that are not.
    pending: Vec<Change>,
    fails: Option<Failing>,
    /// File calls until the power goes.
    fuse: Option<u64>,
    calls: u64,
}

#[derive(Debug)]
struct File {
    bytes: Vec<u8>,
    synced: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Set(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

/// How a [`Memory`] fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failing {
    /// No space left: a write ends halfway.
    Full,
    /// Every change is refused.
    ReadOnly,
    /// Renames fail with an error of the medium.
    Rename,
    /// Everything fails with an error of the medium, reads included.
    Everything,
}

impl Memory {
    /// From now on it fails, or no more.
    pub fn fail(&self, how: Option<Failing>) {
        self.inner.lock().fails = how;
    }

    /// The power goes in the middle of the file call after the next `calls`: that one does half its work, and none
    /// after it does anything, until [`power_loss`](Self::power_loss).
    pub fn power_off_after(&self, calls: u64) {
        let mut disk = self.inner.lock();
        disk.fuse = Some(disk.calls + calls);
    }

    /// File calls so far.
    pub fn calls(&self) -> u64 {
        self.inner.lock().calls
    }

    /// The power goes and comes back. Names that were not synced are there or not, in any combination; bytes that were
    /// not synced are there in part, or as nonsense.
    pub fn power_loss(&self, seed: u64) {
        let mut rng = Rng::new(seed);
        let mut disk = self.inner.lock();
        let mut pending = std::mem::take(&mut disk.pending);
        // Not only some of them, but in any order.
        for at in (1..pending.len()).rev() {
            pending.swap(at, rng.below(at + 1));
        }
        for change in pending {
            if rng.below(2) == 0 {
                change.apply(&mut disk.durable);
            }
        }
        for file in disk.files.iter_mut().filter(|file| !file.synced) {
            let length = rng.below(file.bytes.len() + 1);
            file.bytes.truncate(length);
            if length > 0 && rng.below(2) == 0 {
                let at = rng.below(length);
                file.bytes[at..].fill(0);
            }
            file.synced = true;
        }
        disk.names = disk.durable.clone();
        disk.fuse = None;
        self.locked.store(false, Ordering::Relaxed);
    }

    /// Replaces what is in a file, as a failing medium would, on the medium too.
    pub fn corrupt(&self, name: &str, bytes: &[u8]) {
        let mut disk = self.inner.lock();
        let number = disk.files.len();
        disk.files.push(File { bytes: bytes.to_vec(), synced: true });
        disk.names.insert(name.to_owned(), number);
        disk.durable.insert(name.to_owned(), number);
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(name, file) => {
                names.insert(name, file);
            }
            Self::Rename(from, to, file) => {
                names.remove(&from);
                names.insert(to, file);
            }
            Self::Remove(name) => {
                names.remove(&name);
            }
        }
    }
}

/// Whether the power is on, off, or goes in this very call.
#[derive(PartialEq)]
enum Power {
    On,
    Going,
}

impl Disk {
    fn call(&mut self) -> io::Result<Power> {
        self.calls += 1;
        if self.fails == Some(Failing::Everything) {
            return Err(io::Error::other("input/output error"));
        }
        match self.fuse {
            Some(at) if self.calls > at + 1 => Err(io::Error::other("the power is off")),
            Some(at) if self.calls == at + 1 => Ok(Power::Going),
            _ => Ok(Power::On),
        }
    }

    fn change(&mut self) -> io::Result<Power> {
        let power = self.call()?;
        if self.fails == Some(Failing::ReadOnly) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(power)
    }

    fn apply(&mut self, change: Change) {
        change.clone().apply(&mut self.names);
        self.pending.push(change);
    }
}

fn went() -> io::Error {
    io::Error::other("the power went")
}

impl Fs for Memory {
    fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let mut disk = self.inner.lock();
        disk.call()?;
        let number = *disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let bytes = &disk.files[number].bytes;
        if bytes.len() > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.clone()) }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.inner.lock();
        let power = disk.change()?;
        let full = disk.fails == Some(Failing::Full);
        let whole = power == Power::On && !full;
        let written = if whole { bytes } else { &bytes[..bytes.len() / 2] };
        let number = disk.files.len();
        disk.files.push(File { bytes: written.to_vec(), synced: whole });
        disk.apply(Change::Set(name.to_owned(), number));
        match whole {
            true => Ok(()),
            false if full => Err(io::ErrorKind::StorageFull.into()),
            false => Err(went()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.inner.lock();
        let power = disk.change()?;
        if disk.fails == Some(Failing::Rename) {
            return Err(io::Error::other("input/output error"));
        }
        let number = *disk.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        disk.apply(Change::Rename(from.to_owned(), to.to_owned(), number));
        if power == Power::On { Ok(()) } else { Err(went()) }
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.inner.lock();
        if disk.change()? == Power::Going {
            return Err(went());
        }
        let pending = std::mem::take(&mut disk.pending);
        pending.into_iter().for_each(|change| change.apply(&mut disk.durable));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.inner.lock();
        let power = disk.change()?;
        if !disk.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.apply(Change::Remove(name.to_owned()));
        if power == Power::On { Ok(()) } else { Err(went()) }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.inner.lock();
        disk.call()?;
        Ok(disk.names.keys().cloned().collect())
    }

    fn lock(&self) -> io::Result<Box<dyn fmt::Debug + Send>> {
        self.inner.lock().call()?;
        if self.locked.swap(true, Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Locked(Arc::clone(&self.locked))))
    }
}

#[derive(Debug)]
struct Locked(Arc<AtomicBool>);

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
