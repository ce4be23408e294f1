//! The contract between karmor's kernel programs and user space.
//!
//! ```text
//! karmor-policy::compile ──▶ table words ──▶ kernel map ──┐
//!                                                         ├─▶ matcher ──▶ verdict ──▶ event ──▶ alert
//! hook arguments ──▶ path bytes, op, source class, owner ─┘
//! ```
//!
//! Everything both sides must agree on is here and nowhere else: the operations ([`op`]), the
//! verdict ([`verdict`]), the words for what is no path ([`word`]), the compiled table and the one function that reads it ([`table`]), the
//! task label ([`label`]), the exec under way ([`pending`]), the descriptors that policies came after ([`descriptor`]), the event record ([`event`]), the names of maps and programs
//! ([`names`]), the kernel struct offsets ([`offsets`]) and every limit ([`limits`]).
//!
//! `no_std`, no dependencies; the feature `user` only adds `aya::Pod` impls.

#![no_std]
#![deny(missing_docs)]

pub mod counters;
pub mod descriptor;
pub mod event;
pub mod guard;
pub mod label;
pub mod limits;
pub mod names;
pub mod offsets;
pub mod op;
pub mod pending;
pub mod table;
pub mod verdict;
pub mod word;

#[cfg(feature = "user")]
mod pod;
