//! The path of an object, from the root of its mount namespace, by our own walk.
//!
//! `bpf_d_path` is refused in half of the hooks and answers relative to the task's root, which a
//! contained root may change; this walk has one meaning in every hook. It goes from the object
//! upwards and notes each component; the texts are read later, from the root down, and only as far
//! as the automaton wants them.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_loop};
use karmor_abi::{
    event::OBJECT_PATH,
    limits::{NAME_BYTES, PATH_BYTES, PATH_COMPONENTS},
    op::Object,
};

use super::{
    memory::{Ptr, load, load_u32, load_u64, read, read_or_zero},
    offsets::{
        DENTRY_D_NAME, DENTRY_D_PARENT, FILE_SYSTEM_TYPE_NAME, MNT_NS_EVENT, MNT_NS_NS,
        MNT_NS_ROOT, MOUNT_MNT, MOUNT_MNT_NS, MOUNT_MNT_PARENT, NS_COMMON_INUM, NSPROXY_MNT_NS,
        SUPER_BLOCK_S_ROOT, SUPER_BLOCK_S_TYPE, TASK_NSPROXY, VFSMOUNT_MNT_FLAGS,
        VFSMOUNT_MNT_ROOT,
    },
};
use crate::maps::{Climb, Name, SCRATCH, SCRATCH_SLOTS, Scratch, Walk};

/// Components that are climbed without a helper's call. The verifier follows every one of them.
const NEAR: u64 = 15;
const _: () = assert!(NEAR as usize * (NAME_BYTES + 1) <= PATH_BYTES);

/// Mounts a path may cross besides its components.
const MOUNTS: u32 = 64;

/// Addresses at and above this are `ERR_PTR`s (`MAX_ERRNO`).
const ERROR_POINTERS: u64 = -4095i64 as u64;

/// Inode number of anonymous mount namespaces since 6.18 (`MNT_NS_ANON_INO`); 0 before.
const ANONYMOUS_NAMESPACE: u32 = 0xEFFF_FFF7;

/// `MNT_INTERNAL`: a mount that the kernel made for itself, such as the one of memfds. The private
/// copies of its layers' mounts that a stacked file system keeps lack it.
pub(crate) const MNT_INTERNAL: u32 = 0x4000;

/// What a walk notes as the object when it lies beneath a stacked file system.
pub(crate) const BENEATH: u64 = 0xfe;
const _: () = assert!(BENEATH != OBJECT_PATH as u64);

/// A place in a mount: `dentry` seen through `mnt` (a `struct vfsmount`).
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Place {
    pub(crate) mnt: u64,
    pub(crate) dentry: u64,
}

impl Place {
    /// No place.
    pub(crate) const NOWHERE: Self = Self { mnt: 0, dentry: 0 };

    /// Whether it is one.
    #[inline(always)]
    pub(crate) const fn is_somewhere(self) -> bool {
        self.mnt != 0 && self.dentry != 0
    }
}

/// A place by BTF pointers, which the verifier knows and lets programs follow.
#[derive(Clone, Copy)]
pub(crate) struct BtfPlace {
    pub(crate) mnt: Ptr,
    pub(crate) dentry: Ptr,
}

impl BtfPlace {
    /// The same by address.
    #[inline(always)]
    pub(crate) fn place(self) -> Place {
        Place {
            mnt: self.mnt as u64,
            dentry: self.dentry as u64,
        }
    }
}

/// The top of a mount tree.
const TOP: u64 = 1;
/// A dentry without a parent that is not its mount's root.
const DISCONNECTED: u64 = 2;
/// More components or bytes than a path may have, or a longer name, which some file systems allow.
const TOO_LONG: u64 = 3;
/// Memory that must be readable was not.
const UNREADABLE: u64 = 4;

/// What a step of the climb needs to know. What changes is in [`Scratch::climb`]: to the verifier,
/// map memory holds unknown numbers, so that it sees one state and not one for each step.
#[repr(C)]
struct Climber {
    scratch: *mut Scratch,
}

/// Whether a climb that has reached the root of its mount is at the top of its mount tree.
#[inline(always)]
fn is_top(climb: &mut Climb) -> bool {
    let [parent, mountpoint, _] = climb.edges;
    if [parent, mountpoint] == climb.top {
        // Nothing lies above the root of the top mount.
        climb.mount = parent;
    } else if parent != climb.mount {
        return false;
    }
    climb.end = TOP;
    true
}

