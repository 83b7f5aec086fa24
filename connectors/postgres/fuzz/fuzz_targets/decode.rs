//! Arbitrary bytes as one pgoutput message: `cargo fuzz run decode` in `connectors/postgres`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rowbridge_postgres::pgoutput::exercise(bytes));
