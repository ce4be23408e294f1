//! What an alert says, held against what the container and the host say themselves.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Case, case};
use crate::support::{Container, DefaultPostures, Guest, Image, run, until};

pub(super) const CASES: &[Case] = &[
    case("alerts_of_a_refused_exec_tell_who_and_what", refused_exec),
    case("alerts_of_an_audited_read_tell_who_and_what", audited_read),
];

/// Where container and case leave each other files, on either side.
const SHARE: &str = "/opt/share";
const HOST_SHARE: &str = "/run/karmor-e2e/alerts";

/// Says which process it is, waits for leave, and tries the command as this very process, the child
/// of a bash and with a terminal.
const SCRIPT: &str = r#"
cd /var/tmp
( echo "$BASHPID $$" > /opt/share/pids.new
  mv /opt/share/pids.new /opt/share/pids
  until [ -e /opt/share/go ]; do sleep 0.1; done
  exec "$@" )
exit 0
"#;

/// A process, as procfs tells.
#[derive(Debug)]
struct Process {
    host_pid: u32,
    host_ppid: u32,
    pid: u32,
    ppid: u32,
    uid: u32,
    tty: String,
}

/// Runs the command in the container as a user who is not root; returns who it ran as, and when.
fn observed(
    container: &Container<'_>,
    command: &[&str],
    ready: impl FnOnce() -> Result<()>,
) -> Result<(Process, [u64; 2])> {
    let mut words = vec![
        "/opt/tools/karmor-tries",
        "terminal",
        "bash",
        "-c",
        SCRIPT,
        "bash",
    ];
    // What follows is the command's, even when it looks like an option.
    words.insert(2, "--");
    words.extend(command);
    thread::scope(|scope| {
        let running = scope.spawn(|| container.exec_with(&["--user=33:33"], &words));
        let before = seconds();
        let process = until(
            "the container to say who it is",
            Duration::from_secs(60),
            || {
                let Ok(pids) = fs::read_to_string(format!("{HOST_SHARE}/pids")) else {
                    return Ok(None);
                };
                process(container, &pids).map(Some)
            },
        )
        .and_then(|process| ready().map(|()| process));
        let go = fs::write(format!("{HOST_SHARE}/go"), "");
        let output = running
            .join()
            .map_err(|_panic| anyhow::anyhow!("the container's thread panicked"))??;
        go.context("cannot give leave")?;
        output.success()?;
        Ok((process?, [before?, seconds()?]))
    })
}

fn process(container: &Container<'_>, pids: &str) -> Result<Process> {
    let (pid, ppid) = pids.trim().split_once(' ').context("two numbers")?;
    let cgroup = format!("/{}\n", container.name());
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let path = entry?.path();
        // Processes come and go.
        let Ok(status) = fs::read_to_string(path.join("status")) else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.strip_prefix(':')).unwrap_or("")
        };
        let inside = fs::read_to_string(path.join("cgroup")).is_ok_and(|c| c.ends_with(&cgroup));
        if !inside || field("NSpid").split_whitespace().nth(1) != Some(pid) {
            continue;
        }
        let first = |name: &str| field(name).split_whitespace().next().unwrap_or("").parse();
        return Ok(Process {
            host_pid: first("Pid")?,
            host_ppid: first("PPid")?,
            pid: pid.parse()?,
            ppid: ppid.parse()?,
            uid: first("Uid")?,
            tty: terminal(&path.join("stat"))?,
        });
    }
    anyhow::bail!("no process of {} has the pid {pid}", container.name())
}

/// The name of a process's controlling terminal, by its number.
fn terminal(stat: &Path) -> Result<String> {
    /// Major number of the first 256 terminals of the kind containers have.
    const PTS: u32 = 136;
    let stat = fs::read_to_string(stat).with_context(|| format!("cannot read {stat:?}"))?;
    // The program's name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("a name in parentheses")?;
    let number = fields.split(' ').nth(4).context("a terminal's number")?;
    let number: u32 = number.parse()?;
    ensure!(number >> 8 == PTS, "{number} is no pts");
    Ok(format!("pts{}", number & 0xff))
}

fn seconds() -> Result<u64> {
    Ok(SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock is not set")?
        .as_secs())
}

fn refused_exec(guest: &Guest) -> Result<()> {
    tell(
        guest,
        "alert-exec",
        "
  severity: 5
  tags: [MITRE, T1072]
  message: package management in a running container
  process:
    matchPaths:
    - path: /usr/bin/apt
  action: Block
",
        &["apt", "update", "--dry run"],
        json!({
            "Operation": "Process",
            "ParentProcessName": "/usr/bin/bash",
            "ProcessName": "/usr/bin/apt",
            "Source": "/usr/bin/bash",
            "Resource": "/usr/bin/apt update --dry run",
            "Severity": "5",
            "Tags": "MITRE,T1072",
            "ATags": ["MITRE", "T1072"],
            "Message": "package management in a running container",
            "Data": "lsm=SECURITY_BPRM_CHECK",
            "EventData": { "Lsm": "SECURITY_BPRM_CHECK" },
            "Action": "Block",
            "Result": "Permission denied",
        }),
    )
}

