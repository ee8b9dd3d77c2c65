//! The model registry.

mod concurrent;
mod edges;
mod fixtures;
mod hostile;
mod imports;
mod life;
mod operations;
mod placements;
mod power;
mod random;
mod rollback;
mod rollouts;
mod routing;
mod signed;
mod sources;
mod splits;
mod starts;
