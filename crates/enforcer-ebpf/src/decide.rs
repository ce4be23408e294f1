//! The decision: who, what, which table, which cell; and what follows from it.

use aya_ebpf::helpers::generated::bpf_get_current_uid_gid;
use karmor_abi::{
    counters::Fault,
    event::{Hook, OBJECT_PATH},
    label::{Handle, Mark, MarkKey},
    op::{Object as Class, Op},
    table::{self, Asker, SET_BY_OWNER, SET_BY_TERMINAL, Set, Words},
    verdict::{Action, Verdict},
};

use crate::{
    arguments, elsewhere, emit,
    kernel::{
        memory::{Ptr, read},
        offsets::{DENTRY_D_SB, INODE_I_UID, SUPER_BLOCK_S_DEV},
        path::{self, BtfPlace, Place},
        task::{Task, root_mount},
    },
    maps::{Access, Answer, LABELS, MARKS, NO_STATE, Scratch, Walk},
    object::{
        Table, Visitor,
        file::{inode_of, number_of, place_of},
        set_of, with_table,
    },
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

impl Object {
    /// An open file, which must be a BTF pointer.
    #[inline(always)]
    pub(crate) fn of(file: Ptr) -> Self {
        Self {
            place: place_of(file),
            inode: inode_of(file) as u64,
        }
    }
}

/// When a place counts as one that cannot be told, for what is done to it reaches further than its
/// path says. Then every operation is asked about, as of an object in a detached mount.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Unknown {
    /// It is its path.
    Never = 0,
    /// At the root of the mount namespace.
    AtRoot = 1,
    /// Wherever it is.
    Always = 2,
}

/// Decides an access and reports it. What comes back is what the hook returns.
#[inline(always)]
pub(crate) fn decide(subject: &Subject, object: &Object, ops: u32, hook: Hook, flags: u32) -> i32 {
    decide_beside(subject, object, ops, hook, flags, NO_STATE).0
}

/// [`decide`] for an exec, whose arguments come last; `argc` is the number of them all.
#[inline(always)]
pub(crate) fn decide_exec(subject: &Subject, object: &Object, argc: u32) -> i32 {
    let question = Question::new(subject, object.inode, subject.ops, Hook::Exec);
    let examine = |scratch| {
        examine(subject, object.place, scratch)?;
        arguments::examine_arguments(scratch, argc);
        Ok(())
    };
    question.answer(object.place.place(), examine).0
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
    let question = Question {
        flags,
        other,
        ..Question::new(subject, object.inode, ops, hook)
    };
    question.answer(object.place.place(), |scratch| {
        examine(subject, object.place, scratch)
    })
}

/// Decides that a directory gets another name, after which the automaton is in state `other`, by what may
/// lie below it: who may not read or write there under the old names may not under new ones.
#[inline(always)]
pub(crate) fn decide_below(subject: &Subject, object: &Object, hook: Hook, other: u32) -> i32 {
    let question = Question {
        other,
        // Nobody owns all that lies below.
        ..Question::new(subject, 0, subject.ops, hook)
    };
    let examine = |scratch| {
        identify(subject, scratch)?;
        if !path::walk_btf(scratch, object.place.mnt, object.place.dentry) {
            return Err(Fault::Read);
        }
        with_table(subject.handle, Below { scratch }).unwrap_or(Err(Fault::NoTable))
    };
    question.answer(object.place.place(), examine).0
}

/// Decides, below a directory that has been walked, what no rule names. What rules do name there keeps
/// the directory in its place, if it is protected.
struct Below {
    scratch: *mut Scratch,
}

