//! Loading the kernel half: maps (pinned, reused when they exist), programs, attachment.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{
        CgroupSkb, CgroupSkbAttachType, Iter, Lsm, ProgramError, ProgramInfo, RawTracePoint,
        links::FdLink,
    },
};
use karmor_abi::names;

use super::{
    btf,
    object::{GUARD, HELD, Needed, OBJECT, PROGRAMS, Place, Program, TASK_FILE},
    sys,
};
use crate::{backend::HookSupport, file::lock_directory};

/// Version of everything pinned: map layouts, table format. Another version gets a directory of its
/// own.
const PIN_VERSION: &str = "v9";

/// The object in the kernel, with what each program's load showed.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) pins: Pins,
    hooks: Hooks,
    /// Mount point of the cgroups.
    cgroups: PathBuf,
    /// [`GUARD`] while the daemon is protected, and [`HELD`] while descriptors are suspect.
    standing: u32,
    /// Two daemons would take each other's policies away.
    _alone: OwnedFd,
}

/// Why a program is not loaded that could be.
const UNNEEDED: &str = "not tried: it is loaded when the first policy needs it";

/// What loading one program showed.
enum Load {
    /// Not tried: no policy has needed it so far.
    Unneeded,
    Loaded {
        verified_instructions: u32,
        attached: bool,
    },
    Refused(String),
}

impl Loaded {
    /// Loads maps and programs; attaches nothing.
    ///
    /// `ready` is given the object when there are its maps, but no programs yet.
    ///
    /// # Errors
    /// When the object as a whole cannot be loaded: no BTF, no permission, a map refused. A
    /// program that is refused is noted, not an error.
    pub(super) fn new(
        bpffs: &Path,
        cgroups: &Path,
        ready: impl FnOnce(&mut Ebpf) -> Result<()>,
    ) -> Result<Self> {
        let pins = Pins::create(bpffs)?;
        let alone = lock_directory(&bpffs.join(names::PIN_DIR))?;
        let paths: Vec<_> = MAPS.iter().map(|name| (*name, pins.map(name))).collect();
        let (ebpf, hooks) = load_object(&paths, ready, |program| program.at_start)?;
        Ok(Self {
            ebpf,
            pins,
            hooks,
            cgroups: cgroups.to_owned(),
            standing: 0,
            _alone: alone,
        })
    }

    /// Loads maps and programs of its own, shows what that was like, and drops them again.
    ///
    /// # Errors
    /// As for [`Loaded::new`].
    pub(super) fn rehearse() -> Result<Vec<HookSupport>> {
        Ok(support(&load_object(&[], |_| Ok(()), |_| true)?.1))
    }

