//! Names that are asked for: in packets as they leave.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Case, case,
    escapes::{HOST_SHARE, privileged, toolbox, with_tools},
};
use crate::support::{Applied, Container, DefaultPostures, Guest, Output, Watched, run, until};

pub(super) const CASES: &[Case] = &[
    case("dns_queries_are_refused_however_they_are_sent", refused),
    case("dns_queries_to_another_port_are_refused", balanced),
    case("dns_queries_are_refused_by_source", sources),
    case("dns_queries_are_audited_and_whitelisted", milder),
    case("dns_queries_of_the_host_are_refused", of_the_host),
    case("dns_programs_are_detached_by_nobody", detached),
    case("dns_answers_are_held_to_as_long_as_they_count", resolved),
];

const TRIES: &str = "/opt/tools/karmor-tries";
const OTHER: &str = "/opt/tools/other";
const ON_HOST: &str = "/usr/local/bin/karmor-tries";

/// A resolver, and the same under other addresses.
const RESOLVER: &str = "127.0.0.1:53";
const RESOLVER_2: &str = "127.0.0.2:53";
const RESOLVER_6: &str = "[::1]:53";

/// What a refused datagram is to its sender.
const NOT_PERMITTED: &str = "Operation not permitted";
/// What a refused stream is.
const NO_ANSWER: &str = "no answer";

/// A name of 253 bytes, as long as there are any.
fn longest() -> String {
    let label = "l".repeat(61);
    format!("{label}.{label}.{label}.{label}.evil")
}

fn manifest(kind: &str, name: &str, rules: &str) -> String {
    let (container, host) = (
        "  selector:\n    matchLabels:\n      app: nginx\n",
        "  nodeSelector:\n    matchLabels:\n      kubearmor.io/hostname: '*'\n",
    );
    let selector = match kind {
        "KubeArmorHostPolicy" => host,
        _ => container,
    };
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n\
         {selector}  network:\n    matchDNSQueries:\n{rules}"
    )
}

fn of_container(name: &str, rules: &str) -> String {
    manifest("KubeArmorPolicy", name, rules)
}

