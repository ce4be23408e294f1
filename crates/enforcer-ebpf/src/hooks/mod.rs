//! One file a family of hooks; each turns the hook's arguments into an [`crate::decide::Access`].

mod capability;
mod descriptor;
mod egress;
mod exec;
mod file;
mod guard;
mod ingress;
mod mount;
mod path;
mod preset;
mod socket;
mod syscall;
mod task;
