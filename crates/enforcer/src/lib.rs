//! karmor-enforcer, the daemon.

pub mod backend;
pub mod kernel;
