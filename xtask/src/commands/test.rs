//! `cargo xtask test`

use std::{
    collections::BTreeMap,
    num::NonZero,
    process::{Command, ExitCode},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{
    bypasses,
    cache::{self, Cache},
    kernel::{Kernel, Series},
    machine::{Accel, Machine, Sink},
    programs::{self, Profile, Programs},
    setup, shell,
    steps::{Outcome, Steps},
    ui,
};

/// Run every test: on this machine, and in a VM on each supported kernel
///
/// Sets the machine up first if it is not. With KARMOR_FULL=1 every VM test runs on every kernel, for as
/// long as there is something to try; else those that are about the daemon alone run on the oldest.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kernel series for the VM tests, repeatable [default: all of them]
    #[arg(long, value_name = "SERIES", value_enum)]
    kernel: Vec<Series>,

    /// Leave the VM tests and the kernel half out; needs no set-up
    #[arg(long, conflicts_with = "kernel")]
    host_only: bool,

    /// Leave everything but the VM tests out
    #[arg(long, conflicts_with = "host_only")]
    vm_only: bool,

    /// Seconds until a VM that has not finished is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 5400)]
    timeout: u64,

    /// Run only tests with this text in their name, of VM tests also one of several divided by commas;
    /// leaves out everything that is no test
    filter: Option<String>,
}

/// Pairs of policies and accesses on which reference and matcher are compared.
const PROPERTY_CASES: &str = "1000000";

/// A hook may be preempted in the middle on the first setting, which is the harder one. By the second,
/// grace periods, for which every change of policies waits, do not take dozens of milliseconds because
/// the machine is emulated.
const KERNEL_ARGUMENTS: &str = "preempt=full rcupdate.rcu_expedited=1";

/// Has every case run on every kernel, and all of it; for the VM.
const FULL: &str = "KARMOR_FULL";

/// Everything but the kernel half, which only builds for the BPF target; with what only the resource
/// definitions need.
const HOST_PACKAGES: [&str; 4] = [
    "--workspace",
    "--exclude=karmor-enforcer-ebpf",
    "--features",
    "karmor-policy/crd",
];

/// What came of a kernel's VM tests.
struct Ran {
    code: i32,
    log: String,
}

impl Ran {
    /// What came of each case.
    fn results(&self) -> Option<bypasses::Results> {
        bypasses::results(&self.log)
    }