    /// Attaches every program that a policy on `ops` needs, replacing the links an earlier daemon
    /// left. With `ops` 0 nothing is attached that is not already.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub(super) fn attach(&mut self, ops: u32) -> Result<()> {
        let mut kernel_btf = None;
        for program in PROGRAMS {
            let wanted = match program.needed {
                Needed::Always => ops != 0,
                Needed::ForOps(needed) => needed & (ops | self.standing) != 0,
                Needed::OnDemand => false,
            };
            if !wanted {
                continue;
            }
            let loaded = loaded(&mut self.ebpf, &mut self.hooks, program, &mut kernel_btf)?;
            let Some(attached) = loaded else {
                continue;
            };
            if *attached {
                continue;
            }
            attach(&mut self.ebpf, program, &self.pins, &self.cgroups)
                .with_context(|| format!("attach {} to {}", program.name, program.hook))?;
            *attached = true;
        }
        Ok(())
    }

    /// Runs the program that looks at every descriptor.
    ///
    /// # Errors
    /// When the kernel refuses it, or to run it.
    pub(super) fn look_at_descriptors(&mut self) -> Result<()> {
        let program = PROGRAMS.iter().find(|program| program.name == TASK_FILE);
        let program = program.context("there is no program for descriptors")?;
        loaded(&mut self.ebpf, &mut self.hooks, program, &mut None)?;
        let iter: &mut Iter = named(&mut self.ebpf, program)?.try_into()?;
        let id = iter.attach().context("attach the search for descriptors")?;
        let mut run = iter.take_link(id)?.into_file()?;
        // It writes nothing; reading it is what runs it.
        io::copy(&mut run, &mut io::sink()).context("search the descriptors")?;
        Ok(())
    }

    /// Attaches what decides each use of a descriptor, or detaches it.
    ///
    /// # Errors
    /// As for [`Loaded::attach`] and [`Loaded::detach_unneeded`].
    pub(super) fn hold(&mut self, is_wanted: bool, ops: u32) -> Result<()> {
        if is_wanted {
            self.standing |= HELD;
            self.attach(0)
        } else {
            self.standing &= !HELD;
            self.detach_unneeded(ops)
        }
    }

    /// Whether that is attached.
    pub(super) const fn is_held(&self) -> bool {
        self.standing & HELD != 0
    }

    /// Detaches every program that no policy on `ops` needs.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub(super) fn detach_unneeded(&mut self, ops: u32) -> Result<()> {
        for program in PROGRAMS {
            let Needed::ForOps(needed) = program.needed else {
                continue;
            };
            if needed & (ops | self.standing) != 0 {
                continue;
            }
            if let Some(Load::Loaded { attached, .. }) = self.hooks.get_mut(program.name) {
                self.pins.unpin(program, &self.cgroups)?;
                *attached = false;
            }
        }
        Ok(())
    }

    /// Detaches what an earlier daemon had attached and nothing has needed since.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub(super) fn detach_unloaded(&self) -> Result<()> {
        let unloaded = |program: &&Program| matches!(self.hooks[program.name], Load::Unneeded);
        let mut programs = PROGRAMS.iter().filter(unloaded);
        programs.try_for_each(|program| self.pins.unpin(program, &self.cgroups))
    }

    /// Attaches what protects the daemon itself, from now on and whatever policies need; or no longer.
    ///
    /// # Errors
    /// As for [`Loaded::attach`] and [`Loaded::detach_unneeded`].
    pub(super) fn protect(&mut self, is_wanted: bool) -> Result<()> {
        if is_wanted {
            self.standing |= GUARD;
            self.attach(0)
        } else {
            self.standing &= !GUARD;
            Ok(())
        }
    }

    /// Ids of the programs in the kernel.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn program_ids(&self) -> Result<Vec<u32>> {
        let programs = self.ebpf.programs().map(|(_, program)| program);
        programs
            .filter(|program| program.fd().is_ok())
            .map(|program| Ok(program.info()?.id()))
            .collect()
    }

    /// What each program's load showed.
    pub(super) fn support(&self) -> Vec<HookSupport> {
        support(&self.hooks)
    }

    /// Required programs that do not load, with the reason.
    pub(super) fn missing(&self) -> Vec<(&'static str, &str)> {
        PROGRAMS
            .iter()
            .filter(|program| program.required)
            .filter_map(|program| match &self.hooks[program.name] {
                Load::Refused(error) => Some((program.name, error.as_str())),
                Load::Loaded { .. } | Load::Unneeded => None,
            })
            .collect()
    }
}

/// Loads a program unless that was tried before, and says whether it is attached; nothing of one that
/// may be missing and is. `kernel_btf` is read when it is first needed.
fn loaded<'a>(
    ebpf: &mut Ebpf,
    hooks: &'a mut Hooks,
    program: &Program,
    kernel_btf: &mut Option<Btf>,
) -> Result<Option<&'a mut bool>> {
    if matches!(hooks[program.name], Load::Unneeded) {
        let btf = match kernel_btf {
            Some(btf) => btf,
            None => kernel_btf.insert(read_kernel_btf()?),
        };
        let load = load(ebpf, program, btf)?;
        hooks.insert(program.name, load);
    }
    match hooks.get_mut(program.name) {
        Some(Load::Loaded { attached, .. }) => Ok(Some(attached)),
        Some(Load::Refused(why)) if program.required => {
            bail!("the kernel refuses the program {}: {why}", program.name)
        }
        _ => Ok(None),
    }
}

type Hooks = BTreeMap<&'static str, Load>;

