//! What the examples share.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub)]

pub mod http;
pub mod load;
pub mod openai;
pub mod sse;
pub mod svg;
pub mod trace;
pub mod upstream;
