//! What the gateway needs beside routing: its command line, and the HTTP towards its clients.
#![allow(unreachable_pub)] // an example exports nothing; `pub` marks what `gateway.rs` itself uses

pub mod args;
pub mod http;
#[cfg(test)]
mod tests;