unsafe extern "C" fn climb(_index: u64, climber: *mut Climber) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame; the
    // slot is claimed by this task.
    let (scratch, climb) = unsafe {
        let scratch = (*climber).scratch;
        (scratch, &mut (*scratch).climb)
    };
    if climb.dentry == climb.edges[2] {
        if is_top(climb) {
            return 1;
        }
        climb.dentry = climb.edges[1];
        climb.mount = climb.edges[0];
        let Ok(edges) = read(climb.mount + u64::from(MOUNT_MNT_PARENT.load())) else {
            climb.end = UNREADABLE;
            return 1;
        };
        climb.edges = edges;
        return 0;
    }
    // `d_parent` and `d_name` { hash, len, name } lie side by side: one read a component.
    let Ok([parent, hash_len, text]) =
        read::<[u64; 3]>(climb.dentry + u64::from(DENTRY_D_PARENT.load()))
    else {
        climb.end = UNREADABLE;
        return 1;
    };
    // The root of a file system, of which the mount shows less, has no name.
    if parent == climb.dentry && climb.count != 0 {
        climb.end = DISCONNECTED;
        return 1;
    }
    let len = hash_len >> 32;
    climb.bytes += len + 1;
    if climb.count >= PATH_COMPONENTS as u64
        || climb.bytes > PATH_BYTES as u64
        || len > NAME_BYTES as u64
    {
        climb.end = TOO_LONG;
        return 1;
    }
    // SAFETY: the slot is claimed by this task; the index is masked below its length.
    unsafe {
        let name = &raw mut (*scratch).names[climb.count as usize & (PATH_COMPONENTS - 1)];
        *name = Name { text, len };
    }
    climb.count += 1;
    if parent == climb.dentry {
        climb.end = DISCONNECTED;
        return 1;
    }
    climb.dentry = parent;
    0
}

/// Notes the components of a place in `scratch`, the object's own name first.
///
/// `false` when kernel memory could not be read.
#[inline(always)]
pub(crate) fn walk(scratch: *mut Scratch, mnt: u64, dentry: u64) -> bool {
    begin(scratch, mnt, dentry);
    ascend(scratch)
}

/// Notes where a walk starts, or goes on from.
#[inline(always)]
fn begin(scratch: *mut Scratch, mnt: u64, dentry: u64) {
    // SAFETY: claimed by this task.
    let climb = unsafe { &mut (*scratch).climb };
    (climb.dentry, climb.mount) = (dentry, mnt);
    (climb.count, climb.bytes) = (0, 0);
}

/// [`walk`] within `/proc` or `/sys`, up to its root, as if that were mounted where it usually is: on a
/// directory at the top whose name, of `len` bytes, that of its type begins with. `super_block` is the
/// address of its `struct super_block`.
#[inline(always)]
pub(crate) fn walk_as_usual(
    scratch: *mut Scratch,
    dentry: u64,
    super_block: u64,
    len: u64,
) -> bool {
    /// Stands for a mount that is its own parent, as the one at the top is.
    const TOPMOST: u64 = 1;
    let root = read_or_zero(super_block + u64::from(SUPER_BLOCK_S_ROOT.load()));
    let kind = read_or_zero(super_block + u64::from(SUPER_BLOCK_S_TYPE.load()));
    let text = read_or_zero(kind + u64::from(FILE_SYSTEM_TYPE_NAME.load()));
    // SAFETY: claimed by this task.
    let climb = unsafe { &mut (*scratch).climb };
    (climb.count, climb.bytes, climb.end) = (0, 0, TOO_LONG);
    (climb.dentry, climb.mount) = (dentry, TOPMOST);
    (climb.edges, climb.top) = ([TOPMOST, 0, root], [0, 0]);
    climb_on(scratch);
    if climb.end != TOP {
        return false;
    }
    let count = climb.count;
    // SAFETY: as above; the index is masked below the length.
    unsafe {
        (*scratch).names[count as usize & (PATH_COMPONENTS - 1)] = Name { text, len };
        (*scratch).walk = Walk {
            count: count + 1,
            object: u64::from(OBJECT_PATH),
        };
    }
    count < PATH_COMPONENTS as u64
}

