//! Tables: many cases that differ in one thing.
//!
//! ```yaml
//! - name: path
//!   spec:                  # as in a policy, without selector
//!     process:
//!       matchPaths:
//!       - path: /run/corpus/a
//!   accesses:              # what comes of each under Allow, Audit and Block
//!   - {do: exec, path: /run/corpus/a, expect: [Allow,   Audit, Block]}
//!   - {do: exec, path: /run/corpus/b, expect: [Posture, Allow, Allow]}
//! ```
//!
//! The action is the spec's, or is written wherever the spec says `$action`. A spec with actions of
//! its own has one verdict for each access. `Posture` is whatever the default posture says. Without
//! `postures` and `kinds`, a table is tried under both.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{ACTOR, Case, CorpusError, Expect, FILES, Kind, Posture, Verdict, Written, yaml};

/// What a host that whitelists must let its own programs do, by families.
const HOST: &str = "host.yaml";

/// Where a spec wants the action written.
const ACTION: &str = "$action";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    spec: Map<String, Value>,
    #[serde(default = "every_posture")]
    postures: Vec<Posture>,
    #[serde(default = "every_kind")]
    kinds: Vec<Kind>,
    accesses: Vec<Written>,
}

fn every_posture() -> Vec<Posture> {
    Posture::ALL.to_vec()
}

fn every_kind() -> Vec<Kind> {
    Kind::ALL.to_vec()
}

/// The cases of every table.
pub(crate) fn all() -> Result<Vec<Case>, CorpusError> {
    let host: Map<String, Value> = yaml(HOST)?;
    let mut cases = Vec::new();
    for file in FILES.files() {
        let path = file.path();
        let name = path.display().to_string();
        if path.extension().is_none_or(|end| end != "yaml") || name == HOST {
            continue;
        }
        let family = name.trim_end_matches(".yaml");
        let tables: Vec<Table> = yaml(&name)?;
        for table in &tables {
            let made = table.cases(family, &host);
            cases.extend(made.map_err(|why| {
                CorpusError::Malformed(name.clone(), format!("{}: {why}", table.name))
            })?);
        }
    }
    Ok(cases)
}

impl Table {
    fn cases(&self, family: &str, host: &Map<String, Value>) -> Result<Vec<Case>, String> {
        let mut cases = Vec::new();
        for &posture in &self.postures {
            for &kind in &self.kinds {
                for &action in self.actions() {
                    cases.push(self.case(family, action, posture, kind, host)?);
                }
            }
        }
        Ok(cases)
    }

    /// The actions it is tried with; none but its own where no verdict depends on them.
    fn actions(&self) -> &[Option<Verdict>] {
        let each = |access: &Written| matches!(access.expect, Expect::Each(_));
        if self.accesses.iter().any(each) {
            &[
                Some(Verdict::Allow),
                Some(Verdict::Audit),
                Some(Verdict::Block),
            ]
        } else {
            &[None]
        }
    }

    fn case(
        &self,
        family: &str,
        action: Option<Verdict>,
        posture: Posture,
        kind: Kind,
        host: &Map<String, Value>,
    ) -> Result<Case, String> {
        let mut spec = Value::Object(self.spec.clone());
        if let Some(action) = action {
            let action = Value::String(format!("{action:?}"));
            if write_action(&mut spec, &action) == 0 {
                merge(&mut spec, &json!({ "action": action }));
            }
        }
        let (resource, selector) = match kind {
            Kind::Container => (
                "KubeArmorPolicy",
                json!({"selector": {"matchLabels": {"app": "nginx"}}}),
            ),
            Kind::Host => (
                "KubeArmorHostPolicy",
                json!({"nodeSelector": {"matchLabels": {"kubearmor.io/hostname": "*"}}}),
            ),
        };
        let whitelists = spec
            .to_string()
            .to_lowercase()
            .contains("\"action\":\"allow\"");
        if kind == Kind::Host && whitelists {
            merge(&mut spec, host.get(family).ok_or("host.yaml lacks it")?);
        }
        merge(&mut spec, &selector);
        let policy = json!({
            "apiVersion": "security.kubearmor.com/v1",
            "kind": resource,
            "metadata": {"name": "corpus"},
            "spec": spec,
        });
        let words = [
            Some(family.to_owned()),
            Some(self.name.clone()),
            action.map(|action| format!("{action:?}")),
            Some(posture.name().to_owned()),
            Some(kind.name().to_owned()),
        ];
        let accesses = self.accesses.iter().cloned();
        Ok(Case {
            name: words.into_iter().flatten().collect::<Vec<_>>().join("/"),
            policy: format!("{policy:#}\n"),
            kind,
            posture,
            accesses: accesses
                .map(|written| written.access(action, posture, ACTOR))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Writes the action wherever it is wanted; in how many places.
fn write_action(value: &mut Value, action: &Value) -> usize {
    match value {
        Value::String(text) if text == ACTION => {
            *value = action.clone();
            1
        }
        Value::Array(items) => items.iter_mut().map(|v| write_action(v, action)).sum(),
        Value::Object(fields) => fields.values_mut().map(|v| write_action(v, action)).sum(),
        _ => 0,
    }
}

/// Adds fields to a mapping and items to its lists.
fn merge(value: &mut Value, more: &Value) {
    match (value, more) {
        (Value::Object(fields), Value::Object(more)) => {
            for (name, more) in more {
                match fields.get_mut(name) {
                    Some(field) => merge(field, more),
                    None => {
                        fields.insert(name.clone(), more.clone());
                    }
                }
            }
        }
        (Value::Array(items), Value::Array(more)) => items.extend(more.iter().cloned()),
        (value, more) => *value = more.clone(),
    }
}
