//! What the engine does, one thing at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use karmor_abi::{counters::Counters, label::HOST};
use karmor_policy::model::Kind;
use tracing::{info, warn};

use super::Identities;
use crate::{
    backend::{Backend, BackendError, Capabilities},
    index::{
        Change, Index, IndexError, Loaded, MemberStatus, PolicyId, Rules, Source, Switched,
        error_text,
    },
    marks::Found,
    remark::Remark,
    source::{
        directory::FileChange,
        last_good::LastGood,
        read::{Document, read},
        store::{Store, id_of},
    },
    workload::{Container, Identity, RuntimeEvent, numbers::Numbers},
};

/// Most policies at a time, from all sources.
pub const POLICIES: usize = 10_000;

/// What a [`Core`] is made of.
#[derive(Debug)]
pub struct Setup {
    /// What is configured.
    pub rules: Rules,
    /// Where clients' policies are kept; nowhere in tests.
    pub store: Option<Store>,
    /// Where the texts of policy files are kept; nowhere in tests.
    pub last_good: Option<LastGood>,
    /// Workload numbers.
    pub numbers: Numbers,
    /// Who the numbers are.
    pub identities: Identities,
}

/// Policies, workloads and the backend.
pub struct Core {
    backend: Box<dyn Backend>,
    index: Index,
    store: Option<Store>,
    last_good: Option<LastGood>,
    numbers: Numbers,
    identities: Identities,
    /// Containers by key.
    running: BTreeMap<String, Arc<Container>>,
    /// Containers that got no number and so are not protected, by key, and why.
    unnumbered: BTreeMap<String, (Arc<Container>, String)>,
    /// What is wrong with files of the watched directory, and with itself.
    complaints: BTreeMap<PathBuf, String>,
    /// Changes of files that are sound, but could not be put in force; with the version of the index
    /// that was in the way, if it was that.
    unfinished: BTreeMap<PathBuf, (FileChange, Option<u64>)>,
}

/// Why what a file says is not in force.
enum Unfit {
    /// It is nothing to put in force.
    Text(String),
    /// It is not possible beside the other policies.
    Others(String),
    /// The backend refused.
    Backend(String),
}

impl From<String> for Unfit {
    fn from(why: String) -> Self {
        Self::Text(why)
    }
}

impl From<IndexError> for Unfit {
    fn from(error: IndexError) -> Self {
        let why = error_text(&error);
        match error {
            IndexError::Compile { .. } => Self::Others(why),
            IndexError::Backend { .. } => Self::Backend(why),
        }
    }
}

/// What became of a request about one policy.
#[derive(Debug)]
pub enum Done {
    /// New, in force.
    Applied,
    /// In force instead of an earlier version.
    Modified,
    /// The same as before.
    Unchanged,
    /// Gone.
    Deleted,
    /// There is none.
    NotFound,
    /// Such policies are not taken.
    NotEnabled(String),
    /// It could not be done; everything is as it was.
    Failed(String),
}

/// How a client names a policy; empty fields match anything.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Reference {
    fn matches(&self, id: &PolicyId) -> bool {
        let fits = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        fits(&self.kind, id.kind.as_str())
            && fits(&self.namespace, &id.namespace)
            && self.name == id.name
    }
}

/// A policy in a list.
#[derive(Clone, Debug)]
pub struct ListedPolicy {
    /// Which.
    pub id: PolicyId,
    /// What it says.
    pub loaded: Loaded,
    /// Workloads it is in force on.
    pub workloads: Vec<String>,
    /// What keeps it from being in force.
    pub error: Option<String>,
    /// What was found out about its rules, and in which workloads.
    pub remarks: Vec<(Remark, String)>,
    /// Nothing is enforced, and why; beats everything else.
    pub observe_only: Option<String>,
}

