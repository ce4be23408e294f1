//! Mounts: other paths to what a policy names, and other things under the names it means.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{
    Case, Escape, HOST_SHARE, Plan, SHUT, case, manifest, ordinary, privileged, reading, running,
    toolbox, with_tools,
};
use crate::support::{DefaultPostures, Guest, run};

pub(super) const CASES: &[Case] = &[
    case("escape_by_bind_mount", bind),
    case("escape_by_bind_mount_of_a_device", device),
    case("escape_by_propagated_mount", propagated),
    case("escape_by_mount_from_outside", from_outside),
    case("escape_by_bind_mount_written", written),
    case("escape_by_mount_over_a_name", cover),
    case("escape_by_moved_mount", moved),
    case("escape_by_overlay_mount", overlay),
    case("escape_by_second_mount_or_handle", again),
    case("escape_by_mount_namespace", namespace),
    case("escape_by_mount_in_user_namespace", user_namespace),
    case("escape_by_mount_in_the_place_of_a_program", substitute),
    case("escape_by_removing_a_mount_point", removed),
];

/// Mount points, and /srv as in [`super::PREPARE`], whatever was mounted there before: what came last
/// goes first.
const PREPARE: &str = "[ -e /usr/local/bin/nsenter ] || { mkdir -p /usr/local/bin; \
    for applet in mount umount nsenter; do ln -sf /opt/tools/busybox /usr/local/bin/$applet; done; \
    mkdir -p /tmp/m{1..20}; }; \
    places=(); while read -r _ place _; do case $place in \
    /tmp/m*|/srv|/srv/*|/dev/shm/[mn]) places=($place ${places[@]});; esac; done < /proc/self/mounts; \
    [ -z \"$places\" ] || umount -l ${places[@]}; \
    rm -rf /srv/* && mkdir -p /srv/vault /srv/open/deep \
    && echo secret > /srv/vault/secret && echo free > /srv/vault/free \
    && cp /usr/bin/true /srv/vault/tool && cp /usr/bin/true /srv/vault/other && : > /srv/open/f";

const SECRET: &str = "/srv/vault/secret";

/// What `karmor-tries` gives, as a line of bash.
macro_rules! tries {
    ($line:literal) => {
        concat!("/opt/tools/karmor-tries ", $line)
    };
}

const BIND_ESCAPES: &[Escape<'_>] = &[
    reading(
        "mount --bind /srv/vault /tmp/m1 && cat /tmp/m1/secret",
        SECRET,
    ),
    running(
        "mount --bind /srv/vault /tmp/m2 && /tmp/m2/tool",
        "/srv/vault/tool",
    ),
    reading(
        "mount --bind /srv/vault/secret /srv/open/f && cat /srv/open/f",
        SECRET,
    ),
    reading(
        "mount --rbind / /tmp/m3 && cat /tmp/m3/srv/vault/secret",
        SECRET,
    ),
    reading(
        "mount --rbind / /tmp/m4 && chroot /tmp/m4/srv /vault/../../bin/cat /vault/secret \
         || chroot /tmp/m4 cat /srv/vault/secret",
        SECRET,
    ),
    reading(
        "mount --bind /srv /tmp/m5 && mv /tmp/m5/vault /tmp/m5/v && cat /srv/v/secret",
        "/srv/vault",
    ),
    reading(
        "mount --bind /srv /tmp/m6 && ln /tmp/m6/vault/secret /tmp/m6/open/s \
         && cat /srv/open/s",
        SECRET,
    ),
    reading(
        tries!("attach /srv/vault /tmp/m7 && cat /tmp/m7/secret"),
        SECRET,
    ),
    // Attached nowhere, it has no path that a rule could name.
    reading(tries!("detached /srv/vault secret"), "/secret").unnamed(),
];

const BIND_TWINS: &[&str] = &[
    "mount --bind /srv/vault /tmp/m11 && cat /tmp/m11/free && /tmp/m11/other",
    "mount --bind /srv/open /tmp/m12 && echo x > /tmp/m12/x && mv /tmp/m12/x /tmp/m12/y \
     && cat /srv/open/y && umount /tmp/m12",
    "mount --rbind / /tmp/m13 && cat /tmp/m13/srv/vault/free",
    "mount -t tmpfs tmpfs /tmp/m14 && cp /usr/bin/true /tmp/m14/secret \
     && cat /tmp/m14/secret && /tmp/m14/secret && echo x > /dev/null",
    "mount -t proc proc /tmp/m15 && cat /tmp/m15/self/comm",
    tries!("attach /srv/open /tmp/m16 && ls /tmp/m16/deep"),
    "mount -t tmpfs tmpfs /tmp/m17 && mount -o remount,bind,ro /tmp/m17 \
     && mount --make-rprivate / && stat -f /srv/vault",
];

