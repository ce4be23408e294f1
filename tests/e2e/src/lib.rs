//! What runs inside the VM, as root, on a kernel of its own.
//!
//! ```text
//! support/   start containerd, run containers, start the enforcer, watch alerts
//! cases/     what must hold; run by `karmor-e2e`, names carry the oldest kernel they apply to
//! demo/      the scenes of `cargo xtask demo`
//! bench/     the operations of `cargo xtask bench`
//! hammer/    tries what is forbidden over and over, from inside a container
//! init/      PID 1 of the VM
//! tries/     what cases try inside containers and no shell can
//! ```

pub mod cases;
pub mod support;
