//! Rowbridge: row diffs of legacy databases become business events in Kafka, exactly once.
//!
//! Code map, in the order one event travels:
//!
//! - `rowbridge-postgres` (own crate): replication socket -> [`rowbridge_api::Batch`]; `rowbridge-mongodb`: change stream
//!   -> the same
//! - [`mapping`]: a compiled mapping turns a change into encoded events; pure, no IO
//! - [`event`]: the encoded batch: CloudEvents records as ranges of one buffer
//! - [`event_json`]: one event as one line of JSON, for `dry-run` and the stdout sink
//! - [`sink`]: one Kafka transaction per group commit, the position in it
//! - [`pipeline`]: the loop that holds the invariants of ARCHITECTURE.md
//! - [`cli`], [`config`], [`http`]: how people and probes reach it
//! - [`embed`]: the same pipeline inside of another program, over a source of its own
//! - [`init`]: a first mapping from what a source tells of its tables; pure
//! - `words`, `personal`: names as words, and what looks personal by them
//! - [`health`], [`metrics`], [`mod@log`], [`refusal`], [`paint`]: what it tells about itself, and how that looks

pub mod cli;
pub mod config;
pub mod embed;
pub mod event;
pub mod event_json;
pub mod health;
pub mod http;
pub mod init;
pub mod log;
pub mod mapping;
pub mod metrics;
pub mod pack;
pub mod paint;
mod personal;
pub mod pipeline;
pub mod refusal;
#[cfg_attr(
    not(all(feature = "postgres", feature = "mongodb", feature = "kafka")),
    allow(
        dead_code,
        reason = "without connectors nothing runs that has a line to draw"
    )
)]
mod screen;
pub mod sink;
pub mod state;
mod stop;
mod words;
