//! The worked example of a connector: it keeps every promise of the contract, and loses and repeats nothing when its
//! program is killed.

#[path = "../../examples/custom_source/export.rs"]
mod export;
#[path = "../../examples/custom_source/folder.rs"]
mod folder;

mod conformance;
mod kills;
mod legacy;
