//! The back end that is the kernel: the only place in user space that knows maps, programs and
//! offsets, and the only one with unsafe code.
//!
//! ```text
//! object  the embedded programs           load   maps, programs, links, pins
//! btf     offsets for them                tables compiled tables, shared and freed
//! events  the rings                       self_test  the proof at start
//! guard   the daemon's own protection     descriptors  those that policies came after
//! calls   system calls that are looked at   homes  what workloads were started with
//! ```

mod btf;
mod calls;
mod descriptors;
mod events;
mod guard;
mod homes;
mod load;
mod object;
mod self_test;
mod sys;
mod tables;

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap as BpfHashMap, MapData, MapError, PerCpuArray, RingBuf},
};
use karmor_abi::{
    counters::Counters,
    label::{Handle, Mark, MarkKey, SELF_TEST, Workload},
    limits, names,
    table::{CLASS_WORDS_LOG2, View},
};
use karmor_policy::compiled::Compiled;
use tokio::sync::mpsc;
use tracing::warn;

use self::{
    calls::Asked, descriptors::Descriptors, events::Rings, guard::Owned, homes::Homes,
    load::Loaded, tables::Tables,
};
pub use self::{
    guard::{OwnFile, Protection},
    load::{is_loaded, unload},
    self_test::self_test_child,
};
use crate::backend::{Backend, BackendError, Capabilities, Given, MarkedFile, Origin, RawEvent};

/// BPF-LSM on the running kernel.
pub struct Kernel {
    loaded: Loaded,
    owned: Owned,
    tables: Tables,
    rings: Option<Rings>,
    /// Dropped with the first policies, which give names to what an earlier daemon left: until
    /// then events wait.
    named: Option<std::sync::mpsc::Sender<()>>,
    /// What the self-test causes.
    self_tests: RingBuf<MapData>,
    workloads: Array<MapData, Workload>,
    cgroups: BpfHashMap<MapData, u64, u32>,
    homes: Homes,
    registry: Array<MapData, u64>,
    marks: BpfHashMap<MapData, MarkKey, Mark>,
    asked: Asked,
    descriptors: Descriptors,
    counters: PerCpuArray<MapData, Counters>,
    /// The highest number of a workload.
    last: u32,
    /// What each workload has, by number.
    applied: HashMap<u32, Handle>,
    /// Keys in `marks`, by workload.
    marked: HashMap<u32, HashSet<MarkKey>>,
    capabilities: Capabilities,
}

impl Kernel {
    /// Loads the kernel half under `bpffs`, or takes over what an earlier daemon left there; `cgroups`
    /// is where the cgroups are mounted.
    /// Attaches nothing but what protects the daemon itself: what is attached stays, and policies
    /// attach what they need.
    ///
    /// # Errors
    /// When this node cannot enforce; the message says why.
    pub fn new(bpffs: &Path, cgroups: &Path, protection: &Protection) -> Result<Self> {
        sys::share_heaps();
        let ready = |ebpf: &mut Ebpf| guard::announce(ebpf, protection);
        let mut loaded = Loaded::new(bpffs, cgroups, ready)?;
        if let [(hook, why), ..] = loaded.missing().as_slice() {
            bail!("the kernel refuses the program for {hook}: {why}");
        }
        // Before there are tables: each is noted as it comes to be.
        let owned = Owned::protect(&mut loaded, protection)?;
        let Loaded { ebpf, pins, .. } = &mut loaded;
        let tables = Tables::new(ebpf, pins)?;
        let mut kernel = Self {
            owned,
            tables,
            rings: Some(Rings::new(ebpf)?),
            named: None,
            self_tests: RingBuf::try_from(take(ebpf, names::SELF_TESTS)?)?,
            workloads: Array::try_from(take(ebpf, names::WORKLOADS)?)?,
            cgroups: BpfHashMap::try_from(take(ebpf, names::CGROUPS)?)?,
            homes: Homes::new(Array::try_from(take(ebpf, names::HOMES)?)?),
            registry: Array::try_from(take(ebpf, names::REGISTRY)?)?,
            marks: BpfHashMap::try_from(take(ebpf, names::MARKS)?)?,
            asked: Asked::new(ebpf)?,
            descriptors: Descriptors::new(ebpf)?,
            counters: PerCpuArray::try_from(take(ebpf, names::COUNTERS)?)?,
            last: 0,
            applied: HashMap::new(),
            marked: HashMap::new(),
            capabilities: Capabilities::default(),
            loaded,
        };
        kernel.adopt()?;
        kernel.capabilities = Capabilities {
            hooks: kernel.loaded.support(),
            ..crate::node::look()
        };
        sys::trim();
        Ok(kernel)
    }

