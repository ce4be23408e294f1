//! The decision: who, what, which table, which cell; and what follows from it.

use aya_ebpf::helpers::generated::bpf_get_current_uid_gid;
use karmor_abi::{
    counters::Fault,
    event::{Hook, OBJECT_PATH},
    label::{Handle, Mark, MarkKey},
    op::{Object as Class, Op},
    table::{self, SET_BY_OWNER, Words},
    verdict::{Action, Verdict},
};

use crate::{
    emit,
    kernel::{
        memory::read,
        offsets::{INODE_I_INO, INODE_I_SB, INODE_I_UID, SUPER_BLOCK_S_DEV},
        path::{self, BtfPlace},
        task::Task,
    },
    maps::{Access, Answer, MARKS, NO_STATE, Scratch, Walk},
    object::{KernelTable, Visitor, set_of, state_of, with_table},
    subject::Subject,
};

/// What every refusal returns: `-EACCES`, "Permission denied".
pub(crate) const DENIED: i32 = -13;

/// What goes ahead returns.
pub(crate) const ALLOWED: i32 = 0;

/// Owner of an object that has none.
pub(crate) const NO_OWNER: u32 = u32::MAX;

/// The object of an access.
pub(crate) struct Object {
    /// Where it lies.
    pub(crate) place: BtfPlace,
    /// Address of its inode, 0 for one that does not exist yet.
    pub(crate) inode: u64,
}

/// Decides an access and reports it. What comes back is what the hook returns.
#[inline(always)]
pub(crate) fn decide(subject: &Subject, object: &Object, ops: u32, hook: Hook, flags: u32) -> i32 {
    decide_beside(subject, object, ops, hook, flags, NO_STATE).0
}

/// [`decide`] for an object that is to get another name, after which the automaton is in state
/// `other`: the same future for both names, so that nothing is lost by the move, where the states
/// are equal. Also returns the state after the object's own path.
#[inline(always)]
pub(crate) fn decide_beside(
    subject: &Subject,
    object: &Object,
    ops: u32,
    hook: Hook,
    flags: u32,
    other: u32,
) -> (i32, u32) {
    let Some(scratch) = path::claim() else {
        // No memory for a path or an event's texts: a fault, and a lost event.
        emit::count_fault(Fault::NoScratch);
        emit::count_lost_denial();
        return (DENIED, NO_STATE);
    };
    // SAFETY: claimed by this task.
    unsafe {
        let access = &raw mut (*scratch).access;
        (*access).place = object.place.place();
        (*access).inode = object.inode;
        (*access).marks = subject.marks;
        (*access).handle = subject.handle;
        (*access).workload = subject.workload;
        (*access).ops = ops;
        (*access).hook = hook as u32;
        (*access).flags = flags;
        (*access).other = other;
        (*access).state = NO_STATE;
    }
    if let Err(fault) = examine(subject, object.place, scratch) {
        emit::count_fault(fault);
        // SAFETY: as above.
        unsafe {
            (*scratch).walk = Walk {
                count: 0,
                object: OBJECT_PATH as u64,
            };
            (*scratch).answer = Answer {
                verdict: Verdict::FAULT,
                set: 0,
                op: 0,
            };
        }
    }
    // SAFETY: as above.
    let action = unsafe { (*scratch).answer.verdict.action_bits() };
    if action != Action::Allow as u8 {
        emit::emit(scratch);
    }
    // SAFETY: as above.
    let state = unsafe { (*scratch).access.state };
    path::release(scratch);
    (
        if action >= Action::Block as u8 {
            DENIED
        } else {
            ALLOWED
        },
        state,
    )
}

/// The automaton's state after a path, or [`NO_STATE`] when it cannot be told.
#[inline(always)]
pub(crate) fn state_after(subject: &Subject, place: BtfPlace) -> u32 {
    let Some(scratch) = path::claim() else {
        return NO_STATE;
    };
    let state = if path::walk_btf(scratch, place.mnt, place.dentry) {
        with_table(subject.handle, StateAfter { scratch }).unwrap_or(NO_STATE)
    } else {
        NO_STATE
    };
    path::release(scratch);
    state
}

