//! Compiled tables in the kernel: built once for all workloads that share one, freed when no
//! running program can hold their handle any more.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Array, ArrayOfMaps, HashMap as BpfHashMap, IterableMap as _, Map, MapData},
};
use karmor_abi::{
    label::Handle,
    limits::TABLES_PER_CLASS,
    names,
    pending::Pending,
    table::{CLASS_WORDS_LOG2, View},
};
use karmor_policy::compiled::Compiled;
use tracing::warn;

use super::{calls::Calls, forget, load::Pins, sys};

/// Index of the header word in whose upper half a table in the kernel carries its identity; zero in a
/// compiled table.
const UID_WORD: usize = 7;

/// The identity that a table carries.
const fn uid_of(words: &[u64]) -> u32 {
    (words[UID_WORD] >> 32) as u32
}

/// Has a table carry an identity.
const fn put_uid(words: &mut [u64], uid: u32) {
    words[UID_WORD] = words[UID_WORD] & 0xffff_ffff | (uid as u64) << 32;
}

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
    calls: Calls,
    users: usize,
}

/// All tables in the kernel.
pub(super) struct Tables {
    classes: Vec<Box<dyn Class>>,
    /// Handle by identity, for the next daemon: looking through the slots themselves would cost a
    /// grace period each.
    index: Box<dyn Index>,
    execs: Box<dyn Execs>,
    entries: HashMap<u32, Entry>,
    /// Tables without users, oldest first. Their slots are emptied after the next grace period, or
    /// when the last exec that was decided by them is done.
    retired: Vec<u32>,
    /// Freed tables that [`Directory`] still knows, oldest first.
    remembered: Vec<u32>,
    /// Ids of the maps of tables that are gone.
    freed: Vec<u32>,
    directory: Directory,
}

impl Tables {
    /// Takes the maps out of the object and finds the tables an earlier daemon left in them.
    pub(super) fn new(ebpf: &mut Ebpf, pins: &Pins) -> Result<Self> {
        let mut tables = Self {
            index: Box::new(open_index(pins)?),
            execs: Box::new(open_execs(ebpf)?),
            classes: vec![
                open::<{ 1 << CLASS_WORDS_LOG2[0] }>(ebpf, 0)?,
                open::<{ 1 << CLASS_WORDS_LOG2[1] }>(ebpf, 1)?,
                open::<{ 1 << CLASS_WORDS_LOG2[2] }>(ebpf, 2)?,
                open::<{ 1 << CLASS_WORDS_LOG2[3] }>(ebpf, 3)?,
            ],
            entries: HashMap::new(),
            retired: Vec::new(),
            remembered: Vec::new(),
            freed: Vec::new(),
            directory: Directory::default(),
        };
        tables.adopt()?;
        Ok(tables)
    }

