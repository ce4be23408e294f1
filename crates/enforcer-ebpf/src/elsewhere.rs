//! The other names of an object.
//!
//! A mount gives what lies in a file system another path, and rules know paths. What a workload may
//! not do under the names of its own mount namespace, the one it was started in, it may not do under
//! others either, once there can be others: because the workload has mounted something, or because
//! the object is reached in another mount namespace. So the object is looked for in every mount of
//! its file system that hangs in the workload's own namespace, or in the one that asks, and decided
//! under each name it has there. The strictest answer counts.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use karmor_abi::{
    counters::Fault,
    event::{Hook, OBJECT_PATH},
    label::{HOST, Home},
    limits::WORKLOADS,
    op::{Object, Op},
    table::{self, ABSORBING},
    verdict::Action,
};

use crate::{
    kernel::{
        memory::{Ptr, read, read_or_zero},
        offsets::{
            DENTRY_D_INODE, DENTRY_D_SB, INODE_I_MODE, INODE_I_RDEV, MOUNT_LINK, MOUNT_MNT,
            MOUNT_MNT_NS, MOUNT_NEXT, SUPER_BLOCK_S_MAGIC, SUPER_BLOCK_S_MOUNTS, VFSMOUNT_MNT_ROOT,
        },
        path,
    },
    maps::{HOMES, NO_STATE, Scratch},
    object::{Table, Visitor, file::is_standard_device, with_table},
};

/// Mounts of one file system that are looked at.
const MOUNTS: u32 = 65_536;

/// How often a search begins anew when a mount goes away under it.
const RESTARTS: u64 = 8;

/// The whole list has been looked at.
const COMPLETE: u64 = 1;
/// An answer stricter than which there is none.
const REFUSED: u64 = 2;
/// Memory that must be readable was not.
const UNREADABLE: u64 = 3;

/// `PROC_SUPER_MAGIC`: of a file system that is made anew for each mount, and shows the same.
pub(crate) const PROC: u64 = 0x9fa0;
/// `SYSFS_MAGIC`: likewise, for each network namespace.
const SYSFS: u64 = 0x6265_6572;

/// The workload's entry, when it has one.
#[inline(always)]
fn home_of(workload: u32) -> Option<*mut Home> {
    let home = HOMES.get_ptr_mut(workload & (WORKLOADS - 1))?;
    // SAFETY: a live map value.
    (unsafe { (*home).workload } == workload).then_some(home)
}

/// A workload's first process, by its number in the initial pid namespace; 0 when that is not known.
#[inline(always)]
pub(crate) fn init_of(workload: u32) -> u32 {
    // SAFETY: a live map value.
    home_of(workload).map_or(0, |home| unsafe { (*home).init })
}

/// Device of the root that a workload was started with; 0 when that is not known.
#[inline(always)]
pub(crate) fn root_of(workload: u32) -> u32 {
    // SAFETY: a live map value.
    home_of(workload).map_or(0, |home| unsafe { (*home).root })
}

/// Whether the running task is in its workload's own mount namespace.
#[inline(always)]
pub(crate) fn is_at_home(workload: u32) -> bool {
    match home_of(workload) {
        // SAFETY: a live map value.
        Some(home) => match unsafe { (*home).namespace } {
            0 => true,
            own => path::inum(path::namespace()) == own,
        },
        None => true,
    }
}

/// Whether the running task, which is in the workload's cgroup, is still in the host's mount namespace and
/// the workload is not: a runtime's process that joined the cgroup first, and whose own programs are the
/// host's. It is the workload's when it executes something behind that.
#[inline(always)]
pub(crate) fn is_yet_to_enter(workload: u32) -> bool {
    // SAFETY: a live map value.
    let namespace_of = |workload| home_of(workload).map_or(0, |home| unsafe { (*home).namespace });
    let (host, own) = (namespace_of(HOST), namespace_of(workload));
    host != 0 && own != 0 && own != host && path::inum(path::namespace()) == host
}

/// Remembers that objects of the workload may have other names from now on.
#[inline(always)]
pub(crate) fn note_mount(workload: u32) {
    if let Some(home) = home_of(workload) {
        // SAFETY: a live map value; user space does not write the entries of known workloads.
        unsafe { (&raw mut (*home).mounted).write_volatile(1) };
    }
}

