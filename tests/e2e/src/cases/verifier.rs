//! What the verifier makes of the programs.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Case;
use crate::support::{Guest, KernelVersion, note, run};

pub(super) const CASES: &[Case] = &[Case {
    name: "verifier_is_done_with_every_program_in_time",
    since: KernelVersion::new(6, 1),
    run: processed,
}];

/// Instructions that it may process of one program; it gives up at 1,000,000.
const MOST: u64 = 200_000;

fn processed(_: &Guest) -> Result<()> {
    // A daemon loads some programs only when a policy needs them; this loads them all.
    let probe = run("karmor-enforcer", ["probe", "--json"])?.success()?;
    let probe: Value = serde_json::from_str(&probe.stdout).context("no JSON")?;
    let hooks = probe["hooks"].as_array().context("no programs")?;
    let mut above = Vec::new();
    let mut seen = 0;
    for hook in hooks {
        let name = hook["hook"].as_str().unwrap_or_default();
        let count = hook["verifiedInstructions"].as_u64().unwrap_or_default();
        if hook["loads"] != true {
            continue;
        }
        note(&format!("{name}: {count} instructions processed"));
        seen += 1;
        if count == 0 || count >= MOST {
            above.push(format!("{name}: {count}"));
        }
    }
    ensure!(seen > 60, "only {seen} programs: {probe}");
    ensure!(
        above.is_empty(),
        "programs of {MOST} instructions and more, or of none:\n{}",
        above.join("\n")
    );
    Ok(())
}