impl Visitor for Below {
    type Output = Result<(), Fault>;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> Result<(), Fault> {
        let scratch = self.scratch;
        // SAFETY: claimed by this task.
        let other = unsafe {
            (*scratch).answer = Answer::ALLOW;
            if (*scratch).walk.object != OBJECT_PATH as u64 {
                // It has no name, and has been decided as what has none.
                return Ok(());
            }
            (*scratch).access.other
        };
        let mut state = table.state_of(scratch);
        if state == NO_STATE {
            return Err(Fault::Read);
        }
        if state == other {
            return Ok(());
        }
        let mut depth = 0;
        while depth < elsewhere::UNNAMED_DEPTH {
            state = elsewhere::step_unnamed(&table, state);
            table.consider(scratch, table::accept(&table, state));
            depth += 1;
        }
        Ok(())
    }
}

/// Decides a change of mounts at a place.
#[inline(always)]
pub(crate) fn decide_mount(
    subject: &Subject,
    object: &Object,
    ops: u32,
    hook: Hook,
    flags: u32,
    unknown: Unknown,
) -> i32 {
    let question = Question {
        flags,
        unknown,
        ..Question::new(subject, object.inode, ops, hook)
    };
    let examine = |scratch| examine(subject, object.place, scratch);
    question.answer(object.place.place(), examine).0
}

/// Decides what gives a directory, known by its dentry alone, other names, under all that it has. Where a
/// file of its device is known by a mark, what lies below cannot be told: the mark would not be seen.
#[inline(always)]
pub(crate) fn decide_layer(subject: &Subject, dentry: Ptr, ops: u32, hook: Hook) -> i32 {
    let question = Question::new(subject, 0, ops, hook);
    let nowhere = Place {
        mnt: 0,
        dentry: dentry as u64,
    };
    let examine = |scratch: *mut Scratch| {
        identify(subject, scratch)?;
        // SAFETY: claimed by this task.
        unsafe {
            (*scratch).answer = Answer::ALLOW;
            (*scratch).walk = Walk {
                count: 0,
                object: Class::Unreachable as u64,
            };
        }
        if subject.marks != 0 && has_marks(subject, dentry)? {
            // SAFETY: as above.
            unsafe { (*scratch).access.unknown = Unknown::Always as u32 };
            judge(scratch, subject.ops);
            name_as_at_home(scratch, dentry);
            return Ok(());
        }
        elsewhere::decide(scratch, false)
    };
    question.answer(nowhere, examine).0
}

/// Has the event tell where a dentry lies beneath the root, as far as that can be told.
#[inline(always)]
fn name_as_at_home(scratch: *mut Scratch, dentry: Ptr) {
    // SAFETY: claimed by this task.
    unsafe {
        let object = (*scratch).walk.object;
        if path::walk(scratch, root_mount() as u64, dentry as u64) {
            (*scratch).walk.object = object;
        }
    }
}

/// Whether some file on the device of a dentry is marked.
#[inline(always)]
fn has_marks(subject: &Subject, dentry: Ptr) -> Result<bool, Fault> {
    let super_block = read::<u64>(dentry as u64 + u64::from(DENTRY_D_SB.load()));
    let device = super_block.and_then(|at| read::<u32>(at + u64::from(SUPER_BLOCK_S_DEV.load())));
    let key = MarkKey::device(subject.workload, device.map_err(|_error| Fault::Read)?);
    // SAFETY: entries are replaced whole.
    let mark = unsafe { MARKS.get(key) };
    Ok(mark.is_some_and(|mark| mark.table == subject.handle.uid()))
}

/// What a hook asks.
struct Question<'a> {
    subject: &'a Subject,
    inode: u64,
    ops: u32,
    hook: Hook,
    flags: u32,
    other: u32,
    unknown: Unknown,
}

impl<'a> Question<'a> {
    /// About an object that is its path and gets no other name.
    #[inline(always)]
    fn new(subject: &'a Subject, inode: u64, ops: u32, hook: Hook) -> Self {
        Self {
            subject,
            inode,
            ops,
            hook,
            flags: 0,
            other: NO_STATE,
            unknown: Unknown::Never,
        }
    }

