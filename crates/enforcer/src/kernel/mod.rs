//! The back end that is the kernel: the only place in user space that knows maps, programs and
//! offsets, and the only one with unsafe code.

mod btf;
mod load;
mod object;

pub use load::unload;

/// Loads and reports, for a first look.
pub fn try_load(bpffs: &std::path::Path) -> anyhow::Result<Vec<crate::backend::HookSupport>> {
    let mut loaded = load::Loaded::new(bpffs)?;
    let support = loaded.support();
    for (hook, why) in loaded.missing() {
        println!("MISSING {hook}: {why}");
    }
    loaded.attach(u32::MAX)?;
    Ok(support)
}