/// [`walk`] for BTF pointers: the first components cost no helper's call.
///
#[inline(never)]
pub(crate) fn walk_btf(scratch: *mut Scratch, mnt: Ptr, dentry: Ptr) -> bool {
    let (mut at, mut count, mut bytes) = (dentry, 0, 0);
    // SAFETY: BTF pointers and their members.
    let root = unsafe { load(mnt, VFSMOUNT_MNT_ROOT.load()) };
    while count < NEAR && at != root {
        // SAFETY: as above; the index is below the length. `d_name` is { hash, len, name }.
        unsafe {
            let parent = load(at, DENTRY_D_PARENT.load());
            let len = u64::from(load_u32(at, DENTRY_D_NAME.load() + 4));
            let text = load(at, DENTRY_D_NAME.load() + 8) as u64;
            if parent == at || len > NAME_BYTES as u64 {
                break;
            }
            (*scratch).names[count as usize] = Name { text, len };
            bytes += len + 1;
            at = parent;
        }
        count += 1;
    }
    begin(scratch, mnt as u64, at as u64);
    // SAFETY: claimed by this task.
    let climb = unsafe { &mut (*scratch).climb };
    (climb.count, climb.bytes) = (count, bytes);
    ascend(scratch)
}

/// Goes on from the place noted in [`Scratch::climb`], by its `struct vfsmount`, to the top of its
/// mount tree.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ascend(scratch: *mut Scratch) -> bool {
    if scratch.is_null() {
        return false;
    }
    // SAFETY: claimed by this task.
    let mount = unsafe { (*scratch).climb.mount } - u64::from(MOUNT_MNT.load());
    let Ok(edges) = read::<[u64; 3]>(mount + u64::from(MOUNT_MNT_PARENT.load())) else {
        return false;
    };
    // SAFETY: claimed by this task.
    let state = unsafe {
        let climb = &mut (*scratch).climb;
        (climb.mount, climb.edges) = (mount, edges);
        if climb.instead == 0 {
            let namespace = namespace();
            climb.top = top(namespace);
            climb.namespace = namespace as u64;
            climb.inum = u64::from(inum(namespace));
        } else {
            stand_in(climb);
        }
        climb.end = TOO_LONG;
        climb
    };
    if state.dentry != edges[2] || !is_top(state) {
        climb_on(scratch);
    }
    let object = match state.end {
        UNREADABLE => return false,
        TOO_LONG => Object::TooLong as u64,
        // The task's own mount namespace.
        TOP if state.mount == state.top[0] => u64::from(OBJECT_PATH),
        end => attachment(state.mount, end == TOP),
    };
    // SAFETY: claimed by this task.
    unsafe {
        (*scratch).walk = Walk {
            count: state.count,
            object,
        }
    };
    true
}

#[inline(always)]
fn climb_on(scratch: *mut Scratch) {
    let mut climber = Climber { scratch };
    let step: unsafe extern "C" fn(u64, *mut Climber) -> i64 = climb;
    // SAFETY: the callback gets `climber`, which outlives the call. The function item is transmuted,
    // not cast through an integer, to keep the relocation that tells the verifier it is a function.
    unsafe {
        bpf_loop(
            PATH_COMPONENTS as u32 + MOUNTS,
            core::mem::transmute::<unsafe extern "C" fn(u64, *mut Climber) -> i64, *mut c_void>(
                step,
            ),
            (&raw mut climber).cast(),
            0,
        );
    }
}

/// The running task's mount namespace, a BTF pointer; what is read of it is zero for a task that is
/// about to end.
#[inline(always)]
pub(crate) fn namespace() -> Ptr {
    // SAFETY: the helper returns a BTF pointer; the rest are members of such.
    unsafe {
        let task = aya_ebpf::helpers::generated::bpf_get_current_task_btf() as Ptr;
        load(load(task, TASK_NSPROXY.load()), NSPROXY_MNT_NS.load())
    }
}

/// Inode number of a mount namespace, given by a BTF pointer.
#[inline(always)]
pub(crate) fn inum(namespace: Ptr) -> u32 {
    // SAFETY: a member of a BTF pointer.
    unsafe { load_u32(namespace, MNT_NS_NS.load() + NS_COMMON_INUM.load()) }
}

/// When something was last mounted or unmounted in a mount namespace, given by a BTF pointer: a number that
/// is another one each time.
#[inline(always)]
pub(crate) fn event(namespace: Ptr) -> u64 {
    // SAFETY: a member of a BTF pointer.
    unsafe { load_u64(namespace, MNT_NS_EVENT.load()) }
}

/// The mount at the top of a mount namespace, given by a BTF pointer, and the root of what it shows.
#[inline(always)]
fn top(namespace: Ptr) -> [u64; 2] {
    // SAFETY: members of BTF pointers.
    unsafe {
        let mount = load(namespace, MNT_NS_ROOT.load());
        let root = load(mount, MOUNT_MNT.load() + VFSMOUNT_MNT_ROOT.load());
        [mount as u64, root as u64]
    }
}