/// Does something beside a container in which a resolver runs.
fn with_resolver(
    guest: &Guest,
    postures: &DefaultPostures,
    work: impl FnOnce(&Watched, &Container<'_>) -> Result<()>,
) -> Result<()> {
    guest.watched(postures, |watched| {
        let container = with_tools(guest, &[], "dns")?;
        with_resolver_in(watched, &container, work)
    })
}

fn with_resolver_in(
    watched: &Watched,
    container: &Container<'_>,
    work: impl FnOnce(&Watched, &Container<'_>) -> Result<()>,
) -> Result<()> {
    with_resolver_at(53, watched, container, work)
}

fn with_resolver_at(
    port: u16,
    watched: &Watched,
    container: &Container<'_>,
    work: impl FnOnce(&Watched, &Container<'_>) -> Result<()>,
) -> Result<()> {
    watched.enforcer.knows(container.name())?;
    for entry in fs::read_dir(HOST_SHARE).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    fs::set_permissions(HOST_SHARE, fs::Permissions::from_mode(0o777))
        .with_context(|| format!("cannot open {HOST_SHARE} for everybody"))?;
    let resolver = [OTHER, "resolve", &port.to_string(), "/opt/share"];
    container.exec_with(&["--detach"], &resolver)?.success()?;
    let is_there = |wanted| {
        until("the resolver", Duration::from_secs(60), || {
            let is = fs::exists(format!("{HOST_SHARE}/ready-{port}"))?;
            Ok((is == wanted).then_some(()))
        })
    };
    is_there(true)?;
    let outcome = work(watched, container);
    fs::write(format!("{HOST_SHARE}/go"), "").context("cannot end the resolver")?;
    outcome.and_then(|()| is_there(false))
}

/// A way to ask that a policy refuses.
struct Try {
    how: &'static str,
    resolver: &'static str,
    names: String,
    /// What the alert names.
    resource: String,
    said: &'static str,
}

fn line(program: &str, how: &str, resolver: &str, names: &str) -> String {
    format!("{program} ask {how} '{resolver}' {names}")
}

/// What alerts about a message that cannot be read name.
const UNREADABLE: &str = "@unreadable";

fn is_refusal(alert: &Value, resource: &str, action: &str) -> bool {
    alert["Resource"] == *resource
        && alert["Data"] == format!("lsm=SOCKET_SENDMSG domain={resource}")
        && alert["Operation"] == "Network"
        && alert["Action"] == *action
}

fn row(how: &'static str, resolver: &'static str, names: &str, resource: &str) -> Try {
    Try {
        how,
        resolver,
        names: names.to_owned(),
        resource: resource.to_owned(),
        said: if how.starts_with("tcp") {
            NO_ANSWER
        } else {
            NOT_PERMITTED
        },
    }
}

fn over_udp() -> Vec<Try> {
    let longest = longest();
    vec![
        row("udp", RESOLVER, "evil.test", "evil.test"),
        row("udp", RESOLVER, "A.eViL.TeSt", "a.evil.test"),
        row("udp", RESOLVER_2, "b.evil.test", "b.evil.test"),
        row("udp", RESOLVER_6, "c.evil.test", "c.evil.test"),
        row("udp", "[::ffff:127.0.0.1]:53", "d.evil.test", "d.evil.test"),
        row("send-to", RESOLVER, "e.evil.test", "e.evil.test"),
        row("send-to", RESOLVER_6, "f.evil.test", "f.evil.test"),
        row("extended", RESOLVER_6, "g.evil.test", "g.evil.test"),
        row("udp", RESOLVER, &longest, &longest),
        row("together", RESOLVER, "good.test h.evil.test", "h.evil.test"),
        row("reference", RESOLVER, "good.test", UNREADABLE),
        row("cut", RESOLVER, "good.test", UNREADABLE),
        row("fragments", RESOLVER, "evil.test", UNREADABLE),
        row("parts", RESOLVER, "good.test evil.test", UNREADABLE),
    ]
}

fn over_tcp() -> Vec<Try> {
    vec![
        row("tcp", RESOLVER, "i.evil.test", "i.evil.test"),
        row("tcp", RESOLVER_6, "j.evil.test", "j.evil.test"),
        row("tcp-all", RESOLVER, "good.test k.evil.test", "k.evil.test"),
        row("tcp-split", RESOLVER, "l.evil.test", "l.evil.test"),
        row("tcp-file", RESOLVER, "good.test", UNREADABLE),
        row("tcp-urgent", RESOLVER, "good.test", UNREADABLE),
    ]
}

/// What is not refused, over UDP first.
fn twins() -> [String; 8] {
    let longest = longest();
    [
        line(TRIES, "udp", RESOLVER, "good.test notevil.test test"),
        line(TRIES, "send-to", RESOLVER_6, "good.test"),
        line(TRIES, "extended", RESOLVER_6, "good.test"),
        line(TRIES, "together", RESOLVER, "good.test notevil.test"),
        line(TRIES, "udp", RESOLVER, &longest.replace("evil", "good")),
        line(TRIES, "tcp", RESOLVER_6, "good.test"),
        line(TRIES, "tcp-all", RESOLVER, "good.test notevil.test"),
        // The first part waits for the second, and goes with it.
        line(TRIES, "tcp-split", RESOLVER, "good.test"),
    ]
}

fn refused(guest: &Guest) -> Result<()> {
    let twins = twins();
    let every: Vec<Try> = over_udp().into_iter().chain(over_tcp()).collect();
    with_resolver(guest, &DefaultPostures::AUDIT, |watched, container| {
        held_to(watched, container, &every, &twins)
    })?;
    // What takes privileges changes nothing, and no answer takes time.
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        with_resolver_in(watched, &privileged(guest)?, |watched, container| {
            held_to(watched, container, &over_udp(), &twins[..5])
        })
    })
}

/// Nobody answers at port 53: whoever connects to it is connected to another one.
fn balanced(guest: &Guest) -> Result<()> {
    const PORT: u16 = 5353;
    let tries = [
        row("udp", RESOLVER, "evil.test", "evil.test"),
        row("tcp", RESOLVER, "i.evil.test", "i.evil.test"),
    ];
    let twins = [
        line(TRIES, "udp", RESOLVER, "good.test"),
        line(TRIES, "tcp", RESOLVER, "good.test"),
        // Who names the other port asks past the rules.
        line(TRIES, "send-to", "127.0.0.1:5353", "evil.test"),
    ];
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        for options in [&[][..], &["--privileged"]] {
            let container = toolbox(guest, options)?.start("dns-balanced")?;
            let cgroup = format!("/sys/fs/cgroup/default/{}", container.name());
            let redirect = ["redirect", &cgroup, "53", &PORT.to_string()];
            run(ON_HOST, redirect)?.success()?;
            with_resolver_at(PORT, watched, &container, |watched, container| {
                held_to(watched, container, &tries, &twins)
            })?;
        }
        Ok(())
    })
}

