//! `allowedArgs`: what a program is executed with.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use karmor_proto::karmor::v1::Enforcement;

use super::{
    Case, case,
    escapes::{HOST_SHARE, SHARE, in_both, manifest, ordinary, privileged},
};
use crate::support::{Applied, Container, DefaultPostures, Guest, Output, Wire, note};

pub(super) const CASES: &[Case] = &[
    case("arguments_that_are_not_listed_are_refused", lists),
    case("arguments_of_scripts_and_interpreters", scripts),
    case(
        "arguments_of_what_has_been_looked_for_in_all_mounts",
        on_mounts,
    ),
    case("arguments_changed_meanwhile_gain_nothing", race),
    case("arguments_while_policies_change", storm),
];

/// What must come of a line of bash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Runs,
    Audited,
    Refused,
    Killed,
}

use Fate::{Audited, Killed, Refused, Runs};

/// A line, what must come of it, and how the alert's `Resource` begins and its `Reason` reads.
type Try<'a> = (&'a str, Fate, &'a str, &'a str);

const FIRST: &str = "argument 1 is not allowed";
const SECOND: &str = "argument 2 is not allowed";
const DEATH: &str = "; the program was killed before its first instruction";

/// Makes programs that end well whatever they get.
const PREPARE: &str = "rm -rf /srv/* && mkdir -p /srv/vault /srv/open && cd /srv/vault \
    && for name in tool audited interp; do cp /usr/bin/true $name; done";