impl Core {
    /// Loads what was kept, before any workload is known: the first table a workload gets must be
    /// the whole one.
    ///
    /// What is in the watched directory has then to be told with [`Core::files`], and that
    /// [`Core::known_files`] are gone, if they are.
    ///
    /// # Errors
    /// When what was kept cannot be read.
    pub fn new(backend: Box<dyn Backend>, setup: Setup) -> io::Result<Self> {
        let mut core = Self {
            backend,
            index: Index::new(setup.rules),
            store: setup.store,
            last_good: setup.last_good,
            numbers: setup.numbers,
            identities: setup.identities,
            running: BTreeMap::new(),
            unnumbered: BTreeMap::new(),
            complaints: BTreeMap::new(),
            unfinished: BTreeMap::new(),
        };
        let documents = core
            .store
            .as_mut()
            .map(Store::restore)
            .transpose()?
            .unwrap_or_default();
        let mut changes: Vec<_> = documents.into_iter().map(|d| set(id_of(&d), d)).collect();
        changes.extend(core.last_good_files()?);
        if !changes.is_empty() {
            info!(policies = changes.len(), "restored policies");
        }
        changes.truncate(POLICIES);
        core.change(changes).map_err(io::Error::other)?;
        Ok(core)
    }

    /// What files of the watched directory said when they were last good.
    fn last_good_files(&mut self) -> io::Result<Vec<Change>> {
        let kept = self.last_good.as_ref().map(LastGood::restore).transpose()?;
        let mut changes = Vec::new();
        for (path, text) in kept.unwrap_or_default() {
            let reading = read(&text, &path.display().to_string());
            if reading.failed() {
                let why = format!(
                    "this version does not take what it last said: {}",
                    reading.summary()
                );
                self.complaints.insert(path, why);
                continue;
            }
            let documents = reading.documents.into_iter();
            changes.extend(documents.map(|d| set(id_in(&path, &d), d)));
        }
        Ok(changes)
    }

    /// Files that policies or complaints are of.
    #[must_use]
    pub fn known_files(&self) -> BTreeSet<PathBuf> {
        let of_policies = self
            .index
            .policies()
            .filter_map(|(id, _)| match &id.source {
                Source::File(path) => Some(path),
                Source::Grpc => None,
            });
        of_policies.chain(self.complaints.keys()).cloned().collect()
    }

    /// Puts the host under its policies. After [`Core::files`] has seen what there is.
    pub fn add_host(&mut self) {
        self.identities.insert(HOST, Identity::Host);
        if let Err(error) = self
            .index
            .add(&mut *self.backend, HOST, Identity::Host, None)
        {
            warn!(error = error_text(&error), "host policies are not in force");
        }
    }

    fn change(&mut self, changes: Vec<Change>) -> Result<(), IndexError> {
        self.index.change(&mut *self.backend, changes)
    }

    /// Sets a client's policy, and keeps it.
    pub fn set(&mut self, document: Document) -> Done {
        let id = id_of(&document);
        if let Some(why) = self.disabled(id.kind) {
            return Done::NotEnabled(why);
        }
        let old = self.index.policy(&id).cloned();
        match &old {
            Some(old) if old.text == document.text => return Done::Unchanged,
            None if self.index.policies().len() >= POLICIES => {
                return Done::Failed(format!("there are {POLICIES} policies already"));
            }
            _ => {}
        }
        let text = Arc::clone(&document.text);
        if let Err(error) = self.change(vec![set(id.clone(), document)]) {
            return Done::Failed(error_text(&error));
        }
        if let Some(store) = &mut self.store
            && let Err(error) = store.keep(&id, &text)
        {
            let back = match &old {
                Some(old) => Change::Set {
                    id,
                    policy: Arc::clone(&old.policy),
                    text: Arc::clone(&old.text),
                },
                None => Change::Remove(id),
            };
            let undone = self.change(vec![back]);
            let rest = undone
                .err()
                .map(|e| format!("; undoing it failed too: {}", error_text(&e)));
            return Done::Failed(format!(
                "it cannot be kept over a restart: {error}{}",
                rest.unwrap_or_default()
            ));
        }
        if old.is_some() {
            Done::Modified
        } else {
            Done::Applied
        }
    }

