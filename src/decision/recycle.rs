//! Records are used again: in a steady state a decision allocates nothing.
//!
//! Each thread keeps a few. A record also keeps its reference to the last roster, so that a thread which decides
//! over and over in one fleet generation never touches the roster's reference count, which all threads share. So it
//! does with the view of the registry.

// Records are boxed also while they are spare: a decision that moves should move a pointer.
#![allow(clippy::vec_box, clippy::unnecessary_box_returns)]

use super::record::{Record, Roster};
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

/// How many spare records a thread keeps.
const SPARE: usize = 8;

/// A record whose sheet grew beyond this is freed, not kept.
const MAX_ENTRIES: usize = 1024;

thread_local! {
    static SPARES: RefCell<Vec<Box<Record>>> = const { RefCell::new(Vec::new()) };
}

/// A spare record, or a new one.
pub(crate) fn take() -> Box<Record> {
    static NOBODY: OnceLock<Arc<Roster>> = OnceLock::new();
    SPARES.try_with(|spares| spares.try_borrow_mut().ok()?.pop()).ok().flatten().unwrap_or_else(|| {
        Box::new(Record {
            roster: NOBODY.get_or_init(Arc::default).clone(),
            facts: None,
            seed: 0,
            now: crate::time::Instant::default(),
            arrival: crate::time::Instant::default(),
            deadline: crate::time::Instant::default(),
            extra: super::Extra::NotAsked,
            last_resort: false,
            dry_run: false,
            beside: None,
            attempts: Vec::new(),
            planned_after: 0,
            at_stake: 0,
            names: None,
            sheet: super::record::Sheet::default(),
            hedged: super::Hedged::NotAsked,
            verdict: None,
            verdict_at: crate::time::Instant::default(),
        })
    })
}

/// Keeps a record for the next decision of this thread.
pub(crate) fn give_back(mut record: Box<Record>) {
    // Everything of the request goes now, not when the record is used again.
    (record.facts, record.beside) = (None, None);
    record.attempts.clear();
    record.sheet.clear();
    record.verdict = None;
    if record.sheet.readings.capacity() > MAX_ENTRIES {
        return;
    }
    // While the thread ends there is nowhere to keep it.
    let _ = SPARES.try_with(|spares| {
        if let Ok(mut spares) = spares.try_borrow_mut()
            && spares.len() < SPARE
        {
            spares.push(record);
        }
    });
}
