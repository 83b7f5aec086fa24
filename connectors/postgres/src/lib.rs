//! The PostgreSQL source: logical replication, snapshots, checks; servers 13 to 18.
//!
//! Code map, from the outside in:
//!
//! - [`source`]: the contract (own, hold, run, check); what a first start and a resume compare
//! - [`config`]: the settings and every limit
//! - [`preview`]: the source of a live dry-run; [`upkeep`]: what the command line does to a stopped pipeline
//! - [`survey`]: what `init` asks of tables that no mapping names yet
//! - `check`: findings with the statement that fixes each
//! - `stream`: the loop that reads the walsender and keeps it alive
//! - `snapshot`: existing rows by COPY
//! - `assembler`: protocol messages to batch items; pure
//! - [`pgoutput`]: the decoder; pure
//! - `intake`: the buffer that a batch's cells point into
//! - `slot`, `publication`, `timeline`, `synchronous`, `catalogue`: what the server remembers and knows
//! - [`offline`]: the decoder without a server, for benches and fuzz targets
//! - `wire`, `sql`, `socket`, `tls`, `error`: sessions; `admission`: what keeps us out of them
//!
//! Deliberately absent: value decoding (rowbridge-api), mapping, any knowledge of sinks, a value tree.

mod admission;
mod assembler;
mod catalogue;
mod check;
pub mod config;
mod error;
mod intake;
#[doc(hidden)]
pub mod offline;
pub mod pgoutput;
pub mod preview;
mod publication;
mod slot;
mod snapshot;
mod socket;
pub mod source;
mod sql;
mod stream;
pub mod survey;
mod synchronous;
mod timeline;
mod tls;
pub mod upkeep;
mod wire;

pub use config::{
    Address, ClientCertificate, ConfigError, ConfigFile, Limits, PostgresConfig, TlsMode,
};
pub use preview::{PreviewPublication, PreviewSource};
pub use rowbridge_api::Password;
pub use slot::{Holder, SlotState};
pub use source::{PostgresSource, object_name};
pub use survey::{SurveyLimits, Surveyor};
pub use upkeep::{
    Removal, Removals, accept_publication, drop_slot_and_publication, make_slot, remove_slot,
    slot_state,
};