    /// Whether nothing is told of what was not refused: a descriptor that is suspect is used over and
    /// over, and the open that it comes from has been told of.
    #[inline(always)]
    fn is_untold(&self, action: u8) -> bool {
        let is_use = self.hook as u32 == Hook::Use as u32 || self.hook as u32 == Hook::Ioctl as u32;
        is_use && action < Action::Block as u8
    }

    /// Has the access examined, and reports it. What comes back is what the hook returns, and the
    /// automaton's state after the object's path.
    #[inline(always)]
    fn answer(
        &self,
        place: Place,
        examine: impl FnOnce(*mut Scratch) -> Result<(), Fault>,
    ) -> (i32, u32) {
        let Some(scratch) = path::claim() else {
            // No memory for a path or an event's texts.
            emit::count_untold(Fault::NoScratch, Verdict::FAULT);
            return (DENIED, NO_STATE);
        };
        // SAFETY: claimed by this task.
        unsafe {
            let access = &raw mut (*scratch).access;
            (*access).place = place;
            (*access).inode = self.inode;
            (*access).marks = self.subject.marks;
            (*access).handle = self.subject.handle;
            (*access).workload = self.subject.workload;
            (*access).ops = self.ops;
            (*access).asked = self.ops;
            (*access).hook = self.hook as u32;
            (*access).flags = self.flags;
            (*access).other = self.other;
            (*access).state = NO_STATE;
            (*access).unknown = self.unknown as u32;
            (*access).arguments = 0;
            (*access).argument = 0;
        }
        if let Err(fault) = examine(scratch) {
            fail(scratch, fault);
        }
        // SAFETY: as above.
        let action = unsafe { (*scratch).answer.verdict.action_bits() };
        if action != Action::Allow as u8 && !self.is_untold(action) {
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
}

/// Whether the hook is about an open file rather than a place.
#[inline(always)]
const fn is_of_descriptors(hook: u32) -> bool {
    hook == Hook::Open as u32
        || hook == Hook::Use as u32
        || hook == Hook::Ioctl as u32
        || hook == Hook::Receive as u32
        || hook == Hook::Search as u32
}

/// Refuses for safety.
#[inline(always)]
pub(crate) fn fail(scratch: *mut Scratch, fault: Fault) {
    emit::count_fault(fault);
    // SAFETY: claimed by this task.
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
    fn visit<T: Table>(self, table: T) -> u32 {
        // SAFETY: claimed by this task.
        if unsafe { (*self.scratch).walk.object } == OBJECT_PATH as u64 {
            table.state_of(self.scratch)
        } else {
            NO_STATE
        }
    }
}

/// Whether a table refuses to somebody what a task's descriptor is open for, under any name that the
/// file has; `instead` is the address of the task's mount namespace. What cannot be told counts as
/// refused.
#[inline(always)]
pub(crate) fn is_suspect(subject: &Subject, object: &Object, ops: u32, instead: u64) -> bool {
    let Some(scratch) = path::claim() else {
        return true;
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
        (*access).asked = ops;
        (*access).hook = Hook::Search as u32;
        (*access).other = NO_STATE;
        (*access).state = NO_STATE;
        (*access).unknown = Unknown::Never as u32;
        (*scratch).climb.instead = instead;
    }
    let walked = path::walk_btf(scratch, object.place.mnt, object.place.dentry);
    if walked {
        judge(scratch, ops);
    }
    // SAFETY: as above.
    let action = unsafe {
        (*scratch).climb.instead = 0;
        (*scratch).answer.verdict.action_bits()
    };
    path::release(scratch);
    !walked || action >= Action::Block as u8
}

/// Notes who asks.
#[inline(always)]
pub(crate) fn identify(subject: &Subject, scratch: *mut Scratch) -> Result<(), Fault> {
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
    }
    Ok(())
}

/// Decides the access in `scratch`.
#[inline(always)]
fn examine(subject: &Subject, place: BtfPlace, scratch: *mut Scratch) -> Result<(), Fault> {
    identify(subject, scratch)?;
    if !path::walk_btf(scratch, place.mnt, place.dentry) {
        return Err(Fault::Read);
    }
    judge(scratch, subject.ops);
    Ok(())
}

/// Decides what has been walked, under all names it has. `all` are the operations that the table may
/// not allow.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge(scratch: *mut Scratch, all: u32) -> i32 {
    if !scratch.is_null()
        && let Err(fault) = judge_all_names(scratch, all)
    {
        fail(scratch, fault);
    }
    0
}