/// Mounts that add names go ahead; what is reached by the new name has the old one, too.
fn bind(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-bind",
            spec: SHUT,
            prepare: PREPARE,
            escapes: BIND_ESCAPES,
            twins: BIND_TWINS,
        }
        .play_in(watched, &[&privileged(guest)?])?;
        for line in [
            "mount --bind /srv /mnt && echo in",
            tries!("attach /srv /mnt && echo in"),
        ] {
            not_allowed_anyway(guest, line)?;
        }
        Ok(())
    })
}

/// What is mounted in another mount namespace comes home.
fn propagated(guest: &Guest) -> Result<()> {
    /// Whatever comes next comes through.
    fn away(mount: &str, then: &str) -> String {
        format!(
            "mount --make-rshared / && /opt/tools/karmor-tries away -- /opt/tools/busybox mount --bind \
             {mount} && {then}"
        )
    }
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let shut = away("/srv/vault /tmp/m1", "cat /tmp/m1/secret");
        let free = away("/srv/vault /tmp/m2", "cat /tmp/m2/free");
        Plan {
            name: "escape-propagated",
            spec: SHUT,
            prepare: PREPARE,
            escapes: &[reading(&shut, SECRET)],
            twins: &[&free],
        }
        // One in which nothing was ever mounted.
        .play_in(
            watched,
            &[&with_tools(guest, &["--privileged"], "escape-propagated")?],
        )
    })
}

/// One that the host makes in the container's mount namespace, as those come there that propagate.
fn from_outside(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        // One in which nothing was ever mounted.
        let container = with_tools(guest, &[], "escape-outside")?;
        let prepare = format!("mkdir -p /tmp/m && {}", super::PREPARE);
        container.shell(&prepare)?.success()?;
        watched.enforcer.knows(container.name())?;
        let policy = watched.policy(&manifest("escape-outside", SHUT))?;
        // Nobody in it does anything before that.
        let processes = format!("/sys/fs/cgroup/default/{}/cgroup.procs", container.name());
        let processes = fs::read_to_string(processes).context("cannot read its processes")?;
        let first = processes.lines().next().context("no process runs in it")?;
        let mount = "/opt/tools/busybox mount --bind /srv/vault /tmp/m";
        let line = format!("busybox nsenter -t {first} -m {mount}");
        run("/bin/sh", ["-c", &line])?.success()?;
        let output = container.shell("cat /tmp/m/secret")?;
        reading("cat /tmp/m/secret", SECRET).failed(&policy, &container, &output)?;
        container.shell("cat /tmp/m/free")?.success()?;
        Ok(())
    })
}

/// An ordinary container's root may not mount; no policy is needed.
fn not_allowed_anyway(guest: &Guest, line: &str) -> Result<()> {
    for output in ordinary(guest)?.lines(&[line])? {
        ensure!(
            output.code != 0 && !output.stdout.contains("in\n"),
            "an ordinary container can do this: {output}"
        );
    }
    Ok(())
}

const WRITTEN_ESCAPES: &[Escape<'_>] = &[
    reading(
        "mount --bind /srv/vault /tmp/m1 && echo x > /tmp/m1/secret",
        SECRET,
    ),
    reading(
        "mount --bind /srv /tmp/m2 && rm /tmp/m2/vault/free",
        "/srv/vault/free",
    ),
    reading(
        "mount --bind /srv /tmp/m3 && touch /tmp/m3/vault/new",
        "/srv/vault/new",
    ),
    // What sets attributes does not say through which mount.
    reading(
        "mount --bind /srv/vault /tmp/m4 && /opt/tools/karmor-tries mark /tmp/m4/secret",
        SECRET,
    ),
    reading(tries!("mark /srv/vault/deep/file"), "/srv/vault/deep/file"),
    reading(
        "mount --bind /srv/vault/deep /tmp/m5 && /opt/tools/karmor-tries mark /tmp/m5/file",
        "/srv/vault/deep/file",
    ),
];

