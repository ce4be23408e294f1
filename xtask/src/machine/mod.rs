//! One throw-away VM: QEMU, its serial ports, its end.
//!
//! ```text
//! ttyS0  kernel console   kept; scanned for the verdict and for signs of a broken kernel
//! ttyS1  stdout           of the command, streamed
//! ttyS2  stderr           of the command, streamed
//! ttyS3  data             whatever the command writes to $KARMOR_DATA; kept
//! ```

mod accel;
mod console;
mod ports;
mod qemu;

pub(crate) use accel::Accel;
pub(crate) use qemu::{Machine, Sink};