    /// Removes a client's policy. Also returns which it was.
    pub fn delete(&mut self, wanted: &Reference) -> (Option<PolicyId>, Done) {
        let found: Vec<PolicyId> = self
            .index
            .policies()
            .map(|(id, _)| id)
            .filter(|id| wanted.matches(id))
            .cloned()
            .collect();
        let mut clients = found.iter().filter(|id| id.source == Source::Grpc);
        let (first, second) = (clients.next().cloned(), clients.next());
        match (first, second) {
            (Some(_), Some(_)) => {
                let names = found
                    .iter()
                    .map(|id| format!("{} {}/{}", id.kind.as_str(), id.namespace, id.name));
                let names = names.collect::<Vec<_>>().join(", ");
                (
                    None,
                    Done::Failed(format!(
                        "several policies have that name: {names}; say kind and namespace"
                    )),
                )
            }
            (Some(id), None) => {
                let done = self.delete_one(&id);
                (Some(id), done)
            }
            (None, _) => match found.into_iter().next() {
                Some(id) => {
                    let why = format!("it comes from {}; remove that file", id.source);
                    (Some(id), Done::Failed(why))
                }
                None => (None, Done::NotFound),
            },
        }
    }

    fn delete_one(&mut self, id: &PolicyId) -> Done {
        // First from the disk: a policy that came back at the next start would be worse than one
        // that is still in force.
        if let Some(store) = &self.store
            && let Err(error) = store.forget(id)
        {
            return Done::Failed(format!("its file cannot be removed: {error}"));
        }
        match self.change(vec![Change::Remove(id.clone())]) {
            Ok(()) => Done::Deleted,
            Err(error) => {
                let kept = self.store.as_mut().zip(self.index.policy(id));
                if let Some((store, loaded)) = kept
                    && let Err(error) = store.keep(id, &loaded.text)
                {
                    warn!(%error, policy = id.name, "policy in force cannot be kept over a restart");
                }
                Done::Failed(error_text(&error))
            }
        }
    }

    fn disabled(&self, kind: Kind) -> Option<String> {
        let switch = match kind {
            Kind::Host => "enableKubeArmorHostPolicy",
            Kind::Container | Kind::Cluster => "enableKubeArmorPolicy",
        };
        (!self.index.rules().enabled(kind)).then(|| {
            format!("the daemon does not take policies of this kind; set {switch} to true")
        })
    }

    /// Takes over what changed in the watched directory.
    pub fn files(&mut self, changes: Vec<FileChange>) {
        for change in changes {
            let outcome = match &change.content {
                None => self.file_gone(&change.path),
                Some(Err(error)) => Err(Unfit::Text(error.clone())),
                Some(Ok(text)) => self.file_changed(&change.path, text),
            };
            self.unfinished.remove(&change.path);
            let Err(unfit) = outcome else {
                self.complaints.remove(&change.path);
                continue;
            };
            let path = change.path.clone();
            let (mut why, again) = match unfit {
                Unfit::Text(why) => (why, None),
                Unfit::Others(why) => (why, Some(Some(self.index.version()))),
                Unfit::Backend(why) => (why, Some(None)),
            };
            if let Some(version) = again {
                self.unfinished.insert(path.clone(), (change, version));
            }
            if !self.ids_of(&path).is_empty() {
                why.push_str("; its last good version stays in force");
            }
            if self.complaints.get(&path) != Some(&why) {
                warn!(file = %path.display(), why, "policy file is not in force");
                self.complaints.insert(path, why);
            }
        }
    }

    /// Tries again what the backend refused, and files that other policies were in the way of, if
    /// those have changed since.
    pub fn retry(&mut self) {
        self.index.heal(&mut *self.backend);
        let version = self.index.version();
        let due = |(_, in_the_way): &(FileChange, Option<u64>)| *in_the_way != Some(version);
        let unfinished = self.unfinished.extract_if(.., |_, entry| due(entry));
        let changes = unfinished.map(|(_, (change, _))| change).collect();
        self.files(changes);
    }

    fn file_gone(&mut self, path: &PathBuf) -> Result<(), Unfit> {
        let gone = self.ids_of(path).into_iter().map(Change::Remove).collect();
        self.change(gone)?;
        self.forget_file(path);
        Ok(())
    }

    /// Should this fail, the next start finds once more that the file is gone.
    fn forget_file(&self, path: &Path) {
        if let Some(last_good) = &self.last_good
            && let Err(error) = last_good.forget(path)
        {
            warn!(%error, file = %path.display(), "what a policy file said is not forgotten");
        }
    }

    fn keep_file(&self, path: &Path, text: &str) {
        if let Some(last_good) = &self.last_good
            && let Err(error) = last_good.keep(path, text)
        {
            warn!(
                %error,
                file = %path.display(),
                "should this policy file be damaged when the daemon starts again, it is not in force"
            );
        }
    }