fn written(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-bind-written",
            spec: "
  file:
    matchDirectories:
    - dir: /srv/vault/
      recursive: true
      readOnly: true
  action: Block
",
            prepare: &format!(
                "{PREPARE} && mkdir /srv/vault/deep && mount -t tmpfs tmpfs /srv/vault/deep \
                 && : > /srv/vault/deep/file"
            ),
            escapes: WRITTEN_ESCAPES,
            twins: &[
                "mount --bind /srv/vault /tmp/m11 && cat /tmp/m11/secret",
                "mount --bind /srv /tmp/m12 && touch /tmp/m12/open/new && rm /tmp/m12/open/new",
                "mount -t tmpfs tmpfs /tmp/m13 && : > /tmp/m13/x \
                 && /opt/tools/karmor-tries mark /tmp/m13/x",
            ],
        }
        .play_in(watched, &[&privileged(guest)?])
    })
}

/// Something else under a name that a policy means.
fn cover(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let container = privileged(guest)?;
        let plan = Plan {
            name: "escape-cover",
            spec: SHUT,
            prepare: PREPARE,
            escapes: &[
                reading("mount -t tmpfs tmpfs /srv/vault", "/srv/vault"),
                reading("mount --bind /srv/open /srv/vault", "/srv/vault"),
                reading("mount --bind /srv/open/f /srv/vault/secret", SECRET),
                reading(tries!("attach /srv/open /srv/vault"), "/srv/vault"),
                reading(tries!("mount tmpfs '' /srv"), "/srv"),
            ],
            twins: &[
                "mount -t tmpfs tmpfs /srv/open/deep && umount /srv/open/deep",
                "mount --bind /srv/open/f /srv/vault/free && umount /srv/vault/free",
            ],
        };
        plan.before(&container)?;
        let policy = watched.policy(&manifest(plan.name, plan.spec))?;
        plan.after(&policy, &container)?;
        // These would leave a container behind in which nothing works.
        for (line, resource) in [
            (tries!("mount tmpfs '' /"), "/"),
            (
                "mkdir -p /tmp/m1/old && mount --bind /tmp/m1 /tmp/m1 && mkdir -p /tmp/m1/old \
                 && /opt/tools/karmor-tries pivot /tmp/m1 /tmp/m1/old",
                "/tmp/m1",
            ),
        ] {
            for output in container.lines(&[line])? {
                reading(line, resource)
                    .unnamed()
                    .failed(&policy, &container, &output)?;
            }
        }
        Ok(())
    })
}

/// A device that is a file to the container, since the runtime mounted it as one.
fn device(guest: &Guest) -> Result<()> {
    const OPTIONS: &[&str] = &[
        "--privileged",
        "--mount=type=bind,src=/dev/kmsg,dst=/opt/device,options=bind:rw",
    ];
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-device",
            spec: "\n  file:\n    matchPaths:\n    - path: /opt/device\n  action: Block\n",
            prepare: PREPARE,
            escapes: &[reading(
                "mount --bind /opt/device /srv/open/f && : < /srv/open/f",
                "/opt/device",
            )],
            twins: &["mount --bind /dev/zero /srv/open/f && : < /srv/open/f"],
        }
        .play_in(watched, &[&with_tools(guest, OPTIONS, "escape-device")?])
    })
}

/// The mount that gives something its name goes away, and a copy of it stays.
fn moved(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-moved-mount",
            spec: SHUT,
            prepare: &format!(
                "{PREPARE} && mount -t tmpfs tmpfs /srv/vault && echo secret > /srv/vault/secret \
                 && mount -t tmpfs tmpfs /tmp/m10"
            ),
            escapes: &[
                reading(
                    tries!("move /srv/vault /tmp/m1 && cat /tmp/m1/secret"),
                    "/srv/vault",
                ),
                reading(
                    tries!("move-by-name /srv/vault /tmp/m2 && cat /tmp/m2/secret"),
                    "/tmp/m2",
                )
                // It is not told what moves.
                .unnamed(),
                reading(
                    "mount --bind /srv/vault /tmp/m3 && /opt/tools/karmor-tries unmount /srv/vault \
                     && cat /tmp/m3/secret",
                    "/srv/vault",
                ),
                reading(
                    "mount --bind /srv/vault /tmp/m4 && cat /tmp/m4/secret",
                    SECRET,
                ),
            ],
            twins: &["/opt/tools/karmor-tries move /tmp/m10 /tmp/m11 \
                 && /opt/tools/karmor-tries unmount /tmp/m11"],
        }
        .play_in(watched, &[&privileged(guest)?])
    })
}

