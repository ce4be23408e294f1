//! Where policies come from: a watched directory, and clients.

pub mod directory;
pub mod last_good;
pub mod read;
pub mod store;
pub(crate) mod watch;
