//! Who listens: noted in the socket, asked when a connection comes in.
//!
//! Then a packet is at work in the name of whichever task it interrupted, and the listener itself
//! may be asleep.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_uid_gid, bpf_loop, bpf_sk_storage_get,
};
use karmor_abi::{
    counters::Fault,
    label::{HOST, Handle},
    limits::PATH_BYTES,
    table::{self, ABSORBING},
};

use crate::{
    decide_word::Who,
    emit,
    kernel::{
        memory::{Ptr, read_or_zero},
        offsets::{SOCK_CGROUP_DATA_CGROUP, SOCK_CGRP_DATA},
        path,
        socket::Socket,
        task::Task,
    },
    maps::{Access, Feed, LISTENERS, Listener, Scratch},
    object::{Table, Visitor, with_table},
    subject::{Identity, Subject, workload_of},
};

/// `BPF_SK_STORAGE_GET_F_CREATE`.
pub(crate) const CREATE: u64 = 1;

#[inline(always)]
fn stored(socket: &Socket, flags: u64) -> *mut Listener {
    // SAFETY: a BTF pointer to a `struct sock`; the verifier checks it.
    unsafe {
        bpf_sk_storage_get(
            (&raw const LISTENERS).cast_mut().cast(),
            socket.sk.cast_mut().cast(),
            core::ptr::null_mut(),
            flags,
        )
        .cast()
    }
}

/// Whether it is noted who listens on a socket.
#[inline(always)]
pub(crate) fn is_known(socket: &Socket) -> bool {
    !stored(socket, 0).is_null()
}

/// Notes the running task as who listens on a socket. `false` when there is no room.
#[inline(always)]
pub(crate) fn remember(socket: &Socket, identity: &Identity) -> bool {
    let listener = stored(socket, CREATE);
    if listener.is_null() {
        return false;
    }
    note(listener, identity)
}