/// Loads the object, with maps pinned at `paths` or taken from there.
fn load_object(
    paths: &[(&'static str, PathBuf)],
    ready: impl FnOnce(&mut Ebpf) -> Result<()>,
    is_wanted: impl Fn(&Program) -> bool,
) -> Result<(Ebpf, Hooks)> {
    if OBJECT.is_empty() {
        bail!("this build has no kernel programs: it was made with AYA_BUILD_SKIP");
    }
    let offsets = btf::offsets()?;
    let kernel_btf = read_kernel_btf()?;
    let sizes = sizes();
    let mut loader = EbpfLoader::new();
    loader.btf(Some(&kernel_btf));
    for (name, value) in &offsets {
        loader.override_global(name, value, true);
    }
    for (name, entries) in &sizes {
        loader.map_max_entries(name, *entries);
    }
    for (name, path) in paths {
        loader.map_pin_path(name, path.as_path());
    }
    let mut ebpf = loader.load(OBJECT).context("load the kernel half")?;
    ready(&mut ebpf)?;
    let mut hooks = Hooks::new();
    for program in PROGRAMS {
        let load = if is_wanted(program) {
            load(&mut ebpf, program, &kernel_btf)?
        } else {
            Load::Unneeded
        };
        hooks.insert(program.name, load);
    }
    Ok((ebpf, hooks))
}

/// Takes a while: the types of the whole kernel.
fn read_kernel_btf() -> Result<Btf> {
    Btf::from_sys_fs().context("read the kernel's BTF")
}

fn support(hooks: &Hooks) -> Vec<HookSupport> {
    PROGRAMS
        .iter()
        .map(|program| match &hooks[program.name] {
            Load::Loaded {
                verified_instructions,
                attached,
            } => HookSupport {
                hook: program.name.to_owned(),
                loads: true,
                attached: *attached,
                verified_instructions: *verified_instructions,
                error: None,
            },
            Load::Refused(error) => HookSupport {
                hook: program.name.to_owned(),
                loads: false,
                attached: false,
                verified_instructions: 0,
                error: Some(error.clone()),
            },
            Load::Unneeded => HookSupport {
                hook: program.name.to_owned(),
                loads: false,
                attached: false,
                verified_instructions: 0,
                error: Some(UNNEEDED.to_owned()),
            },
        })
        .collect()
}

/// Attaches a program and pins what keeps it attached.
fn attach(ebpf: &mut Ebpf, program: &Program, pins: &Pins, cgroups: &Path) -> Result<()> {
    let link = match program.place {
        Place::Lsm => {
            let lsm: &mut Lsm = named(ebpf, program)?.try_into()?;
            let id = lsm.attach()?;
            lsm.take_link(id)?.into()
        }
        Place::Packets(direction) => {
            let skb: &mut CgroupSkb = named(ebpf, program)?.try_into()?;
            return pins.attach_packets(program.name, skb, direction, cgroups);
        }
        Place::Tracepoint => {
            let tracepoint: &mut RawTracePoint = named(ebpf, program)?.try_into()?;
            let id = tracepoint.attach(program.hook)?;
            tracepoint.take_link(id)?.into()
        }
        Place::Iterator => bail!("{} is attached to nothing", program.name),
    };
    pins.pin_link(program.name, link)
}

fn load(ebpf: &mut Ebpf, program: &Program, btf: &Btf) -> Result<Load> {
    let loaded: Result<ProgramInfo, ProgramError> = match program.place {
        Place::Lsm => {
            let lsm: &mut Lsm = named(ebpf, program)?.try_into()?;
            lsm.load(program.hook, btf).and_then(|()| lsm.info())
        }
        Place::Packets(_) => {
            let skb: &mut CgroupSkb = named(ebpf, program)?.try_into()?;
            skb.load().and_then(|()| skb.info())
        }
        Place::Tracepoint => {
            let tracepoint: &mut RawTracePoint = named(ebpf, program)?.try_into()?;
            tracepoint.load().and_then(|()| tracepoint.info())
        }
        Place::Iterator => {
            let iter: &mut Iter = named(ebpf, program)?.try_into()?;
            iter.load(program.hook, btf).and_then(|()| iter.info())
        }
    };
    Ok(match loaded {
        Ok(info) => Load::Loaded {
            verified_instructions: info.verified_instruction_count().unwrap_or(0),
            attached: false,
        },
        Err(error) => Load::Refused(describe(&error)),
    })
}

fn named<'a>(ebpf: &'a mut Ebpf, program: &Program) -> Result<&'a mut aya::programs::Program> {
    ebpf.program_mut(program.name)
        .with_context(|| format!("the object has no program {}", program.name))
}

/// The error and its causes in one line, with the end of a verifier log rather than all of it.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !is_about_the_verifier(line))
        .collect();
    match lines.as_slice() {
        [first, .., reason, before_last, last] if lines.len() > 5 => {
            format!("{first} … {reason} / {before_last} / {last}")
        }
        _ => lines.join(" / "),
    }
}

/// Whether a line of the verifier's log tells of its own work, as the last ones do, and not of the
/// program.
fn is_about_the_verifier(line: &str) -> bool {
    const STARTS: [&str; 4] = ["verification time ", "stack depth ", "processed ", "Func#"];
    STARTS.iter().any(|start| line.starts_with(start))
}

