//! Other names for what a policy names.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Case, PREPARE, Plan, SHUT, case, manifest, ordinary, privileged, reading, running, toolbox,
};
use crate::support::{Container, DefaultPostures, Guest, until};

pub(super) const CASES: &[Case] = &[
    case("escape_by_chroot", chroot),
    case("escape_by_symlink", symlink),
    case("escape_by_earlier_hard_link", earlier_link),
    case("escape_by_hard_link_of_the_image", link_of_the_image),
    case("escape_by_layer_with_a_hard_link", layer_with_a_link),
    case("escape_by_copying_up", copying_up),
    case("escape_by_new_hard_link", new_link),
    case("escape_by_rename", rename),
    case("escape_by_rename_out_of_a_ruled_directory", rename_out),
    case("escape_by_rename_of_a_parent", rename_of_parent),
    case(
        "escape_by_rename_to_where_all_is_allowed",
        to_what_is_listed,
    ),
];

/// chroot into a directory makes paths short.
fn chroot(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-chroot",
            spec: "
  file:
    matchPaths:
    - path: /srv/vault/secret
  process:
    matchPaths:
    - path: /srv/vault/busybox-shut
  action: Block
",
            prepare: &format!(
                "{PREPARE} && cp /opt/tools/busybox /srv/vault/busybox \
                 && cp /opt/tools/busybox /srv/vault/busybox-shut"
            ),
            escapes: &[
                reading(
                    "chroot /srv/vault /busybox cat /secret",
                    "/srv/vault/secret",
                ),
                running(
                    "chroot /srv/vault /busybox-shut true",
                    "/srv/vault/busybox-shut true",
                ),
            ],
            twins: &[
                "chroot /srv/vault /busybox cat /free",
                "chroot /srv/vault /busybox true",
            ],
        }
        .play(watched, guest)
    })
}

fn symlink(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-symlink",
            spec: SHUT,
            prepare: &format!(
                "{PREPARE} && cd /srv/open && ln -s ../vault/secret ../vault/free \
                 ../vault/tool ../vault/other . && ln -s /srv/vault directory"
            ),
            escapes: &[
                reading("cat /srv/open/secret", "/srv/vault/secret"),
                reading(
                    "cat /srv/open/directory/../vault/secret",
                    "/srv/vault/secret",
                ),
                reading(
                    "ln -s /srv/vault/secret /srv/late && cat /srv/late",
                    "/srv/vault/secret",
                ),
                running("/srv/open/tool", "/srv/vault/tool"),
                running("/srv/open/directory/tool", "/srv/vault/tool"),
            ],
            twins: &["cat /srv/open/free", "/srv/open/directory/other"],
        }
        .play(watched, guest)
    })
}

const PATTERNS: &str = "
  file:
    matchPatterns:
    - pattern: /srv/**/*.key
  process:
    matchPatterns:
    - pattern: /srv/vault/t*
  action: Block
";

/// The link is there before the policy; the daemon looks for such while it applies one.
fn earlier_link(guest: &Guest) -> Result<()> {
    linked(
        guest,
        &Plan {
            name: "escape-earlier-link",
            spec: SHUT,
            prepare: &format!(
                "{PREPARE} && cd /srv/open && ln ../vault/secret s && ln ../vault/tool t \
                 && ln ../vault/free f && ln ../vault/other o"
            ),
            escapes: &[
                reading("cat /srv/open/s", "/srv/open/s"),
                running("/srv/open/t", "/srv/open/t"),
            ],
            twins: &["cat /srv/open/f", "/srv/open/o"],
        },
    )?;
    linked(
        guest,
        &Plan {
            name: "escape-earlier-link-of-a-pattern",
            spec: PATTERNS,
            prepare: &format!(
                "{PREPARE} && mkdir /srv/vault/deep && cd /srv/open && echo > ../vault/deep/a.key \
                 && echo > ../vault/deep/a.pem && ln ../vault/deep/a.key k \
                 && ln ../vault/deep/a.pem p && ln ../vault/tool t && ln ../vault/other o"
            ),
            escapes: &[
                reading("cat /srv/open/k", "/srv/open/k"),
                running("/srv/open/t", "/srv/open/t"),
            ],
            twins: &["cat /srv/open/p", "/srv/open/o"],
        },
    )
}

/// What the image gives a second name.
const OF_THE_IMAGE: &str = "
  file:
    matchPaths:
    - path: /opt/image/secret
  process:
    matchPaths:
    - path: /opt/image/tool
  action: Block
";

