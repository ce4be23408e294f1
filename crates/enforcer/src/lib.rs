//! karmor-enforcer, the daemon.
//!
//! ```text
//! source ── policies ──▶┐
//!                       ├─ engine: index ─ table per workload ──▶ backend ──▶ kernel
//! workload ─ containers ▶┘                                           │
//! serve ◀── feed ◀── events: decode, alert ◀────── records ─────────┘
//! ```
//!
//! The engine owns policies, workloads and the backend, on a thread of its own; everything else
//! talks to it through [`engine::Engine`]'s commands. Only the backend touches the kernel.

#![warn(missing_docs)]

pub mod args;
pub mod backend;
pub mod break_glass;
pub mod config;
pub mod engine;
pub mod events;
pub mod feed;
pub mod file;
pub mod index;
pub mod kernel;
pub mod links;
pub mod marks;
pub mod node;
pub mod reload;
pub mod remark;
pub mod run;
pub mod serve;
pub mod source;
pub mod text;
pub mod trial;
pub mod workload;