/// Whether the object that was just walked may have other names than that of the walk, and whether
/// it was reached outside of the workload's own mount namespace.
#[inline(always)]
pub(crate) fn is_needed(scratch: *mut Scratch) -> (bool, bool) {
    // SAFETY: claimed by this task, a live map value.
    unsafe {
        let (access, climb) = (&raw const (*scratch).access, &raw const (*scratch).climb);
        if (*scratch).walk.object == Object::Anonymous as u64 {
            return (false, false);
        }
        let Some(home) = home_of((*access).workload) else {
            return (false, false);
        };
        let own = u64::from((*home).namespace);
        let away = own != 0 && ((*climb).mount != (*climb).top[0] || (*climb).inum != own);
        if !away && own != 0 && (*climb).instead == 0 {
            note_events(home, path::namespace());
        }
        (away || (*home).mounted != 0, away)
    }
}

/// Remembers that objects of a workload may have other names, if anything has been mounted in its own mount
/// namespace, a BTF pointer, since it was first asked or [`look_at_home`] saw it: by the host, by a process of
/// another container that has come there, or by propagation.
#[inline(always)]
fn note_events(home: *mut Home, namespace: Ptr) {
    let now = path::event(namespace) as u32;
    // Zero stands for none.
    let now = now.wrapping_mul(2) | 1;
    // SAFETY: a live map value; user space does not write the entries of known workloads.
    unsafe {
        match (&raw const (*home).event).read_volatile() {
            0 => (&raw mut (*home).event).write_volatile(now),
            known if known == now => {}
            _ => (&raw mut (*home).mounted).write_volatile(1),
        }
    }
}

/// Looks whether anything has been mounted in a workload's own mount namespace, if `namespace`, a BTF pointer
/// to that of one of its tasks, is it: mounts count from then on, not from what the workload first does.
#[inline(always)]
pub(crate) fn look_at_home(workload: u32, namespace: Ptr) {
    let Some(home) = home_of(workload) else {
        return;
    };
    // SAFETY: a live map value.
    let own = unsafe { (*home).namespace };
    if own != 0 && path::inum(namespace) == own {
        note_events(home, namespace);
    }
}

/// What a step of the search needs to know; what changes is in [`Scratch::seek`].
#[repr(C)]
struct Seeker {
    scratch: *mut Scratch,
}

unsafe extern "C" fn look_at_mount(_index: u64, seeker: *mut Seeker) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame; the
    // slot is claimed by this task.
    let (scratch, seek) = unsafe {
        let scratch = (*seeker).scratch;
        (scratch, &mut (*scratch).seek)
    };
    // A list that leads back to its head, or one that ends.
    if seek.link == seek.head || seek.link == 0 {
        seek.end = COMPLETE;
        return 1;
    }
    // Mounts are freed after a grace period, so that one which has just been taken off the list is
    // still one. It may lead nowhere.
    let mount = seek.link - u64::from(MOUNT_LINK.load());
    let (Ok(next), Ok(namespace)) = (
        read::<u64>(mount + u64::from(MOUNT_NEXT.load())),
        read::<u64>(mount + u64::from(MOUNT_MNT_NS.load())),
    ) else {
        seek.restarts += 1;
        (seek.found, seek.named) = (0, 0);
        let first = read::<u64>(seek.head);
        return match first {
            Ok(first) if seek.restarts <= RESTARTS => {
                seek.link = first;
                0
            }
            _ => {
                seek.end = UNREADABLE;
                1
            }
        };
    };
    seek.link = next;
    let asking = namespace == seek.namespace;
    let home = if seek.at_home != 0 {
        asking
    } else {
        match read::<u32>(path::inum_address(namespace)) {
            Ok(inum) => u64::from(inum) == seek.home,
            // Detached, or beneath a stacked file system.
            Err(_) => false,
        }
    };
    if !asking && !home {
        return 0;
    }
    let vfsmount = mount + u64::from(MOUNT_MNT.load());
    let root = read_or_zero(vfsmount + u64::from(VFSMOUNT_MNT_ROOT.load()));
    // Runtimes hide files of /proc behind /dev/null, which is not those files for that.
    if seek.device != 0 && root == seek.dentry {
        return 0;
    }
    if !path::walk(scratch, vfsmount, seek.dentry) {
        seek.end = UNREADABLE;
        return 1;
    }
    // SAFETY: claimed by this task.
    let object = unsafe { (*scratch).walk.object };
    // It does not lie beneath what this mount shows.
    if object == Object::Unreachable as u64 {
        return 0;
    }
    seek.found += u64::from(home);
    seek.named += 1;
    match judge_name(scratch, vfsmount) {
        0 => 0,
        end => {
            seek.end = end;
            1
        }
    }
}