    /// What loading each program shows on this machine. Everything is unloaded again, and what a
    /// daemon enforces is not touched.
    ///
    /// # Errors
    /// When the programs as a whole cannot be loaded.
    pub fn rehearse() -> Result<Vec<crate::backend::HookSupport>> {
        Loaded::rehearse()
    }

    /// Learns which workloads there were and which have policies of an earlier daemon, and attaches what they need.
    fn adopt(&mut self) -> Result<()> {
        for index in 0..limits::WORKLOADS {
            let entry = self
                .workloads
                .get(&index, 0)
                .context("read the workloads")?;
            // An entry keeps its number until another workload has its place.
            self.note_number(entry.workload);
            if entry.handle == Handle::NONE {
                continue;
            }
            self.tables.adopt_user(entry.handle);
            self.applied.insert(entry.workload, entry.handle);
        }
        self.tables.retire_orphans();
        for key in self.marks.keys() {
            let key = key.context("read the marks")?;
            self.marked.entry(key.workload).or_default().insert(key);
        }
        if self.descriptors.any()? {
            self.loaded.hold(true, 0)?;
        }
        self.asked.set(&self.tables.calls(None))?;
        self.loaded.attach(self.tables.ops())?;
        self.loaded.detach_unloaded()
    }

    fn note_number(&mut self, workload: u32) {
        if workload != SELF_TEST {
            self.last = self.last.max(workload);
        }
    }

    /// What a counter will be next.
    fn upcoming(&self, counter: u32) -> Result<u32> {
        let value = self
            .registry
            .get(&counter, 0)
            .context("read the registry")?
            + 1;
        u32::try_from(value).context("the registry's numbers are used up")
    }

    fn next(&mut self, counter: u32) -> Result<u32> {
        let value = self.upcoming(counter)?;
        self.registry
            .set(counter, u64::from(value), 0)
            .context("write the registry")?;
        Ok(value)
    }

    fn ensure(&mut self, table: &Arc<Compiled>) -> Result<Handle, BackendError> {
        let max = 1 << CLASS_WORDS_LOG2[CLASS_WORDS_LOG2.len() - 1];
        if table.words.len() > max {
            return Err(BackendError::TooLarge {
                words: table.words.len(),
                max,
            });
        }
        let registry = &mut self.registry;
        let next_uid = || -> Result<u32> {
            let value = registry
                .get(&names::LAST_TABLE, 0)
                .context("read the registry")?
                + 1;
            registry
                .set(names::LAST_TABLE, value, 0)
                .context("write the registry")?;
            u32::try_from(value).context("table identities are used up")
        };
        self.tables
            .ensure(table, next_uid)
            .map_err(kernel_error("loading a compiled table"))
    }

    fn switch(&mut self, workload: u32, handle: Handle, ops: u32) -> Result<()> {
        let index = workload % limits::WORKLOADS;
        let before = self.workloads.get(&index, 0).context("read a workload")?;
        let entry = Workload {
            handle,
            ops,
            workload,
            marks: marks_after(&before, workload, handle),
            since: if before.workload == workload {
                before.since
            } else {
                0
            },
        };
        self.workloads
            .set(index, entry, 0)
            .context("write a workload")?;
        self.tables.acquire(handle);
        let before = if handle == Handle::NONE {
            self.applied.remove(&workload)
        } else {
            self.applied.insert(workload, handle)
        };
        if let Some(before) = before {
            self.tables.release(before);
        }
        if handle == Handle::NONE {
            self.unmark(workload, &HashSet::new())?;
        }
        Ok(())
    }

    /// Forgets the marks of a workload but for these.
    fn unmark(&mut self, workload: u32, but: &HashSet<MarkKey>) -> Result<()> {
        let Some(marked) = self.marked.get_mut(&workload) else {
            return Ok(());
        };
        for key in marked.difference(but) {
            forget(&mut self.marks, key).context("forget a mark")?;
        }
        marked.retain(|key| but.contains(key));
        if marked.is_empty() {
            self.marked.remove(&workload);
        }
        Ok(())
    }

