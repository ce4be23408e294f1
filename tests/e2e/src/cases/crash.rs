//! A killed daemon: the kernel goes on refusing, and the next daemon takes over what it finds.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{loaded_links, loaded_programs};
use serde_json::Value;

use super::{Case, case};
use crate::support::{
    Alerts, Container, Enforcer, Guest, Hammer, Image, PINS, STATE, pins, probe, run, until,
};

pub(super) const CASES: &[Case] = &[
    case("crash_of_the_daemon_frees_no_hard_link", hard_link),
    case("crash_of_the_daemon_opens_no_gap", crash),
    case("crash_without_room_on_the_disk_opens_no_gap", full_disk),
];

const POLICY: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: survives-a-crash
spec:
  selector:
    matchLabels:
      app: nginx
  process:
    matchPaths:
    - path: /usr/bin/apt
  file:
    matchPaths:
    - path: /etc/nginx/nginx.conf
  action: Block
";

const FORBIDDEN: &str = "/etc/nginx/nginx.conf";

/// 80,000 openings and 20,000 executions, by two processes.
const HAMMER: [&str; 6] = [
    "--deny-open=/etc/nginx/nginx.conf",
    "--deny-exec=/usr/bin/apt",
    "--opens-per-exec=4",
    "--processes=2",
    "--rounds=10000",
    "--until=stop",
];
const ATTEMPTS: u64 = 100_000;

/// The kernel frees links and programs some time after their last user is gone.
const PATIENCE: Duration = Duration::from_secs(30);

fn crash(guest: &Guest) -> Result<()> {
    let hammer = Hammer::new("crash")?;
    let container = hammer
        .mount(guest.container(Image::Debian)?)?
        .start("crash")?;
    // Only what this policy needs is attached.
    guest.without_enforcer();
    let enforcer = guest.start()?;
    enforcer.knows(container.name())?;
    enforcer.add_manifest("survives-a-crash", POLICY)?;
    let policies = policies()?;
    ensure!(
        container.exec(&["cat", FORBIDDEN])?.denied(),
        "the policy is not in force"
    );
    let hooks = hooks()?;

    let mut next = crashed(guest, enforcer, &hammer, &container)?;

    let after = self::policies()?;
    ensure!(
        after == policies,
        "before the crash: {policies:?}, after: {after:?}"
    );
    one_link_each(&hooks)?;
    alerts_flow(&container)?;
    unload(&container, &mut next)
}

/// Kills the daemon under load and starts the next one, without a refusal less.
fn crashed(
    guest: &Guest,
    enforcer: Enforcer,
    hammer: &Hammer,
    container: &Container<'_>,
) -> Result<Enforcer> {
    std::thread::scope(|scope| {
        let hammering = hammer.start(scope, container, &HAMMER);
        let taken_over = (|| {
            hammer.reaches(ATTEMPTS / 10, &hammering)?;
            enforcer.crash()?;
            let dead = hammer.counts()?;
            // Long enough that the rings overflow with nobody there.
            hammer.reaches(dead.denials() + ATTEMPTS / 2, &hammering)?;
            let next = guest.start()?;
            let here = hammer.counts()?;
            hammer.reaches(here.denials() + 1_000, &hammering)?;
            Ok(next)
        })();
        hammer.stop()?;
        let counts = hammering.report()?.all_right()?;
        ensure!(
            counts.denied_opens >= 80_000 && counts.denied_execs >= 20_000,
            "too few attempts: {counts:?}"
        );
        taken_over
    })
}

/// The link is there before the policy, and the directory is large enough for the search of the
/// next daemon to take a while: until that is done, what the first one found must hold.
const LINK: &str = "mkdir -p /srv/vault /srv/open /srv/many && touch /srv/many/{1..20000} \
    && echo secret > /srv/vault/secret && ln /srv/vault/secret /srv/open/s";

const LINK_POLICY: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: links-over-a-crash
spec:
  selector:
    matchLabels:
      app: nginx
  file:
    matchPaths:
    - path: /srv/vault/secret
    matchDirectories:
    - dir: /srv/many/
      recursive: true
  action: Block
";

const LINK_HAMMER: [&str; 3] = ["--deny-open=/srv/open/s", "--processes=2", "--until=stop"];

