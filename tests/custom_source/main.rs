//! The worked example of a connector: it keeps every promise of the contract, and loses and repeats nothing when its
//! program is killed.

#[path = "../../examples/custom_source.rs"]
#[allow(dead_code, reason = "its `main` is the program that is killed")]
mod custom_source;

mod conformance;
mod kills;
mod legacy;
