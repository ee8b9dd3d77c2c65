//! What happens when the best is not good enough, step by step.

mod leaving;
mod panic_mode;
mod retries;
mod tiers;
mod waiting;
