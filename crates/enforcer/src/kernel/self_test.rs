//! The proof at start that this kernel does as it is told: an open that must fail, in a cgroup made
//! for it, and its event, whose every field is known beforehand.
//!
//! A wrong struct offset cannot pass: the path, the image, the working directory and the process
//! ids in the event all come through the offsets, and must equal what procfs says.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use karmor_abi::{
    event::{Header, Hook, TEXTS, Text},
    label::SELF_TEST,
    verdict::{Action, Verdict},
};
use karmor_policy::{
    alias::Aliases,
    compile::compile,
    compiled::Compiled,
    model::{Family, Kind, Location, Meta, Policy, Postures, Rule, Selector, Target},
    select::Effective,
};

use super::Kernel;
use crate::backend::Backend as _;

/// How long the child may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is tried: on a machine where refusals come by the thousand, one event may find no
/// scratch memory.
const ATTEMPTS: usize = 5;

/// Name of the file that must not open.
const FORBIDDEN: &str = "forbidden";
/// Name of its neighbour that must.
const ALLOWED: &str = "allowed";

/// What the child prints when both behave.
const AS_TOLD: &str = "refused, opened";

impl Kernel {
    /// Runs the test with `program` as the child, whose `args` lead to [`self_test_child`].
    ///
    /// # Errors
    /// What did not hold. The kernel half must not be relied on then.
    pub fn self_test(&mut self, program: &Path, args: &[&str], cgroup_root: &Path) -> Result<()> {
        let place = Place::create(cgroup_root)?;
        let table = Arc::new(compile(&forbid(&place.dir.join(FORBIDDEN))?)?);
        for _ in 0..ATTEMPTS {
            let result = self.attempt(program, args, &place, &table);
            let forgotten = self.remove_workload(SELF_TEST, &[place.cgroup_id]);
            let event = result?;
            forgotten?;
            if let Some((pid, event)) = event {
                return check_event(&event, pid, program, &place.dir);
            }
        }
        bail!("no event of {ATTEMPTS} refusals arrived")
    }

    /// Has a child try both files; its process id and its event, if that arrived.
    fn attempt(
        &mut self,
        program: &Path,
        args: &[&str],
        place: &Place,
        table: &Arc<Compiled>,
    ) -> Result<Option<(u32, Box<[u8]>)>> {
        let mut child = Running(
            Command::new(program)
                .args(args)
                .arg(&place.dir)
                .current_dir(&place.dir)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("start {}", program.display()))?,
        );
        let pid = child.0.id();
        fs::write(place.cgroup.join("cgroup.procs"), pid.to_string())
            .context("move the child into its cgroup")?;
        // A task that runs already must come under its policy.
        self.apply(&[SELF_TEST], Some(table))?;
        self.add_workload(SELF_TEST, place.cgroup_id)?;
        self.homes.seek_other_names(SELF_TEST)?;
        let said = child.go()?;
        ensure!(
            said == AS_TOLD,
            "the forbidden file and its neighbour were: {said}"
        );
        Ok(self.event_of(pid).map(|event| (pid, event)))
    }

    /// The child's event, which is there before the child knows the answer. An earlier daemon's
    /// child may have left others.
    fn event_of(&mut self, pid: u32) -> Option<Box<[u8]>> {
        std::iter::from_fn(|| Some(Box::<[u8]>::from(&*self.self_tests.next()?)))
            .find(|event| field(event, std::mem::offset_of!(Header, host_pid)) == pid)
    }
}

/// Body of the child: waits to be told, then tries both files and says what happened.
///
/// # Errors
/// When standard input or output fail.
pub fn self_test_child(dir: &Path) -> Result<String> {
    std::io::stdin()
        .read_exact(&mut [0])
        .context("wait for the word")?;
    let outcome = |name: &str| match File::open(dir.join(name)) {
        Ok(_) => "opened".to_owned(),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => "refused".to_owned(),
        Err(error) => error.to_string(),
    };
    Ok(format!("{}, {}", outcome(FORBIDDEN), outcome(ALLOWED)))
}

/// The cgroup and the files; gone when dropped.
struct Place {
    dir: PathBuf,
    cgroup: PathBuf,
    cgroup_id: u64,
}