    fn mark_files(&mut self, workload: u32, handle: Handle, files: &[MarkedFile]) -> Result<()> {
        let mut wanted = HashSet::new();
        let mut result = Ok(());
        let devices = files.iter().map(|marked| marked.file.device);
        let devices: HashSet<u32> = devices.collect();
        // What is mounted anew of a device is asked about by it.
        let of_devices = devices.into_iter().map(|device| {
            let key = MarkKey::device(workload, device);
            (key, 0, 0)
        });
        let of_files = files.iter().map(|marked| {
            let key = MarkKey {
                workload,
                device: marked.file.device,
                inode: marked.file.inode,
            };
            (key, marked.set, marked.ops)
        });
        for (key, set, ops) in of_devices.chain(of_files) {
            let table = handle.uid();
            result = self
                .marks
                .insert(key, Mark { table, set, ops }, 0)
                .context("mark a file");
            if result.is_err() {
                // Those that found room count all the same.
                break;
            }
            self.marked.entry(workload).or_default().insert(key);
            wanted.insert(key);
        }
        self.unmark(workload, &wanted)?;
        let index = workload % limits::WORKLOADS;
        let mut entry = self.workloads.get(&index, 0).context("read a workload")?;
        if entry.workload == workload && entry.handle == handle {
            entry.marks = u32::from(!wanted.is_empty());
            self.workloads
                .set(index, entry, 0)
                .context("write a workload")?;
        }
        result
    }

    fn note_origin(&mut self, workload: u32, origin: Origin) -> Result<()> {
        let index = workload % limits::WORKLOADS;
        let entry = self.workloads.get(&index, 0).context("read a workload")?;
        if entry.workload != workload && entry.handle != Handle::NONE {
            // Its place is taken, as registering it will say.
            return Ok(());
        }
        self.homes.set(workload, origin)
    }

    fn bump_epoch(&mut self) -> Result<()> {
        self.next(names::EPOCH).map(|_epoch| ())
    }
}

impl Backend for Kernel {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn given(&self, cgroup_id: u64) -> Result<Given, BackendError> {
        let own = match self.cgroups.get(&cgroup_id, 0) {
            Ok(workload) => Some(workload),
            Err(MapError::KeyNotFound) => None,
            Err(error) => return Err(kernel_error("reading a cgroup")(error.into())),
        };
        let last = self.last;
        Ok(Given { own, last })
    }

    fn add_workload(&mut self, workload: u32, cgroup_id: u64) -> Result<(), BackendError> {
        let failed = kernel_error("registering a workload");
        let index = workload % limits::WORKLOADS;
        let before = self
            .workloads
            .get(&index, 0)
            .context("read a workload")
            .map_err(&failed)?;
        let mut entry = before;
        if entry.workload != workload {
            if entry.handle != Handle::NONE {
                return Err(BackendError::Full("workload: its number's place is taken"));
            }
            entry = Workload {
                workload,
                ..Workload::default()
            };
        }
        if self.given(cgroup_id)?.own != Some(workload) {
            entry.since = self.upcoming(names::EPOCH).map_err(&failed)?;
        }
        if entry != before {
            self.workloads
                .set(index, entry, 0)
                .context("write a workload")
                .map_err(&failed)?;
        }
        self.cgroups
            .insert(cgroup_id, workload, 0)
            .context("write a cgroup")
            .and_then(|()| self.bump_epoch())
            .map_err(&failed)?;
        self.note_number(workload);
        Ok(())
    }

    fn set_origin(&mut self, workload: u32, origin: Origin) -> Result<(), BackendError> {
        self.note_origin(workload, origin)
            .map_err(kernel_error("noting what a workload was started with"))
    }

    fn remove_workload(&mut self, workload: u32, cgroups: &[u64]) -> Result<(), BackendError> {
        let failed = kernel_error("forgetting a workload");
        for cgroup_id in cgroups {
            forget(&mut self.cgroups, cgroup_id).map_err(|error| failed(error.into()))?;
        }
        self.homes.forget(workload);
        self.switch(workload, Handle::NONE, 0).map_err(failed)
    }

