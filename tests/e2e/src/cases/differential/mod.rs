//! The kernel against the reference: random policies, random system calls.
//!
//! ```text
//! random policy ──YAML──▶ daemon ──▶ kernel ──▶ errno of each call, alerts ──┐
//!        └──▶ karmor_policy::reference ──▶ what each call must do ───────────┴─ the same
//! ```

mod audits;
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

use self::{
    calls::{Call, Judge},
    others::Other,
};
use super::{Case, case};
use crate::support::{Container, DefaultPostures, Guest, Image, Watched, Work, note};

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
    guest.watched(&DefaultPostures::BLOCK, |watched| {
        differ(watched, &container, seed)
    })
}

/// As many policies as there is time for, each with its calls.
fn differ(watched: &Watched, container: &Container<'_>, seed: u64) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    watched.enforcer.knows(container.name())?;
    let began = Instant::now();
    let work = Work::begin(POLICIES[0], POLICIES[1], TIME);
    let (mut policies, mut refused, mut audited) = (0, 0, 0);
    while work.goes_on(policies) {
        let round = play(policies, &mut rng, watched, container)
            .with_context(|| format!("round {policies}, KARMOR_SEED={seed}"))?;
        refused += round.refused;
        audited += round.audited;
        policies += 1;
    }
    let calls = policies * CALLS;
    note(&format!(
        "differential: {calls} calls under {policies} policies, {refused} of them refused, \
         {audited} files audited, {} s",
        began.elapsed().as_secs()
    ));
    ensure!(audited > policies, "{audited} files were audited");
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
    /// The same, when it is about files.
    of_files: Option<Call>,
}

/// Of the calls under one policy.
struct Round {
    refused: usize,
    /// Files that were told of, by what was done to them.
    audited: usize,
}

impl Tried {
    /// Three of four are about files: that is where calls depend on each other.
    fn random(judge: &Judge<'_>, rng: &mut Rng) -> Result<Self> {
        const EPERM: &str = "1";
        const EACCES: &str = "13";
        let due = |refused, errors: &'static [_]| if refused { errors } else { &[] };
        if rng.u8(0..4) == 0 {
            let call = Other::random(rng);
            return Ok(Self {
                call: call.to_string(),
                // Capabilities and packets are refused the way that is usual there.
                errors: due(call.refuses(judge)?, &[EPERM, EACCES]),
                of_files: None,
            });
        }
        let call = judge.random_call(rng);
        Ok(Self {
            call: call.to_string(),
            errors: due(judge.refuses(&call), &[EACCES]),
            of_files: Some(call),
        })
    }
}

/// One policy and the calls under it.
fn play(
    round: usize,
    rng: &mut Rng,
    watched: &Watched,
    container: &Container<'_>,
) -> Result<Round> {
    let text = policies::random(&format!("differential-{round}"), rng);
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

    let applied = watched.policy(&text)?;
    let of_files = calls.iter().filter_map(|tried| tried.of_files.as_ref());
    let audited = act(&calls, image, container)
        .and_then(|errors| compare(&calls, &errors))
        .and_then(|()| audits::check(&judge, of_files, &applied))
        .with_context(|| format!("{image} under\n{text}"))?;
    let refused = calls.iter().filter(|tried| !tried.errors.is_empty());
    Ok(Round {
        refused: refused.count(),
        audited,
    })
}

/// Has a program make the calls; the error of each, 0 for none.
fn act(calls: &[Tried], image: &str, container: &Container<'_>) -> Result<Vec<String>> {
    let mut input = String::new();
    for tried in calls {
        let _ = writeln!(input, "{}", tried.call);
    }
    fs::write(format!("{HOST_SHARE}/input"), input).context("cannot write the calls")?;
    let [from, to] = ["input", "output"].map(|file| format!("{SHARE}/{file}"));
    container.exec(&[image, "batch", &from, &to])?.success()?;
    let output =
        fs::read_to_string(format!("{HOST_SHARE}/output")).context("cannot read the results")?;
    Ok(output.lines().map(str::to_owned).collect())
}

/// Holds errors to what they must be.
fn compare(calls: &[Tried], results: &[String]) -> Result<()> {
    ensure!(results.len() == calls.len(), "{} results", results.len());
    let is_right = |errors: &[&str], errno: &str| match errors {
        [] => errno == "0",
        errors => errors.contains(&errno),
    };
    let wrong: Vec<String> = (calls.iter().zip(results))
        .filter(|(tried, errno)| !is_right(tried.errors, errno))
        .map(|(Tried { call, errors, .. }, errno)| {
            format!("{call}: errno {errno}, must be {errors:?}")
        })
        .collect();
    ensure!(
        wrong.is_empty(),
        "{} calls went wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    Ok(())
}