    fn file_changed(&mut self, path: &PathBuf, text: &str) -> Result<(), Unfit> {
        let reading = read(text, &path.display().to_string());
        if reading.failed() {
            return Err(reading.summary().into());
        }
        let old = self.ids_of(path);
        if reading.documents.is_empty() && !old.is_empty() {
            // Most often a writer that has emptied it first, or whose disk is full.
            let why = "there is no policy in it; remove the file to remove its policies";
            return Err(why.to_owned().into());
        }
        let added = reading.documents.len().saturating_sub(old.len());
        if self.index.policies().len() + added > POLICIES {
            let why = format!("there are {POLICIES} policies already");
            return Err(Unfit::Others(why));
        }
        let mut kept = BTreeSet::new();
        let mut changes = Vec::new();
        for document in reading.documents {
            let id = id_in(path, &document);
            if !kept.insert(id.clone()) {
                let why = format!("{} {} is in this file twice", id.kind.as_str(), id.name);
                return Err(why.into());
            }
            if self
                .index
                .policy(&id)
                .is_none_or(|old| old.text != document.text)
            {
                changes.push(set(id, document));
            }
        }
        changes.extend(
            old.into_iter()
                .filter(|id| !kept.contains(id))
                .map(Change::Remove),
        );
        self.change(changes)?;
        if kept.is_empty() {
            self.forget_file(path);
        } else {
            self.keep_file(path, text);
        }
        Ok(())
    }

    fn ids_of(&self, path: &PathBuf) -> Vec<PolicyId> {
        self.index
            .policies()
            .map(|(id, _)| id)
            .filter(|id| matches!(&id.source, Source::File(p) if p == path))
            .cloned()
            .collect()
    }

