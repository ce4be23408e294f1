//! What is shown, as pure functions of what is known.

pub(crate) mod event;
pub(crate) mod table;
pub(crate) mod text;
