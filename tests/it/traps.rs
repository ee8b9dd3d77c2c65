//! Traps in which respected routers were caught, each a test. A trap whose room is not built yet is not here; one
//! that stands beside what it guards is named in a comment.

mod attribution;
mod capacity;
mod deadlines;
mod empty;
mod numbers;
mod recovery;
mod retries;
mod selection;