    fn apply(
        &mut self,
        workloads: &[u32],
        table: Option<&Arc<Compiled>>,
    ) -> Result<(), BackendError> {
        let failed = kernel_error("switching policies");
        let (handle, ops) = match table {
            None => (Handle::NONE, 0),
            Some(table) => {
                let handle = self.ensure(table)?;
                let view =
                    View::parse(&table.words).map_err(|error| failed(anyhow::Error::new(error)))?;
                (handle, view.header().ops)
            }
        };
        self.loaded.attach(ops).map_err(&failed)?;
        let calls = self.tables.calls(Some(handle));
        self.asked.set(&calls).map_err(&failed)?;
        for workload in workloads {
            self.switch(*workload, handle, ops).map_err(&failed)?;
        }
        // Every workload has what it should have: a program too many decides nothing for them, and
        // the next change tries again.
        if let Err(error) = self.loaded.detach_unneeded(self.tables.ops()) {
            warn!(
                error = format!("{error:#}"),
                "a program that no policy needs stays attached"
            );
        }
        if let Err(error) = self.asked.set(&self.tables.calls(None)) {
            warn!(
                error = format!("{error:#}"),
                "a system call that no policy asks about is looked at"
            );
        }
        if let Err(error) = self.owned.forget(&self.tables.freed()) {
            warn!(
                error = format!("{error:#}"),
                "a table that is gone stays noted as protected"
            );
        }
        self.named = None;
        self.capabilities.hooks = self.loaded.support();
        Ok(())
    }

    fn mark(
        &mut self,
        workload: u32,
        table: &Arc<Compiled>,
        files: &[MarkedFile],
    ) -> Result<(), BackendError> {
        let handle = self.ensure(table)?;
        self.mark_files(workload, handle, files)
            .map_err(kernel_error("marking protected files"))
    }

    fn settle(&mut self) {
        self.descriptors.expect_more();
        let ops = self.tables.ops();
        said(self.descriptors.search(&mut self.loaded, ops));
        self.capabilities.hooks = self.loaded.support();
    }

    fn tick(&mut self) {
        let ops = self.tables.ops();
        match self.descriptors.tick(&mut self.loaded, ops) {
            Ok(false) => {}
            outcome => {
                said(outcome.map(|_| ()));
                self.capabilities.hooks = self.loaded.support();
            }
        }
    }

    fn events(&mut self) -> Option<mpsc::Receiver<RawEvent>> {
        let (named, ready) = std::sync::mpsc::channel();
        self.named = Some(named);
        Some(self.rings.take()?.read(self.tables.directory(), ready))
    }

    fn counters(&self) -> Result<Vec<Counters>, BackendError> {
        let per_cpu = self
            .counters
            .get(&0, 0)
            .map_err(|error| kernel_error("reading the counters")(error.into()))?;
        Ok(per_cpu.to_vec())
    }
}

/// Whether a workload's marks are asked once it is switched to a table. Those of another table say
/// nothing to this one, which has none until the next search. Those of the same table hold: for a
/// daemon that takes over what it finds, they are all there is until its own search is done.
fn marks_after(before: &Workload, workload: u32, handle: Handle) -> u32 {
    if before.workload == workload && before.handle == handle {
        before.marks
    } else {
        0
    }
}

/// Removes what may be gone already.
fn forget<K: Pod, V: Pod>(map: &mut BpfHashMap<MapData, K, V>, key: &K) -> Result<(), MapError> {
    match map.remove(key) {
        Err(MapError::KeyNotFound) => Ok(()),
        removed => removed,
    }
}

/// What was wrong with a search for descriptors.
fn said(outcome: Result<()>) {
    if let Err(error) = outcome {
        warn!(
            error = format!("{error:#}"),
            "descriptors from before a policy may go on to work"
        );
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the object has no map {name}"))
}

fn kernel_error<D: Display>(what: D) -> impl Fn(anyhow::Error) -> BackendError {
    move |source| BackendError::Kernel {
        what: what.to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_last_as_long_as_the_table() {
        let before = Workload {
            handle: Handle::new(1, 2, false, 3),
            workload: 4,
            marks: 1,
            ..Workload::default()
        };
        assert_eq!(marks_after(&before, 4, before.handle), 1);
        assert_eq!(marks_after(&before, 4, Handle::new(1, 2, false, 5)), 0);
        assert_eq!(marks_after(&before, 4, Handle::NONE), 0);
        assert_eq!(
            marks_after(&before, 4 + limits::WORKLOADS, before.handle),
            0
        );
    }
}
