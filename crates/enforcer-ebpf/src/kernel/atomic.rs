//! The atomic instructions of BPF (ISA v3, kernel 5.12).

use core::arch::asm;

/// Adds to a counter and returns what it was before.
///
/// # Safety
/// `counter` must be 8-byte aligned memory of a map value.
#[inline(always)]
pub(crate) unsafe fn fetch_add(counter: *mut u64, value: u64) -> u64 {
    let mut inout = value;
    // SAFETY: one instruction on memory the caller vouches for.
    unsafe {
        asm!(
            "{v} = atomic_fetch_add((u64 *)({p} + 0), {v})",
            p = in(reg) counter,
            v = inout(reg) inout,
        );
    }
    inout
}

/// Stores a value and returns what was there before.
///
/// # Safety
/// `cell` must be 8-byte aligned memory of a map value.
#[inline(always)]
pub(crate) unsafe fn swap(cell: *mut u64, value: u64) -> u64 {
    let mut inout = value;
    // SAFETY: one instruction on memory the caller vouches for.
    unsafe {
        asm!(
            "{v} = xchg_64({p} + 0, {v})",
            p = in(reg) cell,
            v = inout(reg) inout,
        );
    }
    inout
}
