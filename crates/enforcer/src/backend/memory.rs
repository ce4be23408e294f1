//! The backend that touches no kernel: what `--observe` runs on, and what tests ask.
//!
//! It keeps what it is given and answers questions with the same table reader as the kernel half.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use karmor_abi::{
    counters::{Class, Counters},
    event::{Header, TEXTS, Text},
    op::Op,
    table::{Asker, View, rows, set, verdict_of_both, walk},
    verdict::{Action, Verdict},
};
use karmor_policy::compiled::Compiled;
use tokio::sync::mpsc;

use super::{Backend, BackendError, Capabilities, Given, MarkedFile, Origin, RawEvent};

/// Room for events that nobody has taken yet.
const EVENTS: usize = 1024;

/// The backend.
#[derive(Debug)]
pub struct Memory {
    capabilities: Capabilities,
    handle: Handle,
    events: Option<mpsc::Receiver<RawEvent>>,
}

/// A view of the backend that stays usable once the backend has been given away.
#[derive(Clone, Debug)]
pub struct Handle {
    state: Arc<Mutex<State>>,
    sender: mpsc::Sender<RawEvent>,
}

#[derive(Debug, Default)]
struct State {
    tables: HashMap<u32, Arc<Compiled>>,
    cgroups: HashMap<u64, u32>,
    last: u32,
    applies: Vec<Vec<u32>>,
    marks: usize,
    counters: Counters,
    refuse: Option<&'static str>,
    refuse_workloads: Option<&'static str>,
    fail_late: Option<&'static str>,
}

/// An access to ask about.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Who.
    pub workload: u32,
    /// What is done; hook, operation, ids and the like.
    pub header: Header,
    /// The texts of the event.
    pub texts: [&'a [u8]; TEXTS],
}

impl Memory {
    /// A backend that enforces nothing, for the reason in `capabilities`.
    #[must_use]
    pub fn new(capabilities: Capabilities) -> Self {
        let (sender, receiver) = mpsc::channel(EVENTS);
        let handle = Handle {
            state: Arc::default(),
            sender,
        };
        Self {
            capabilities,
            handle,
            events: Some(receiver),
        }
    }

    /// A view that stays usable.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Handle {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table of a workload.
    #[must_use]
    pub fn table(&self, workload: u32) -> Option<Arc<Compiled>> {
        self.state().tables.get(&workload).cloned()
    }

    /// The workload of a cgroup.
    #[must_use]
    pub fn workload(&self, cgroup_id: u64) -> Option<u32> {
        self.state().cgroups.get(&cgroup_id).copied()
    }

    /// The calls of [`Backend::apply`] so far, by their workloads.
    #[must_use]
    pub fn applies(&self) -> Vec<Vec<u32>> {
        self.state().applies.clone()
    }

    /// Puts a workload under a table without the engine's doing.
    pub fn force(&self, workload: u32, table: &Arc<Compiled>) {
        self.state().tables.insert(workload, Arc::clone(table));
    }

    /// Makes the next calls of [`Backend::add_workload`] fail, or succeed again.
    pub fn refuse_workloads(&self, why: Option<&'static str>) {
        self.state().refuse_workloads = why;
    }

    /// Makes the next calls of [`Backend::apply`] fail, or succeed again.
    pub fn refuse(&self, why: Option<&'static str>) {
        self.state().refuse = why;
    }

    /// Makes the next call of [`Backend::apply`] fail after it has switched.
    pub fn fail_late(&self, why: &'static str) {
        self.state().fail_late = Some(why);
    }