/// The image came with the link. Its programs may do by their name what they do: each name counts.
fn link_of_the_image(guest: &Guest) -> Result<()> {
    linked(
        guest,
        &Plan {
            name: "escape-link-of-the-image",
            spec: OF_THE_IMAGE,
            prepare: ":",
            escapes: &[
                reading("cat /opt/image/other-name", "/opt/image/other-name"),
                reading("cat /opt/image/secret", "/opt/image/secret"),
                running("/opt/image/tool", "/opt/image/tool"),
            ],
            twins: &["/usr/bin/true", "cat /usr/bin/true"],
        },
    )
}

/// An overlay shows the link on a device of its own, where no mark is for it.
fn layer_with_a_link(guest: &Guest) -> Result<()> {
    let plan = Plan {
        name: "escape-layer-with-a-link",
        spec: SHUT,
        prepare: &format!(
            "{PREPARE} && cd /srv/open && ln ../vault/secret s && mkdir -p /tmp/layer /tmp/over \
             && {{ ! /opt/tools/busybox mountpoint -q /tmp/over || /opt/tools/busybox umount -l /tmp/over; }} \
             && {{ /opt/tools/busybox mountpoint -q /tmp/layer \
             || /opt/tools/busybox mount -t tmpfs tmpfs /tmp/layer; }} && mkdir -p /tmp/layer/{{1,2}}"
        ),
        escapes: &[
            reading("cat /srv/open/s", "/srv/open/s"),
            reading(
                "/opt/tools/karmor-tries mount overlay lowerdir=/srv/open:/tmp/layer/1 /tmp/over \
                 && cat /tmp/over/s",
                "/srv/open",
            )
            .unnamed(),
        ],
        twins: &[
            "/opt/tools/karmor-tries mount overlay lowerdir=/tmp/layer/1:/tmp/layer/2 /tmp/over",
        ],
    };
    linked_in(guest, &plan, &[privileged(guest)?])
}

/// Plays a plan whose first escape fails when the daemon has found the other names.
fn linked(guest: &Guest, plan: &Plan<'_>) -> Result<()> {
    linked_in(guest, plan, &[ordinary(guest)?, privileged(guest)?])
}

fn linked_in(guest: &Guest, plan: &Plan<'_>, containers: &[Container<'_>]) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        for container in containers {
            plan.before(container)?;
        }
        let policy = watched.policy(&manifest(plan.name, plan.spec))?;
        // Beside the engine: it may take a moment.
        let first = plan.escapes.first().context("there is an escape")?.line;
        until("the link to be known", Duration::from_secs(10), || {
            for container in containers {
                if !container.shell(first)?.denied() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })?;
        // What is known of a file outlives the kernel's memory of it.
        fs::write("/proc/sys/vm/drop_caches", "2").context("cannot drop the caches")?;
        for container in containers {
            plan.after(&policy, container)?;
        }
        Ok(())
    })
}

/// The name that is touched is a file of its own from then on, which no mark is for. `touch` of
/// busybox opens nothing. Without the policy it is tried where nobody needs the link any more.
fn copying_up(guest: &Guest) -> Result<()> {
    let plan = Plan {
        name: "escape-copying-up",
        spec: OF_THE_IMAGE,
        prepare: ":",
        escapes: &[reading(
            "/opt/tools/busybox touch /opt/image/other-name && cat /opt/image/other-name",
            "/opt/image/other-name",
        )],
        twins: &["/opt/tools/busybox touch /etc/group && cat /etc/group"],
    };
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        for options in [&[][..], &["--privileged"]] {
            plan.before(&toolbox(guest, options)?.start("copied-up")?)?;
        }
        let containers = [ordinary(guest)?, privileged(guest)?];
        let policy = watched.policy(&manifest(plan.name, plan.spec))?;
        for container in &containers {
            until("the link to be known", Duration::from_secs(10), || {
                let known = container.shell("cat /opt/image/other-name")?.denied();
                Ok(known.then_some(()))
            })?;
            plan.after(&policy, container)?;
            policy.expect("an alert about copying up", |alert| {
                alert["Data"] == "lsm=FILE_COPY_UP" && alert["ContainerName"] == container.name()
            })?;
        }
        Ok(())
    })
}

fn new_link(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-new-link",
            spec: SHUT,
            prepare: PREPARE,
            escapes: &[
                reading(
                    "ln /srv/vault/secret /srv/open/s && cat /srv/open/s",
                    "/srv/vault/secret",
                ),
                reading(
                    "ln /srv/vault/tool /srv/open/t && /srv/open/t",
                    "/srv/vault/tool",
                ),
            ],
            twins: &[
                "ln /srv/vault/free /srv/open/f && cat /srv/open/f",
                "ln /srv/vault/other /srv/open/o && /srv/open/o",
            ],
        }
        .play(watched, guest)
    })
}

