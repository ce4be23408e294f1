//! Policies × workloads: what is in force on whom.
//!
//! Workloads with the same policies, posture and links share one compiled table; a change touches
//! only the workloads whose set of policies it changes, and moves all of them to the new table with
//! one call to the backend.

mod part;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use jiff::Timestamp;
use karmor_policy::{
    alias::Aliases,
    compile::{CompileError, compile},
    compiled::Compiled,
    model::{Kind, Policy, Postures},
    select::Effective,
};

use self::part::Unfit;
use crate::{
    backend::{Backend, BackendError},
    config::DefaultPostures,
    remark::Remark,
    workload::{Identity, Node},
};

/// Where a policy came from. The same name may come from several places; each is its own policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A client.
    Grpc,
    /// A file of the watched directory.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc => f.write_str("grpc"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// What tells a policy from every other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    /// Where from.
    pub source: Source,
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for kinds without.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl PolicyId {
    /// The id of a policy.
    #[must_use]
    pub fn of(policy: &Policy, source: Source) -> Self {
        Self {
            source,
            kind: policy.kind,
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
        }
    }
}

/// A policy that is loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub policy: Arc<Policy>,
    /// As it was written.
    pub text: Arc<str>,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Tells this version of it from every other.
    serial: u64,
}

/// One step of a change.
#[derive(Debug)]
pub enum Change {
    /// Adds or replaces.
    Set {
        /// Which.
        id: PolicyId,
        /// What it means.
        policy: Arc<Policy>,
        /// As it was written.
        text: Arc<str>,
        /// Since when it says so, if not only now.
        since: Option<Timestamp>,
    },
    /// Removes.
    Remove(PolicyId),
}

/// What is configured and so the same for all workloads.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Where this is.
    pub node: Node,
    /// Container policies are in force.
    pub containers: bool,
    /// Host policies are in force.
    pub hosts: bool,
    /// Default postures.
    pub postures: DefaultPostures,
    /// Namespaces that are left alone.
    pub untracked: Vec<String>,
}

impl Rules {
    /// Whether policies of a kind are taken.
    #[must_use]
    pub const fn enabled(&self, kind: Kind) -> bool {
        match kind {
            Kind::Container | Kind::Cluster => self.containers,
            Kind::Host => self.hosts,
        }
    }
}

/// Why policies could not be put in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// They do not compile together. Where all was well, what was in force stays; elsewhere a part is.
    #[error("the policies of {workload} cannot be compiled")]
    Compile {
        /// One of the workloads.
        workload: String,
        /// Why.
        #[source]
        source: Arc<CompileError>,
    },
    /// The backend refused.
    #[error("the policies of {workload} cannot be put in force")]
    Backend {
        /// One of the workloads.
        workload: String,
        /// Why.
        #[source]
        source: Arc<BackendError>,
    },
}

/// What decides about a workload: equal keys, equal tables.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    serials: Vec<u64>,
    postures: Postures,
    aliases: Aliases,
}

/// A table and what it was made from.
#[derive(Clone, Debug)]
pub struct Table {
    /// What the kernel reads.
    pub compiled: Arc<Compiled>,
    /// What it was made from.
    pub effective: Arc<Effective>,
}

/// A workload.
#[derive(Debug)]
struct Member {
    identity: Identity,
    /// The backend knows its tasks.
    registered: bool,
    aliases: Aliases,
    /// What is in force; `None` until the first success, and after a failure that may have changed
    /// it.
    key: Option<Key>,
    table: Option<Table>,
    /// What was found out about the table's rules here.
    remarks: Vec<Remark>,
    error: Option<String>,
}

/// A table that just came into force on a workload.
#[derive(Clone, Debug)]
pub struct Switched {
    /// The workload.
    pub number: u32,
    /// Its table.
    pub table: Table,
}

/// What is in force on whom.
#[derive(Debug)]
pub struct Index {
    rules: Rules,
    policies: BTreeMap<PolicyId, Loaded>,
    members: BTreeMap<u32, Member>,
    tables: HashMap<Key, Table>,
    switched: Vec<Switched>,
    serial: u64,
    /// Changes so far that stood.
    version: u64,
    /// What does not compile. It may take seconds to find out.
    refused: HashMap<Key, Arc<CompileError>>,
    /// The part of it that does.
    parts: HashMap<Key, Key>,
}

/// What a list says about a workload.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// Number; 0 for the host, and for a container that got none.
    pub number: u32,
    /// Who.
    pub identity: Identity,
    /// Names of the policies in force.
    pub policies: Vec<String>,
    /// What is wrong.
    pub error: Option<String>,
}