    /// Decides an access as the kernel half would, and reports it when that is due.
    #[must_use]
    pub fn access(&self, access: &Access<'_>) -> Verdict {
        let mut state = self.state();
        let Some(table) = state.tables.get(&access.workload).cloned() else {
            return Verdict::ALLOW;
        };
        let Ok(view) = View::parse(&table.words) else {
            return Verdict::FAULT;
        };
        let op = Op::from_number(access.header.op).unwrap_or(Op::Read);
        let class = |text: Text| set(&view, walk(&view, access.texts[text as usize])).source();
        let object = walk(&view, access.texts[Text::Path as usize]);
        let asker = Asker {
            owner: access.header.uid == access.header.owner,
            terminal: access.header.tty[0] != 0,
        };
        let (source, parent) = (class(Text::Exe), class(Text::ParentExe));
        let parent = if matches!(op, Op::Exec | Op::Map) {
            parent
        } else {
            source
        };
        let rows = rows(&view, set(&view, object), source, parent, asker);
        let verdict = verdict_of_both(&view, rows, op);
        let class = match verdict.action() {
            Action::Allow => return verdict,
            Action::Audit => Class::Audit,
            Action::Block => Class::Denial,
        };
        state.counters.emitted[class as usize] += 1;
        let header = Header {
            sequence: state.counters.emitted[class as usize],
            cpu: 0,
            workload: access.workload,
            set: object,
            verdict: verdict.0,
            class: class as u8,
            ..access.header
        };
        let raw = RawEvent {
            bytes: encode(header, access.texts).into(),
            table: Some(table),
        };
        if self.sender.try_send(raw).is_err() {
            state.counters.lost[class as usize] += 1;
        }
        verdict
    }
}

/// The bytes of an event, as the kernel half writes them. Texts of more than 65,535 bytes are cut.
#[must_use]
pub fn encode(mut header: Header, texts: [&[u8]; TEXTS]) -> Vec<u8> {
    for (len, text) in header.text.iter_mut().zip(texts) {
        *len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    }
    let mut out = Vec::with_capacity(size_of::<Header>());
    for word in [
        header.time_ns,
        header.sequence,
        header.verdict,
        header.exec_id,
    ] {
        out.extend(word.to_ne_bytes());
    }
    let words = [
        header.cpu,
        header.workload,
        header.table,
        header.set,
        header.source,
        header.parent,
        header.host_pid,
        header.host_ppid,
        header.pid,
        header.ppid,
        header.uid,
        header.owner,
        header.flags,
    ];
    words.iter().for_each(|word| out.extend(word.to_ne_bytes()));
    out.extend([header.hook, header.op, header.object, header.class]);
    out.extend(header.comm);
    out.extend(header.tty);
    header
        .text
        .iter()
        .chain([&header.argument])
        .chain(&header.reserved)
        .for_each(|n| out.extend(n.to_ne_bytes()));
    for (text, len) in texts.iter().zip(header.text) {
        out.extend(&text[..usize::from(len)]);
    }
    out
}

impl Backend for Memory {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn given(&self, cgroup_id: u64) -> Result<Given, BackendError> {
        let state = self.handle.state();
        Ok(Given {
            own: state.cgroups.get(&cgroup_id).copied(),
            last: state.last,
        })
    }

    fn add_workload(&mut self, workload: u32, cgroup_id: u64) -> Result<(), BackendError> {
        let mut state = self.handle.state();
        if let Some(why) = state.refuse_workloads {
            return Err(BackendError::Full(why));
        }
        state.cgroups.insert(cgroup_id, workload);
        state.last = state.last.max(workload);
        Ok(())
    }

    fn set_origin(&mut self, _workload: u32, _origin: Origin) -> Result<(), BackendError> {
        Ok(())
    }

    fn remove_workload(&mut self, workload: u32, cgroups: &[u64]) -> Result<(), BackendError> {
        let mut state = self.handle.state();
        state
            .cgroups
            .retain(|cgroup_id, _| !cgroups.contains(cgroup_id));
        state.tables.remove(&workload);
        Ok(())
    }

    fn apply(
        &mut self,
        workloads: &[u32],
        table: Option<&Arc<Compiled>>,
    ) -> Result<(), BackendError> {
        let mut state = self.handle.state();
        if let Some(why) = state.refuse {
            return Err(BackendError::Full(why));
        }
        for workload in workloads {
            match table {
                Some(table) => state.tables.insert(*workload, Arc::clone(table)),
                None => state.tables.remove(workload),
            };
        }
        state.applies.push(workloads.to_vec());
        match state.fail_late.take() {
            Some(why) => Err(BackendError::Full(why)),
            None => Ok(()),
        }
    }

    fn mark(
        &mut self,
        _workload: u32,
        _table: &Arc<Compiled>,
        files: &[MarkedFile],
    ) -> Result<(), BackendError> {
        self.handle.state().marks += files.len();
        Ok(())
    }

    fn events(&mut self) -> Option<mpsc::Receiver<RawEvent>> {
        self.events.take()
    }

    fn counters(&self) -> Result<Vec<Counters>, BackendError> {
        Ok(vec![self.handle.state().counters])
    }
}
