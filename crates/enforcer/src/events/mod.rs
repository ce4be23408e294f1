//! From the kernel's records to alerts.
//!
//! ```text
//! Backend::events ──decode──▶ Event ──alert, with the workload's identity──▶ feeder::Alert ──▶ feed
//! Backend::counters ──loss──▶ Message and alert about what never arrived
//! ```

pub mod alert;
pub mod clock;
pub mod decode;
pub mod loss;
mod words;
