//! What the engine does, one thing at a time.

mod containers;
mod files;
mod trials;

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use karmor_abi::{counters::Counters, label::HOST};
use karmor_policy::model::Kind;
use tracing::{info, warn};

pub use self::trials::{Ended, Tried};
use super::Identities;
use crate::{
    backend::{Backend, BackendError, Capabilities},
    config::DefaultPostures,
    index::{
        Change, Index, IndexError, Loaded, MemberStatus, PolicyId, Rules, Source, Switched,
        error_text,
    },
    marks::Found,
    remark::Remark,
    source::{
        directory::{FileChange, Sound},
        last_good::LastGood,
        read::Document,
        store::{Store, id_of},
    },
    trial::Trials,
    workload::{Container, Identity, numbers::Numbers},
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
    /// Policies on trial.
    pub trials: Trials,
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
    trials: Trials,
    /// Why default postures are not as they should be.
    posture_complaint: Option<String>,
    /// Trials whose time was over and that nobody was told of yet.
    ended: Vec<Ended>,
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
    unfinished: BTreeMap<PathBuf, (FileChange<Sound>, Option<u64>)>,
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
    /// The name of the trial it is on, and the time left.
    pub trial: Option<(String, Duration)>,
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
            trials: setup.trials,
            posture_complaint: None,
            ended: Vec::new(),
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
        let documents = core.without_what_is_over(documents);
        let mut changes: Vec<_> = documents.into_iter().map(|d| set(id_of(&d), d)).collect();
        changes.extend(core.last_good_files()?);
        if !changes.is_empty() {
            info!(policies = changes.len(), "restored policies");
        }
        changes.truncate(POLICIES);
        core.change(changes).map_err(io::Error::other)?;
        core.take_back_what_is_over();
        Ok(core)
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

    /// Sets a client's policy for good, and keeps it.
    pub fn set(&mut self, document: Document) -> Done {
        let id = id_of(&document);
        let done = self.replace(id.clone(), document);
        if matches!(done, Done::Applied | Done::Modified | Done::Unchanged) {
            self.trials.release([&id]);
        }
        done
    }

    fn replace(&mut self, id: PolicyId, document: Document) -> Done {
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
            let undone = self.change(vec![back(id, old.as_ref())]);
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
            Ok(()) => {
                self.trials.release([id]);
                Done::Deleted
            }
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

    /// Changes the default postures of all workloads, or of none. Returns whether that changed
    /// anything. An error instead of postures is remembered.
    ///
    /// # Errors
    /// What was given; and when some workload cannot be given them, and so none is.
    pub fn set_postures(
        &mut self,
        wanted: Result<DefaultPostures, String>,
    ) -> Result<bool, String> {
        let done = wanted.and_then(|wanted| {
            if self.index.rules().postures == wanted {
                return Ok(false);
            }
            let changed = self.index.set_postures(&mut *self.backend, wanted);
            changed.map(|()| true).map_err(|error| error_text(&error))
        });
        self.posture_complaint = done.as_ref().err().cloned();
        done
    }

    /// The default postures, and why they are not as they should be.
    #[must_use]
    pub fn postures(&self) -> (DefaultPostures, Option<String>) {
        (self.index.rules().postures, self.posture_complaint.clone())
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
        if !found.files.is_empty() {
            self.backend.settle();
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
            trial: self
                .trials
                .of(id)
                .map(|trial| (trial.token.clone(), self.trials.left(trial))),
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

    /// Has the backend do what it has to do again.
    pub fn tick(&mut self) {
        self.backend.tick();
    }

    /// The backend's counters.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self) -> Result<Vec<Counters>, BackendError> {
        self.backend.counters()
    }
}

fn set(id: PolicyId, document: Document) -> Change {
    Change::Set {
        id,
        policy: document.policy,
        text: document.text,
        since: document.since,
    }
}

/// The change that makes a policy what it was.
fn back(id: PolicyId, old: Option<&Loaded>) -> Change {
    match old {
        Some(old) => Change::Set {
            id,
            policy: Arc::clone(&old.policy),
            text: Arc::clone(&old.text),
            since: Some(old.updated),
        },
        None => Change::Remove(id),
    }
}
