//! Where content comes from: a file that is replaced, an HTTP address, a store that is shared.
//!
//! Each is a small state machine around one call that the host makes; none opens a socket. An asynchronous host calls
//! [`Http::answered`] and [`Poller::fetched`](super::Poller::fetched) with what it got.

use super::Digest;
use super::store::Fs;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// What a source said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fetched {
    /// Nothing is new.
    Unchanged,
    /// This is what there is.
    Document(Vec<u8>),
    /// No answer, or none that has content; in words.
    Failed(String),
}

/// A source that is asked.
pub trait Fetch: fmt::Debug + Send {
    /// Asks.
    fn fetch(&mut self) -> Fetched;
}

/// The largest document that is taken from a file.
const MAX_BYTES: usize = super::json::MAX_BYTES;

/// One file, which its writer replaces by a rename. Not a directory: between two files of one there is no moment at which
/// both are right.
#[derive(Debug)]
pub struct Pointer {
    fs: Box<dyn Fs>,
    name: String,
    last: Option<Digest>,
}

impl Pointer {
    /// The file of this name.
    pub fn new(fs: impl Fs, name: impl Into<String>) -> Self {
        Self { fs: Box::new(fs), name: name.into(), last: None }
    }
}

impl Fetch for Pointer {
    fn fetch(&mut self) -> Fetched {
        match self.fs.read(&self.name, MAX_BYTES) {
            Err(error) => Fetched::Failed(format!("{}: {error}", self.name)),
            Ok(bytes) => {
                let digest = Some(Digest::of(&bytes));
                if self.last == digest {
                    return Fetched::Unchanged;
                }
                self.last = digest;
                Fetched::Document(bytes)
            }
        }
    }
}

/// What an HTTP server answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header `ETag`.
    pub etag: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A GET of one address, with `If-None-Match` where an `ETag` is given.
pub trait HttpGet: fmt::Debug + Send {
    /// The answer, or why there is none.
    ///
    /// # Errors
    ///
    /// Why there is no answer, in words without secrets.
    fn get(&mut self, etag: Option<&str>) -> Result<Answer, String>;
}

/// A document behind an HTTP address.
#[derive(Debug)]
pub struct Http<G> {
    get: G,
    etag: Option<String>,
}

/// An `ETag` longer than this is none.
const MAX_ETAG: usize = 1024;

impl<G> Http<G> {
    /// The document that `get` gets.
    pub const fn new(get: G) -> Self {
        Self { get, etag: None }
    }

    /// What to send as `If-None-Match`.
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// What an answer means.
    pub fn answered(&mut self, answer: Answer) -> Fetched {
        match answer.status {
            200 => {
                self.etag = answer.etag.filter(|etag| etag.len() <= MAX_ETAG);
                Fetched::Document(answer.body)
            }
            304 if self.etag.is_some() => Fetched::Unchanged,
            status => Fetched::Failed(format!("status {status}")),
        }
    }
}

impl<G: HttpGet> Fetch for Http<G> {
    fn fetch(&mut self) -> Fetched {
        match self.get.get(self.etag.as_deref()) {
            Ok(answer) => self.answered(answer),
            Err(reason) => Fetched::Failed(reason),
        }
    }
}

/// A store that several processes share: one document with a number that counts its changes.
pub trait SharedStore: fmt::Debug + Send {
    /// The number and the document; none where nobody has written yet.
    ///
    /// # Errors
    ///
    /// Why there is no answer, in words without secrets.
    fn load(&self) -> Result<Option<(u64, Vec<u8>)>, String>;

    /// Writes `document` if the number is still `expected`, 0 for none. Returns whether it was.
    ///
    /// # Errors
    ///
    /// Why it is not known.
    fn replace(&self, expected: u64, document: &[u8]) -> Result<bool, String>;
}

/// The document of a shared store.
#[derive(Debug)]
pub struct Shared<S> {
    store: S,
    last: Option<u64>,
}

impl<S> Shared<S> {
    /// The document of `store`.
    pub const fn new(store: S) -> Self {
        Self { store, last: None }
    }
}

impl<S: SharedStore> Fetch for Shared<S> {
    fn fetch(&mut self) -> Fetched {
        match self.store.load() {
            Err(reason) => Fetched::Failed(reason),
            Ok(None) => Fetched::Failed("nobody has published there yet".to_owned()),
            Ok(Some((number, _))) if self.last == Some(number) => Fetched::Unchanged,
            Ok(Some((number, document))) => {
                self.last = Some(number);
                Fetched::Document(document)
            }
        }
    }
}

/// A shared store in memory, for tests. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct InMemory(Arc<Mutex<Option<Numbered>>>);

/// A document with its number.
type Numbered = (u64, Vec<u8>);

impl SharedStore for InMemory {
    fn load(&self) -> Result<Option<Numbered>, String> {
        Ok(self.0.lock().clone())
    }

    fn replace(&self, expected: u64, document: &[u8]) -> Result<bool, String> {
        let mut held = self.0.lock();
        let number = held.as_ref().map_or(0, |(number, _)| *number);
        if number == expected {
            *held = Some((number + 1, document.to_vec()));
        }
        Ok(number == expected)
    }
}
