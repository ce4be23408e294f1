//! One file a family of hooks; each turns the hook's arguments into an [`crate::decide::Access`].

mod exec;
mod file;
mod path;
mod task;
