//! Struct offsets: read-only globals that user space fills from the running kernel's BTF.
//!
//! `.rodata` is frozen before the programs are loaded, so to the verifier each is a constant, and a
//! BTF pointer plus such an offset stays a BTF pointer.

use aya_ebpf::Global;

/// What the globals hold until user space fills them. No constant of the programs has this value: the
/// linker may fold a constant into a global of equal value, and would then change with it.
const UNFILLED: u32 = 0x6b61_726d;

macro_rules! globals {
    ($($global:ident = $strukt:literal . $member:literal;)*) => {
        $(
            #[doc = concat!("Offset of `", $strukt, ".", $member, "` in bytes.")]
            #[unsafe(no_mangle)]
            pub(crate) static $global: Global<u32> = Global::new(UNFILLED);
        )*
    };
}

karmor_abi::for_each_member!(globals);

/// See [`karmor_abi::offsets::MOUNT_LINK`].
#[unsafe(no_mangle)]
pub(crate) static MOUNT_LINK: Global<u32> = Global::new(UNFILLED);

/// See [`karmor_abi::offsets::SETATTR_DENTRY`].
#[unsafe(no_mangle)]
pub(crate) static SETATTR_DENTRY: Global<u32> = Global::new(UNFILLED);

/// See [`karmor_abi::offsets::INODE_BYTES`].
#[unsafe(no_mangle)]
pub(crate) static INODE_BYTES: Global<u32> = Global::new(UNFILLED);