/// Maps that are pinned: all that hold state.
const MAPS: &[&str] = &[
    names::LABELS,
    names::PENDING,
    names::SUSPECTS,
    names::SEARCH,
    names::CGROUPS,
    names::WORKLOADS,
    names::HOMES,
    names::GUARD,
    names::OWN,
    names::REGISTRY,
    names::CALLS,
    names::TABLES[0],
    names::TABLES[1],
    names::TABLES[2],
    names::TABLES[3],
    names::MARKS,
    names::LISTENERS,
    names::SENDERS,
    names::RESOLVED,
    names::SCRATCH,
    names::EVENT_SCRATCH,
    names::DENIALS,
    names::AUDITS,
    names::SELF_TESTS,
    names::COUNTERS,
];

/// Sizes that depend on the node.
fn sizes() -> Vec<(&'static str, u32)> {
    let cpus =
        std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let cpus = fs::read_to_string("/sys/devices/system/cpu/possible")
        .ok()
        .and_then(|range| range.trim().rsplit(['-', ',']).next()?.parse::<u32>().ok())
        .map_or(cpus, |last| last + 1);
    let threads = fs::read_to_string("/proc/sys/kernel/threads-max")
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .unwrap_or(65_536);
    let threads = threads.clamp(4_096, 262_144);
    vec![
        (names::LABELS, threads),
        (names::PENDING, threads),
        (names::SCRATCH, 64 + 4 * cpus),
        (names::EVENT_SCRATCH, 16 + cpus),
    ]
}

/// Mounts a BPF file system where there is none yet.
fn mount_bpffs(at: &Path) -> Result<()> {
    use rustix::mount::{MountFlags, mount};
    /// `BPF_FS_MAGIC`
    const MAGIC: u64 = 0xcafe_4a11;
    let what = || format!("mount a BPF file system at {}", at.display());
    let found = rustix::fs::statfs(at).with_context(|| format!("look at {}", at.display()))?;
    if found.f_type.cast_unsigned() == MAGIC {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"bpf", at, c"bpf", flags, c"mode=0700").with_context(what)
}

/// Where things are pinned under the BPF file system.
pub(super) struct Pins {
    dir: PathBuf,
}

impl Pins {
    fn create(bpffs: &Path) -> Result<Self> {
        mount_bpffs(bpffs)?;
        let dir = bpffs.join(names::PIN_DIR).join(PIN_VERSION);
        fs::create_dir_all(&dir).with_context(|| {
            format!(
                "create {} (is {} a BPF file system?)",
                dir.display(),
                bpffs.display()
            )
        })?;
        Ok(Self { dir })
    }

    /// The BPF file system's root, and the directory in it that holds everything of ours.
    pub(super) fn directories(&self) -> (&Path, &Path) {
        let ours = self.dir.parent().unwrap_or(&self.dir);
        (ours.parent().unwrap_or(ours), ours)
    }

    /// Where every map is pinned.
    pub(super) fn maps(&self) -> impl Iterator<Item = PathBuf> + '_ {
        MAPS.iter().map(|name| self.map(name))
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn link(&self, program: &str) -> PathBuf {
        self.dir.join(format!("link_{program}"))
    }

    /// Pins a link in place of an earlier one: by rename, so that the hook is never without one.
    fn pin_link(&self, program: &str, link: FdLink) -> Result<()> {
        let (fresh, place) = (
            self.dir.join(format!("fresh_{program}")),
            self.link(program),
        );
        remove(&fresh)?;
        link.pin(&fresh)
            .with_context(|| format!("pin the link of {program}"))?;
        fs::rename(&fresh, &place).with_context(|| format!("pin the link of {program}"))
    }

    fn packets(&self, program: &str) -> PathBuf {
        self.dir.join(format!("{PACKETS}{program}"))
    }

    /// Attaches a program to every packet, in place of an earlier one, and pins it, so that the next
    /// daemon can detach it.
    fn attach_packets(
        &self,
        name: &str,
        program: &mut CgroupSkb,
        direction: CgroupSkbAttachType,
        cgroups: &Path,
    ) -> Result<()> {
        let fresh = self.dir.join(format!("{PACKETS}fresh_{name}"));
        let place = self.packets(name);
        // Of a daemon that ended in the middle of this.
        detach_packets(&fresh, cgroups)?;
        let what = || format!("pin {name}");
        program.pin(&fresh).with_context(what)?;
        let root = open(cgroups)?;
        let fd = program.fd()?.as_fd();
        sys::attach(root.as_fd(), fd, bpf_attach_type(direction)).context("the kernel refuses")?;
        detach_packets(&place, cgroups)?;
        fs::rename(&fresh, &place).with_context(what)
    }