const OVERLAY_ESCAPES: &[Escape<'_>] = &[
    reading(
        tries!("mount overlay lowerdir=/srv/vault:/srv/open /tmp/m1 && cat /tmp/m1/secret"),
        "/srv/vault",
    ),
    reading(
        tries!("mount overlay lowerdir=/tmp/m9:/srv /tmp/m2 && cat /tmp/m2/vault/secret"),
        "/srv",
    ),
    reading(
        "cd /srv && ln -sfn ../vault /srv/open/l && /opt/tools/karmor-tries overlay \
         ./open/l:/srv/open/deep /tmp/m3 && cat /tmp/m3/secret",
        "/srv/vault",
    ),
    reading(
        "mount --bind /srv /tmp/m4 && /opt/tools/karmor-tries mount overlay \
         lowerdir=/tmp/m4/vault:/tmp/m4/open /tmp/m5 && cat /tmp/m5/secret",
        "/srv/vault",
    ),
    // An overlay renames in its upper layer what is renamed in it.
    reading(
        "/opt/tools/karmor-tries mount overlay \
         lowerdir=/srv/open,upperdir=/dev/shm/n/upper,workdir=/dev/shm/n/work /tmp/m6 \
         && mv /tmp/m6/vault/secret /tmp/m6/open/s && cat /dev/shm/n/upper/open/s",
        "/dev/shm/n/upper",
    ),
];

fn overlay(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-overlay",
            spec: "
  file:
    matchPaths:
    - path: /srv/vault/secret
    - path: /dev/shm/n/upper/vault/secret
  action: Block
",
            prepare: &format!(
                "{PREPARE} && mkdir -p /dev/shm/m /dev/shm/n && mount -t tmpfs tmpfs /dev/shm/m \
                 && mkdir /dev/shm/m/{{upper,work}} && mount -t tmpfs tmpfs /dev/shm/n \
                 && mkdir -p /dev/shm/n/{{upper/vault,upper/open,work}} \
                 && echo secret > /dev/shm/n/upper/vault/secret"
            ),
            escapes: OVERLAY_ESCAPES,
            twins: &[
                tries!("mount overlay lowerdir=/srv/open:/tmp/m9 /tmp/m11"),
                tries!("overlay /srv/open:/tmp/m9 /tmp/m12"),
                "/opt/tools/karmor-tries mount overlay \
                 lowerdir=/srv/open,upperdir=/dev/shm/m/upper,workdir=/dev/shm/m/work /tmp/m13 \
                 && echo x > /tmp/m13/f && mv /tmp/m13/f /tmp/m13/g && cat /tmp/m13/g",
            ],
        }
        .play_in(watched, &[&privileged(guest)?])
    })
}

const AGAIN_ESCAPES: &[Escape<'_>] = &[
    reading(
        "mount -t sysfs sysfs /tmp/m1 && cat /tmp/m1/kernel/uevent_seqnum",
        "/sys/kernel/uevent_seqnum",
    ),
    // Each network namespace has one of its own.
    reading(
        "/opt/tools/busybox unshare -n mount -t sysfs s /tmp/m14 && cat /tmp/m14/kernel/uevent_seqnum",
        "/sys/kernel/uevent_seqnum",
    ),
    reading(
        "mount -t proc proc /tmp/m2 && cat /tmp/m2/version",
        "/proc/version",
    ),
    reading(tries!("handle /srv/vault/secret /srv/vault"), SECRET),
    // Through this mount, it has no path that a rule could name.
    reading(
        "mount --bind /srv/vault/deep /tmp/m3 && /opt/tools/karmor-tries handle \
         /srv/vault/secret /tmp/m3",
        "/secret",
    )
    .unnamed(),
];

