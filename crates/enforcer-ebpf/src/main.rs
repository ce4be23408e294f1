//! The kernel half: one LSM program a hook, one for packets that leave and one for those that come in,
//! and one at the tracepoint of system calls.
//!
//! ```text
//! hook arguments ──hooks/*──▶ subject: who asks ──▶ object: which path, which file; or a word
//!                                │                        │
//!                                └────────▶ decide ◀──────┘
//!                                             │ karmor_abi::table
//!                                  0 or -EACCES, and emit: the event
//! ```
//!
//! The verifier follows a program through every function it calls, in every state it may call it in.
//! What is long is therefore a *global* function (`extern "C"`, `no_mangle`): the verifier looks at
//! it once a program, with arguments of which it knows nothing but their types, and does not follow
//! calls of it. Such functions get memory by pointer, which may be null, and numbers; they answer in
//! that memory or with a number. Addresses in the kernel reach them through memory, since a typed
//! pointer is no number.
//!
//! Fault policy: a subject without policy is never refused. A subject under policy is refused when
//! the answer cannot be worked out; the refusal is counted and its event says why.

#![no_std]
#![no_main]
// BPF has no compare-and-swap in Rust's target description, so the two atomic instructions that
// are needed are written as assembly.
#![feature(asm_experimental_arch)]

mod arguments;
mod call;
mod decide;
mod decide_word;
mod dns;
mod elsewhere;
mod emit;
mod guard;
mod hooks;
mod kernel;
mod listener;
mod maps;
mod name;
mod object;
mod preset;
mod resolved;
mod sender;
mod subject;

/// Lets the kernel offer GPL-only helpers, such as `bpf_probe_read_kernel`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier rejects a program from which this loop can be reached.
    loop {}
}