fn play(container: &Container<'_>, policy: &Applied<'_>, tries: &[Try<'_>]) -> Result<()> {
    let lines: Vec<&str> = tries.iter().map(|&(line, ..)| line).collect();
    let outputs = container.lines(&lines)?;
    for ((line, fate, resource, reason), output) in tries.iter().zip(outputs) {
        if !came(*fate, &output) {
            bail!("not {fate:?}: {output}\nalerts: {:?}", policy.alerts()?);
        }
        if *fate == Runs {
            continue;
        }
        let (action, reason) = match fate {
            Audited => ("Audit", (*reason).to_owned()),
            Killed => ("Block", format!("{reason}{DEATH}")),
            _ => ("Block", (*reason).to_owned()),
        };
        let what = format!("an alert about `{line}`");
        let alert = policy.expect(&what, |alert| {
            alert["Resource"]
                .as_str()
                .is_some_and(|text| text.starts_with(resource))
                && alert["EventData"]["Reason"] == reason.as_str()
        })?;
        ensure!(
            alert["Action"] == action
                && alert["Operation"] == "Process"
                && alert["PolicyName"] == policy.name()
                && alert["Source"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
                && alert["Source"] == alert["ParentProcessName"],
            "{alert:#}"
        );
    }
    let due = tries.iter().filter(|(_, fate, ..)| *fate != Runs).count();
    let told = policy.alerts()?;
    ensure!(told.len() == due, "{due} alerts are due: {told:#?}");
    Ok(())
}

fn came(fate: Fate, output: &Output) -> bool {
    match fate {
        Runs | Audited => output.code == 0,
        Refused => output.denied(),
        Killed => output.code == 137,
    }
}

/// Tries everything without the policy, with which each would run, and with it.
fn try_in_both(
    guest: &Guest,
    name: &str,
    policy: &str,
    prepare: &[&str],
    tries: &[Try<'_>],
) -> Result<()> {
    let lines = tries.iter().map(|&(line, ..)| line);
    let before: Vec<&str> = prepare.iter().copied().chain(lines).collect();
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        in_both(guest, |container| {
            for output in container.lines(&before)? {
                output.success().context("without a policy")?;
            }
            let policy = watched.policy(&manifest(name, policy))?;
            play(container, &policy, tries)
        })
    })
}

const LISTS: &str = "
  process:
    matchPaths:
    - path: /srv/vault/tool
      allowedArgs: [-l, '', two words]
    - path: /srv/vault/audited
      allowedArgs: [-l]
      action: Audit
  action: Block
";

const OF_LISTS: &[Try<'_>] = &[
    ("/srv/vault/tool", Runs, "", ""),
    ("/srv/vault/tool -l '' 'two words' -l", Runs, "", ""),
    ("env /srv/vault/tool -l", Runs, "", ""),
    ("/srv/vault/audited -l", Runs, "", ""),
    (
        "/opt/tools/karmor-tries descriptor /srv/vault/tool -- -l",
        Runs,
        "",
        "",
    ),
    ("/srv/vault/tool -r", Refused, "/srv/vault/tool -r", FIRST),
    (
        "env /srv/vault/tool -l -la",
        Refused,
        "/srv/vault/tool -l -la",
        SECOND,
    ),
    (
        "/srv/vault/tool two words",
        Refused,
        "/srv/vault/tool two",
        FIRST,
    ),
    (
        "/opt/tools/karmor-tries descriptor /srv/vault/tool -- '' -x",
        Refused,
        "/srv/vault/tool  -x",
        SECOND,
    ),
    (
        "/srv/vault/audited -r",
        Audited,
        "/srv/vault/audited -r",
        FIRST,
    ),
];

fn lists(guest: &Guest) -> Result<()> {
    const TOO_MANY: &str = "more than 64 arguments are not allowed";
    let so_many = |name: &str, count: usize| format!("/srv/vault/{name}{}", " -l".repeat(count));
    let (many, too_many) = (so_many("tool", 64), so_many("tool", 65));
    let audited_many = so_many("audited", 65);
    let long = format!("/srv/vault/tool {}", "a".repeat(5000));
    let sizes: &[Try<'_>] = &[
        (&many, Runs, "", ""),
        (&too_many, Refused, "/srv/vault/tool -l -l -l", TOO_MANY),
        (&audited_many, Audited, "/srv/vault/audited -l -l", TOO_MANY),
        (&long, Refused, "/srv/vault/tool aaaa", FIRST),
    ];
    let tries = [OF_LISTS, sizes].concat();
    try_in_both(guest, "arguments", LISTS, &[PREPARE], &tries)
}

const ON_MOUNTS: &str = "
  process:
    matchPaths:
    - path: /tmp/here/tool
      allowedArgs: [-l]
  action: Block
";

/// Mounts parts of a file system: one without the program, and what it lies in.
const PARTS: &str = "mkdir -p /tmp/whole /tmp/here /tmp/before /tmp/after && PATH=$PATH:/opt/tools \
    && busybox mount -t tmpfs t /tmp/whole && mkdir /tmp/whole/vault /tmp/whole/open \
    && cp /usr/bin/true /tmp/whole/vault/tool && busybox mount --bind /tmp/whole/open /tmp/before \
    && busybox mount --bind /tmp/whole/vault /tmp/here && busybox umount /tmp/whole";

/// Where the program is not, it is looked for last, in whichever order the kernel has its mounts.
fn on_mounts(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = privileged(guest)?;
        container.shell(PARTS)?.success()?;
        let policy = watched.policy(&manifest("arguments-on-mounts", ON_MOUNTS))?;
        let after = "/opt/tools/busybox mount --bind /tmp/before /tmp/after";
        container.shell(after)?.success()?;
        let (free, wrong) = ("/tmp/here/tool -l", "/tmp/here/tool -r");
        let tries: &[Try<'_>] = &[(free, Runs, "", ""), (wrong, Refused, wrong, FIRST)];
        play(&container, &policy, tries)?;
        drop(policy);
        let clear = "/opt/tools/busybox umount /tmp/after /tmp/here /tmp/before";
        container.shell(clear)?.success()?;
        Ok(())
    })
}

