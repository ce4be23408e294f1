//! What the VM boots into: a base that rarely changes, and a small layer of the day's binaries.
//!
//! Both are cpio archives in one initramfs: the kernel unpacks the base, then the layer over it.

mod images;
mod layer;
mod root;

pub(crate) use images::images;
pub(crate) use layer::{Layer, Order};
pub(crate) use root::base;

/// Whether everything but the layer is in the cache.
pub(crate) fn is_built(cache: &crate::cache::Cache) -> bool {
    root::path(cache).is_file() && images::path(cache).is_file()
}
