//! The connector on real MongoDB servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod follower;
mod generated;
mod images;
mod logins;
mod oplog;
mod states;
mod values;