/// Decides the name that was walked through a mount; returns how the search ends by it, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_name(scratch: *mut Scratch, vfsmount: u64) -> u64 {
    if scratch.is_null() {
        return UNREADABLE;
    }
    // SAFETY: claimed by this task.
    let (handle, before) = unsafe {
        (
            (*scratch).access.handle,
            (*scratch).answer.verdict.action_bits(),
        )
    };
    if with_table(handle, Judge { scratch }).is_none_or(|judged| !judged) {
        return UNREADABLE;
    }
    // SAFETY: as above.
    let after = unsafe { (*scratch).answer.verdict.action_bits() };
    if after > before {
        // SAFETY: as above.
        unsafe { (*scratch).seek.mount = vfsmount };
    }
    if after >= Action::Block as u8 {
        REFUSED
    } else {
        0
    }
}

/// Decides the walked name. `false` when it cannot be read.
struct Judge {
    scratch: *mut Scratch,
}

impl Visitor for Judge {
    type Output = bool;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> bool {
        let scratch = self.scratch;
        // SAFETY: claimed by this task.
        let set = if unsafe { (*scratch).walk.object } == OBJECT_PATH as u64 {
            let state = table.state_of(scratch);
            if state == NO_STATE {
                return false;
            }
            // SAFETY: as above.
            if state == unsafe { (*scratch).access.state } {
                // To every rule the same as the path that was asked for.
                return true;
            }
            table::accept(&table, state)
        } else {
            table::object_set(&table, Object::TooLong)
        };
        table.consider(scratch, set);
        true
    }
}

/// Components of a path that stands for all that no rule names.
pub(crate) const UNNAMED_DEPTH: u32 = 4;

/// The automaton's state after one more component, which no rule names.
#[inline(always)]
pub(crate) fn step_unnamed<T: Table>(table: &T, mut state: u32) -> u32 {
    for byte in [b'/', 1] {
        if state & ABSORBING == 0 {
            state = table::step(table, state, byte);
        }
    }
    state
}

/// Decides an object without a name in the workload's own mount namespace as one that no rule names,
/// whatever it is called where it is: a whitelist does not mean what the workload puts in the place
/// of what it means. One without any name is unreachable.
struct Unnamed {
    scratch: *mut Scratch,
    unreachable: bool,
}

impl Visitor for Unnamed {
    type Output = ();

    #[inline(always)]
    fn visit<T: Table>(self, table: T) {
        if self.unreachable {
            let set = table::object_set(&table, Object::Unreachable);
            return table.consider(self.scratch, set);
        }
        let mut state = table::start(&table);
        let mut depth = 0;
        while depth < UNNAMED_DEPTH {
            state = step_unnamed(&table, state);
            depth += 1;
        }
        table.consider(self.scratch, table::accept(&table, state));
    }
}

/// Whether nobody has told through which mount the object, which was walked, is reached, and its
/// file system is not that of the task's root.
#[inline(always)]
pub(crate) fn is_mountless(scratch: *mut Scratch, object: u64) -> bool {
    // SAFETY: claimed by this task.
    let hook = unsafe { (*scratch).access.hook };
    (hook == Hook::Setxattr as u32 || hook == Hook::CopyUp as u32)
        && object == Object::Unreachable as u64
}

/// Decides the object in `scratch` under its other names as well, where that can make the answer
/// stricter. What was walked last is then what the answer is about.
#[inline(always)]
pub(crate) fn decide(scratch: *mut Scratch, away: bool) -> Result<(), Fault> {
    match search(scratch, u64::from(away)) {
        0 => Ok(()),
        _ => Err(Fault::Read),
    }
}

/// Looks for the object's other names. Not 0 for a fault.
///
/// In parts, since the frames of a chain of calls count together.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn search(scratch: *mut Scratch, away: u64) -> u64 {
    if scratch.is_null() {
        return 1;
    }
    // SAFETY: claimed by this task.
    let (object, place) = unsafe { ((*scratch).walk.object, (*scratch).access.place) };
    if begin(scratch, place.dentry) != 0 {
        return 1;
    }
    let mut seeker = Seeker { scratch };
    let step: unsafe extern "C" fn(u64, *mut Seeker) -> i64 = look_at_mount;
    // SAFETY: the callback gets `seeker`, which outlives the call; see `kernel::path::walk`.
    unsafe {
        bpf_loop(
            MOUNTS,
            core::mem::transmute::<unsafe extern "C" fn(u64, *mut Seeker) -> i64, *mut c_void>(
                step,
            ),
            (&raw mut seeker).cast(),
            0,
        );
    }
    // SAFETY: claimed by this task.
    match unsafe { (*scratch).seek.end } {
        REFUSED => 0,
        COMPLETE => match judge_as_usual(scratch) {
            REFUSED => 0,
            UNREADABLE => 1,
            _ => finish(scratch, object, away, place.mnt),
        },
        _ => 1,
    }
}

