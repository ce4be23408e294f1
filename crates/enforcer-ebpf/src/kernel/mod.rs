//! Typed access to kernel memory. Nothing outside this module knows an offset.

pub(crate) mod atomic;
pub(crate) mod memory;
pub(crate) mod offsets;
pub(crate) mod packet;
pub(crate) mod path;
pub(crate) mod socket;
pub(crate) mod syscall;
pub(crate) mod task;