struct StateAfter {
    scratch: *mut Scratch,
}

impl Visitor for StateAfter {
    type Output = u32;

    #[inline(always)]
    fn visit<const WORDS: usize>(self, table: KernelTable<WORDS>) -> u32 {
        // SAFETY: claimed by this task.
        if unsafe { (*self.scratch).walk.object } == OBJECT_PATH as u64 {
            state_of(table, self.scratch)
        } else {
            NO_STATE
        }
    }
}

#[inline(always)]
fn examine(subject: &Subject, place: BtfPlace, scratch: *mut Scratch) -> Result<(), Fault> {
    if subject.label.is_null() {
        return Err(Fault::NoLabel);
    }
    if subject.handle.sourced() {
        refresh_sources(subject, scratch);
    }
    // SAFETY: the slot is claimed by this task, and only it writes its label.
    unsafe {
        let (access, label) = (&raw mut (*scratch).access, subject.label);
        (*access).source = (*label).source;
        (*access).parent = (*label).parent;
        (*access).exec_id = (*label).exec_id;
        if !path::walk_btf(scratch, place.mnt, place.dentry) {
            return Err(Fault::Read);
        }
        if (*scratch).walk.object == path::BENEATH {
            // A directory of an overlay opens those it is made of, in the name of who opens it. No
            // path leads there; the one that was asked for has been decided.
            if (*access).hook == Hook::Open as u32 {
                (*scratch).answer = Answer {
                    verdict: Verdict::ALLOW,
                    set: 0,
                    op: 0,
                };
                return Ok(());
            }
            (*scratch).walk.object = Class::Anonymous as u64;
        }
        // That of an image may have been there.
        (*access).state = NO_STATE;
        // Memory that processes share and rings of the kernel are mapped this way; nothing that a
        // path leads to is written.
        if (*scratch).walk.object == Class::Anonymous as u64 && (*access).hook == Hook::Mmap as u32
        {
            (*access).ops &= !Op::Write.bit();
        }
    }
    // User space frees a table only after every program that could hold its handle has ended.
    with_table(subject.handle, Ask { scratch }).unwrap_or(Err(Fault::NoTable))
}

struct Ask {
    scratch: *mut Scratch,
}

impl Visitor for Ask {
    type Output = Result<(), Fault>;

    #[inline(always)]
    fn visit<const WORDS: usize>(self, table: KernelTable<WORDS>) -> Result<(), Fault> {
        let scratch = self.scratch;
        let set = set_of(table, scratch).ok_or(Fault::Read)?;
        // SAFETY: claimed by this task.
        unsafe {
            (*scratch).answer = Answer {
                verdict: Verdict::ALLOW,
                set,
                op: 0,
            };
            let access = &raw mut (*scratch).access;
            if (*access).state == (*access).other && (*access).state != NO_STATE {
                // Every rule sees both names alike, and all that lies below them.
                (*access).ops &= !Op::Move.bit();
            }
            consider(&table, scratch, set);
            if (*access).marks != 0
                && let Some(mark) = marked(&*access)?
            {
                (*access).ops &= mark.ops;
                consider(&table, scratch, mark.set);
            }
        }
        Ok(())
    }
}

/// What a file is that is protected under another name than this one.
#[inline(always)]
fn marked(access: &Access) -> Result<Option<Mark>, Fault> {
    if access.inode == 0 {
        return Ok(None);
    }
    let (Ok(inode), Ok(super_block)) = (
        read::<u64>(access.inode + u64::from(INODE_I_INO.load())),
        read::<u64>(access.inode + u64::from(INODE_I_SB.load())),
    ) else {
        return Err(Fault::Read);
    };
    let Ok(device) = read::<u32>(super_block + u64::from(SUPER_BLOCK_S_DEV.load())) else {
        return Err(Fault::Read);
    };
    let key = MarkKey {
        workload: access.workload,
        device,
        inode,
    };
    // SAFETY: entries are replaced whole.
    match unsafe { MARKS.get(key) } {
        Some(mark) if mark.table == access.handle.uid() => Ok(Some(*mark)),
        _ => Ok(None),
    }
}