/// Asks in each of these ways, which must be refused, and in such as must not.
fn held_to(
    watched: &Watched,
    container: &Container<'_>,
    tries: &[Try],
    twins: &[String],
) -> Result<()> {
    let lines: Vec<String> = tries
        .iter()
        .map(|t| line(TRIES, t.how, t.resolver, &t.names))
        .chain(twins.iter().cloned())
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for (line, output) in lines.iter().zip(container.lines(&lines)?) {
        // Half a message has no answer, and who knows all names does not know parts.
        output
            .success()
            .with_context(|| format!("without a policy: {line}"))?;
    }
    let policy = watched.policy(&of_container(
        "evil-names",
        "    - domain: evil.test, .evil\n  action: Block\n  severity: 4\n",
    ))?;
    let mut outputs = container.lines(&lines)?;
    let free = outputs.split_off(tries.len());
    for (tried, output) in tries.iter().zip(outputs) {
        is_held(&policy, container, tried, &output)?;
    }
    for output in free {
        output.success()?;
    }
    only_about(&policy.alerts()?, tries)?;
    drop(policy);
    answers(container, "udp", "evil.test")
}

/// What was tried is refused, and has an alert of its own.
fn is_held(
    policy: &Applied<'_>,
    container: &Container<'_>,
    tried: &Try,
    output: &Output,
) -> Result<()> {
    ensure!(
        output.code != 0 && output.stdout.contains(tried.said),
        "{} of {}: {output}",
        tried.how,
        tried.names
    );
    // What is sent again when its sender is gone is no process's.
    let alert = policy.expect(&tried.resource, |alert| {
        is_refusal(alert, &tried.resource, "Block") && alert["ProcessName"] == TRIES
    })?;
    // No rule names what cannot be read.
    let policy = match tried.resource.as_str() {
        UNREADABLE => "DefaultPosture",
        _ => policy.name(),
    };
    ensure!(
        alert["ContainerName"] == container.name()
            && alert["PolicyName"] == policy
            && (tried.resource == UNREADABLE || alert["Severity"] == "4"),
        "{alert:#}"
    );
    Ok(())
}

/// No alert is about what is allowed, and none of a datagram is one too many.
fn only_about(alerts: &[Value], tries: &[Try]) -> Result<()> {
    let about = |resource: &str| {
        let mut tries = tries.iter().filter(|tried| tried.resource == resource);
        let over_udp = tries.clone().all(|tried| tried.said == NOT_PERMITTED);
        (tries.by_ref().count(), over_udp)
    };
    for alert in alerts {
        let resource = alert["Resource"].as_str().unwrap_or_default();
        let told = alerts.iter().filter(|one| one["Resource"] == resource);
        let (told, (due, over_udp)) = (told.count(), about(resource));
        // A segment is refused each time that it is sent.
        ensure!(
            due > 0 && (told == due || !over_udp),
            "{told} alerts, {due} are due: {alert:#}"
        );
    }
    Ok(())
}

fn answers(container: &Container<'_>, how: &str, names: &str) -> Result<()> {
    for output in container.lines(&[&line(TRIES, how, RESOLVER, names)])? {
        output.success()?;
    }
    Ok(())
}

fn ask(container: &Container<'_>, program: &str, how: &str, names: &str) -> Result<Output> {
    let mut outputs = container.lines(&[&line(program, how, RESOLVER, names)])?;
    outputs.pop().context("no output")
}

fn milder(guest: &Guest) -> Result<()> {
    with_resolver(
        guest,
        &DefaultPostures::BLOCK_NETWORK,
        |watched, container| {
            let policy = watched.policy(&of_container(
                "audited-names",
                "    - domain: evil.test\n  action: Audit\n",
            ))?;
            answers(container, "udp", "www.evil.test")?;
            answers(container, "tcp", "tcp.evil.test")?;
            for name in ["www.evil.test", "tcp.evil.test"] {
                policy.expect(name, |alert| {
                    is_refusal(alert, name, "Audit") && alert["PolicyName"] == "audited-names"
                })?;
            }
            // What cannot be read is refused only where something could be.
            answers(container, "reference", "good.test")?;
            policy.expect("the alert of what cannot be read", |alert| {
                is_refusal(alert, "@unreadable", "Audit") && !alert["EventData"]["Reason"].is_null()
            })?;
            drop(policy);

            let policy = watched.policy(&of_container(
                "allowed-names",
                "    - domain: good.test\n  action: Allow\n",
            ))?;
            answers(container, "udp", "good.test www.good.test")?;
            answers(container, "tcp", "good.test")?;
            for (how, name, said) in [
                ("udp", "bad.test", NOT_PERMITTED),
                ("tcp", "worse.test", NO_ANSWER),
            ] {
                let output = ask(container, TRIES, how, name)?;
                ensure!(
                    output.code != 0 && output.stdout.contains(said),
                    "{how}: {output}"
                );
                policy.expect(name, |alert| {
                    is_refusal(alert, name, "Block") && alert["PolicyName"] == "DefaultPosture"
                })?;
            }
            ensure!(
                policy
                    .alerts()?
                    .iter()
                    .all(|alert| !alert["Resource"].to_string().contains("good.test")),
                "alerts of what is allowed"
            );
            Ok(())
        },
    )
}