fn audited_read(guest: &Guest) -> Result<()> {
    tell(
        guest,
        "alert-read",
        "
  file:
    severity: 2
    tags: [configuration]
    message: somebody looked
    matchDirectories:
    - dir: /etc/nginx/
      recursive: true
  action: Audit
",
        &["cat", "/etc/nginx/nginx.conf"],
        json!({
            "Operation": "File",
            "ParentProcessName": "/usr/bin/bash",
            "ProcessName": "/usr/bin/cat",
            "Source": "/usr/bin/cat /etc/nginx/nginx.conf",
            "Resource": "/etc/nginx/nginx.conf",
            "Severity": "2",
            "Tags": "configuration",
            "ATags": ["configuration"],
            "Message": "somebody looked",
            "Data": "lsm=FILE_OPEN",
            "EventData": { "Lsm": "FILE_OPEN" },
            "Action": "Audit",
            "Result": "Passed",
        }),
    )
}

/// Has the command run under the policy, and compares the whole alert.
fn tell(guest: &Guest, name: &str, spec: &str, command: &[&str], own: Value) -> Result<()> {
    let _ = fs::remove_dir_all(HOST_SHARE);
    fs::create_dir_all(HOST_SHARE).with_context(|| format!("cannot create {HOST_SHARE}"))?;
    // The user in the container writes here.
    run("chmod", ["1777", HOST_SHARE])?.success()?;
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = guest
            .container(Image::Debian)?
            .bind("/usr/local/bin", "/opt/tools")
            .bind(HOST_SHARE, SHARE)
            .label("tier", "front")
            .start(name)?;
        let mut policy = None;
        let (process, [before, after]) = observed(&container, command, || {
            policy = Some(watched.policy(&format!(
                "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  \
                 name: {name}\nspec:\n  selector:\n    matchLabels:\n      app: nginx{spec}"
            ))?);
            Ok(())
        })?;
        let policy = policy.context("there is a policy")?;
        let alert = policy.expect("an alert", |alert| alert["PolicyName"] == name)?;
        let mut expected = own;
        let fields = expected.as_object_mut().context("an object")?;
        fields.extend(identity(guest, &container)?);
        fields.extend(
            [
                ("HostPID", json!(process.host_pid)),
                ("HostPPID", json!(process.host_ppid)),
                ("PID", json!(process.pid)),
                ("PPID", json!(process.ppid)),
                ("UID", json!(process.uid)),
                ("TTY", json!(process.tty)),
                ("Cwd", json!("/var/tmp")),
                ("PolicyName", json!(name)),
                ("Type", json!("MatchedPolicy")),
                ("Enforcer", json!("BPFLSM")),
            ]
            .map(|(field, value)| (field.to_owned(), value)),
        );
        ensure!(process.uid == 33 && process.pid > 1, "{process:?}");
        let differing: BTreeMap<&String, [&Value; 2]> = fields
            .iter()
            .filter(|(field, value)| alert[field.as_str()] != **value)
            .map(|(field, value)| (field, [value, &alert[field.as_str()]]))
            .collect();
        ensure!(differing.is_empty(), "expected, then found: {differing:#?}");
        times(&alert, before, after)?;
        let seen = policy.alerts()?.len();
        ensure!(seen == 1, "{seen} alerts of one access");
        Ok(())
    })
}

/// Who the container is, by `ctr` and the host's name.
fn identity(guest: &Guest, container: &Container<'_>) -> Result<serde_json::Map<String, Value>> {
    let ctr = guest.containerd()?;
    let info = ctr
        .ctr(&["containers", "info", container.name()])?
        .success()?;
    let info: Value = serde_json::from_str(&info.stdout).context("ctr printed no JSON")?;
    let image = info["Image"].as_str().context("a container has an image")?;
    let images = ctr
        .ctr(&["images", "ls", &format!("name=={image}")])?
        .success()?;
    let digest = images
        .stdout
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"))
        .context("an image has a digest")?;
    let host = run("uname", ["-n"])?.success()?;
    let identity = json!({
        "ClusterName": "default",
        "HostName": host.stdout.trim(),
        "NamespaceName": "container_namespace",
        "PodName": container.name(),
        "Labels": "app=nginx,tier=front",
        "ContainerID": info["ID"],
        "ContainerName": container.name(),
        "ContainerImage": format!("{image}@{digest}"),
    });
    match identity {
        Value::Object(fields) => Ok(fields),
        _ => anyhow::bail!("an identity is an object"),
    }
}

/// Both times are one, between these seconds.
fn times(alert: &Value, before: u64, after: u64) -> Result<()> {
    let timestamp = alert["Timestamp"].as_u64().context("a number of seconds")?;
    ensure!(
        (before..=after).contains(&timestamp),
        "{timestamp} is not between {before} and {after}"
    );
    let text = alert["UpdatedTime"].as_str().context("a time")?;
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    ensure!(shape == "0000-00-00T00:00:00.000000Z", "{text}");
    let date = run("date", ["--utc", "+%s", "--date", text])?.success()?;
    ensure!(
        date.stdout.trim() == timestamp.to_string(),
        "{text} is not {timestamp}"
    );
    Ok(())
}