fn rename(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-rename",
            spec: SHUT,
            prepare: PREPARE,
            escapes: &[
                reading(
                    "mv /srv/vault/secret /srv/open/s && cat /srv/open/s",
                    "/srv/vault/secret",
                ),
                reading(
                    "mv /srv/vault/tool /srv/open/t && /srv/open/t",
                    "/srv/vault/tool",
                ),
            ],
            twins: &[
                "mv /srv/vault/free /srv/open/f && cat /srv/open/f",
                "mv /srv/vault/other /srv/open/o && /srv/open/o",
            ],
        }
        .play(watched, guest)
    })
}

/// Within the directory every name is ruled alike.
fn rename_out(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-rename-out",
            spec: "
  process:
    matchDirectories:
    - dir: /srv/pit/
      recursive: true
  action: Block
",
            prepare: "rm -rf /srv/* && mkdir -p /srv/pit/deep /srv/open \
                && cp /usr/bin/true /srv/pit/tool",
            escapes: &[
                reading(
                    "mv /srv/pit/tool /srv/open/tool && /srv/open/tool",
                    "/srv/pit/tool",
                ),
                reading(
                    "ln /srv/pit/tool /srv/open/tool && /srv/open/tool",
                    "/srv/pit/tool",
                ),
                reading(
                    "mv /srv/pit /srv/open/pit && /srv/open/pit/tool",
                    "/srv/pit",
                ),
            ],
            twins: &[
                "mv /srv/pit/tool /srv/pit/other && mv /srv/pit/other /srv/pit/tool",
                "ln /srv/pit/tool /srv/pit/deep/tool",
                "mv /srv/pit/deep /srv/pit/deeper && mv /srv/pit/deeper /srv/pit/deep",
                "echo new > /srv/open/new && mv /srv/open/new /srv/pit/new",
            ],
        }
        .play(watched, guest)
    })
}

/// A list that means the entries of a directory, and all that lies below others.
const LISTED: &str = "
  file:
    matchDirectories:
    - {dir: /srv/}
    - {dir: /bin/, recursive: true}
    - {dir: /dev/, recursive: true}
    - {dir: /etc/, recursive: true}
    - {dir: /lib/, recursive: true}
    - {dir: /lib64/, recursive: true}
    - {dir: /opt/, recursive: true}
    - {dir: /proc/, recursive: true}
    - {dir: /tmp/, recursive: true}
    - {dir: /usr/, recursive: true}
    - {dir: /var/tmp/, recursive: true}
  action: Allow
";

fn to_what_is_listed(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::BLOCK_FILES, |watched| {
        let exchange = |one, other| format!("/opt/tools/karmor-tries exchange {one} {other}");
        let place = exchange("/tmp/place", "/srv/vault");
        Plan {
            name: "escape-listed",
            spec: LISTED,
            prepare: &format!("rm -rf /tmp/*; {PREPARE} && mkdir -p /tmp/place /tmp/a/b"),
            escapes: &[
                reading("cat /srv/vault/secret", "/srv/vault/secret").unnamed(),
                reading("mv /srv/vault /tmp/v && cat /tmp/v/secret", "/srv/vault").unnamed(),
                reading(&format!("{place} && cat /tmp/place/secret"), "/srv/vault").unnamed(),
            ],
            twins: &[
                "mv /tmp/a /tmp/c && ls /tmp/c/b",
                "mv /tmp/c /var/tmp/d && mv /var/tmp/d /tmp/d",
                "mv /srv/vault /srv/v && mv /srv/v /srv/vault",
                "echo free > /srv/file && mv /srv/file /tmp/file",
                &exchange("/tmp/place", "/tmp/d"),
            ],
        }
        .play(watched, guest)
    })
}

fn rename_of_parent(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-parent",
            spec: SHUT,
            prepare: &format!("{PREPARE} && mkdir /srv/vault/deep /srv/open/deep"),
            escapes: &[
                reading("mv /srv/vault /srv/v && cat /srv/v/secret", "/srv/vault"),
                reading("mv /srv /s && mv /s /srv", "/srv"),
            ],
            twins: &["mv /srv/open /srv/o", "mv /srv/vault/deep /srv/d"],
        }
        .play(watched, guest)
    })
}