fn sources(guest: &Guest) -> Result<()> {
    with_resolver(guest, &DefaultPostures::AUDIT, |watched, container| {
        let policy = watched.policy(&of_container(
            "names-for-others",
            "    - domain: evil.test\n      fromSource:\n      - path: /opt/tools/karmor-tries\n  \
             action: Block\n",
        ))?;
        for (how, said) in [("udp", NOT_PERMITTED), ("tcp", NO_ANSWER)] {
            let name = format!("{how}.evil.test");
            ask(container, OTHER, how, &name)?.success()?;
            let output = ask(container, TRIES, how, &name)?;
            ensure!(
                output.code != 0 && output.stdout.contains(said),
                "{how}: {output}"
            );
            policy.expect(&name, |alert| {
                is_refusal(alert, &name, "Block") && alert["ProcessName"] == TRIES
            })?;
            ask(container, TRIES, how, "good.test")?.success()?;
        }
        ensure!(
            policy
                .alerts()?
                .iter()
                .all(|alert| alert["ProcessName"] == TRIES),
            "alerts of another program"
        );
        Ok(())
    })
}

fn of_the_host(guest: &Guest) -> Result<()> {
    with_resolver(guest, &DefaultPostures::AUDIT, |watched, container| {
        let policy = watched.policy(&manifest(
            "KubeArmorHostPolicy",
            "names-of-the-host",
            "    - domain: evil.test\n  action: Block\n",
        ))?;
        let ask = |name| run(ON_HOST, ["ask", "udp", RESOLVER, name]);
        let output = ask("evil.test")?;
        ensure!(
            output.code != 0 && output.stderr.contains(NOT_PERMITTED),
            "{output}"
        );
        let alert = policy.expect("the alert", |alert| is_refusal(alert, "evil.test", "Block"))?;
        ensure!(
            alert["Type"] == "MatchedHostPolicy" && alert["ProcessName"] == ON_HOST,
            "{alert:#}"
        );
        // Nobody answers on the host, and nothing is refused.
        let output = ask("good.test")?;
        ensure!(!output.stderr.contains(NOT_PERMITTED), "{output}");
        // What the host may not ask for is no matter of a container's.
        answers(container, "udp", "evil.test")
    })
}

/// Neither what sees packets nor what sees files: not by who may do everything with BPF, nor by what
/// ends the daemon.
fn detached(guest: &Guest) -> Result<()> {
    const SHUT: &str = "cat /etc/nginx/nginx.conf";
    const FREE: &str = "cat /etc/nginx/mime.types";
    with_resolver(guest, &DefaultPostures::AUDIT, |watched, container| {
        let does =
            |line| -> Result<Output> { container.lines(&[line])?.pop().context("no output") };
        answers(container, "udp", "evil.test")?;
        does(SHUT)?.success().context("without a policy")?;
        let policy = watched.policy(&of_container(
            "names-for-good",
            "    - domain: evil.test\n  file:\n    matchPaths:\n    \
             - path: /etc/nginx/nginx.conf\n  action: Block\n",
        ))?;
        // No link may give way.
        privileged(guest)?
            .exec(&["/opt/tools/karmor-tries", "detach-links"])?
            .success()?;
        let output = ask(container, TRIES, "udp", "evil.test")?;
        ensure!(
            output.code != 0 && output.stdout.contains(NOT_PERMITTED),
            "{output}"
        );
        let output = does(SHUT)?;
        ensure!(output.denied(), "not refused: {output}");
        for resource in ["evil.test", "/etc/nginx/nginx.conf"] {
            policy.expect(resource, |alert| {
                alert["Resource"] == resource
                    && alert["Action"] == "Block"
                    && alert["PolicyName"] == policy.name()
                    && alert["ContainerName"] == container.name()
            })?;
        }
        answers(container, "udp", "good.test")?;
        does(FREE)?.success()?;
        drop(policy);
        answers(container, "udp", "evil.test")
    })
}

