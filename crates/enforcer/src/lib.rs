//! karmor-enforcer, the daemon.

pub mod backend;
