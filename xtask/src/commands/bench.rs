//! `cargo xtask bench`

mod host;

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::vm::to_stderr;
use crate::{
    cache::Cache,
    kernel::{Kernel, Series},
    machine::{Accel, Machine},
    programs::{self, Profile, Programs},
    setup, ui,
};

/// Measure what enforcement costs
///
/// For the kernel's part, a VM emulates one CPU whose clock counts instructions, so the figures
/// repeat within half a per cent whatever else this machine does; the baseline is the same VM
/// without the enforcer. Compile times and start-up are of this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kernel series, repeatable
    #[arg(long, value_name = "SERIES", value_enum, default_value = "6.1")]
    kernel: Vec<Series>,

    /// Print one JSON array of rows instead of a table
    #[arg(long)]
    json: bool,

    /// Seconds until a VM that has not finished is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,

    /// Only the rows with one of these texts in their name
    names: Vec<String>,
}

/// A figure.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    name: String,
    unit: String,
    baseline: Option<f64>,
    value: f64,
    delta: Option<f64>,
    /// Series; `None` for what no kernel of ours has a part in.
    kernel: Option<String>,
}

/// What the guest measured.
#[derive(Debug, Deserialize)]
struct Cost {
    name: String,
    ns: f64,
}

/// What was measured of the daemon.
#[derive(Debug, Deserialize)]
struct Figure {
    name: String,
    unit: String,
    value: f64,
}

/// What `karmor-bench measure` measures.
const OPERATIONS: [&str; 10] = [
    "open_close/depth=1",
    "open_close/depth=5",
    "open_close/depth=13",
    "getppid",
    "pwrite",
    "exec",
    "exec_static",
    "connect",
    "sendto",
    "capable",
];

/// What `karmor-bench daemon` measures.
const DAEMON: [&str; 3] = ["daemon_memory", "daemon_rule_change", "daemon_alert_delay"];

/// Idle containers beside the daemon that is measured, and the guest's memory for them.
const CONTAINERS: u32 = 100;
const MEMORY_MIB: u32 = 8192;

/// What surrounds the measured process.
#[derive(Clone, Copy, Debug)]
enum Setting {
    /// The enforcer runs; no policy is about this container.
    NoPolicy,
    /// A policy with so many rules, none of which matches.
    Rules(u32),
    /// A policy with so many rules, one of which names a file that has been open since before it; what is
    /// measured is another.
    Held(u32),
    /// A policy on so many networks and a capability, none of which matches; 0 for one of another
    /// container.
    Networks(u32),
    /// A policy that audits so many system calls, none of which is made; 0 for one of another container.
    Syscalls(u32),
    /// A policy with so many rules about files and programs, and one of every other family.
    Everything(u32),
}

const SETTINGS: [Setting; 11] = [
    Setting::NoPolicy,
    Setting::Rules(1),
    Setting::Rules(10),
    Setting::Rules(100),
    Setting::Rules(10_000),
    Setting::Held(100),
    Setting::Networks(0),
    Setting::Networks(10_000),
    Setting::Syscalls(0),
    Setting::Syscalls(4),
    Setting::Everything(100),
];

impl Setting {
    fn name(self) -> String {
        match self {
            Self::NoPolicy => "no-policy".to_owned(),
            Self::Rules(rules) => format!("rules={rules}"),
            Self::Held(rules) => format!("held/rules={rules}"),
            Self::Networks(networks) => format!("networks={networks}"),
            Self::Syscalls(calls) => format!("syscalls={calls}"),
            Self::Everything(rules) => format!("everything={rules}"),
        }
    }