impl Index {
    /// An index of nothing.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            policies: BTreeMap::new(),
            members: BTreeMap::new(),
            tables: HashMap::new(),
            switched: Vec::new(),
            serial: 0,
            version: 0,
            refused: HashMap::new(),
            parts: HashMap::new(),
        }
    }

    /// What is configured.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// All policies.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = (&PolicyId, &Loaded)> {
        self.policies.iter()
    }

    /// One policy.
    #[must_use]
    pub fn policy(&self, id: &PolicyId) -> Option<&Loaded> {
        self.policies.get(id)
    }

    /// Changes policies together: all of the changes are in force afterwards, or none.
    ///
    /// # Errors
    /// When some workload cannot be given its new policies; then everything is as it was.
    pub fn change(
        &mut self,
        backend: &mut dyn Backend,
        changes: Vec<Change>,
    ) -> Result<(), IndexError> {
        let mut undo = Vec::with_capacity(changes.len());
        for change in changes {
            match change {
                Change::Set {
                    id,
                    policy,
                    text,
                    since,
                } => {
                    self.serial += 1;
                    let loaded = Loaded {
                        policy,
                        text,
                        updated: since.unwrap_or_else(Timestamp::now),
                        serial: self.serial,
                    };
                    undo.push((id.clone(), self.policies.insert(id, loaded)));
                }
                Change::Remove(id) => {
                    let old = self.policies.remove(&id);
                    undo.push((id, old));
                }
            }
        }
        self.put_in_force(backend, |index| {
            for (id, old) in undo.into_iter().rev() {
                match old {
                    Some(old) => index.policies.insert(id, old),
                    None => index.policies.remove(&id),
                };
            }
        })
    }

    /// Changes the default postures of all workloads, or of none.
    ///
    /// # Errors
    /// When some workload cannot be given them; then everything is as it was.
    pub fn set_postures(
        &mut self,
        backend: &mut dyn Backend,
        postures: DefaultPostures,
    ) -> Result<(), IndexError> {
        let old = std::mem::replace(&mut self.rules.postures, postures);
        self.put_in_force(backend, |index| index.rules.postures = old)
    }

    /// Gives all workloads what they should have now, or undoes what was changed.
    fn put_in_force(
        &mut self,
        backend: &mut dyn Backend,
        undo: impl FnOnce(&mut Self),
    ) -> Result<(), IndexError> {
        let outcome = self.reconcile(backend, Unfit::Keep);
        if outcome.is_err() {
            undo(self);
            // The workloads that took the change go back; their old tables, and which part they had,
            // are still cached, so this can only fail if the kernel refuses what it accepted before,
            // which shows in their status.
            let _ = self.reconcile(backend, Unfit::Part);
        } else {
            self.version += 1;
        }
        self.forget_unused();
        outcome
    }

    /// Counts the changes that stood.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Tries again to give workloads what they should have, where that failed.
    pub fn heal(&mut self, backend: &mut dyn Backend) {
        let ill = self.members.iter().filter(|(_, m)| m.error.is_some());
        let ill: Vec<u32> = ill.map(|(number, _)| *number).collect();
        // What still fails is in their status.
        let _ = self.reconcile_some(backend, &ill, Unfit::Part);
        self.forget_unused();
    }

    /// Adds a workload, with its policies. The host has no cgroup. May be repeated, with the same
    /// cgroup or one more.
    ///
    /// # Errors
    /// When it cannot be registered, or its policies cannot be put in force; it is known all the
    /// same, and its status says so.
    pub fn add(
        &mut self,
        backend: &mut dyn Backend,
        number: u32,
        identity: Identity,
        cgroup_id: Option<u64>,
    ) -> Result<(), IndexError> {
        let workload = identity.name(&self.rules.node).to_owned();
        let registration = backend
            .set_origin(number, identity.origin())
            .and_then(|()| match cgroup_id {
                Some(cgroup_id) => backend.add_workload(number, cgroup_id),
                None => Ok(()),
            });
        let registration = registration.map_err(|source| IndexError::Backend {
            workload,
            source: Arc::new(source),
        });
        let aliases = identity.aliases();
        let kept = self.members.remove(&number);
        let (key, table, remarks) =
            kept.map_or_else(Default::default, |m| (m.key, m.table, m.remarks));
        let member = Member {
            identity,
            registered: registration.is_ok(),
            aliases,
            key,
            table,
            remarks,
            error: registration.as_ref().err().map(error_text),
        };
        self.members.insert(number, member);
        let outcome =
            registration.and_then(|()| self.reconcile_some(backend, &[number], Unfit::Part));
        self.forget_unused();
        outcome
    }

    /// Removes a workload, with its cgroups; also one that only the backend knows.
    ///
    /// # Errors
    /// When the backend refuses; the workload is forgotten all the same.
    pub fn remove(
        &mut self,
        backend: &mut dyn Backend,
        number: u32,
        cgroups: &[u64],
    ) -> Result<(), BackendError> {
        self.members.remove(&number);
        self.forget_unused();
        backend.remove_workload(number, cgroups)
    }

    /// Whether all is well with a workload.
    #[must_use]
    pub fn is_well(&self, number: u32) -> bool {
        let member = self.members.get(&number);
        member.is_some_and(|member| member.error.is_none())
    }

    /// The table in force on a workload.
    #[must_use]
    pub fn table(&self, number: u32) -> Option<&Table> {
        self.members.get(&number)?.table.as_ref()
    }

    /// Remembers what was found out about the rules of a table in a workload.
    pub fn set_remarks(&mut self, number: u32, remarks: Vec<Remark>) {
        if let Some(member) = self.members.get_mut(&number) {
            member.remarks = remarks;
        }
    }

    /// What was found out about the rules of a policy, and the workloads it is true of.
    #[must_use]
    pub fn remarks(&self, policy: &Arc<Policy>) -> Vec<(&Remark, String)> {
        let mut found: Vec<(&Remark, &str)> = Vec::new();
        for member in self.members.values() {
            let name = member.identity.name(&self.rules.node);
            let own = member.remarks.iter();
            let own = own.filter(|remark| Arc::ptr_eq(&remark.policy, policy));
            found.extend(own.map(|remark| (remark, name)));
        }
        found.sort_by(|(a, _), (b, _)| a.said().cmp(&b.said()));
        let same = found.chunk_by(|(a, _), (b, _)| a.said() == b.said());
        same.filter_map(|same| {
            let names: Vec<&str> = same.iter().map(|(_, name)| *name).collect();
            Some((same.first()?.0, several(&names)))
        })
        .collect()
    }

    /// Tables that came into force since the last call.
    pub fn take_switched(&mut self) -> Vec<Switched> {
        std::mem::take(&mut self.switched)
    }

    /// Number of distinct tables in use.
    #[must_use]
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// What each workload has.
    pub fn members(&self) -> impl Iterator<Item = MemberStatus> {
        let names: HashMap<u64, &str> = self
            .policies
            .iter()
            .map(|(id, l)| (l.serial, id.name.as_str()))
            .collect();
        self.members
            .iter()
            .map(move |(number, member)| MemberStatus {
                number: *number,
                identity: member.identity.clone(),
                policies: member
                    .serials()
                    .filter_map(|serial| names.get(serial).map(|n| (*n).to_owned()))
                    .collect(),
                error: member.error.clone(),
            })
    }

    /// Names of the workloads a policy is in force on, and what is wrong on others it selects.
    #[must_use]
    pub fn reach(&self, id: &PolicyId) -> (Vec<String>, Option<String>) {
        let Some(loaded) = self.policies.get(id) else {
            return (Vec::new(), None);
        };
        let mut names = Vec::new();
        let mut error = None;
        for member in self.members.values() {
            let carries = member.serials().any(|serial| *serial == loaded.serial);
            if carries && member.registered {
                names.push(member.identity.name(&self.rules.node).to_owned());
            } else if error.is_none() && self.selects(member, &loaded.policy) {
                error.clone_from(&member.error);
            }
        }
        (names, error)
    }

    fn selects(&self, member: &Member, policy: &Policy) -> bool {
        self.rules.enabled(policy.kind)
            && !self.untracked(&member.identity)
            && member
                .identity
                .selectable(&self.rules.node)
                .is_selected_by(policy)
    }

    fn untracked(&self, identity: &Identity) -> bool {
        match identity {
            Identity::Host => false,
            // Elsewhere a label names the namespace, and an image must not excuse itself.
            Identity::Container(c) => {
                c.is_of_kubernetes() && self.rules.untracked.contains(&c.namespace)
            }
        }
    }

    /// What should decide about a workload.
    fn wanted(&self, member: &Member) -> Key {
        let mut serials = Vec::new();
        if !self.untracked(&member.identity) {
            let selectable = member.identity.selectable(&self.rules.node);
            serials.extend(
                self.policies
                    .values()
                    .filter(|l| self.rules.enabled(l.policy.kind))
                    .filter(|l| selectable.is_selected_by(&l.policy))
                    .map(|l| l.serial),
            );
        }
        let postures = match member.identity {
            // Without a policy there is no whitelist.
            _ if serials.is_empty() => Postures::default(),
            Identity::Host => self.rules.postures.host,
            Identity::Container(_) => self.rules.postures.containers,
        };
        Key {
            serials,
            postures,
            aliases: member.aliases.clone(),
        }
    }

    fn reconcile(&mut self, backend: &mut dyn Backend, unfit: Unfit) -> Result<(), IndexError> {
        let all: Vec<u32> = self.members.keys().copied().collect();
        self.reconcile_some(backend, &all, unfit)
    }

    /// Gives workloads what they should have, as far as they do not have it. Goes on after a
    /// failure and returns the first that befell a workload with which all was well.
    fn reconcile_some(
        &mut self,
        backend: &mut dyn Backend,
        numbers: &[u32],
        unfit: Unfit,
    ) -> Result<(), IndexError> {
        let mut groups: HashMap<Key, Vec<u32>> = HashMap::new();
        for number in numbers {
            let Some(member) = self.members.get(number).filter(|m| m.registered) else {
                continue;
            };
            let wanted = self.wanted(member);
            if member.key.as_ref() != Some(&wanted) {
                groups.entry(wanted).or_default().push(*number);
            } else if let Some(member) = self.members.get_mut(number) {
                // What went wrong was undone.
                member.error = None;
            }
        }
        let mut outcome = Ok(());
        let is_change = !groups.is_empty();
        for (key, numbers) in groups {
            let done = self.switch(backend, &key, &numbers);
            if let Err(IndexError::Compile { .. }) = &done {
                self.make_do(backend, &key, &numbers, unfit);
            }
            let error = done.as_ref().err().map(error_text);
            let mut was_well = false;
            for number in &numbers {
                if let Some(member) = self.members.get_mut(number) {
                    was_well |= member.error.is_none();
                    member.error.clone_from(&error);
                }
            }
            if outcome.is_ok() && was_well {
                outcome = done;
            }
        }
        if is_change {
            backend.settle();
        }
        outcome
    }

    fn switch(
        &mut self,
        backend: &mut dyn Backend,
        key: &Key,
        numbers: &[u32],
    ) -> Result<(), IndexError> {
        let workload = self.name_of(numbers);
        let table = if key.serials.is_empty() {
            None
        } else {
            Some(self.compiled(key).map_err(|source| IndexError::Compile {
                workload: workload.clone(),
                source,
            })?)
        };
        if let Err(source) = backend.apply(numbers, table.as_ref().map(|t| &t.compiled)) {
            // Some may have switched before it failed: what they have is not known, and whoever
            // undoes the change must not take them for those that never left.
            for number in numbers {
                if let Some(member) = self.members.get_mut(number) {
                    member.key = None;
                }
            }
            return Err(IndexError::Backend {
                workload,
                source: Arc::new(source),
            });
        }
        if let Some(table) = &table {
            self.tables.insert(key.clone(), table.clone());
        }
        for number in numbers {
            if let Some(member) = self.members.get_mut(number) {
                member.key = Some(key.clone());
                member.table.clone_from(&table);
                member.remarks.clear();
            }
            if let Some(table) = &table {
                self.switched.push(Switched {
                    number: *number,
                    table: table.clone(),
                });
            }
        }
        Ok(())
    }

    fn name_of(&self, numbers: &[u32]) -> String {
        let members = numbers.iter().filter_map(|n| self.members.get(n));
        let names = members.map(|m| m.identity.name(&self.rules.node));
        several(&names.collect::<Vec<_>>())
    }

    fn compiled(&mut self, key: &Key) -> Result<Table, Arc<CompileError>> {
        if let Some(table) = self.tables.get(key) {
            return Ok(table.clone());
        }
        if let Some(error) = self.refused.get(key) {
            return Err(Arc::clone(error));
        }
        let policies = self
            .policies
            .values()
            .filter(|l| key.serials.contains(&l.serial))
            .map(|l| Arc::clone(&l.policy));
        let effective = Effective::new(policies, key.postures, key.aliases.clone());
        let compiled = compile(&effective).map_err(|error| {
            let error = Arc::new(error);
            self.refused.insert(key.clone(), Arc::clone(&error));
            error
        })?;
        Ok(Table {
            compiled: Arc::new(compiled),
            effective: Arc::new(effective),
        })
    }

    fn forget_unused(&mut self) {
        let members = &self.members;
        self.tables
            .retain(|key, _| members.values().any(|m| m.key.as_ref() == Some(key)));
        let serials: HashSet<u64> = self.policies.values().map(|l| l.serial).collect();
        let may_be_wanted = |key: &Key| key.serials.iter().all(|serial| serials.contains(serial));
        self.refused.retain(|key, _| may_be_wanted(key));
        self.parts.retain(|key, _| may_be_wanted(key));
    }
}

/// The first of some names, and how many others.
fn several(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [name, _] => format!("{name} and another"),
        [name, others @ ..] => format!("{name} and {} others", others.len()),
    }
}

impl Member {
    fn serials(&self) -> impl Iterator<Item = &u64> {
        self.key.iter().flat_map(|key| &key.serials)
    }
}

/// An error with its causes, on one line.
#[must_use]
pub fn error_text(error: &impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
