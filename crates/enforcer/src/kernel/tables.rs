//! Compiled tables in the kernel: built once for all workloads that share one, freed when no
//! running program can hold their handle any more.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Array, ArrayOfMaps, HashMap as BpfHashMap, Map, MapData},
};
use karmor_abi::{
    label::Handle,
    limits::TABLES_PER_CLASS,
    names,
    table::{CLASS_WORDS_LOG2, View},
};
use karmor_policy::compiled::Compiled;

use super::{load::Pins, sys};

/// Index of the header word that a table in the kernel carries its identity in; zero in a compiled
/// table.
const UID_WORD: usize = 7;

/// Tables of the past whose rule names are kept for events still on their way.
const REMEMBERED: usize = 16;

/// Which table an event means, shared with the reader of events.
#[derive(Clone, Default)]
pub(super) struct Directory(Arc<Mutex<HashMap<u32, Arc<Compiled>>>>);

impl Directory {
    /// The table with this identity.
    pub(super) fn get(&self, uid: u32) -> Option<Arc<Compiled>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&uid)
            .map(Arc::clone)
    }

    fn insert(&self, uid: u32, table: &Arc<Compiled>) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.insert(uid, Arc::clone(table));
    }

    fn remove(&self, uid: u32) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&uid);
    }
}

/// A table in the kernel.
struct Entry {
    handle: Handle,
    /// Hash of the words, to find the entry by content.
    hash: u64,
    ops: u32,
    users: usize,
}

/// All tables in the kernel.
pub(super) struct Tables {
    classes: Vec<Box<dyn Class>>,
    /// Handle by identity, for the next daemon: looking through the slots themselves would cost a
    /// grace period each.
    index: BpfHashMap<MapData, u32, u64>,
    entries: HashMap<u32, Entry>,
    /// Tables without users, oldest first. Their slots are emptied after the next grace period.
    retired: Vec<u32>,
    /// Freed tables that [`Directory`] still knows, oldest first.
    remembered: Vec<u32>,
    directory: Directory,
}

impl Tables {
    /// Takes the maps out of the object and finds the tables an earlier daemon left in them.
    pub(super) fn new(ebpf: &mut Ebpf, pins: &Pins) -> Result<Self> {
        let mut tables = Self {
            index: open_index(pins)?,
            classes: vec![
                open::<{ 1 << CLASS_WORDS_LOG2[0] }>(ebpf, 0)?,
                open::<{ 1 << CLASS_WORDS_LOG2[1] }>(ebpf, 1)?,
                open::<{ 1 << CLASS_WORDS_LOG2[2] }>(ebpf, 2)?,
                open::<{ 1 << CLASS_WORDS_LOG2[3] }>(ebpf, 3)?,
            ],
            entries: HashMap::new(),
            retired: Vec::new(),
            remembered: Vec::new(),
            directory: Directory::default(),
        };
        tables.adopt()?;
        Ok(tables)
    }

    fn adopt(&mut self) -> Result<()> {
        let handles: Vec<_> = self
            .index
            .iter()
            .collect::<Result<_, _>>()
            .context("read tables")?;
        for (uid, handle) in handles {
            let handle = Handle(handle);
            let class = handle.class() as usize;
            let store = self
                .classes
                .get(class)
                .context("a table of an unknown size class")?;
            let Some(mut words) = store.get(handle.slot())? else {
                // The earlier daemon ended before it was published.
                self.index.remove(&uid).context("forget a table")?;
                continue;
            };
            words[UID_WORD] = 0;
            let view = View::parse(&words).context("a table in the kernel cannot be read")?;
            let used = view.header().len as usize;
            let (ops, hash) = (view.header().ops, hash(&words[..used]));
            self.entries.insert(
                uid,
                Entry {
                    handle,
                    hash,
                    ops,
                    users: 0,
                },
            );
        }
        Ok(())
    }

    /// Notes that a workload found in the kernel uses a table.
    pub(super) fn adopt_user(&mut self, handle: Handle) {
        if let Some(entry) = self.entries.get_mut(&handle.uid()) {
            entry.users += 1;
        }
    }

    /// Retires what was adopted and is used by no one.
    pub(super) fn retire_orphans(&mut self) {
        let orphans = self.entries.iter().filter(|(_, entry)| entry.users == 0);
        self.retired = orphans.map(|(uid, _)| *uid).collect();
    }

    /// The identities of tables in the kernel.
    pub(super) fn directory(&self) -> Directory {
        self.directory.clone()
    }

    /// Operations that some table in use may not allow.
    pub(super) fn ops(&self) -> u32 {
        self.entries
            .values()
            .filter(|entry| entry.users > 0)
            .fold(0, |ops, entry| ops | entry.ops)
    }

    /// The handle of a table, building it when the kernel does not have it yet. `next_uid` gives an
    /// identity that was never used.
    pub(super) fn ensure(
        &mut self,
        table: &Arc<Compiled>,
        next_uid: impl FnOnce() -> Result<u32>,
    ) -> Result<Handle> {
        let hash = hash(&table.words);
        if let Some(handle) = self.find(hash, &table.words)? {
            self.directory.insert(handle.uid(), table);
            self.remembered.retain(|uid| *uid != handle.uid());
            return Ok(handle);
        }
        let view = View::parse(&table.words)?;
        let (ops, sourced) = (view.header().ops, view.header().sources > 1);
        let class = CLASS_WORDS_LOG2
            .iter()
            .position(|log2| table.words.len() <= 1 << log2)
            .context("the table is larger than the largest size class")?;
        let slot = self.free_slot(class)?;
        let uid = next_uid()?;
        let mut words = table.words.clone();
        words[UID_WORD] = u64::from(uid);
        let due = std::mem::take(&mut self.retired);
        let handle = Handle::new(u8::try_from(class)?, slot, sourced, uid);
        self.index
            .insert(uid, handle.0, 0)
            .context("note a table")?;
        // An update of an array of maps returns after a grace period: no program that started
        // before it is still running.
        self.classes[class].set(slot, &words)?;
        for uid in due {
            self.free(uid)?;
        }
        self.entries.insert(
            uid,
            Entry {
                handle,
                hash,
                ops,
                users: 0,
            },
        );
        self.directory.insert(uid, table);
        Ok(handle)
    }

