//! Other ways to speak to somebody.

use anyhow::Result;

use super::{Case, DENIED, Escape, Plan, case};
use crate::support::{DefaultPostures, Guest};

pub(super) const CASES: &[Case] = &[case("escape_by_another_way_to_an_address", addresses)];

/// Nobody may speak to, or be spoken to by, 127.9.0.0/16; nor use port 9 of this machine.
const SHUT: &str = "
  network:
    matchEndpoints:
    - cidr: 127.9.0.0/16
    - cidr: 127.0.0.1
      ports: [9]
    - cidr: ::1
      ports: [9]
    - cidr: fd09::/16
  action: Block
";

/// What the tool says when nobody answers.
const DROPPED: &str = "the connection was dropped";

const fn speaking<'a>(line: &'a str, resource: &'a str) -> Escape<'a> {
    Escape {
        line,
        operation: "Network",
        resource,
        complaint: DENIED,
        is_named: true,
    }
}

const fn heard<'a>(line: &'a str) -> Escape<'a> {
    Escape {
        line,
        operation: "Network",
        resource: "remoteip=127.9.9.9 port=7000 protocol=TCP",
        complaint: DROPPED,
        is_named: true,
    }
}

const ESCAPES: &[Escape<'_>] = &[
    speaking(
        "/opt/tools/karmor-tries speak connect 127.9.9.9:80 6",
        "remoteip=127.9.9.9 port=80 protocol=TCP",
    ),
    // MPTCP.
    speaking(
        "/opt/tools/karmor-tries speak connect 127.9.9.9:81 262",
        "remoteip=127.9.9.9 port=81 protocol=TCP",
    ),
    speaking(
        "/opt/tools/karmor-tries speak send-fast 127.9.9.9:82 6",
        "remoteip=127.9.9.9 port=82 protocol=TCP",
    ),
    speaking(
        "/opt/tools/karmor-tries speak send 127.9.9.9:83 17",
        "remoteip=127.9.9.9 port=83 protocol=UDP",
    ),
    speaking(
        "/opt/tools/karmor-tries speak send-unspecified 127.9.9.9:84 17",
        "remoteip=127.9.9.9 port=84 protocol=UDP",
    ),
    speaking(
        "/opt/tools/karmor-tries speak send-unspecified '[fd09::9]:0' 58",
        "remoteip=fd09::9 port=0 protocol=ICMPV6",
    ),
    speaking(
        "/opt/tools/karmor-tries speak send-many 127.9.9.9:85 17",
        "remoteip=127.9.9.9 port=85 protocol=UDP",
    ),
    speaking(
        "/opt/tools/karmor-tries speak send '[::ffff:127.9.9.9]:86' 17",
        "remoteip=127.9.9.9 port=86 protocol=UDP",
    ),
    speaking(
        "/opt/tools/karmor-tries speak ring 127.9.9.9:87 6",
        "remoteip=127.9.9.9 port=87 protocol=TCP",
    ),
    // Nobody in particular is this machine.
    speaking(
        "/opt/tools/karmor-tries speak connect 0.0.0.0:9 6",
        "remoteip=127.0.0.1 port=9 protocol=TCP",
    ),
    speaking(
        "/opt/tools/karmor-tries speak send '[::ffff:0.0.0.0]:9' 17",
        "remoteip=127.0.0.1 port=9 protocol=UDP",
    ),
    speaking(
        "/opt/tools/karmor-tries speak connect '[::]:9' 6",
        "remoteip=::1 port=9 protocol=TCP",
    ),
    heard("/opt/tools/karmor-tries speak accept 127.9.9.9:7000 6"),
    heard("/opt/tools/karmor-tries speak accept-mapped 127.9.9.9:7000 6"),
    heard("/opt/tools/karmor-tries speak accept 127.9.9.9:7000 262"),
];

const TWINS: &[&str] = &[
    "/opt/tools/karmor-tries speak connect 127.8.9.9:80 6",
    "/opt/tools/karmor-tries speak send-unspecified 127.8.9.9:84 17",
    "/opt/tools/karmor-tries speak send-unspecified '[fd08::9]:0' 58",
    "/opt/tools/karmor-tries speak connect 0.0.0.0:10 6",
    "/opt/tools/karmor-tries speak accept 127.8.9.9:7000 6",
];

fn addresses(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-address",
            spec: SHUT,
            prepare: "true",
            escapes: ESCAPES,
            twins: TWINS,
        }
        .play(watched, guest)
    })
}
