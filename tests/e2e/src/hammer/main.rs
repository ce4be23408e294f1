//! Tries the same few things over and over, in several processes, and counts what came of it.
//!
//! ```text
//! karmor-hammer (in a container) ──starts──▶ workers ──add up in──▶ DIRECTORY/worker-N
//!                                                    ──read by───▶ the case, outside
//! ```
//!
//! Workers add their counts to a file after every round, so that a case sees how far they are and
//! a worker that is gone leaves what it had.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{fs::FileExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use karmor_e2e::support::{HammerCounts, HammerReport};

/// Hammer on files and programs
#[derive(clap::Parser, Debug)]
struct Args {
    /// Where the counts and the report go
    #[arg(long)]
    directory: PathBuf,

    /// A file whose opening must be refused
    #[arg(long)]
    deny_open: Vec<PathBuf>,

    /// A program whose execution must be refused
    #[arg(long)]
    deny_exec: Vec<PathBuf>,

    /// A file whose opening must succeed
    #[arg(long)]
    allow_open: Vec<PathBuf>,

    /// A program whose execution must succeed
    #[arg(long)]
    allow_exec: Vec<PathBuf>,

    /// Openings of each file for one execution of each program
    #[arg(long, default_value_t = 4)]
    opens_per_exec: u32,

    /// Processes that do so at the same time
    #[arg(long, default_value_t = 2)]
    processes: usize,

    /// Rounds that each process makes at least
    #[arg(long, default_value_t = 0)]
    rounds: u64,

    /// Seconds that each process goes on at least
    #[arg(long, default_value_t = 0)]
    seconds: u64,

    /// Go on until DIRECTORY has a file of this name
    #[arg(long)]
    until: Option<String>,

    /// Be worker N
    #[arg(long, hide = true)]
    worker: Option<usize>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    match args.worker {
        Some(number) => Worker::new(&args, number)?.run()?,
        None => supervise(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn counts_of(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("worker-{number}"))
}

/// Starts the workers, waits for them and writes the report.
fn supervise(args: &Args) -> Result<()> {
    let program = std::env::current_exe().context("cannot find the own program")?;
    let workers = (0..args.processes)
        .map(|number| {
            Command::new(&program)
                .args(std::env::args_os().skip(1))
                .arg(format!("--worker={number}"))
                .stdin(Stdio::null())
                .spawn()
                .context("cannot start a worker")
        })
        .collect::<Result<Vec<Child>>>()?;
    let mut report = HammerReport::default();
    for (number, mut worker) in workers.into_iter().enumerate() {
        let status = worker.wait().context("cannot wait for a worker")?;
        let path = counts_of(&args.directory, number);
        let counts = HammerCounts::read(&path)?;
        // One that ran a program it must not is that program now, and cannot say so.
        if !status.success() || !counts.finished() {
            report
                .wrong
                .push(format!("worker {number} did not finish ({status})"));
        }
        let said = path.with_extension("wrong");
        match fs::read_to_string(&said) {
            Ok(text) => report.wrong.extend(text.lines().map(str::to_owned)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", said.display()));
            }
        }
        report.counts += counts;
    }
    let text = serde_json::to_string(&report).context("a report is JSON")?;
    writeln!(io::stdout(), "{text}").context("cannot write to stdout")
}

struct Worker<'a> {
    args: &'a Args,
    path: PathBuf,
    file: File,
    counts: HammerCounts,
}

impl<'a> Worker<'a> {
    fn new(args: &'a Args, number: usize) -> Result<Self> {
        ensure!(args.opens_per_exec > 0, "nothing to do");
        let path = counts_of(&args.directory, number);
        let file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self {
            args,
            path,
            file,
            counts: HammerCounts::default(),
        })
    }

    fn run(&mut self) -> Result<()> {
        let start = Instant::now();
        let duration = Duration::from_secs(self.args.seconds);
        let stop = self
            .args
            .until
            .as_ref()
            .map(|name| self.args.directory.join(name));
        let mut rounds = 0;
        loop {
            self.round()?;
            rounds += 1;
            let enough = rounds >= self.args.rounds
                && start.elapsed() >= duration
                && stop.as_ref().is_none_or(|stop| stop.exists());
            if enough {
                self.counts.finish();
            }
            self.save()?;
            if enough {
                return Ok(());
            }
        }
    }

    fn save(&self) -> Result<()> {
        self.file
            .write_all_at(&self.counts.to_bytes(), 0)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn round(&mut self) -> Result<()> {
        let args = self.args;
        for _ in 0..args.opens_per_exec {
            for path in &args.deny_open {
                let outcome = File::open(path).map(drop);
                self.refused("open", path, &outcome)?;
                self.counts.denied_opens += 1;
            }
            for path in &args.allow_open {
                let outcome = File::open(path).map(drop);
                self.allowed("open", path, &outcome)?;
                self.counts.allowed_opens += 1;
            }
        }
        for path in &args.deny_exec {
            // Without a fork: it comes back only when it fails.
            let error = Command::new(path).exec();
            self.refused("exec", path, &Err(error))?;
            self.counts.denied_execs += 1;
        }
        for path in &args.allow_exec {
            let mut command = Command::new(path);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let outcome = command.status().and_then(|status| {
                status
                    .success()
                    .then_some(())
                    .ok_or_else(|| io::Error::other(status.to_string()))
            });
            self.allowed("exec", path, &outcome)?;
            self.counts.allowed_execs += 1;
        }
        Ok(())
    }

    fn refused(&mut self, what: &str, path: &Path, outcome: &io::Result<()>) -> Result<()> {
        let text = match outcome {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => error.to_string(),
            Ok(()) => {
                self.counts.successes += 1;
                "it succeeded".to_owned()
            }
        };
        self.wrong(what, path, &text)
    }

    fn allowed(&mut self, what: &str, path: &Path, outcome: &io::Result<()>) -> Result<()> {
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => self.wrong(what, path, &error.to_string()),
        }
    }

    /// Notes what came instead of what must; the first few are told in words.
    fn wrong(&mut self, what: &str, path: &Path, text: &str) -> Result<()> {
        const TOLD: u64 = 5;
        self.counts.wrong += 1;
        if self.counts.wrong > TOLD {
            return Ok(());
        }
        let place = self.path.with_extension("wrong");
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&place)
            .with_context(|| format!("cannot open {}", place.display()))?;
        let attempt = self.counts;
        writeln!(file, "{what} {}: {text}, after {attempt:?}", path.display())
            .with_context(|| format!("cannot write {}", place.display()))
    }
}