    fn find(&self, hash: u64, words: &[u64]) -> Result<Option<Handle>> {
        for entry in self.entries.values().filter(|entry| entry.hash == hash) {
            let same = match self.directory.get(entry.handle.uid()) {
                Some(table) => table.words == words,
                None => self.in_kernel(entry.handle)?.is_some_and(|mut kernel| {
                    kernel[UID_WORD] = 0;
                    kernel.get(..words.len()) == Some(words)
                }),
            };
            if same {
                return Ok(Some(entry.handle));
            }
        }
        Ok(None)
    }

    fn in_kernel(&self, handle: Handle) -> Result<Option<Vec<u64>>> {
        self.classes[handle.class() as usize].get(handle.slot())
    }

    fn free_slot(&self, class: usize) -> Result<u32> {
        (0..TABLES_PER_CLASS)
            .find(|slot| {
                !self.entries.values().any(|entry| {
                    entry.handle.class() as usize == class && entry.handle.slot() == *slot
                })
            })
            .context("every table slot of this size is in use")
    }

    /// A workload starts to use a table.
    pub(super) fn acquire(&mut self, handle: Handle) {
        if let Some(entry) = self.entries.get_mut(&handle.uid()) {
            entry.users += 1;
            self.retired.retain(|uid| *uid != handle.uid());
        }
    }

    /// A workload uses a table no more.
    pub(super) fn release(&mut self, handle: Handle) {
        if let Some(entry) = self.entries.get_mut(&handle.uid()) {
            entry.users = entry.users.saturating_sub(1);
            if entry.users == 0 && !self.retired.contains(&handle.uid()) {
                self.retired.push(handle.uid());
            }
        }
    }

    fn free(&mut self, uid: u32) -> Result<()> {
        let Some(entry) = self.entries.remove(&uid) else {
            return Ok(());
        };
        self.classes[entry.handle.class() as usize].clear(entry.handle.slot())?;
        self.index.remove(&uid).context("forget a table")?;
        self.remembered.push(uid);
        if self.remembered.len() > REMEMBERED {
            self.directory.remove(self.remembered.remove(0));
        }
        Ok(())
    }
}

fn open_index(pins: &Pins) -> Result<BpfHashMap<MapData, u32, u64>> {
    const NAME: &str = "TABLE_INDEX";
    let path = pins.map(NAME);
    if !path.exists() {
        let entries = TABLES_PER_CLASS * u32::try_from(names::TABLES.len())?;
        let fresh =
            BpfHashMap::<MapData, u32, u64>::create(entries, 0).context("create the index")?;
        fresh
            .pin(&path)
            .with_context(|| format!("pin {}", path.display()))?;
    }
    let data = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
    Ok(BpfHashMap::try_from(Map::HashMap(data))?)
}

fn hash(words: &[u64]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

/// The array of one size class's tables.
trait Class: Send {
    fn set(&mut self, slot: u32, words: &[u64]) -> Result<()>;
    fn get(&self, slot: u32) -> Result<Option<Vec<u64>>>;
    fn clear(&mut self, slot: u32) -> Result<()>;
}

struct Store<const WORDS: usize>(ArrayOfMaps<MapData, Array<MapData, [u64; WORDS]>>, MapData);

fn open<const WORDS: usize>(ebpf: &mut Ebpf, class: usize) -> Result<Box<dyn Class>> {
    let name = names::TABLES[class];
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the object has no map {name}"))?;
    let Map::ArrayOfMaps(data) = map else {
        bail!("{name} is no array of maps")
    };
    let again = MapData::from_id(data.info()?.id()).with_context(|| format!("open {name}"))?;
    Ok(Box::new(Store::<WORDS>(
        ArrayOfMaps::try_from(Map::ArrayOfMaps(data))?,
        again,
    )))
}

impl<const WORDS: usize> Class for Store<WORDS> {
    fn set(&mut self, slot: u32, words: &[u64]) -> Result<()> {
        let mut padded = words.to_vec();
        padded.resize(WORDS, 0);
        let padded: Box<[u64; WORDS]> =
            padded.into_boxed_slice().try_into().map_err(|_ignored| {
                anyhow::anyhow!("a table of {} words in this class", words.len())
            })?;
        let words: &[u64; WORDS] = &padded;
        let mut inner = Array::<MapData, [u64; WORDS]>::create(1, 0).context("create a table")?;
        inner.set(0, words, 0).context("fill a table")?;
        self.0.set(slot, &inner, 0).context("publish a table")
    }

    fn get(&self, slot: u32) -> Result<Option<Vec<u64>>> {
        let id = match sys::map_in_slot(self.1.fd().as_fd(), slot) {
            Ok(id) => id,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("look up a table"),
        };
        let inner = MapData::from_id(id).context("open a table")?;
        let mut words = vec![0; WORDS];
        sys::read_words(inner.fd().as_fd(), &mut words).context("read a table")?;
        Ok(Some(words))
    }

    fn clear(&mut self, slot: u32) -> Result<()> {
        match sys::clear_slot(self.1.fd().as_fd(), slot) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context("free a table")
            }
            _ => Ok(()),
        }
    }
}