impl Place {
    fn create(cgroup_root: &Path) -> Result<Self> {
        let name = format!("karmor-self-test-{}", std::process::id());
        let dir = Path::new("/run").join(&name);
        fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        let cgroup = cgroup_root.join(&name);
        let mut place = Self {
            dir,
            cgroup,
            cgroup_id: 0,
        };
        place.dir = fs::canonicalize(&place.dir)?;
        for file in [FORBIDDEN, ALLOWED] {
            fs::write(place.dir.join(file), file).context("create the files of the self-test")?;
        }
        fs::create_dir(&place.cgroup)
            .with_context(|| format!("create the cgroup {}", place.cgroup.display()))?;
        place.cgroup_id = fs::metadata(&place.cgroup)?.ino();
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let gone = [fs::remove_dir_all(&self.dir), fs::remove_dir(&self.cgroup)];
        for error in gone.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "the self-test left something behind");
        }
    }
}

/// A child that does not outlive the test.
struct Running(Child);

impl Running {
    /// Gives the word and returns what the child says.
    fn go(&mut self) -> Result<String> {
        let mut stdin = self
            .0
            .stdin
            .take()
            .context("the child has no standard input")?;
        stdin.write_all(b"!").context("give the word")?;
        let deadline = Instant::now() + PATIENCE;
        while self.0.try_wait()?.is_none() {
            ensure!(
                Instant::now() < deadline,
                "the child did not end in {PATIENCE:?}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut said = String::new();
        if let Some(stdout) = &mut self.0.stdout {
            stdout
                .read_to_string(&mut said)
                .context("read what the child says")?;
        }
        Ok(said.trim().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn forbid(path: &Path) -> Result<Effective> {
    let location = Location {
        file: "self-test".into(),
        line: 1,
        column: 1,
    };
    let rule = Rule {
        family: Family::File,
        target: Target::Path(path.to_str().context("the path is not UTF-8")?.to_owned()),
        sources: Vec::new(),
        read_only: false,
        owner_only: false,
        no_terminal: false,
        spares: false,
        arguments: None,
        action: Action::Block,
        meta: Arc::new(Meta::default()),
        location: location.clone(),
    };
    let policy = Policy {
        kind: Kind::Container,
        name: "self-test".to_owned(),
        namespace: String::new(),
        selector: Selector::default(),
        rules: vec![rule],
        not_enforced: Vec::new(),
        location,
    };
    Ok(Effective::new(
        vec![Arc::new(policy)],
        Postures::default(),
        Aliases::none(),
    ))
}

fn check_event(bytes: &[u8], pid: u32, program: &Path, dir: &Path) -> Result<()> {
    macro_rules! field {
        ($name:ident) => {
            field(bytes, std::mem::offset_of!(Header, $name))
        };
    }
    let verdict = u64::from(field(bytes, std::mem::offset_of!(Header, verdict)));
    ensure!(
        Verdict(verdict).action() == Action::Block,
        "the event's verdict is no refusal"
    );
    ensure!(
        bytes.get(std::mem::offset_of!(Header, hook)) == Some(&(Hook::Open as u8)),
        "the event is of another hook"
    );
    ensure!(
        field!(host_pid) == pid,
        "the event names process {}, not {pid}",
        field!(host_pid)
    );
    ensure!(
        field!(host_ppid) == std::process::id(),
        "the event names parent {}, not {}",
        field!(host_ppid),
        std::process::id()
    );
    let program = fs::canonicalize(program).context("find the child's program")?;
    let own = fs::read_link("/proc/self/exe").context("find the own program")?;
    let expected = [
        (Text::Path, dir.join(FORBIDDEN)),
        (Text::Exe, program),
        (Text::ParentExe, own),
        (Text::Cwd, dir.to_owned()),
    ];
    for (which, expected) in expected {
        let found = String::from_utf8_lossy(text(bytes, which)).into_owned();
        ensure!(
            Path::new(&found) == expected,
            "the event's {which:?} is {found}, not {}",
            expected.display()
        );
    }
    Ok(())
}

/// A 32-bit field of a header; 0 past the end.
fn field(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

fn text(bytes: &[u8], which: Text) -> &[u8] {
    const LENGTHS: usize = std::mem::offset_of!(Header, text);
    let len = |index: usize| {
        let at = LENGTHS + 2 * index;
        bytes
            .get(at..at + 2)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u16::from_ne_bytes)
    };
    let start: usize = (0..which as usize)
        .map(|index| usize::from(len(index)))
        .sum();
    let start = size_of::<Header>() + start;
    debug_assert!((which as usize) < TEXTS);
    bytes
        .get(start..start + usize::from(len(which as usize)))
        .unwrap_or_default()
}
