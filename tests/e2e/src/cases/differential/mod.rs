//! The kernel against the reference: random policies, random system calls.
//!
//! ```text
//! random policy ──YAML──▶ daemon ──▶ kernel ──▶ errno of each call ──┐
//!        └──▶ karmor_policy::reference ──▶ what each call must do ───┴─ the same
//! ```

mod calls;
mod others;
mod policies;

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use karmor_policy::{
    alias::Aliases,
    compile::compile,
    model::{Posture, Postures},
    select::Effective,
};

use self::{calls::Judge, others::Other};
use super::{Case, case};
use crate::support::{Container, DefaultPostures, Enforcer, Guest, Image, Work, note};

pub(super) const CASES: &[Case] = &[case(
    "differential_kernel_does_what_the_reference_says",
    differential,
)];

/// Policies, one after the other: at least, and in a full run.
const POLICIES: [usize; 2] = [8, 100];
/// Time for more than the least.
const TIME: Duration = Duration::from_secs(60);
/// Calls under each.
const CALLS: usize = 1000;

/// Where policy and calls meet; what is outside is left alone.
const ROOT: &str = "/srv/d";

/// The images that act, each a copy of `karmor-tries`.
const IMAGES: [&str; 2] = ["/srv/one", "/srv/bin/two"];

/// Where the calls and what became of them are left.
const HOST_SHARE: &str = "/run/karmor-e2e/differential";
const SHARE: &str = "/opt/share";

fn differential(guest: &Guest) -> Result<()> {
    let seed = std::env::var("KARMOR_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    note(&format!("differential: KARMOR_SEED={seed}"));
    fs::create_dir_all(HOST_SHARE).with_context(|| format!("cannot create {HOST_SHARE}"))?;
    for program in ["karmor-tries", "busybox"] {
        let from = ["/usr/local/bin", "/usr/bin"].map(|dir| format!("{dir}/{program}"));
        let from = from.iter().find(|path| fs::exists(path).unwrap_or(false));
        let from = from.with_context(|| format!("there is no {program}"))?;
        fs::copy(from, format!("{HOST_SHARE}/{program}"))
            .with_context(|| format!("cannot copy {program}"))?;
    }
    let container = guest
        .container(Image::Debian)?
        .bind(HOST_SHARE, SHARE)
        .start("differential")?;
    container.shell(&prepare())?.success()?;
    guest.unwatched(&DefaultPostures::BLOCK, |enforcer| {
        differ(enforcer, &container, seed)
    })
}

/// As many policies as there is time for, each with its calls.
fn differ(enforcer: &Enforcer, container: &Container<'_>, seed: u64) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    enforcer.knows(container.name())?;
    let began = Instant::now();
    let work = Work::begin(POLICIES[0], POLICIES[1], TIME);
    let (mut policies, mut refused) = (0, 0);
    while work.goes_on(policies) {
        refused += play(policies, &mut rng, enforcer, container)
            .with_context(|| format!("round {policies}, KARMOR_SEED={seed}"))?;
        policies += 1;
    }
    let calls = policies * CALLS;
    note(&format!(
        "differential: {calls} calls under {policies} policies, {refused} of them refused, {} s",
        began.elapsed().as_secs()
    ));
    // Neither all nor nothing, or the test would say little.
    ensure!(
        refused > calls / 10 && refused < calls * 9 / 10,
        "{refused} of {calls} calls were refused"
    );
    Ok(())
}

/// The files and programs that calls are about.
fn prepare() -> String {
    let mut line = String::from("set -e\n");
    for directory in calls::DIRECTORIES {
        // Writing to a `String` does not fail.
        let _ = writeln!(line, "mkdir -p {directory}");
        for file in calls::FILES {
            let _ = writeln!(line, "echo text > {directory}/{file}");
        }
        let _ = writeln!(line, "cp {SHARE}/busybox {directory}/{}", calls::PROGRAM);
        let _ = writeln!(line, "chown 1000 {directory}/{}", calls::FOREIGN);
    }
    for image in IMAGES {
        let _ = writeln!(
            line,
            "mkdir -p $(dirname {image}); cp {SHARE}/karmor-tries {image}"
        );
    }
    line
}

/// A call, and the errors of which it must fail with one; none for what must go ahead.
struct Tried {
    call: String,
    errors: &'static [&'static str],
}

impl Tried {
    /// Three of four are about files: that is where calls depend on each other.
    fn random(judge: &Judge<'_>, rng: &mut Rng) -> Result<Self> {
        const EPERM: &str = "1";
        const EACCES: &str = "13";
        let (call, refused, errors): (_, _, &[&str]) = if rng.u8(0..4) == 0 {
            let call = Other::random(rng);
            // Capabilities and packets are refused the way that is usual there.
            (call.to_string(), call.refuses(judge)?, &[EPERM, EACCES])
        } else {
            let call = judge.random_call(rng);
            (call.to_string(), judge.refuses(&call), &[EACCES])
        };
        let errors = if refused { errors } else { &[] };
        Ok(Self { call, errors })
    }
}

/// One policy and the calls under it; how many had to be refused.
fn play(
    round: usize,
    rng: &mut Rng,
    enforcer: &Enforcer,
    container: &Container<'_>,
) -> Result<usize> {
    let name = "differential";
    let text = policies::random(name, rng);
    let report = karmor_policy::read("differential.yaml", &text);
    ensure!(!report.has_errors(), "{:?}\n{text}", report.diagnostics);
    let policies = report.policies.into_iter().map(std::sync::Arc::new);
    let postures = Postures::all(Posture::Block);
    let effective = Effective::new(policies, postures, Aliases::merged_usr());
    let compiled = compile(&effective).context("the policy does not compile")?;
    let image = IMAGES[round % IMAGES.len()];
    let judge = Judge::new(&effective, &compiled, image)?;
    let calls: Vec<Tried> = (0..CALLS)
        .map(|_| Tried::random(&judge, rng))
        .collect::<Result<_>>()?;

    let mut input = String::new();
    for tried in &calls {
        let _ = writeln!(input, "{}", tried.call);
    }
    fs::write(format!("{HOST_SHARE}/input"), input).context("cannot write the calls")?;
    enforcer.add_manifest(name, &text)?;
    container
        .exec(&[
            image,
            "batch",
            &format!("{SHARE}/input"),
            &format!("{SHARE}/output"),
        ])?
        .success()
        .with_context(|| text.clone())?;
    let output =
        fs::read_to_string(format!("{HOST_SHARE}/output")).context("cannot read the results")?;
    let results: Vec<&str> = output.lines().collect();
    ensure!(results.len() == calls.len(), "{} results", results.len());
    let mut wrong = Vec::new();
    for (Tried { call, errors }, errno) in calls.iter().zip(results) {
        let is_right = match errors {
            [] => errno == "0",
            errors => errors.contains(&errno),
        };
        if !is_right {
            wrong.push(format!("{call}: errno {errno}, must be {errors:?}"));
        }
    }
    let refused = calls
        .iter()
        .filter(|tried| !tried.errors.is_empty())
        .count();
    ensure!(
        wrong.is_empty(),
        "{} calls by {image} went wrong:\n{}\nunder\n{text}",
        wrong.len(),
        wrong
            .get(..wrong.len().min(10))
            .unwrap_or(&wrong)
            .join("\n")
    );
    Ok(refused)
}
