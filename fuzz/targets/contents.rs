#![no_main]

#[path = "../harness.rs"]
#[expect(dead_code, reason = "one parser a program")]
mod harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::contents(bytes));
