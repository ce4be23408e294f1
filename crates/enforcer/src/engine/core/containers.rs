//! Containers that come and go.

use std::{collections::BTreeSet, sync::Arc};

use tracing::{info, warn};

use super::Core;
use crate::{
    index::error_text,
    workload::{Container, Identity, RuntimeEvent, numbers::Numbered},
};

impl Core {
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
        let numbered = match self.numbered(&container) {
            Ok(numbered) => numbered,
            Err(why) => {
                warn!(
                    container = container.name,
                    error = why,
                    "container is not protected"
                );
                self.unnumbered.insert(key, (Arc::new(container), why));
                return;
            }
        };
        self.unnumbered.remove(&key);
        container.aliases = numbered.aliases;
        // It keeps what it was found in.
        if let Some(cgroup) = numbered.cgroups.last() {
            container.cgroup = cgroup.clone();
        }
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
                    "container is not protected, or not by all its policies"
                );
            }
        }
        self.running.insert(key, container);
    }

    fn numbered(&mut self, container: &Container) -> Result<Numbered, String> {
        let given = self.backend.given(container.cgroup.id);
        let given = given.map_err(|error| error_text(&error))?;
        let numbered = self.numbers.assign(container, given);
        let numbered = numbered.map_err(|error| error.to_string())?;
        self.remember();
        Ok(numbered)
    }

    /// Nobody depends on the file before the next start: what cannot be written now is tried again.
    fn remember(&mut self) {
        if let Err(error) = self.numbers.save() {
            warn!(error = error_text(&error), "to be tried again");
        }
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
        self.numbers.release(key);
        self.remember();
        info!(container = name, workload = number, "container is gone");
    }
}
