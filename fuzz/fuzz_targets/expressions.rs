#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rowbridge_fuzz::expressions::one(bytes));