    /// How the step ended.
    fn outcome(self) -> Result<Outcome> {
        if self.code == 0 {
            return Ok(Outcome::Done(self.log));
        }
        // What was before has been passed on already; why a test failed is what a summary is for.
        let failures = self.log.find("\nfailures:\n").unwrap_or(0);
        let failures = self.log.get(failures..).unwrap_or(&self.log);
        bail!("exit code {}\n{failures}", self.code)
    }
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cache = Cache::from_env()?;
        let kernels = match (self.host_only, self.kernel.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => Series::ALL.to_vec(),
            (false, false) => self.kernel.clone(),
        };
        let mut steps = Steps::new();
        if !self.host_only
            && !steps.run("set-up", || {
                setup::ensure(&cache, &kernels)?;
                Ok(Outcome::Done(String::new()))
            })
        {
            return Ok(finish(steps));
        }
        if !self.vm_only {
            if self.filter.is_none() {
                self.checks(&mut steps, &cache);
            }
            self.host_tests(&mut steps, &cache);
        }
        self.vm_tests(&mut steps, &cache, &kernels);
        Ok(finish(steps))
    }

    /// What is no test.
    fn checks(&self, steps: &mut Steps, cache: &Cache) {
        steps.run("format", || {
            done(
                self.cargo(cache)
                    .args(["fmt", "--all", "--check", "--", "--color=never"]),
            )
        });
        steps.run("lints", || {
            let mut command = self.cargo(cache);
            command
                .arg("clippy")
                .args(HOST_PACKAGES)
                .arg("--all-targets");
            done(command.args(["--", "--deny", "warnings"]))
        });
        steps.run("dependencies", || {
            if !cache::repository().join("deny.toml").exists() {
                return skipped("there is no deny.toml");
            }
            if !shell::in_path("cargo-deny") {
                return skipped("cargo-deny is not installed: cargo install cargo-deny");
            }
            // Advisories change without a change of ours and are fetched: not a test of this tree.
            let mut command = self.cargo(cache);
            command.args(["deny", "--log-level", "error"]);
            done(command.args(["check", "bans", "licenses", "sources"]))
        });
    }

    fn host_tests(&self, steps: &mut Steps, cache: &Cache) {
        steps.run("host tests", || {
            let mut command = self.cargo(cache);
            command
                .arg("test")
                .args(HOST_PACKAGES)
                .arg("--no-fail-fast");
            command.args(&self.filter);
            done(&mut command)
        });
        if self.filter.is_none() {
            steps.run("property tests", || {
                let mut command = self.cargo(cache);
                // The profile of the VM's programs, which are built next.
                command.args(["test", "--profile", "rig", "--package", "karmor-policy"]);
                command.args(["--test", "properties"]);
                done(command.env("KARMOR_PROPERTY_CASES", PROPERTY_CASES))
            });
        }
    }

    fn vm_tests(&self, steps: &mut Steps, cache: &Cache, kernels: &[Series]) {
        if kernels.is_empty() {
            return;
        }
        let mut built = None;
        steps.run("programs for the VM", || {
            built = Some(programs::build(cache, Profile::Rig)?);
            Ok(Outcome::Done(String::new()))
        });
        let Some(built) = built else { return };
        let runs: Mutex<BTreeMap<Series, bypasses::Results>> = Mutex::default();
        // An emulated machine keeps a core busy.
        let jobs = std::thread::available_parallelism().map_or(1, NonZero::get);
        // On the oldest kernel, which comes first, there is about as much to try as on the others.
        steps.run_beside(
            kernels,
            jobs,
            |series| format!("VM tests on {series}"),
            |series| {
                let ran = self.in_vm(cache, *series, &built)?;
                // Whether the step fails or not: the file is about what failed as well.
                if let Some(results) = ran.results() {
                    runs.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(*series, results);
                }
                ran.outcome()
            },
        );
        let runs = runs.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.filter.is_none() {
            let is_full = std::env::var_os(FULL).is_some();
            steps.run("ways round a policy", || bypasses::check(&runs, is_full));
        }
    }

    fn in_vm(&self, cache: &Cache, series: Series, built: &Programs) -> Result<Ran> {
        let kernel = Kernel::get(cache, series)?;
        let machine = Machine {
            accel: Accel::fastest(cache, &kernel)?,
            command: ["karmor-e2e".to_owned()]
                .into_iter()
                .chain(self.filter.clone())
                .collect(),
            timeout: Duration::from_secs(self.timeout),
            append: KERNEL_ARGUMENTS.to_owned(),
            environment: std::env::var(FULL)
                .map(|value| (FULL.to_owned(), value))
                .into_iter()
                .collect(),
            ..Machine::new(kernel, built)?
        };
        // Results are read from what libtest prints, which notes are not to come in between.
        let log = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::default();
        let ended = machine.run(cache, tee(&log, series), tee(&notes, series))?;
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Ran {
            code: ended.code,
            log: String::from_utf8_lossy(&log).into_owned(),
        })
    }

    fn cargo(&self, cache: &Cache) -> Command {
        let mut command = programs::cargo(cache);
        if self.host_only {
            command.env("AYA_BUILD_SKIP", "1");
        }
        command
    }
}

fn finish(steps: Steps) -> ExitCode {
    if steps.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn done(command: &mut Command) -> Result<Outcome> {
    Ok(Outcome::Done(shell::capture_text(command)?))
}

fn skipped(why: &str) -> Result<Outcome> {
    Ok(Outcome::Skipped(why.to_owned()))
}

/// Collects a stream, and passes it on to stderr a line at a time, behind the kernel's name: minutes
/// go by, and a run that is cut off must have told how far it got.
fn tee(log: &Arc<Mutex<Vec<u8>>>, series: Series) -> Sink {
    let log = Arc::clone(log);
    let mut line = format!("{series}: ").into_bytes();
    let start = line.len();
    Box::new(move |bytes| {
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                ui::pass_on(&line);
                line.truncate(start);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_run_fails_its_step_and_has_results() {
        let ran = Ran {
            code: 101,
            log: "test k6_1_one ... ok\ntest k6_1_two ... FAILED\n\nfailures:\n\n---- k6_1_two ----\n\
                  why\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n"
                .to_owned(),
        };
        let results = ran.results().expect("it came to its end");
        assert_eq!(results.get("one"), Some(&true));
        assert_eq!(results.get("two"), Some(&false));
        let Err(error) = ran.outcome() else {
            panic!("a case failed")
        };
        let said = format!("{error:#}");
        assert!(said.starts_with("exit code 101\n\nfailures:\n"), "{said}");
        assert!(said.contains("why") && said.contains("1 failed"), "{said}");
    }
}
