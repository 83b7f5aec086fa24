//! The MongoDB source: change streams, snapshots, checks; servers from 6.0 on.
//!
//! Code map, from the outside in:
//!
//! - [`source`]: the contract (own, hold, run, check)
//! - [`config`]: the settings and every limit
//! - `check`: findings with the command that fixes each
//! - `stream`: the loop that takes events in and sends batches; `reader`: reads them ahead; `changes`: what the change
//!   stream is of, and opening it
//! - `snapshot`: existing documents at one moment
//! - `assembler`: change events to batch items; pure
//! - `event`: one change event; `image`: documents to cells, and the image after an update; `text`: BSON values to the
//!   text form of cells; all pure
//! - `oplog`: how far back the history reaches
//! - `token`: resume tokens as positions
//! - `survey`: collections, their fields and types by sampling, for `init`
//! - `client`: connecting, and who the servers are; `error`: what their errors mean; `admission`: what keeps us out
//!
//! Deliberately absent: looking documents up by id when an event comes (what is found may be of a later state), value
//! decoding (rowbridge-api), mapping, any knowledge of sinks.

mod admission;
mod assembler;
mod changes;
mod check;
mod client;
pub mod config;
mod error;
mod event;
mod image;
mod oplog;
mod reader;
mod snapshot;
pub mod source;
mod stream;
mod survey;
mod text;
mod token;

pub use config::{Limits, MongoConfig, OnDrop};
pub use rowbridge_api::Password;
pub use source::{History, MongoSource, history};
pub use survey::{SurveyLimits, Surveyor};
