//! The target `mconsole` for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::mconsole::target(data));