    fn arguments(self) -> Vec<String> {
        let policy = match self {
            Self::NoPolicy => "--rules=0".to_owned(),
            Self::Held(rules) => {
                return [
                    "--enforcer".to_owned(),
                    format!("--rules={rules}"),
                    "--held".to_owned(),
                ]
                .into();
            }
            Self::Rules(rules) => format!("--rules={rules}"),
            Self::Networks(networks) => format!("--networks={networks}"),
            Self::Syscalls(calls) => format!("--syscalls={calls}"),
            Self::Everything(rules) => format!("--everything={rules}"),
        };
        vec!["--enforcer".to_owned(), policy]
    }
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cache = Cache::from_env()?;
        setup::ensure(&cache, &self.kernel)?;
        let built = programs::build(&cache, Profile::Release)?;
        let mut rows = Vec::new();
        if self.wants_of(host::NAMES) {
            rows.extend(host::rows(&cache, &built)?);
        }
        for series in &self.kernel {
            rows.extend(self.operations(&cache, &built, *series)?);
            let of_daemon = |name| format!("{name}/containers={CONTAINERS}/{series}");
            if DAEMON
                .map(of_daemon)
                .iter()
                .any(|name| self.names_match(name))
            {
                ui::status(&format!("{series}: daemon beside {CONTAINERS} containers"));
                rows.extend(self.daemon(&cache, &built, *series)?);
            }
        }
        rows.retain(|row| self.names_match(&row.name));
        if rows.is_empty() {
            bail!("no row has {} in its name", self.names.join(" or "));
        }
        print(&rows, self.json)?;
        Ok(ExitCode::SUCCESS)
    }

    fn names_match(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|text| name.contains(text.as_str()))
    }

    /// Whether a row whose name begins with one of these may have been asked for.
    fn wants_of(&self, beginnings: [&str; 3]) -> bool {
        let asked = |begin: &str| self.names.iter().any(|text| text.starts_with(begin));
        beginnings
            .iter()
            .any(|begin| self.names_match(begin) || asked(begin))
    }

    fn operations(&self, cache: &Cache, built: &Programs, series: Series) -> Result<Vec<Row>> {
        let names = SETTINGS
            .iter()
            .flat_map(|setting| OPERATIONS.map(|operation| row_name(operation, *setting, series)));
        if !names.into_iter().any(|name| self.names_match(&name)) {
            return Ok(Vec::new());
        }
        ui::status(&format!("{series}: baseline"));
        let baseline = self.measure(cache, built, series, &[])?;
        let mut rows = Vec::new();
        for setting in SETTINGS {
            if !self.wants(&baseline, setting, series) {
                continue;
            }
            ui::status(&format!("{series}: {}", setting.name()));
            let costs = self.measure(cache, built, series, &setting.arguments())?;
            let fresh = rows_of(&baseline, &costs, setting, series);
            // At once too: what follows takes minutes, and may fail.
            for row in &fresh {
                let more = row.delta.unwrap_or_default();
                ui::status(&format!("{} {} ({more:+})", row.name, row.value));
            }
            rows.extend(fresh);
        }
        Ok(rows)
    }

    /// Whether a VM in this setting would yield a row that was asked for.
    fn wants(&self, baseline: &BTreeMap<String, f64>, setting: Setting, series: Series) -> bool {
        baseline
            .keys()
            .any(|operation| self.names_match(&row_name(operation, setting, series)))
    }

    fn measure(
        &self,
        cache: &Cache,
        built: &Programs,
        series: Series,
        arguments: &[String],
    ) -> Result<BTreeMap<String, f64>> {
        let command = ["karmor-bench", "run"].map(str::to_owned);
        let machine = Machine {
            accel: Accel::Counting,
            cpus: 1,
            command: command
                .into_iter()
                .chain(arguments.iter().cloned())
                .collect(),
            ..Machine::new(Kernel::get(cache, series)?, built)?
        };
        costs(&self.data_of(cache, machine)?)
    }

    fn daemon(&self, cache: &Cache, built: &Programs, series: Series) -> Result<Vec<Row>> {
        let kernel = Kernel::get(cache, series)?;
        let count = format!("--containers={CONTAINERS}");
        let machine = Machine {
            accel: Accel::fastest(cache, &kernel)?,
            memory_mib: MEMORY_MIB,
            command: ["karmor-bench", "daemon", &count]
                .map(str::to_owned)
                .to_vec(),
            ..Machine::new(kernel, built)?
        };
        let row = |Figure { name, unit, value }| Row {
            name: format!("{name}/{series}"),
            unit,
            baseline: None,
            value,
            delta: None,
            kernel: Some(series.name().to_owned()),
        };
        let figures: Vec<Figure> = lines(&self.data_of(cache, machine)?)?;
        if figures.len() != DAEMON.len() {
            bail!("the guest sent {} rows of {}", figures.len(), DAEMON.len());
        }
        Ok(figures.into_iter().map(row).collect())
    }

    /// What the guest sends.
    fn data_of(&self, cache: &Cache, machine: Machine) -> Result<Vec<u8>> {
        let machine = Machine {
            timeout: Duration::from_secs(self.timeout),
            ..machine
        };
        let ended = machine.run(cache, to_stderr(), to_stderr())?;
        if ended.code != 0 {
            bail!("the benchmark ended with exit code {}", ended.code);
        }
        Ok(ended.data)
    }
}

