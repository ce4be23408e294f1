//! Loads from kernel and user memory.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};

/// A pointer into kernel memory.
pub(crate) type Ptr = *const u8;

/// Loads a pointer member through a pointer whose type the verifier knows.
///
/// # Safety
/// `base` must be a BTF pointer (a hook's argument, or loaded from one by this function) and
/// `offset` the offset of one of its pointer members; the verifier checks both.
#[inline(always)]
pub(crate) unsafe fn load(base: Ptr, offset: u32) -> Ptr {
    // SAFETY: see above; a fault on a freed object is caught by the kernel and reads as zero.
    unsafe { *(base.add(offset as usize).cast::<Ptr>()) }
}

/// Loads a 32-bit member likewise.
///
/// # Safety
/// As for [`load`], with a 4-byte member.
#[inline(always)]
pub(crate) unsafe fn load_u32(base: Ptr, offset: u32) -> u32 {
    // SAFETY: see above.
    unsafe { *(base.add(offset as usize).cast::<u32>()) }
}

/// Loads a 64-bit member likewise.
///
/// # Safety
/// As for [`load`], with an 8-byte member.
#[inline(always)]
pub(crate) unsafe fn load_u64(base: Ptr, offset: u32) -> u64 {
    // SAFETY: see above.
    unsafe { *(base.add(offset as usize).cast::<u64>()) }
}

/// Loads a 16-bit member likewise.
///
/// # Safety
/// As for [`load`], with a 2-byte member.
#[inline(always)]
pub(crate) unsafe fn load_u16(base: Ptr, offset: u32) -> u16 {
    // SAFETY: see above.
    unsafe { *(base.add(offset as usize).cast::<u16>()) }
}

/// Copies a value from any kernel address.
///
/// A wild address is an error, not a fault; any bytes are a valid `T`, which is only used with
/// integers and arrays of integers.
#[inline(always)]
pub(crate) fn read<T: Copy>(address: u64) -> Result<T, i64> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes `size_of::<T>()` bytes, all of them or (on error) zeroes.
    let error = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        )
    };
    if error == 0 {
        // SAFETY: initialised by the helper.
        Ok(unsafe { value.assume_init() })
    } else {
        Err(error)
    }
}

/// [`read`], with zero where the address cannot be read.
#[inline(always)]
pub(crate) fn read_or_zero(address: u64) -> u64 {
    match read::<u64>(address) {
        Ok(value) => value,
        Err(_) => 0,
    }
}

/// Copies a value from user memory without faulting it in.
#[inline(always)]
pub(crate) fn read_user<T: Copy>(address: u64) -> Result<T, i64> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as in `read`.
    let error = unsafe {
        bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        )
    };
    if error == 0 {
        // SAFETY: initialised by the helper.
        Ok(unsafe { value.assume_init() })
    } else {
        Err(error)
    }
}

/// Bytes of a text that `bpf_probe_read_user_str` has copied, its NUL included. Older kernels (seen on
/// 6.1) do not count that of an empty one.
#[inline(always)]
pub(crate) const fn text_bytes(copied: i64) -> u64 {
    if copied == 0 { 1 } else { copied as u64 }
}
