//! What the fuzz targets do with their bytes: one function `one` per target, which panics where a promise is broken.
//!
//! Only the public interface of the crates is used. `tests/fuzz_corpora.rs` runs the same functions over the committed
//! corpora with every `cargo test`, so that they keep compiling and a finding stays fixed.

pub mod change_json;
mod changes;
pub mod debezium_json;
pub mod expressions;
pub mod mapping_files;
mod pack;
pub mod pgoutput;
pub mod text_values;