/// Has another mount namespace than the running task's ask. What cannot be read of it is zero, as of
/// a task that is about to end.
#[inline(always)]
fn stand_in(climb: &mut Climb) {
    let namespace = climb.instead;
    let mount = read_or_zero(namespace + u64::from(MNT_NS_ROOT.load()));
    let root = mount + u64::from(MOUNT_MNT.load() + VFSMOUNT_MNT_ROOT.load());
    climb.top = [mount, read_or_zero(root)];
    climb.namespace = namespace;
    climb.inum = match read::<u32>(inum_address(namespace)) {
        Ok(inum) => u64::from(inum),
        Err(_) => 0,
    };
}

/// Whether what a `struct path` names hangs in a mount namespace somebody can live in: not so a
/// mount that has just been made, and a copy of one.
#[inline(always)]
pub(crate) fn is_attached(mnt: u64) -> bool {
    attachment(mnt - u64::from(MOUNT_MNT.load()), true) == u64::from(OBJECT_PATH)
}

/// Whether the mount that ended a climb hangs in a mount namespace somebody can live in.
#[inline(always)]
fn attachment(mount: u64, top: bool) -> u64 {
    let namespace = read_or_zero(mount + u64::from(MOUNT_MNT_NS.load()));
    if namespace >= ERROR_POINTERS {
        let flags = mount + u64::from(MOUNT_MNT.load()) + u64::from(VFSMOUNT_MNT_FLAGS.load());
        return match read::<u32>(flags) {
            Ok(flags) if flags & MNT_INTERNAL == 0 => BENEATH,
            _ => Object::Anonymous as u64,
        };
    }
    if namespace == 0 || !top {
        return Object::Unreachable as u64;
    }
    match read::<u32>(inum_address(namespace)) {
        Ok(0 | ANONYMOUS_NAMESPACE) | Err(_) => Object::Unreachable as u64,
        Ok(_) => u64::from(OBJECT_PATH),
    }
}

/// Where the inode number of a mount namespace stands.
#[inline(always)]
pub(crate) fn inum_address(namespace: u64) -> u64 {
    namespace + u64::from(MNT_NS_NS.load()) + u64::from(NS_COMMON_INUM.load())
}

/// Claims a scratch slot. `None` when all are taken.
#[inline(always)]
pub(crate) fn claim() -> Option<*mut Scratch> {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(own) = SCRATCH.get_ptr_mut(cpu)
        // SAFETY: a map value, 8-byte aligned.
        && unsafe { super::atomic::swap(&raw mut (*own).claimed, 1) } == 0
    {
        return Some(own);
    }
    // A hook that this one has preempted has it.
    SCRATCH.get_ptr_mut(claim_any(cpu))
}

/// Claims the first scratch slot that is free, and returns its number; [`u32::MAX`] for none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn claim_any(cpu: u32) -> u32 {
    let mut search = Search {
        first: cpu,
        found: u32::MAX,
    };
    let step: unsafe extern "C" fn(u64, *mut Search) -> i64 = try_claim;
    // SAFETY: the callback gets `search`, which outlives the call; see `climb_on`.
    unsafe {
        bpf_loop(
            SCRATCH_SLOTS as u32,
            core::mem::transmute::<unsafe extern "C" fn(u64, *mut Search) -> i64, *mut c_void>(
                step,
            ),
            (&raw mut search).cast(),
            0,
        );
    }
    search.found
}

/// A search for a free slot.
#[repr(C)]
struct Search {
    first: u32,
    found: u32,
}

unsafe extern "C" fn try_claim(index: u64, search: *mut Search) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame.
    let search = unsafe { &mut *search };
    // Past the last slot the search goes on from slot 0.
    let mut number = search.first.wrapping_add(index as u32);
    let slot = match SCRATCH.get_ptr_mut(number) {
        Some(slot) => slot,
        None => {
            number = index as u32;
            match SCRATCH.get_ptr_mut(number) {
                Some(slot) => slot,
                None => return 1,
            }
        }
    };
    // SAFETY: a map value, 8-byte aligned.
    if unsafe { super::atomic::swap(&raw mut (*slot).claimed, 1) } != 0 {
        return 0;
    }
    search.found = number;
    1
}

/// Gives a slot back.
#[inline(always)]
pub(crate) fn release(slot: *mut Scratch) {
    // SAFETY: the caller claimed the slot; the swap orders its earlier writes before the release.
    unsafe { super::atomic::swap(&raw mut (*slot).claimed, 0) };
}