/// One JSON object a line.
fn lines<T: DeserializeOwned>(data: &[u8]) -> Result<Vec<T>> {
    let text = String::from_utf8_lossy(data);
    let parsed = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the guest sent {line:?}")));
    parsed.collect()
}

fn costs(data: &[u8]) -> Result<BTreeMap<String, f64>> {
    let costs = lines(data)?.into_iter();
    Ok(costs.map(|Cost { name, ns }| (name, ns)).collect())
}

fn row_name(operation: &str, setting: Setting, series: Series) -> String {
    format!("{operation}/{}/{series}", setting.name())
}

fn rows_of(
    baseline: &BTreeMap<String, f64>,
    costs: &BTreeMap<String, f64>,
    setting: Setting,
    series: Series,
) -> Vec<Row> {
    costs
        .iter()
        .map(|(operation, value)| {
            let before = baseline.get(operation).copied();
            Row {
                name: row_name(operation, setting, series),
                unit: "instructions".to_owned(),
                baseline: before.map(f64::round),
                value: value.round(),
                delta: before.map(|before| (value - before).round()),
                kernel: Some(series.name().to_owned()),
            }
        })
        .collect()
}

fn print(rows: &[Row], json: bool) -> Result<()> {
    if json {
        ui::line(&serde_json::to_string_pretty(rows).context("rows are JSON")?);
        return Ok(());
    }
    ui::line(&format!(
        "{:<44} {:>12} {:>12} {:>12}  unit",
        "name", "baseline", "value", "delta"
    ));
    for row in rows {
        let number = |number: Option<f64>| number.map_or("-".to_owned(), |n| n.to_string());
        ui::line(&format!(
            "{:<44} {:>12} {:>12} {:>12}  {}",
            row.name,
            number(row.baseline),
            row.value,
            number(row.delta),
            row.unit,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_and_compared() {
        let baseline = costs(b"{\"name\":\"open_close/depth=5\",\"ns\":1000.2}\n").expect("rows");
        let now = costs(b"{\"name\":\"open_close/depth=5\",\"ns\":1500.4}\n").expect("rows");
        let rows = rows_of(&baseline, &now, Setting::Rules(100), Series::V6_1);
        assert_eq!(
            rows,
            [Row {
                name: "open_close/depth=5/rules=100/6.1".to_owned(),
                unit: "instructions".to_owned(),
                baseline: Some(1000.0),
                value: 1500.0,
                delta: Some(500.0),
                kernel: Some("6.1".to_owned()),
            }]
        );
    }

    #[test]
    fn what_is_no_row_is_an_error() {
        costs(b"container exploded\n").expect_err("not JSON");
    }
}
