//! For tests: a database in memory, the suite that every source passes, and sources that are wrong.
//!
//! - [`fake`]: a [`fake::FakeDatabase`] that behaves as a PostgreSQL with one slot, and its source
//! - [`conformance`]: what any [`crate::Source`] must do, one check for each promise of the contract
//! - [`wrong`]: sources that break one promise each; the suite must catch every one of them

pub mod conformance;
pub mod fake;
pub mod wrong;