fn hard_link(guest: &Guest) -> Result<()> {
    let hammer = Hammer::new("linked")?;
    let container = hammer
        .mount(guest.container(Image::Debian)?)?
        .start("linked")?;
    container.exec(&["bash", "-c", LINK])?.success()?;
    let enforcer = guest.take_enforcer()?;
    enforcer.knows(container.name())?;
    let policy = enforcer.add_manifest("links-over-a-crash", LINK_POLICY)?;
    until("the link to be known", PATIENCE, || {
        let output = container.exec(&["cat", "/srv/open/s"])?;
        Ok(output.denied().then_some(()))
    })?;
    let next: Result<Enforcer> = std::thread::scope(|scope| {
        let hammering = hammer.start(scope, &container, &LINK_HAMMER);
        let taken_over = (|| {
            hammer.reaches(1_000, &hammering)?;
            enforcer.crash()?;
            let next = guest.start()?;
            next.knows(container.name())?;
            let here = hammer.counts()?;
            hammer.reaches(here.denials() + 10_000, &hammering)?;
            Ok(next)
        })();
        hammer.stop()?;
        hammering.report()?.all_right()?;
        taken_over
    });
    let next = next?;
    next.delete_policy(&policy)?;
    guest.keep(next);
    Ok(())
}

/// Nothing can be written about a container that starts, nor is there when the next daemon does.
fn full_disk(guest: &Guest) -> Result<()> {
    let enforcer = guest.take_enforcer()?;
    let policy = enforcer.add_manifest("survives-a-crash", POLICY)?;
    let disk = Unwritable::new()?;
    let container = guest.container(Image::Debian)?.start("unwritten")?;
    let protected = |enforcer: &Enforcer| -> Result<()> {
        enforcer.knows(container.name())?;
        let output = container.exec(&["cat", FORBIDDEN])?;
        ensure!(output.denied(), "without a policy: {output}");
        Ok(())
    };
    protected(&enforcer)?;
    let told = "cannot remember the numbers of containers";
    ensure!(enforcer.log().contains(told), "{}", enforcer.log());
    enforcer.crash()?;
    let next = guest.start()?;
    protected(&next)?;
    run("mount", ["-o", "remount,bind,rw", STATE])?.success()?;
    // Its processes have the number that the first daemon gave: what changes now reaches them.
    next.delete_policy(&policy)?;
    container.exec(&["cat", FORBIDDEN])?.success()?;
    guest.keep(next);
    drop(disk);
    Ok(())
}

/// The daemon's directory, which cannot be written while this lives.
struct Unwritable;

impl Unwritable {
    fn new() -> Result<Self> {
        run("mount", ["--bind", STATE, STATE])?.success()?;
        let made = Self;
        run("mount", ["-o", "remount,bind,ro", STATE])?.success()?;
        Ok(made)
    }
}

impl Drop for Unwritable {
    fn drop(&mut self) {
        // Nobody could do anything about it; the case after would say. The daemon has files open there.
        let _ = run("umount", ["-l", STATE]);
    }
}

/// Every policy, without when it came into force.
fn policies() -> Result<Vec<Value>> {
    let output = run("karmor", ["vm", "policy", "list", "-o", "json"])?.success()?;
    let list: Value = serde_json::from_str(&output.stdout).context("the list is not JSON")?;
    let mut list = list.as_array().context("the list is no list")?.clone();
    for policy in &mut list {
        policy
            .as_object_mut()
            .context("a policy is an object")?
            .remove("updatedAt");
    }
    ensure!(!list.is_empty(), "no policy is listed");
    Ok(list)
}

/// The hooks that have a program of ours, as the daemon tells.
fn hooks() -> Result<Vec<String>> {
    let report = probe()?;
    let hooks = report["hooks"].as_array().context("no hooks")?;
    let attached = hooks.iter().filter(|hook| hook["attached"] == true);
    let names: Vec<String> = attached
        .filter_map(|hook| hook["hook"].as_str().map(str::to_owned))
        .collect();
    for needed in ["file_open", "bprm_check_security", "task_alloc"] {
        ensure!(
            names.iter().any(|name| name == needed),
            "{needed} is not attached"
        );
    }
    Ok(names)
}