const SCRIPT_LISTS: &str = "
  process:
    matchPaths:
    - path: /srv/vault/script
      allowedArgs: [-l]
    - path: /srv/vault/interp
      allowedArgs: [-s, /srv/open/run, -l]
    - path: /srv/vault/audited
      allowedArgs: [-s]
      action: Audit
  action: Block
";

/// Makes the scripts.
const SCRIPTS: &str = "write() { printf '#!%s\\n' \"$2\" > $1 && chmod +x $1; } \
    && write /srv/vault/script /usr/bin/true && write /srv/open/run '/srv/vault/interp -s' \
    && write /srv/open/other '/srv/vault/interp -z' && write /srv/open/nested /srv/open/run \
    && write /srv/open/audited /srv/vault/audited";

const OF_SCRIPTS: &[Try<'_>] = &[
    ("/srv/vault/script -l", Runs, "", ""),
    ("/srv/open/run -l", Runs, "", ""),
    ("/srv/open/run", Runs, "", ""),
    (
        "/srv/vault/script -r",
        Refused,
        "/srv/vault/script -r",
        FIRST,
    ),
    // What the caller passed, the interpreter would get.
    ("/srv/open/run -r", Refused, "/srv/vault/interp -r", FIRST),
    // What the script's first line says shows only in the end.
    (
        "/srv/open/other -l",
        Killed,
        "/srv/vault/interp -z /srv/open/other -l",
        FIRST,
    ),
    (
        "/srv/open/nested",
        Killed,
        "/srv/vault/interp -s /srv/open/run /srv/open/nested",
        "argument 3 is not allowed",
    ),
    (
        "/srv/open/audited",
        Audited,
        "/srv/vault/audited /srv/open/audited",
        FIRST,
    ),
];

fn scripts(guest: &Guest) -> Result<()> {
    let prepare = [PREPARE, SCRIPTS];
    try_in_both(
        guest,
        "argument-scripts",
        SCRIPT_LISTS,
        &prepare,
        OF_SCRIPTS,
    )
}

/// What `karmor-tries` counted: refused, killed, gone ahead.
fn counted(output: Output) -> Result<[u32; 3]> {
    let output = output.success()?;
    let numbers: Vec<u32> = output
        .stdout
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| output.to_string())?;
    numbers
        .try_into()
        .map_err(|_ignored| anyhow::anyhow!("not three numbers: {output}"))
}

/// Rounds of the race, and of one that nobody is to lose.
const ROUNDS: u32 = 500;
const FEW: u32 = 20;

/// Passes an argument that is changed meanwhile.
fn race_line(rounds: u32, evil: &str) -> String {
    format!("cd /srv/open && /opt/tools/karmor-tries race /srv/vault/touch {rounds} goodone {evil}")
}

fn race(guest: &Guest) -> Result<()> {
    const POLICY: &str = "
  process:
    matchPaths:
    - path: /srv/vault/touch
      allowedArgs: [goodone]
  action: Block
";
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        in_both(guest, |container| {
            let prepare = "rm -rf /srv/* && mkdir -p /srv/vault /srv/open \
                       && cp /opt/tools/busybox /srv/vault/touch";
            let outputs = container.lines(&[prepare, &race_line(FEW, "evilone"), prepare])?;
            let [_, raced, prepared] = <[Output; 3]>::try_from(outputs)
                .map_err(|_ignored| anyhow::anyhow!("not three answers"))?;
            prepared.success()?;
            ensure!(counted(raced)? == [0, 0, FEW], "without a policy");
            let policy = watched.policy(&manifest("argument-race", POLICY))?;
            races(container)?;
            policy.expect("an alert about a death", |alert| {
                alert["EventData"]["Reason"] == format!("{FIRST}{DEATH}")
                    && alert["Resource"] == "/srv/vault/touch evilone"
                    && alert["PolicyName"] == policy.name()
                    && alert["ContainerName"] == container.name()
            })?;
            Ok(())
        })
    })
}