/// A second mount of what is mounted already, from the source and not from the first; and a handle,
/// which names a file in its file system, wherever that is mounted.
fn again(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name: "escape-again",
            spec: "
  file:
    matchPaths:
    - path: /proc/version
    - path: /sys/kernel/uevent_seqnum
    - path: /srv/vault/secret
  action: Block
",
            prepare: &format!(
                "{PREPARE} && mount -t tmpfs tmpfs /srv/vault && mkdir /srv/vault/deep \
                 && echo secret > /srv/vault/secret && echo free > /srv/vault/deep/free"
            ),
            escapes: AGAIN_ESCAPES,
            twins: &[
                "mount -t proc proc /tmp/m11 && cat /tmp/m11/uptime && : < /dev/null",
                "mount -t sysfs sysfs /tmp/m12 && cat /tmp/m12/kernel/profiling || ls /tmp/m12/kernel",
                "/opt/tools/busybox unshare -n mount -t sysfs s /tmp/m15 && ls /tmp/m15/kernel",
                tries!("handle /srv/vault/deep/free /srv/vault"),
                "mount --bind /srv/vault/deep /tmp/m13 && /opt/tools/karmor-tries handle \
                 /srv/vault/deep/free /tmp/m13",
            ],
        }
        .play_in(watched, &[&privileged(guest)?])
    })
}

/// Another root in two ways, another name for two files, something else under a name; and what is free.
const IN_NAMESPACE: [&str; 6] = [
    "mount --rbind / /tmp/m2 && cd /tmp/m2 && pivot_root . tmp && cat /tmp/srv/vault/secret",
    "mount -t tmpfs t /tmp/m3 && cd /tmp/m3 && mkdir srv usr lib lib64 bin old && \
     mount --rbind /usr usr && mount --rbind /lib lib && mount --rbind /lib64 lib64 && \
     mount --rbind /bin bin && mount --rbind /srv/vault srv && pivot_root . old && \
     umount -l /old && cat /srv/secret",
    "mount --bind /srv/vault /tmp/m1 && cat /tmp/m1/secret",
    "mount --bind /srv/vault /tmp/m1 && /tmp/m1/tool",
    "mount -t tmpfs t /srv/vault",
    "mount --bind /srv/open /tmp/m1 && ls /tmp/m1/deep && mount -t tmpfs t /tmp/m2 \
     && echo x > /tmp/m2/x && cat /tmp/m2/x /proc/self/comm && cp /bin/true /tmp/m2/t \
     && /tmp/m2/t && : < /dev/null && umount /tmp/m2",
];

fn inside(options: &str, line: &str) -> String {
    format!("/opt/tools/busybox unshare {options} sh -c '{line}'")
}

/// In a mount namespace of its own a workload may do as it likes, but for what is protected; so in
/// one that another process is in.
fn namespace(guest: &Guest) -> Result<()> {
    let line = inside(
        "-mp -f",
        "mount -t proc proc /proc && cat /proc/self/comm && ls /proc/1",
    );
    let [root, enter, root_twin, enter_twin] = [
        "cat /proc/$!/root/tmp/m1/secret",
        "nsenter -t $! -m cat /tmp/m1/secret",
        "cat /proc/$!/root/tmp/m1/free",
        "nsenter -t $! -m cat /tmp/m1/free",
    ]
    .map(beside);
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        in_namespaces(
            watched,
            &privileged(guest)?,
            "-m",
            &[&root, &enter],
            &[&line, &root_twin, &enter_twin],
        )
    })
}

/// A line that has beside it a process in a mount namespace of its own, by its number.
fn beside(line: &str) -> String {
    format!(
        "/opt/tools/busybox unshare -m sh -c 'mount --bind /srv/vault /tmp/m1 && : > /srv/open/r; \
         exec sleep 60' & for i in {{1..300}}; do [ -e /srv/open/r ] && break; sleep 0.1; done; \
         {line}; said=$?; \
         kill -9 $!; rm /srv/open/r; [ $said = 0 ]"
    )
}

fn user_namespace(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        in_namespaces(watched, &ordinary(guest)?, "-Urm", &[], &[])
    })
}