/// Notes the running task. `false` when there is no room.
#[inline(always)]
pub(crate) fn note(listener: *mut Listener, identity: &Identity) -> bool {
    let Some(scratch) = path::claim() else {
        return false;
    };
    let mut exec_id = 0;
    if !identity.label.is_null() {
        // SAFETY: not null, and only this task writes its label.
        exec_id = unsafe { (*identity.label).exec_id };
    }
    let noted = note_task(listener, scratch, identity.workload, exec_id);
    path::release(scratch);
    noted != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_task(
    listener: *mut Listener,
    scratch: *mut Scratch,
    workload: u32,
    exec_id: u64,
) -> i32 {
    if listener.is_null() || scratch.is_null() {
        return 0;
    }
    let task = Task::current();
    let parent = task.real_parent();
    let (pid, ppid) = task.namespace_pids(parent);
    // SAFETY: a map value. Two tasks that listen on one socket at once may mix; a reader that sees
    // an odd version does not use it.
    unsafe {
        let version = (&raw const (*listener).version).read_volatile() | 1;
        (&raw mut (*listener).version).write_volatile(version);
        (*listener).exec_id = exec_id;
        (*listener).workload = workload;
        (*listener).host_pid = task.tgid();
        (*listener).host_ppid = parent.tgid();
        (*listener).pid = pid;
        (*listener).ppid = ppid;
        (*listener).uid = bpf_get_current_uid_gid() as u32;
        bpf_get_current_comm((&raw mut (*listener).comm).cast(), 16);
        (*listener).tty = task.tty();
        let Some(len) = emit::copy_exe(scratch, &raw mut (*listener).exe) else {
            // The version stays odd: a source cannot be told, and nothing is decided by one.
            return 0;
        };
        (*listener).exe_len = len;
        (&raw mut (*listener).version).write_volatile(version.wrapping_add(1));
    }
    1
}

/// Who hears of a connection, or has sent a packet.
pub(crate) struct Hearer {
    /// Null when it is not known.
    listener: *const Listener,
    workload: u32,
    handle: Handle,
}

impl Hearer {
    /// Who listens on a socket, when its workload has a policy on one of `ops`.
    #[inline(always)]
    pub(crate) fn of(socket: &Socket, ops: u32) -> Option<Self> {
        let listener = stored(socket, 0).cast_const();
        let mut workload = HOST;
        if !listener.is_null() {
            // SAFETY: a map value.
            workload = unsafe { (*listener).workload };
        }
        if workload == HOST {
            // It listened before it was known as a container's, or before anybody looked.
            workload = workload_of_socket(socket);
        }
        Self::new(listener, workload, ops)
    }

    /// Who is noted, if anybody is, of a workload that has a policy on one of `ops`.
    #[inline(always)]
    pub(crate) fn new(listener: *const Listener, workload: u32, ops: u32) -> Option<Self> {
        let identity = Identity {
            label: core::ptr::null_mut(),
            workload,
        };
        let subject = Subject::new(&identity, ops)?;
        Some(Self {
            listener,
            workload,
            handle: subject.handle,
        })
    }

    /// Who is noted, if anybody is, of a workload with this table.
    #[inline(always)]
    pub(crate) const fn with_table(
        listener: *const Listener,
        workload: u32,
        handle: Handle,
    ) -> Self {
        Self {
            listener,
            workload,
            handle,
        }
    }

    /// The workload.
    #[inline(always)]
    pub(crate) const fn workload(&self) -> u32 {
        self.workload
    }
}

impl Who for Hearer {
    #[inline(always)]
    fn handle(&self) -> Handle {
        self.handle
    }

    /// Worked out for every connection: the table may be another by now.
    #[inline(always)]
    fn source(&self) -> Result<u32, Fault> {
        if self.listener.is_null() || !self.handle.sourced() {
            return Ok(0);
        }
        // SAFETY: a map value.
        if unsafe { (&raw const (*self.listener).version).read_volatile() } & 1 != 0 {
            return Err(Fault::Read);
        }
        let scratch = path::claim().ok_or(Fault::NoScratch)?;
        let listener = self.listener;
        let class = with_table(self.handle, SourceOf { scratch, listener });
        path::release(scratch);
        class.ok_or(Fault::NoTable)
    }

    #[inline(always)]
    fn has_terminal(&self) -> bool {
        // SAFETY: a map value.
        !self.listener.is_null() && unsafe { (*self.listener).tty[0] } != 0
    }

    #[inline(always)]
    fn note(&self, access: &mut Access) {
        access.workload = self.workload;
        access.parent = 0;
        access.exec_id = 0;
        if !self.listener.is_null() {
            // SAFETY: a map value.
            access.exec_id = unsafe { (*self.listener).exec_id };
        }
    }

    #[inline(always)]
    fn emit(&self, scratch: *mut Scratch) {
        emit::emit_for(scratch, self.listener);
    }
}

/// The workload in whose cgroup a socket was made, or below.
#[inline(never)]
fn workload_of_socket(socket: &Socket) -> u32 {
    let data = socket.sk as u64 + u64::from(SOCK_CGRP_DATA.load());
    workload_of(read_or_zero(
        data + u64::from(SOCK_CGROUP_DATA_CGROUP.load()),
    ))
}

struct SourceOf {
    scratch: *mut Scratch,
    listener: *const Listener,
}

impl Visitor for SourceOf {
    type Output = u32;

    #[inline(always)]
    fn visit<T: Table>(self, table: T) -> u32 {
        // SAFETY: claimed by this task, and a map value.
        unsafe {
            let len = (*self.listener).exe_len;
            if len == 0 {
                return 0;
            }
            (*self.scratch).feed = Feed {
                left: 0,
                fed: 0,
                len,
                state: table::start(&table).into(),
            };
            let mut reader = Reader {
                table,
                scratch: self.scratch,
                listener: self.listener,
            };
            let step: unsafe extern "C" fn(u64, *mut Reader<T>) -> i64 = feed_byte::<T>;
            bpf_loop(
                PATH_BYTES as u32,
                core::mem::transmute::<unsafe extern "C" fn(u64, *mut Reader<T>) -> i64, *mut c_void>(
                    step,
                ),
                (&raw mut reader).cast(),
                0,
            );
            let number = table::accept(&table, (*self.scratch).feed.state as u32);
            table::set(&table, number).source()
        }
    }
}

/// What a step of the reading needs to know; see `object::Feeder`.
#[repr(C)]
struct Reader<T> {
    table: T,
    scratch: *mut Scratch,
    listener: *const Listener,
}

/// Feeds the next byte of a listener's image.
unsafe extern "C" fn feed_byte<T: Table>(index: u64, reader: *mut Reader<T>) -> i64 {
    // SAFETY: `bpf_loop` hands back the pointer given to it, to the caller's live stack frame; the
    // slot is claimed by this task, the listener a map value, and the index masked below its
    // length.
    unsafe {
        let feed = &mut (*(*reader).scratch).feed;
        if index >= feed.len {
            return 1;
        }
        let exe: Ptr = (&raw const (*(*reader).listener).exe).cast();
        let byte = *exe.add(index as usize & PATH_BYTES);
        let table = (*reader).table;
        let state = table::step(&table, feed.state as u32, byte);
        feed.state = u64::from(state);
        i64::from(state & ABSORBING != 0)
    }
}
