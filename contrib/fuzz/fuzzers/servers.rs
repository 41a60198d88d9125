//! The fuzzer of `bodies`: servers. Built and run by `contrib/fuzz/run`.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::servers(bytes));
