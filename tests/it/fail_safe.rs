//! What happens when the best is not good enough, step by step.

mod canaries;
mod last_resort;
mod leaving;
mod own_fault;
mod panic_mode;
mod retries;
mod tiers;
mod waiting;