/// How many links each LSM program has, whoever holds them. Nobody else loads any here.
fn links() -> Result<BTreeMap<String, usize>> {
    /// From `linux/bpf.h`; aya returns the type but does not export it.
    const BPF_PROG_TYPE_LSM: u32 = 29;
    let mut names = BTreeMap::new();
    // One that goes while the list is read is none.
    for program in loaded_programs().filter_map(Result::ok) {
        if program.program_type() as u32 == BPF_PROG_TYPE_LSM {
            let name = program.name_as_str().context("a name is UTF-8")?;
            names.insert(program.id(), name.to_owned());
        }
    }
    let mut links = BTreeMap::new();
    for link in loaded_links().filter_map(Result::ok) {
        if let Some(name) = names.get(&link.program_id()) {
            *links.entry(name.clone()).or_default() += 1;
        }
    }
    Ok(links)
}

/// The hooks that were attached before the crash are, each once; and nothing else is.
fn one_link_each(before: &[String]) -> Result<()> {
    /// What the kernel keeps of a program's name.
    const NAME_BYTES: usize = 15;
    const PACKETS: &str = "cgroup_skb_";
    ensure!(hooks()? == before, "other hooks than before: {before:?}");
    // What sees packets has none, but is pinned itself.
    let expected: BTreeMap<String, usize> = before
        .iter()
        .filter(|hook| !hook.starts_with(PACKETS))
        .map(|hook| (hook.chars().take(NAME_BYTES).collect(), 1))
        .collect();
    until("one link for each hook", PATIENCE, || {
        Ok((links()? == expected).then_some(()))
    })
    .with_context(|| format!("links: {:?}", links()))?;
    let mut pinned = Vec::new();
    for entry in std::fs::read_dir(pins()?)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let program = name.strip_prefix("link_").or(name.strip_prefix("packets_"));
        pinned.extend(program.map(str::to_owned));
    }
    pinned.sort();
    let mut hooks = before.to_vec();
    hooks.sort();
    ensure!(
        pinned == hooks,
        "links are pinned for {pinned:?}, not {hooks:?}"
    );
    Ok(())
}

fn alerts_flow(container: &Container<'_>) -> Result<()> {
    const WHAT: &str = "an alert of the next daemon";
    let alerts = Alerts::watch(&[])?;
    // While what the rings still held is told, a client may be too slow for all of it.
    let (_, alert) = until(WHAT, 6 * PATIENCE, || {
        ensure!(
            container.exec(&["head", "-n", "1", FORBIDDEN])?.denied(),
            "the policy is no longer in force"
        );
        let told = alerts.expect_after(0, PATIENCE / 6, WHAT, |alert| {
            alert["ProcessName"] == "/usr/bin/head" && alert["Resource"] == FORBIDDEN
        });
        Ok(told.ok())
    })?;
    for (field, value) in [
        ("PolicyName", "survives-a-crash"),
        ("ContainerName", "crash"),
        ("Action", "Block"),
    ] {
        ensure!(alert[field] == value, "{field} is not {value}: {alert}");
    }
    Ok(())
}

/// `unload` does nothing beside a daemon. Enforcement outlives the daemon's regular end too; then
/// `unload` ends it.
fn unload(container: &Container<'_>, enforcer: &mut Enforcer) -> Result<()> {
    let beside = run("karmor-enforcer", ["unload"])?;
    ensure!(
        beside.code == 1 && beside.stderr.contains("stop karmor-enforcer first"),
        "unloaded beside a daemon: {beside}"
    );
    enforcer.stop()?;
    ensure!(
        container.exec(&["cat", FORBIDDEN])?.denied(),
        "nothing is enforced once the daemon has stopped"
    );
    run("karmor-enforcer", ["unload"])?.success()?;
    ensure!(!Path::new(PINS).exists(), "{PINS} is still there");
    // The kernel lets go of a program some time after its last name is gone.
    until("the access to be free again", PATIENCE, || {
        let output = container.exec(&["cat", FORBIDDEN])?;
        Ok((output.code == 0).then_some(()))
    })?;
    until("the kernel to free all links", PATIENCE, || {
        Ok(links()?.is_empty().then_some(()))
    })
    .with_context(|| format!("links: {:?}", links()))
}