    fn adopt(&mut self) -> Result<()> {
        for (uid, handle) in self.index.all()? {
            let handle = Handle(handle);
            let class = handle.class() as usize;
            let store = self
                .classes
                .get(class)
                .context("a table of an unknown size class")?;
            let words = store.get(handle.slot())?;
            // It was noted and never published, or freed and its note not removed: the slot is
            // empty or another table's by now, which must not be freed in its place.
            let Some(mut words) = words.filter(|words| uid_of(words) == uid) else {
                self.index.remove(uid)?;
                continue;
            };
            put_uid(&mut words, 0);
            let view = View::parse(&words).context("a table in the kernel cannot be read")?;
            let used = view.header().len as usize;
            let (ops, hash) = (view.header().ops, hash(&words[..used]));
            let calls = Calls::of(&view);
            self.entries.insert(
                uid,
                Entry {
                    handle,
                    hash,
                    ops,
                    calls,
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

    /// System calls that some table in use asks about, or this one.
    pub(super) fn calls(&self, also: Option<Handle>) -> Calls {
        let also = also.map_or(0, Handle::uid);
        self.entries
            .iter()
            .filter(|(uid, entry)| entry.users > 0 || **uid == also)
            .fold(Calls::NONE, |calls, (_, entry)| calls.and(&entry.calls))
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
        put_uid(&mut words, uid);
        let due = std::mem::take(&mut self.retired);
        let handle = Handle::new(u8::try_from(class)?, slot, sourced, uid);
        let published = self.index.insert(uid, handle.0).and_then(|()| {
            // An update of an array of maps returns after a grace period: no program that started
            // before it is still running.
            self.classes[class].set(slot, &words)
        });
        if let Err(error) = published {
            self.retired = due;
            if let Err(error) = self.index.remove(uid) {
                // The next daemon sees that the slot is not its.
                warn!(
                    error = format!("{error:#}"),
                    "a table that was not published stays noted"
                );
            }
            return Err(error);
        }
        self.free_unless_wanted(due);
        self.entries.insert(
            uid,
            Entry {
                handle,
                hash,
                ops,
                calls: Calls::of(&view),
                users: 0,
            },
        );
        // Until somebody uses it, which the caller may fail to bring about.
        self.retired.push(uid);
        self.directory.insert(uid, table);
        Ok(handle)
    }

    /// Frees tables that no program can find any more. An exec that one of them decided may still
    /// have to be held against it; after the grace period no further one can come.
    fn free_unless_wanted(&mut self, due: Vec<u32>) {
        if due.is_empty() {
            return;
        }
        let wanted = match self.execs.tables() {
            Ok(wanted) => wanted,
            Err(error) => {
                warn!(error = format!("{error:#}"), "unused tables are not freed");
                due.iter().copied().collect()
            }
        };
        for uid in due {
            if wanted.contains(&uid) {
                self.retired.push(uid);
            } else if let Err(error) = self.free(uid) {
                warn!(error = format!("{error:#}"), "an unused table is not freed");
            }
        }
    }

    fn find(&self, hash: u64, words: &[u64]) -> Result<Option<Handle>> {
        for entry in self.entries.values().filter(|entry| entry.hash == hash) {
            let same = match self.directory.get(entry.handle.uid()) {
                Some(table) => table.words == words,
                None => self.in_kernel(entry.handle)?.is_some_and(|mut kernel| {
                    put_uid(&mut kernel, 0);
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

    /// Ids of the maps of tables that are gone since this was asked last.
    pub(super) fn freed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.freed)
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
        let Some(entry) = self.entries.get(&uid) else {
            return Ok(());
        };
        let (class, slot) = (entry.handle.class() as usize, entry.handle.slot());
        match self.classes[class].clear(slot) {
            Ok(map) => self.freed.extend(map),
            Err(error) => {
                // Its slot is not free; after the next grace period it may be.
                self.retired.push(uid);
                return Err(error);
            }
        }
        self.entries.remove(&uid);
        self.remembered.push(uid);
        if self.remembered.len() > REMEMBERED {
            self.directory.remove(self.remembered.remove(0));
        }
        self.index.remove(uid)
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

fn open_execs(ebpf: &mut Ebpf) -> Result<BpfHashMap<MapData, u64, Pending>> {
    let name = names::PENDING;
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the object has no map {name}"))?;
    Ok(BpfHashMap::try_from(map)?)
}

/// Execs under way.
trait Execs: Send {
    /// The identities of the tables they will be held against.
    fn tables(&self) -> Result<HashSet<u32>>;
}

impl Execs for BpfHashMap<MapData, u64, Pending> {
    fn tables(&self) -> Result<HashSet<u32>> {
        let mut tables = HashSet::new();
        for entry in self.iter() {
            let (_task, pending) = entry.context("read the execs under way")?;
            tables.extend(pending.tables());
        }
        Ok(tables)
    }
}

/// Handles by identity.
trait Index: Send {
    fn all(&self) -> Result<Vec<(u32, u64)>>;
    fn insert(&mut self, uid: u32, handle: u64) -> Result<()>;
    /// One that is not there is fine.
    fn remove(&mut self, uid: u32) -> Result<()>;
}

impl Index for BpfHashMap<MapData, u32, u64> {
    fn all(&self) -> Result<Vec<(u32, u64)>> {
        self.iter().collect::<Result<_, _>>().context("read tables")
    }

    fn insert(&mut self, uid: u32, handle: u64) -> Result<()> {
        self.insert(uid, handle, 0).context("note a table")
    }

    fn remove(&mut self, uid: u32) -> Result<()> {
        forget(self, &uid).context("forget a table")
    }
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
    /// Empties a slot; the id of the map that was there.
    fn clear(&mut self, slot: u32) -> Result<Option<u32>>;
}

struct Store<const WORDS: usize> {
    slots: ArrayOfMaps<MapData, Array<MapData, [u64; WORDS]>>,
    /// The same map, for what aya has no function for.
    map: MapData,
    /// Ids of the maps that this daemon put into slots: to look them up there costs a grace period.
    ids: HashMap<u32, u32>,
}

fn open<const WORDS: usize>(ebpf: &mut Ebpf, class: usize) -> Result<Box<dyn Class>> {
    let name = names::TABLES[class];
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the object has no map {name}"))?;
    let Map::ArrayOfMaps(data) = map else {
        bail!("{name} is no array of maps")
    };
    let again = MapData::from_id(data.info()?.id()).with_context(|| format!("open {name}"))?;
    Ok(Box::new(Store::<WORDS> {
        slots: ArrayOfMaps::try_from(Map::ArrayOfMaps(data))?,
        map: again,
        ids: HashMap::new(),
    }))
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
        let id = inner.map().info().context("look at a table")?.id();
        let published = self.slots.set(slot, &inner, 0);
        published.context("publish a table")?;
        self.ids.insert(slot, id);
        Ok(())
    }

    fn get(&self, slot: u32) -> Result<Option<Vec<u64>>> {
        let id = match sys::map_in_slot(self.map.fd().as_fd(), slot) {
            Ok(id) => id,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("look up a table"),
        };
        let inner = MapData::from_id(id).context("open a table")?;
        let mut words = vec![0; WORDS];
        sys::read_words(inner.fd().as_fd(), &mut words).context("read a table")?;
        Ok(Some(words))
    }

    fn clear(&mut self, slot: u32) -> Result<Option<u32>> {
        let found = |result: io::Result<u32>| match result {
            Ok(id) => Ok(Some(id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let map = self.map.fd().as_fd();
        let id = match self.ids.get(&slot) {
            Some(id) => Some(*id),
            None => found(sys::map_in_slot(map, slot)).context("look up a table")?,
        };
        found(sys::clear_slot(map, slot).map(|()| slot)).context("free a table")?;
        self.ids.remove(&slot);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::MutexGuard;

    use super::*;
    use crate::engine::tests::compiled;

    /// The maps, as they outlive a daemon.
    #[derive(Clone, Default)]
    struct Maps(Arc<Mutex<Content>>);

    #[derive(Default)]
    struct Content {
        index: HashMap<u32, u64>,
        slots: HashMap<u32, Vec<u64>>,
        last_uid: u32,
        /// Tables that decided execs under way.
        execs: HashSet<u32>,
        refuses: Option<Refuses>,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Refuses {
        /// New tables.
        Set,
        /// New tables, and to forget one.
        SetAndForget,
        /// To free a slot.
        Clear,
    }

    impl Maps {
        fn content(&self) -> MutexGuard<'_, Content> {
            self.0.lock().unwrap()
        }

        fn daemon(&self) -> Tables {
            let mut tables = Tables {
                index: Box::new(self.clone()),
                execs: Box::new(self.clone()),
                classes: vec![Box::new(self.clone())],
                entries: HashMap::new(),
                retired: Vec::new(),
                remembered: Vec::new(),
                freed: Vec::new(),
                directory: Directory::default(),
            };
            tables.adopt().unwrap();
            tables
        }

        fn refuse(&self, what: impl Into<Option<Refuses>>) {
            self.content().refuses = what.into();
        }

        fn publish(&self, tables: &mut Tables, path: &str) -> Result<Handle> {
            let text = format!(
                "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
                 metadata: {{name: p}}\nspec:\n  file:\n    matchPaths:\n    - path: {path}\n  \
                 action: Block\n"
            );
            tables.ensure(&compiled(&text), || {
                let mut content = self.content();
                content.last_uid += 1;
                Ok(content.last_uid)
            })
        }

        /// Whether the slot of a handle holds its table.
        fn holds(&self, handle: Handle) -> bool {
            let content = self.content();
            let words = content.slots.get(&handle.slot());
            words.is_some_and(|words| uid_of(words) == handle.uid())
        }
    }

    impl Index for Maps {
        fn all(&self) -> Result<Vec<(u32, u64)>> {
            let content = self.content();
            Ok(content.index.iter().map(|(k, v)| (*k, *v)).collect())
        }

        fn insert(&mut self, uid: u32, handle: u64) -> Result<()> {
            self.content().index.insert(uid, handle);
            Ok(())
        }

        fn remove(&mut self, uid: u32) -> Result<()> {
            let mut content = self.content();
            if content.refuses == Some(Refuses::SetAndForget) {
                bail!("refused");
            }
            content.index.remove(&uid);
            Ok(())
        }
    }

    impl Execs for Maps {
        fn tables(&self) -> Result<HashSet<u32>> {
            Ok(self.content().execs.clone())
        }
    }

    impl Class for Maps {
        fn set(&mut self, slot: u32, words: &[u64]) -> Result<()> {
            let mut content = self.content();
            if matches!(content.refuses, Some(Refuses::Set | Refuses::SetAndForget)) {
                bail!("refused");
            }
            content.slots.insert(slot, words.to_vec());
            Ok(())
        }

        fn get(&self, slot: u32) -> Result<Option<Vec<u64>>> {
            Ok(self.content().slots.get(&slot).cloned())
        }

        fn clear(&mut self, slot: u32) -> Result<Option<u32>> {
            let mut content = self.content();
            if content.refuses == Some(Refuses::Clear) {
                bail!("refused");
            }
            content.slots.remove(&slot);
            Ok(None)
        }
    }

    #[test]
    fn a_publication_that_failed_frees_nobody_elses_table() {
        for refuses in [Refuses::Set, Refuses::SetAndForget] {
            let maps = Maps::default();
            let mut tables = maps.daemon();
            maps.refuse(refuses);
            maps.publish(&mut tables, "/refused").unwrap_err();
            maps.refuse(None);
            let used = maps.publish(&mut tables, "/used").unwrap();
            tables.acquire(used);

            let mut next = maps.daemon();
            next.adopt_user(used);
            next.retire_orphans();
            assert_eq!(maps.content().index.len(), 1, "only what there is");
            // With this one, what is retired is freed.
            maps.publish(&mut next, "/another").unwrap();
            assert!(maps.holds(used));
        }
    }

    #[test]
    fn a_table_stays_while_an_exec_has_to_be_held_against_it() {
        let maps = Maps::default();
        let mut tables = maps.daemon();
        let old = maps.publish(&mut tables, "/old").unwrap();
        tables.acquire(old);
        maps.content().execs.insert(old.uid());
        tables.release(old);
        maps.publish(&mut tables, "/second").unwrap();
        assert!(maps.holds(old));
        // For the next daemon, too.
        let mut next = maps.daemon();
        next.retire_orphans();
        maps.publish(&mut next, "/third").unwrap();
        assert!(maps.holds(old));
        maps.content().execs.clear();
        maps.publish(&mut next, "/fourth").unwrap();
        assert!(!maps.holds(old));
    }

    #[test]
    fn the_next_daemon_finds_the_table_that_is_in_force() {
        let maps = Maps::default();
        let mut tables = maps.daemon();
        let handle = maps.publish(&mut tables, "/old").unwrap();
        let mut next = maps.daemon();
        next.adopt_user(handle);
        next.retire_orphans();
        assert_eq!(maps.publish(&mut next, "/old").unwrap(), handle);
    }

    #[test]
    fn a_slot_that_cannot_be_freed_is_not_given_away() {
        let maps = Maps::default();
        let mut tables = maps.daemon();
        let old = maps.publish(&mut tables, "/old").unwrap();
        tables.acquire(old);
        tables.release(old);
        maps.refuse(Refuses::Clear);
        let second = maps.publish(&mut tables, "/second").unwrap();
        let third = maps.publish(&mut tables, "/third").unwrap();
        assert!(
            [old, second, third]
                .into_iter()
                .all(|handle| maps.holds(handle))
        );
        maps.refuse(None);
        maps.publish(&mut tables, "/fourth").unwrap();
        assert!(!maps.holds(old), "freed as soon as that works");
    }

    #[test]
    fn what_is_retired_stays_so_when_a_publication_fails() {
        let maps = Maps::default();
        let mut tables = maps.daemon();
        let old = maps.publish(&mut tables, "/old").unwrap();
        tables.acquire(old);
        tables.release(old);
        maps.refuse(Refuses::Set);
        maps.publish(&mut tables, "/refused").unwrap_err();
        maps.refuse(None);
        maps.publish(&mut tables, "/next").unwrap();
        assert!(!maps.holds(old));
    }
}
