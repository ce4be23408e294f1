//! Playing a scene.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result};
use karmor_e2e::support::{Alerts, Container, Enforcer, Follower, Output};
use serde_json::Value;

use super::scenes::{Fate, Scene, Step};

/// Who is told what: people read stdout, unless programs do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice {
    json: bool,
}

impl Voice {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// A line for people.
    pub(crate) fn narrate(self, text: &str) {
        // Nobody is left to tell when a stream is gone.
        let _ = if self.json {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }

    /// A line of data.
    fn data(self, line: &str) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// Everything a scene needs. The container goes first, then who watches, then the daemon.
pub(crate) struct Stage<'a> {
    pub(crate) voice: Voice,
    pub(crate) container: Container<'a>,
    pub(crate) text: Follower,
    pub(crate) alerts: Alerts,
    pub(crate) enforcer: Enforcer,
}

impl Stage<'_> {
    /// Plays one scene; whether everything came as it must.
    pub(crate) fn play(&self, number: usize, scene: &Scene) -> Result<bool> {
        self.voice
            .narrate(&format!("\n━━ {number}. {} ━━\n", scene.title));
        let mut good = true;
        self.voice.narrate("Before:");
        for step in scene.steps {
            good &= self.try_step(step, Fate::Allowed)?;
        }

        self.voice
            .narrate(&format!("\nThe policy:\n{}", indent(scene.manifest)));
        let file = write_manifest(scene)?;
        let (text_seen, json_seen) = (self.text.lines().len(), self.alerts.lines().len());
        let answer = self.enforcer.add_policy(&file)?;
        self.voice
            .narrate(&format!("$ karmor vm policy add {}", file.display()));
        self.voice.narrate(&indent(&answer.stdout));

        self.voice.narrate("After:");
        for step in scene.steps {
            good &= self.try_step(step, step.fate)?;
        }
        for step in scene.steps.iter().filter(|step| step.fate != Fate::Allowed) {
            self.alerts
                .expect(&format!("an alert about `{}`", step.command), |alert| {
                    is_about(alert, scene, step)
                })?;
        }
        self.show_logs(text_seen, json_seen);
        self.enforcer.delete_policy(&file)?;
        Ok(good)
    }

    fn try_step(&self, step: &Step, fate: Fate) -> Result<bool> {
        let output = self.container.exec(&["bash", "-c", step.command])?;
        let blocked = output.denied();
        let as_promised = match fate {
            Fate::Blocked => blocked,
            Fate::Audited | Fate::Allowed => output.code == 0,
        };
        self.voice.narrate(&format!("  shop# {}", step.command));
        self.voice.narrate(&indent(first_line(&output)));
        if !as_promised {
            self.voice
                .narrate(&format!("  ✗ expected {fate:?}: {output}"));
        }
        Ok(as_promised)
    }

    fn show_logs(&self, text_seen: usize, json_seen: usize) {
        let json = self.alerts.lines().split_off(json_seen);
        if self.voice.json {
            for line in json {
                self.voice.data(&line);
            }
            return;
        }
        self.voice.narrate("\n$ karmor logs");
        self.voice
            .narrate(&indent(&self.text.lines().split_off(text_seen).join("\n")));
        self.voice.narrate("$ karmor logs --json");
        self.voice.narrate(&indent(&json.join("\n")));
    }
}

fn is_about(alert: &Value, scene: &Scene, step: &Step) -> bool {
    let field = |name: &str| alert.get(name).and_then(Value::as_str).unwrap_or_default();
    let action = if step.fate == Fate::Blocked {
        "Block"
    } else {
        "Audit"
    };
    // Several policies may be named, the winning one first.
    field("PolicyName").starts_with(scene.policy)
        && field("Action") == action
        && field("Resource").contains(step.resource)
}

fn write_manifest(scene: &Scene) -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("{}.yaml", scene.policy));
    std::fs::write(&path, scene.manifest)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// What a person at a terminal would see first.
fn first_line(output: &Output) -> &str {
    let text = if output.stdout.is_empty() {
        &output.stderr
    } else {
        &output.stdout
    };
    text.lines().next().unwrap_or("(no output)")
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
