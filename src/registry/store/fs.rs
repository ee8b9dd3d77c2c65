//! The file calls that the store needs: one directory, files by name.

use std::fmt;
use std::io;

/// A directory. What [`write`](Self::write) has returned from survives a power loss under a name that
/// [`sync_dir`](Self::sync_dir) has returned from; nothing else is promised, and nothing else relied upon.
pub trait Fs: fmt::Debug + Send + 'static {
    /// The bytes of a file, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// Of kind `NotFound` where there is none, `FileTooLarge` where it is longer.
    fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>>;

    /// Creates a file or empties it, writes it, and waits until its bytes are on the medium.
    ///
    /// # Errors
    ///
    /// Whatever the system says. Part of it may have been written.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Gives a file another name, in one step, in place of a file that has it.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Waits until the names are on the medium.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn sync_dir(&self) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Takes the directory for this process alone, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// Of kind `WouldBlock` where another has it.
    fn lock(&self) -> io::Result<Box<dyn fmt::Debug + Send>>;
}
