//! The Kafka sink against a real Kafka: the exactly-once protocol, its faults, and its cost.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod bed;
mod faults;
mod guarded;
mod protocol;
mod rights;
mod security;
mod topics;
