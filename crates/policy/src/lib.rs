//! Policies, from text to tables.
//!
//! ```text
//! YAML / JSON ──manifest──▶ Manifest ──validate──▶ Policy ──select──▶ Effective
//!                              │ problems, with file:line:column        │
//!                              ▼                                        ├─▶ reference: slow, obvious
//!                          Diagnostics                                  └─▶ compile: karmor_abi::table
//! ```
//!
//! Three types a policy, never one: what the text said ([`manifest`]), what it means ([`model`]),
//! what the kernel reads ([`compile`]). No I/O, no async, no unsafe.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod alias;
pub mod compile;
pub mod compiled;
mod conflict;
pub mod diagnostic;
pub mod encoding;
pub mod essential;
pub mod explain;
pub mod glob;
pub mod lint;
pub mod manifest;
pub mod model;
pub mod names;
pub mod posture;
mod read;
pub mod reference;
pub mod select;
pub mod semantics;
pub mod syscall;
pub mod validate;

pub use self::read::{Report, read, read_bytes, read_object, refuse_repeated, unreadable};