/// Changes an argument while it is looked at; then none, and one beforehand.
fn races(container: &Container<'_>) -> Result<()> {
    let lines = [
        &race_line(ROUNDS, "evilone"),
        "ls /srv/open",
        &race_line(ROUNDS, "goodone"),
        "/srv/vault/touch evilone",
    ];
    let [raced, left, calm, plain] = <[Output; 4]>::try_from(container.lines(&lines)?)
        .map_err(|_ignored| anyhow::anyhow!("not four answers"))?;
    let [refused, killed, ran] = counted(raced)?;
    note(&format!(
        "{ROUNDS} rounds: {refused} refused, {killed} killed, {ran} gone ahead"
    ));
    // Each happened, else nothing was raced.
    ensure!(
        killed > 0 && refused > 0 && ran > 0,
        "{refused} refused, {killed} killed, {ran} ran"
    );
    ensure!(
        left.stdout.trim() == "goodone",
        "a forbidden argument got through: {left}"
    );
    ensure!(counted(calm)? == [0, 0, ROUNDS]);
    ensure!(plain.denied(), "{plain}");
    Ok(())
}

/// Changes of policies during the storm.
const CHANGES: usize = 150;

fn storm(guest: &Guest) -> Result<()> {
    /// Rules for the same program by different tables, and one that keeps others apart.
    const SETS: [&str; 2] = [
        "
  process:
    matchPaths:
    - path: /srv/vault/interp
      allowedArgs: [-s, /srv/open/run]
  action: Block
",
        "
  process:
    matchPaths:
    - execname: interp
      allowedArgs: [/srv/open/run, -s, -q]
    - path: /usr/bin/apt
      allowedArgs: [update]
    matchDirectories:
    - dir: /usr/games/
  action: Block
",
    ];
    const SCRIPTS: &str = "write() { printf '#!%s\\n' \"$2\" > $1 && chmod +x $1; } \
        && write /srv/open/run '/srv/vault/interp -s' \
        && write /srv/open/other '/srv/vault/interp -z'";
    let stop = format!("{HOST_SHARE}/argument-storm");
    let command = format!(
        "/opt/tools/karmor-tries storm /srv/open/run /srv/open/other {SHARE}/argument-storm"
    );
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = ordinary(guest)?;
        for output in container.lines(&[PREPARE, SCRIPTS])? {
            output.success()?;
        }
        if fs::exists(&stop)? {
            fs::remove_file(&stop)?;
        }
        let wire = Wire::connect()?;
        let apply = |set: &str| -> Result<()> {
            let answer = wire.apply(&manifest("argument-storm", set))?;
            let [result] = answer.results.as_slice() else {
                anyhow::bail!("not one result: {answer:?}");
            };
            ensure!(
                result.enforcement() == Enforcement::Full,
                "{result:?}\n{}",
                answer.rendered
            );
            Ok(())
        };
        // Goes with this value, whatever becomes of the case.
        let _policy = watched.policy(&manifest("argument-storm", SETS[0]))?;
        let storm: Output = std::thread::scope(|scope| -> Result<Output> {
            let storm = scope.spawn(|| container.exec(&["bash", "-c", &command]));
            let changed: Result<()> = (|| {
                for set in SETS.into_iter().rev().cycle().take(CHANGES) {
                    apply(set)?;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            })();
            fs::write(&stop, "")?;
            let output = storm.join().map_err(|_ignored| anyhow::anyhow!("died"))??;
            changed?;
            Ok(output)
        })?;
        let [refused, killed, ran] = counted(storm)?;
        note(&format!(
            "{CHANGES} changes: {ran} gone ahead, {killed} killed, {refused} refused"
        ));
        // Busy machines take seconds for a program: what counts is that both went on meanwhile.
        ensure!(
            ran > 10 && killed > 10,
            "too few: {ran} ran, {killed} killed"
        );
        Ok(())
    })
}