    /// Takes over what the container runtime tells.
    pub fn runtime(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Running(container) => self.running(*container),
            RuntimeEvent::Ended(key) => self.ended(&key),
            RuntimeEvent::Listed(keys) => {
                let listed: BTreeSet<String> = keys.into_iter().collect();
                self.unnumbered.retain(|key, _| listed.contains(key));
                let known = self.numbers.known().map(|(key, _)| key.to_owned());
                let others: Vec<String> = known.filter(|key| !listed.contains(key)).collect();
                others.iter().for_each(|key| self.ended(key));
            }
        }
    }

    fn running(&mut self, mut container: Container) {
        let key = container.key();
        // Started anew without a word about its end.
        let known = self.numbers.get(&key);
        if known.is_some_and(|known| known.is_before(&container)) {
            self.ended(&key);
        }
        let numbered = match self.numbers.assign(&container) {
            Ok(numbered) => numbered,
            Err(error) => {
                warn!(container = container.name, %error, "container is not protected");
                let unnumbered = (Arc::new(container), error.to_string());
                self.unnumbered.insert(key, unnumbered);
                return;
            }
        };
        self.unnumbered.remove(&key);
        container.aliases = numbered.aliases;
        let number = numbered.number;
        let known = self.running.get(&key);
        if known.is_some_and(|known| **known == container) && self.index.is_well(number) {
            return;
        }
        let container = Arc::new(container);
        let identity = Identity::Container(Arc::clone(&container));
        self.identities.insert(number, identity.clone());
        let cgroup_id = container.cgroup.id;
        match self
            .index
            .add(&mut *self.backend, number, identity, Some(cgroup_id))
        {
            Ok(()) => info!(
                container = container.name,
                workload = number,
                "container is registered"
            ),
            Err(error) => {
                warn!(
                    container = container.name,
                    error = error_text(&error),
                    "container is not protected"
                );
            }
        }
        self.running.insert(key, container);
    }

    /// Forgets a container, of this run or an earlier one, unless a process of it is left: that one
    /// has its number in its label, and under no other would a policy reach it.
    fn ended(&mut self, key: &str) {
        self.unnumbered.remove(key);
        let Some(numbered) = self.numbers.get(key).filter(|n| n.is_empty()).cloned() else {
            return;
        };
        let container = self.running.remove(key);
        let name = container.as_ref().map_or(key, |c| c.name.as_str());
        let number = numbered.number;
        self.identities.remove(number);
        let cgroups = numbered.cgroup_ids();
        if let Err(error) = self.index.remove(&mut *self.backend, number, &cgroups) {
            warn!(container = name, %error, "the kernel could not forget a container");
        }
        if let Err(error) = self.numbers.release(key) {
            warn!(%error, "the end of a container is not remembered");
        }
        info!(container = name, workload = number, "container is gone");
    }

    /// Marks files and remembers what there is to say of rules, if their workload still has the
    /// table they were found with.
    pub fn found(&mut self, switched: &Switched, mut found: Found) {
        if !self.has(switched) {
            return;
        }
        let (number, table) = (switched.number, &switched.table.compiled);
        if let Err(error) = self.backend.mark(number, table, &found.files) {
            warn!(%error, workload = number, "protected files could not be marked");
            found.unmarked(&switched.table.effective, &error.to_string());
        }
        self.index.set_remarks(number, found.remarks);
    }

    /// Remembers that the files of a workload were not looked at. Those that are marked stay so:
    /// nothing new is known of them.
    pub(super) fn unsearched(&mut self, switched: &Switched, why: &str) {
        if self.has(switched) {
            let mut found = Found::default();
            found.unmarked(&switched.table.effective, why);
            self.index.set_remarks(switched.number, found.remarks);
        }
    }

    /// Whether a workload still has this table.
    fn has(&self, switched: &Switched) -> bool {
        let current = self.index.table(switched.number);
        current.is_some_and(|t| Arc::ptr_eq(&t.compiled, &switched.table.compiled))
    }

    pub(super) fn take_switched(&mut self) -> Vec<Switched> {
        self.index.take_switched()
    }

    pub(super) fn identity(&self, number: u32) -> Option<Identity> {
        self.identities.get(number)
    }

    /// All policies.
    #[must_use]
    pub fn policies(&self) -> Vec<ListedPolicy> {
        self.index
            .policies()
            .map(|(id, loaded)| self.listed(id, loaded))
            .collect()
    }

    /// One policy.
    #[must_use]
    pub fn policy(&self, id: &PolicyId) -> Option<ListedPolicy> {
        self.index.policy(id).map(|loaded| self.listed(id, loaded))
    }

    /// The policies that a client may mean.
    #[must_use]
    pub fn find(&self, wanted: &Reference) -> Vec<ListedPolicy> {
        let found = self.index.policies().filter(|(id, _)| wanted.matches(id));
        found.map(|(id, loaded)| self.listed(id, loaded)).collect()
    }

    fn listed(&self, id: &PolicyId, loaded: &Loaded) -> ListedPolicy {
        let (workloads, error) = self.index.reach(id);
        let remarks = self.index.remarks(&loaded.policy).into_iter();
        ListedPolicy {
            remarks: remarks
                .map(|(remark, names)| (remark.clone(), names))
                .collect(),
            id: id.clone(),
            loaded: loaded.clone(),
            workloads,
            error: self.disabled(id.kind).or(error),
            observe_only: self.backend.capabilities().observe_only.clone(),
        }
    }

    /// Files that are not in force as they are, and why.
    #[must_use]
    pub fn complaints(&self) -> Vec<(PathBuf, String)> {
        let files = self.complaints.iter().map(|(p, w)| (&**p, &**w));
        let stored = self.store.iter().flat_map(Store::complaints);
        files
            .chain(stored)
            .map(|(path, why)| (path.to_owned(), why.to_owned()))
            .collect()
    }

    /// What each workload has.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        let unnumbered = self
            .unnumbered
            .values()
            .map(|(container, error)| MemberStatus {
                number: 0,
                identity: Identity::Container(Arc::clone(container)),
                policies: Vec::new(),
                error: Some(error.clone()),
            });
        self.index.members().chain(unnumbered).collect()
    }

    /// Distinct tables in use.
    #[must_use]
    pub fn tables(&self) -> usize {
        self.index.tables()
    }

    /// What this node can enforce.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.backend.capabilities().clone()
    }

    /// The backend's counters.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self) -> Result<Vec<Counters>, BackendError> {
        self.backend.counters()
    }
}

/// The id of a policy in a file.
fn id_in(path: &Path, document: &Document) -> PolicyId {
    PolicyId::of(&document.policy, Source::File(path.to_owned()))
}

fn set(id: PolicyId, document: Document) -> Change {
    Change::Set {
        id,
        policy: document.policy,
        text: document.text,
    }
}