/// Takes the verdicts of the operations asked about, where they are stricter than the answer so
/// far.
#[inline(always)]
fn consider<T: Words>(table: &T, scratch: *mut Scratch, set: u32) {
    // SAFETY: claimed by this task.
    let (access, answer) = unsafe { (&(*scratch).access, &mut (*scratch).answer) };
    let decoded = table::set(table, set);
    let owner = decoded.flags() & SET_BY_OWNER != 0 && owns(access.inode);
    let (source, parent) = (access.source, access.parent);
    macro_rules! operation {
        ($op:ident, $verdict:expr) => {
            if access.ops & Op::$op.bit() != 0 {
                let verdict: Verdict = $verdict;
                if verdict.action_bits() > answer.verdict.action_bits() {
                    *answer = Answer {
                        verdict,
                        set,
                        op: Op::$op as u32,
                    };
                }
            }
        };
    }
    operation!(
        Exec,
        table::verdict_with_parent(table, decoded, Op::Exec, source, parent, owner)
    );
    operation!(
        Map,
        table::verdict_with_parent(table, decoded, Op::Map, source, parent, owner)
    );
    operation!(
        Read,
        table::verdict(table, decoded, Op::Read, source, owner)
    );
    operation!(
        Write,
        table::verdict(table, decoded, Op::Write, source, owner)
    );
    operation!(
        Move,
        table::verdict(table, decoded, Op::Move, source, owner)
    );
}

/// Whether the running task's real user owns the inode.
#[inline(always)]
fn owns(inode: u64) -> bool {
    // SAFETY: the helper has no preconditions.
    let uid = unsafe { bpf_get_current_uid_gid() } as u32;
    owner_of(inode) == uid
}

/// Owner of an inode in the initial user namespace, or [`NO_OWNER`].
#[inline(always)]
pub(crate) fn owner_of(inode: u64) -> u32 {
    if inode == 0 {
        return NO_OWNER;
    }
    match read::<u32>(inode + u64::from(INODE_I_UID.load())) {
        Ok(uid) => uid,
        Err(_) => NO_OWNER,
    }
}

/// Computes the task's source classes when they belong to another table.
#[inline(always)]
pub(crate) fn refresh_sources(subject: &Subject, scratch: *mut Scratch) {
    let label = subject.label;
    // SAFETY: not null at every caller, and only this task writes it.
    unsafe {
        if (*label).table == subject.handle.uid() {
            return;
        }
        let task = Task::current();
        (*label).source = source_of(subject.handle.0, scratch, task.0);
        (*label).parent = source_of(subject.handle.0, scratch, task.real_parent().0);
        (*label).table = subject.handle.uid();
    }
}

/// The class of a task's image in a table; 0, as for an image that no rule names, when it cannot be
/// told.
#[inline(never)]
pub(crate) fn source_of(handle: u64, scratch: *mut Scratch, task: u64) -> u32 {
    let Some(place) = Task(task).exe() else {
        return 0;
    };
    if !path::walk(scratch, place.mnt, place.dentry) {
        return 0;
    }
    with_table(Handle(handle), SourceOf { scratch }).unwrap_or(0)
}

struct SourceOf {
    scratch: *mut Scratch,
}

impl Visitor for SourceOf {
    type Output = u32;

    #[inline(always)]
    fn visit<const WORDS: usize>(self, table: KernelTable<WORDS>) -> u32 {
        set_of(table, self.scratch).map_or(0, |set| table::set(&table, set).source())
    }
}