    /// Detaches a program.
    fn unpin(&self, program: &Program, cgroups: &Path) -> Result<()> {
        match program.place {
            Place::Packets(_) => detach_packets(&self.packets(program.name), cgroups),
            _ => remove(&self.link(program.name)),
        }
    }
}

/// What the name of a pinned program begins with that sees packets.
const PACKETS: &str = "packets_";

/// Detaches a program that sees packets from the root of the cgroups, and removes its pin; nothing if
/// there is none.
fn detach_packets(pin: &Path, cgroups: &Path) -> Result<()> {
    if !fs::exists(pin).with_context(|| format!("look at {}", pin.display()))? {
        return Ok(());
    }
    let root = open(cgroups)?;
    for direction in [CgroupSkbAttachType::Ingress, CgroupSkbAttachType::Egress] {
        let program = CgroupSkb::from_pin(pin, direction)
            .with_context(|| format!("open {}", pin.display()))?;
        let fd = program.fd()?.as_fd();
        match sys::detach(root.as_fd(), fd, bpf_attach_type(direction)) {
            // In the other direction.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome.with_context(|| format!("detach {}", pin.display()))?,
        }
    }
    remove(pin)
}

/// `BPF_CGROUP_INET_INGRESS`, `BPF_CGROUP_INET_EGRESS`.
const fn bpf_attach_type(direction: CgroupSkbAttachType) -> u32 {
    match direction {
        CgroupSkbAttachType::Ingress => 0,
        CgroupSkbAttachType::Egress => 1,
    }
}

fn open(cgroups: &Path) -> Result<fs::File> {
    fs::File::open(cgroups).with_context(|| format!("open {}", cgroups.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whether an earlier daemon left programs attached, of any version.
#[must_use]
pub fn is_loaded(bpffs: &Path) -> bool {
    let entries = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let versions = entries(&bpffs.join(names::PIN_DIR));
    let mut pins = versions.iter().flat_map(|version| entries(version));
    pins.any(|pin| is_attached(&pin))
}

/// Whether a pin keeps a program attached.
fn is_attached(pin: &Path) -> bool {
    let name = pin.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("link_") || name.starts_with(PACKETS)
}

/// Removes everything pinned, by any version: enforcement ends here.
///
/// # Errors
/// When a daemon runs: it would go on to believe that its programs are attached, and say so of
/// every later policy. When something cannot be removed; what could be is gone.
pub fn unload(bpffs: &Path, cgroups: &Path) -> Result<usize> {
    let root = bpffs.join(names::PIN_DIR);
    let mut removed = 0;
    let _alone = match lock_directory(&root) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => {
            return Err(error).context("nothing is unloaded; stop karmor-enforcer first");
        }
    };
    let versions = match fs::read_dir(&root) {
        Ok(versions) => versions,
        Err(error) => return Err(error).with_context(|| format!("read {}", root.display())),
    };
    for version in versions {
        let version = version?.path();
        let mut pins: Vec<_> = fs::read_dir(&version)?
            .map(|pin| Ok(pin?.path()))
            .collect::<io::Result<_>>()?;
        // Links first: no hook may run against maps that are half gone.
        pins.sort_by_key(|pin| !is_attached(pin));
        for pin in pins {
            let name = pin.file_name().unwrap_or_default();
            if name.to_string_lossy().starts_with(PACKETS) {
                detach_packets(&pin, cgroups)?;
            }
            remove(&pin)?;
            removed += 1;
        }
        fs::remove_dir(&version).with_context(|| format!("remove {}", version.display()))?;
    }
    fs::remove_dir(&root).with_context(|| format!("remove {}", root.display()))?;
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_unloaded_beside_a_daemon() {
        let bpffs = tempfile::tempdir().unwrap();
        assert_eq!(
            unload(bpffs.path(), Path::new("/sys/fs/cgroup")).unwrap(),
            0,
            "nothing was loaded"
        );
        let root = bpffs.path().join(names::PIN_DIR);
        let pins = root.join(PIN_VERSION);
        fs::create_dir_all(&pins).unwrap();
        for name in ["link_file_open", "WORKLOADS"] {
            fs::write(pins.join(name), "").unwrap();
        }
        let daemon = lock_directory(&root).unwrap();
        let error = unload(bpffs.path(), Path::new("/sys/fs/cgroup")).unwrap_err();
        assert!(format!("{error:#}").contains("stop karmor-enforcer first"));
        assert_eq!(fs::read_dir(&pins).unwrap().count(), 2);
        drop(daemon);
        assert_eq!(
            unload(bpffs.path(), Path::new("/sys/fs/cgroup")).unwrap(),
            2
        );
        assert!(!root.exists());
    }
}