/// Notes where a search starts. Not 0 for a fault.
#[inline(never)]
fn begin(scratch: *mut Scratch, dentry: u64) -> u64 {
    // SAFETY: claimed by this task.
    let (access, seek) = unsafe { (&mut (*scratch).access, &mut (*scratch).seek) };
    access.ops = access.asked;
    let Ok(super_block) = read::<u64>(dentry + u64::from(DENTRY_D_SB.load())) else {
        return 1;
    };
    seek.dentry = dentry;
    seek.head = super_block + u64::from(SUPER_BLOCK_S_MOUNTS.load());
    let Ok(link) = read::<u64>(seek.head) else {
        return 1;
    };
    seek.link = link;
    // Zero for a name that is still free; what is not there has no mode.
    let inode = read_or_zero(dentry + u64::from(DENTRY_D_INODE.load()));
    let mode = read::<u16>(inode + u64::from(INODE_I_MODE.load())).unwrap_or(0);
    let device = read::<u32>(inode + u64::from(INODE_I_RDEV.load())).unwrap_or(0);
    seek.device = u64::from(is_standard_device(mode, device));
    // SAFETY: claimed by this task.
    let (instead, walked) = unsafe { ((*scratch).climb.instead, (*scratch).climb.inum) };
    let (namespace, inum) = match instead {
        0 => {
            let own = path::namespace();
            (own as u64, u64::from(path::inum(own)))
        }
        other => (other, walked),
    };
    seek.namespace = namespace;
    seek.home = match home_of(access.workload) {
        // SAFETY: a live map value.
        Some(home) => u64::from(unsafe { (*home).namespace }),
        None => 0,
    };
    seek.at_home = u64::from(seek.home == 0 || inum == seek.home);
    (seek.found, seek.named, seek.mount) = (0, 0, 0);
    (seek.restarts, seek.end) = (0, 0);
    0
}

/// Decides what is in a file system that is made anew, and shows the same, under the name it has in /proc
/// or /sys.
#[inline(never)]
fn judge_as_usual(scratch: *mut Scratch) -> u64 {
    // SAFETY: claimed by this task.
    let (dentry, head) = unsafe { ((*scratch).seek.dentry, (*scratch).seek.head) };
    let super_block = head - u64::from(SUPER_BLOCK_S_MOUNTS.load());
    let place = match read_or_zero(super_block + u64::from(SUPER_BLOCK_S_MAGIC.load())) {
        PROC => "proc",
        SYSFS => "sys",
        _ => return 0,
    };
    if !path::walk_as_usual(scratch, dentry, super_block, place.len() as u64) {
        return 0;
    }
    judge_name(scratch, 0)
}

/// What is left to do when nothing was refused under any name. Not 0 for a fault.
#[inline(never)]
fn finish(scratch: *mut Scratch, object: u64, away: u64, place: u64) -> u64 {
    // SAFETY: claimed by this task.
    unsafe {
        let mountless = is_mountless(scratch, object);
        let lost = (*scratch).seek.home == u64::from(Home::LOST);
        let unreachable = lost || mountless && (*scratch).seek.named == 0;
        let unnamed = away != 0 && (*scratch).seek.found == 0;
        if unreachable || unnamed && (mountless || object == OBJECT_PATH as u64) {
            let before = (*scratch).answer.verdict.action_bits();
            // Nothing that is protected can be meant.
            (*scratch).access.ops &= !Op::Move.bit();
            let visitor = Unnamed {
                scratch,
                unreachable,
            };
            if with_table((*scratch).access.handle, visitor).is_none() {
                return 1;
            }
            if (*scratch).answer.verdict.action_bits() > before {
                (*scratch).seek.mount = 0;
            }
        }
        // For the event, which tells the name that the answer is about; arguments are looked at later.
        let is_told = (*scratch).answer.verdict.action_bits() != Action::Allow as u8
            || (*scratch).access.arguments != 0;
        if is_told {
            let winner = (*scratch).seek.mount;
            let at = if winner == 0 { place } else { winner };
            if at != 0 && !path::walk(scratch, at, (*scratch).seek.dentry) {
                return 1;
            }
            if winner == 0 {
                (*scratch).walk.object = object;
            }
        }
    }
    0
}