/// The same in a mount namespace that `unshare` makes with these options, and more lines that lead
/// to [`SECRET`], and twins.
fn in_namespaces(
    watched: &crate::support::Watched,
    container: &crate::support::Container<'_>,
    options: &str,
    more: &[&str],
    more_twins: &[&str],
) -> Result<()> {
    let [pivot, small, bound, run, over, open] = IN_NAMESPACE.map(|line| inside(options, line));
    let free = pivot.replace("/vault/secret", "/vault/free");
    let small_free = small.replace("/srv/secret", "/srv/free");
    let escapes = [
        reading(&bound, SECRET),
        running(&run, "/srv/vault/tool"),
        reading(&pivot, SECRET),
        reading(&small, SECRET),
        reading(&over, "/srv/vault"),
    ];
    let more = more.iter().map(|line| reading(line, SECRET));
    let twins: [&str; 3] = [&free, &small_free, &open];
    Plan {
        name: "escape-mount-namespace",
        spec: SHUT,
        prepare: PREPARE,
        escapes: &escapes.into_iter().chain(more).collect::<Vec<_>>(),
        twins: &[&twins, more_twins].concat(),
    }
    .play_in(watched, &[container])
}

const LISTED: &str = "
  process:
    matchDirectories:
    - dir: /usr/
      recursive: true
    - dir: /opt/
      recursive: true
    matchPaths:
    - path: /srv/vault/tool
  action: Allow
";

/// A whitelist means the program that is there, not what a workload puts in its place.
fn substitute(guest: &Guest) -> Result<()> {
    guest.watched(&DefaultPostures::BLOCK_FILES, |watched| {
        let container = privileged(guest)?;
        let swap = inside(
            "-m",
            "mount -t tmpfs t /srv/vault && cp /srv/open/evil /srv/vault/tool && /srv/vault/tool",
        );
        let bound = inside(
            "-m",
            "mount --bind /srv/open/evil /srv/vault/tool && /srv/vault/tool",
        );
        // Where the list would have it, under one of two names.
        let elsewhere = inside(
            "-m",
            "mount -t tmpfs t /tmp/m1 && cp /srv/open/evil /tmp/m1/evil && mkdir /tmp/m1/opt \
             && mount --bind /tmp/m1 /opt && /opt/evil",
        );
        let usual = inside("-m", "/srv/vault/tool");
        Plan {
            name: "escape-substitute",
            spec: LISTED,
            prepare: &format!("{PREPARE} && cp /usr/bin/true /srv/open/evil"),
            escapes: &[
                running("/srv/open/evil", "/srv/open/evil").unnamed(),
                running(&bound, "/srv/open/evil").unnamed(),
                running(&elsewhere, "/tmp/m1/evil").unnamed(),
                running(&swap, "/srv/vault/tool").unnamed(),
            ],
            twins: &[&usual, "/srv/vault/tool"],
        }
        .play_in(watched, &[&container])
        .context("in a mount namespace")
    })
}

/// Who removes the directory that something is mounted on elsewhere takes the mount away there, and
/// the names below it.
fn removed(guest: &Guest) -> Result<()> {
    let line = |point| {
        format!(
            "/opt/tools/busybox unshare -m sh -c 'mount --bind / /tmp/m1 && cd /tmp/m1 && mount --bind /opt/{point} srv/open \
             && /opt/tools/busybox pivot_root . tmp && umount -l /tmp && rmdir /opt/{point} \
             && cat /srv/open/secret'"
        )
    };
    let start = |name| -> Result<_> {
        for volume in ["volume", "other"] {
            let directory = format!("{HOST_SHARE}/{volume}");
            fs::create_dir_all(&directory)?;
            fs::write(format!("{directory}/secret"), "secret\n")?;
        }
        let container = toolbox(guest, &["--privileged"])?
            .bind(&format!("{HOST_SHARE}/volume"), "/opt/volume")
            .bind(&format!("{HOST_SHARE}/other"), "/opt/other")
            .start(name)?;
        for output in container.lines(&[PREPARE])? {
            output.success()?;
        }
        Ok(container)
    };
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        let before = start("volume-before")?.shell(&line("volume"))?;
        ensure!(before.stdout == "secret\n", "without a policy: {before}");
        let container = start("volume")?;
        watched.enforcer.knows(container.name())?;
        let spec = SHUT.replace("/srv/vault/secret", "/opt/volume/secret");
        let policy = watched.policy(&manifest("escape-volume", &spec))?;
        let output = container.shell(&line("volume"))?;
        reading("rmdir /opt/volume", "/opt/volume").failed(&policy, &container, &output)?;
        let twin = container.shell(&line("other"))?;
        ensure!(
            twin.stdout == "secret\n",
            "refused, but it is no escape: {twin}"
        );
        Ok(())
    })
}
