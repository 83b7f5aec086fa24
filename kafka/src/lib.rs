//! A transactional Kafka producer on the wire protocol.
//!
//! For a caller that publishes in transactions, starts again from its last committed position after any error,
//! and has to know how a commit ended. That takes less than a general client does, and other things:
//!
//! - **No queue and no thread.** [`Producer::append`] writes a record's bytes where they will be sent from, and
//!   full buffers go straight to the socket. A record costs no allocation, whatever headers it has.
//! - **No retry behind the caller's back.** A request is sent once. An error ends the producer; the next one
//!   fences it, which settles what it left open. So an answer is the broker's answer to what was asked, and a
//!   lost answer is [`CommitError::Open`] and never a guess.
//! - **One request for all partitions of a broker**, not one for each.
//! - **Partitions are counted once**, when the producer is made: keys do not move while it lives.
//!
//! Code map, in the order of use: [`Settings`] say how to reach and convince the brokers; `link` is one
//! connection (`tls`, `subject`, `sasl`); `cluster` knows who leads what; `records` is the record batch; `transaction`
//! holds the requests of a transaction; [`Producer`] is the whole.
//!
//! What is deliberately absent: consuming, administration, consumer offsets in a transaction, producing outside
//! of one, and brokers older than Kafka 2.5 (flexible requests with broker-side fencing by epoch, KIP-360).

mod cluster;
mod error;
mod link;
mod murmur2;
#[doc(hidden)]
pub mod offline;
mod producer;
mod records;
mod sasl;
mod settings;
mod subject;
mod tls;
mod transaction;

pub use cluster::greet;
pub use error::{Barrier, Code, CommitError, Error};
pub use producer::{Placement, Producer};
pub use records::{Fields, HeaderName};
pub use settings::{SettingError, Settings};