#[inline(always)]
fn judge_all_names(scratch: *mut Scratch, all: u32) -> Result<(), Fault> {
    // SAFETY: claimed by this task.
    unsafe {
        let access = &raw mut (*scratch).access;
        if (*scratch).walk.object == path::BENEATH {
            // A directory of an overlay opens those it is made of, in the name of who opens it. No
            // path leads there; the one that was asked for has been decided.
            if is_of_descriptors((*access).hook) {
                (*scratch).answer = Answer::ALLOW;
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
            (*access).asked = (*access).ops;
        }
        let unknown = (*access).unknown;
        if unknown == Unknown::Always as u32
            || unknown == Unknown::AtRoot as u32 && (*scratch).walk.count == 0
        {
            (*scratch).walk.object = Class::Unreachable as u64;
            (*access).ops = all;
            (*access).asked = all;
        }
        let mountless = elsewhere::is_mountless(scratch, (*scratch).walk.object);
        // User space frees a table only after every program that could hold its handle has ended.
        let handle = (*access).handle;
        let ask = Ask { scratch, mountless };
        with_table(handle, ask).unwrap_or(Err(Fault::NoTable))?;
        if (*scratch).answer.verdict.action_bits() >= Action::Block as u8 {
            return Ok(());
        }
        let (needed, away) = if mountless {
            (true, !elsewhere::is_at_home((*access).workload))
        } else {
            elsewhere::is_needed(scratch)
        };
        if !needed {
            return Ok(());
        }
        elsewhere::decide(scratch, away)
    }
}

struct Ask {
    scratch: *mut Scratch,
    /// What was walked is no name of the object.
    mountless: bool,
}

impl Visitor for Ask {
    type Output = Result<(), Fault>;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> Result<(), Fault> {
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
            if !self.mountless {
                table.consider(scratch, set);
            }
            if (*access).marks != 0
                && let Some(mark) = marked(&*access)?
            {
                (*access).ops &= mark.ops;
                table.consider(scratch, mark.set);
            }
        }
        Ok(())
    }
}

/// What a file is that is protected under another name than this one.
#[inline(always)]
fn marked(access: &Access) -> Result<Option<Mark>, Fault> {
    mark_of(access.workload, access.handle, access.inode)
}

/// The mark that a table's workload has on an inode, given by its address.
#[inline(always)]
fn mark_of(workload: u32, handle: Handle, inode: u64) -> Result<Option<Mark>, Fault> {
    if inode == 0 {
        return Ok(None);
    }
    let Ok((device, inode)) = number_of(inode) else {
        return Err(Fault::Read);
    };
    let key = MarkKey {
        workload,
        device,
        inode,
    };
    // SAFETY: entries are replaced whole.
    match unsafe { MARKS.get(key) } {
        Some(mark) if mark.table == handle.uid() => Ok(Some(*mark)),
        _ => Ok(None),
    }
}

/// Whether a file may be protected under another name than the one it has here.
#[inline(always)]
pub(crate) fn is_marked(subject: &Subject, object: &Object) -> bool {
    subject.marks != 0
        && !matches!(
            mark_of(subject.workload, subject.handle, object.inode),
            Ok(None)
        )
}