/// Tries to speak to an address, by its number and as a line.
fn speak(program: &str, how: &str, address: &str) -> String {
    const UDP: u8 = 17;
    format!("{program} speak {how} {address} {UDP}")
}

/// Longer than an answer without a TTL counts.
const SHORTEST: Duration = Duration::from_secs(12);

/// Questions, and the ways in which their answers are refused.
const ANSWERED: [(&str, &str, &str); 6] = [
    ("udp 127-77-0-1.evil.test", "connect", "127.77.0.1:9"),
    ("udp 127-77-0-1.good.test", "send", "127.77.0.1:9"),
    ("tcp 127-77-0-3.evil.test", "ring", "127.77.0.3:9"),
    (
        "udp 127-77-0-4.evil.test",
        "connect",
        "[::ffff:127.77.0.4]:9",
    ),
    ("udp 0--7.evil.test", "connect", "[::7]:9"),
    ("udp 127-77-0-5.short.evil.test", "connect", "127.77.0.5:9"),
];

/// Addresses that no answer was about, at least not of a name that is refused.
const UNANSWERED: [&str; 2] = ["127.77.0.2:9", "127.0.0.1:9"];

fn speaks(container: &Container<'_>, program: &str, how: &str, address: &str) -> Result<Output> {
    let line = speak(program, how, address);
    container.lines(&[&line])?.pop().context("no output")
}

/// One program may ask for names that another one may not ask for.
fn resolved(guest: &Guest) -> Result<()> {
    with_resolver(guest, &DefaultPostures::AUDIT, |watched, container| {
        let neighbour = with_tools(guest, &[], "dns-neighbour")?;
        held_to_answers(watched, container, &neighbour, || {
            std::thread::sleep(SHORTEST);
            let (_, how, short) = ANSWERED[5];
            speaks(container, TRIES, how, short)?.success().map(drop)
        })
    })?;
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        with_resolver_in(watched, &privileged(guest)?, |watched, container| {
            let neighbour = with_tools(guest, &[], "dns-neighbour")?;
            held_to_answers(watched, container, &neighbour, || Ok(()))
        })
    })
}

/// Holds one program to what another one was answered, and does something before the policy goes.
fn held_to_answers(
    watched: &Watched,
    container: &Container<'_>,
    neighbour: &Container<'_>,
    then: impl FnOnce() -> Result<()>,
) -> Result<()> {
    watched.enforcer.knows(neighbour.name())?;
    for (_, how, address) in ANSWERED {
        speaks(container, TRIES, how, address)?
            .success()
            .context("without a policy")?;
    }
    let policy = watched.policy(&of_container(
        "answered",
        &format!(
            "    - domain: evil.test\n      fromSource:\n      - path: {TRIES}\n  action: Block\n"
        ),
    ))?;
    for (question, how, address) in ANSWERED {
        let (way, name) = question.split_once(' ').context("not two words")?;
        ask(container, OTHER, way, name)?.success()?;
        let output = speaks(container, TRIES, how, address)?;
        ensure!(output.denied(), "not refused {address}: {output}");
        // What is answered about another name makes nobody forget.
        expect_answered(&policy, container, &name.replace("good", "evil"), how)?;
        speaks(container, OTHER, how, address)?.success()?;
        speaks(neighbour, TRIES, how, address)?.success()?;
    }
    for address in UNANSWERED {
        speaks(container, TRIES, "connect", address)?.success()?;
    }
    then()?;
    let told = policy.alerts()?;
    ensure!(told.len() == ANSWERED.len(), "one each is due: {told:#?}");
    drop(policy);
    speaks(container, TRIES, "connect", "127.77.0.1:9")?.success()?;
    Ok(())
}

/// Waits for the alert about an address that was an answer about this name.
fn expect_answered(
    policy: &Applied<'_>,
    container: &Container<'_>,
    name: &str,
    how: &str,
) -> Result<()> {
    let hook = match how {
        "send" => "SOCKET_SENDMSG",
        _ => "SOCKET_CONNECT",
    };
    let alert = policy.expect(name, |alert| {
        alert["Resource"] == name && alert["Data"] == format!("lsm={hook} domain={name}")
    })?;
    ensure!(
        alert["ProcessName"] == TRIES
            && alert["ContainerName"] == container.name()
            && alert["PolicyName"] == policy.name()
            && alert["Action"] == "Block"
            && alert["EventData"]["Reason"] == "the address was an answer about this name",
        "{alert:#}"
    );
    Ok(())
}
