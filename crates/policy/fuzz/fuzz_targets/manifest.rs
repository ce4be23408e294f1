//! `cargo +nightly fuzz run manifest`
#![no_main]

#[path = "../targets/manifest.rs"]
mod manifest;

libfuzzer_sys::fuzz_target!(|data: &[u8]| manifest::run(data));
