//! Struct offsets: read-only globals that user space fills from the running kernel's BTF.
//!
//! `.rodata` is frozen before the programs are loaded, so to the verifier each is a constant, and a
//! BTF pointer plus such an offset stays a BTF pointer.

use aya_ebpf::Global;

macro_rules! globals {
    ($($global:ident = $strukt:literal . $member:literal;)*) => {
        $(
            #[doc = concat!("Offset of `", $strukt, ".", $member, "` in bytes.")]
            #[unsafe(no_mangle)]
            pub(crate) static $global: Global<u32> = Global::new(0);
        )*
    };
}

karmor_abi::for_each_member!(globals);
