//! `cargo fuzz run table`: no words make the reader of compiled tables panic.
#![no_main]

#[path = "../bodies/table.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    body::run(data);
});