/// Takes the verdicts of the operations asked about, where they are stricter than the answer so
/// far.
#[inline(always)]
pub(crate) fn consider<T: Words>(table: &T, scratch: *mut Scratch, set: u32) {
    // SAFETY: claimed by this task.
    let (access, answer) = unsafe { (&mut (*scratch).access, &mut (*scratch).answer) };
    let decoded = table::set(table, set);
    if access.hook == Hook::Search as u32 {
        // Whoever holds it now, anybody may use it later.
        if table::refuses_anybody(decoded, access.ops) {
            answer.verdict = Verdict::FAULT;
        }
        return;
    }
    let asker = asker(decoded, access.inode);
    let rows = table::rows(table, decoded, access.source, access.parent, asker);
    let mut take = |op: Op, verdict: Verdict| {
        if verdict.action_bits() > answer.verdict.action_bits() {
            *answer = Answer {
                verdict,
                set,
                op: op as u32,
            };
        }
    };
    if access.ops & Op::Exec.bit() != 0 {
        let execution = table::execution(table, rows);
        access.arguments |= execution.arguments;
        take(Op::Exec, execution.verdict);
    }
    if access.ops & Op::Map.bit() != 0 {
        take(Op::Map, table::verdict_of_both(table, rows, Op::Map));
    }
    for op in [Op::Read, Op::Write, Op::Move] {
        if access.ops & op.bit() != 0 {
            take(op, table::verdict_at(table, rows.own, op));
        }
    }
}

/// What the rows of a set want to know of the running task, and nothing more.
#[inline(always)]
pub(crate) fn asker(set: Set, inode: u64) -> Asker {
    Asker {
        owner: set.flags() & SET_BY_OWNER != 0 && owns(inode),
        terminal: set.flags() & SET_BY_TERMINAL != 0 && Task::current().has_terminal(),
    }
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
        let parent = task.real_parent();
        let image = source_of(subject.handle.0, scratch, parent.0);
        // Compared only now: the parent may execute something meanwhile.
        let is_forker = (*label).forker == parent.tgid()
            && (*label).forker_execs == parent.execs()
            && (*label).forker_mm == parent.mm();
        (*label).parent = if is_forker || (*label).forker == 0 {
            image
        } else {
            // What forked it is gone, and with it which image that was.
            0
        };
        (*label).table = subject.handle.uid();
    }
}

/// The class of a task's image in a table; 0, as for an image that no rule names, when it cannot be
/// told.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn source_of(handle: u64, scratch: *mut Scratch, task: u64) -> u32 {
    if scratch.is_null() {
        return 0;
    }
    let place = Task(task).exe();
    if !place.is_somewhere() || !path::walk(scratch, place.mnt, place.dentry) {
        return 0;
    }
    let trusted = Task(task).is_root_of_the_host();
    let visitor = SourceOf {
        scratch,
        task,
        trusted,
    };
    with_table(Handle(handle), visitor).unwrap_or(0)
}

struct SourceOf {
    scratch: *mut Scratch,
    task: u64,
    trusted: bool,
}

impl Visitor for SourceOf {
    type Output = u32;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> u32 {
        // SAFETY: claimed by this task.
        let has_path = unsafe { (*self.scratch).walk.object } == OBJECT_PATH as u64;
        if !has_path && self.trusted && is_heir(self.task) {
            return table::essential_class(&table);
        }
        set_of(table, self.scratch).map_or(0, |set| {
            let class = table::set(&table, set).source();
            table::class_of(&table, class, self.trusted)
        })
    }
}

/// Whether an essential program executed a task's image.
#[inline(always)]
fn is_heir(task: u64) -> bool {
    // SAFETY: a number that is read once.
    unsafe { LABELS.get(task) }.is_some_and(|label| label.heir != 0)
}

/// Whether a class of a table is that of an essential program.
#[inline(always)]
pub(crate) fn is_essential(handle: Handle, class: u32) -> bool {
    with_table(handle, IsEssential { class }).unwrap_or(false)
}

struct IsEssential {
    class: u32,
}

impl Visitor for IsEssential {
    type Output = bool;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> bool {
        table::is_essential(&table, self.class)
    }
}
