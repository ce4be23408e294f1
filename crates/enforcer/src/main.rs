//! `karmor-enforcer`: the process around the library.

use std::{io::IsTerminal, path::Path, process::ExitCode};

use anyhow::Context;
use karmor_enforcer::{
    args::{self, Args, Command},
    backend::{Backend, Capabilities, memory::Memory},
    break_glass,
    config::{self, Config, ConfigError, Origin, Settings},
    kernel::{self, Kernel, OwnFile, Protection},
    node, run,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use tracing_subscriber::EnvFilter;

/// What to say to whoever wants the daemon all the same.
const ANYWAY: &str = "to start all the same, say --observe";

/// Where the cgroup hierarchy is mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Threads for clients and container runtimes; the engine has one of its own.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let parsed = match args::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => error.exit(),
    };
    match start(parsed.args, parsed.notices) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("error: {error:#}"));
            exit_code(&error)
        }
    }
}

/// Nothing can be enforced on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotEnforceable(String);

/// A flag or an environment variable has a value that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Usage(ConfigError);

/// As of `karmor`, with the same meaning, and as `--help` says. Of a command line that cannot be
/// parsed clap ends the program, with the code of [`Usage`].
fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<NotEnforceable>() {
        args::NOT_ENFORCEABLE.into()
    } else if error.is::<Usage>() {
        args::USAGE.into()
    } else {
        ExitCode::FAILURE
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the one place that talks to whoever started the daemon"
)]
fn report(text: &str) {
    eprintln!("{text}");
}

fn start(args: Args, mut notices: Vec<String>) -> anyhow::Result<()> {
    let mut file = Settings::default();
    if let Some(path) = &args.config {
        let (read, more) = config::read_file(path)?;
        file = read;
        notices.extend(more);
    }
    for notice in notices {
        report(&format!("note: {notice}"));
    }
    let mut config = checked(args.settings.clone(), file.clone())?;
    config.origin = Origin {
        given: args.settings,
        file: args.config,
        read: file,
    };
    match args.command {
        None => daemon(config, node::look()),
        Some(Command::Probe { json }) => probe(json),
        Some(Command::Unload) => unload(&config),
        Some(Command::SelfTest { dir }) => self_test(&dir),
    }
}

/// Settings that were given, over those of a file.
fn checked(given: Settings, file: Settings) -> anyhow::Result<Config> {
    Config::new(given.clone().over(file)).map_err(|error| match Config::new(given) {
        Ok(_) => error.into(),
        // Wrong without the file as well, so it is not the file's fault.
        Err(_) => Usage(error).into(),
    })
}

fn daemon(config: Config, node: Capabilities) -> anyhow::Result<()> {
    // Before a socket or a directory is taken: who may not enforce may not take those either, and
    // would be told of them instead.
    let node = able(&config, node)?;
    let level = if config.debug { "debug" } else { "info" };
    let filter = EnvFilter::try_from_env("KARMOR_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,karmor_enforcer={level}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            token.cancel();
        });
        run::run(config, |config| backend(config, node), stop).await
    })
}

/// The node as it is to be used, unless something that can be seen is in the way of enforcing.
fn able(config: &Config, mut node: Capabilities) -> Result<Capabilities, NotEnforceable> {
    if let Some(why) = &config.observe {
        node.observe_only = Some(why.clone());
    } else if let Some(obstacle) = node.observe_only {
        let why = format!("nothing can be enforced here: {obstacle}; {ANYWAY}");
        return Err(NotEnforceable(why));
    }
    Ok(node)
}

/// The backend this node is able to have.
fn backend(config: &Config, mut node: Capabilities) -> anyhow::Result<Box<dyn Backend>> {
    if let Some(why) = break_glass::pulled(&config.state_dir) {
        // At boot only: who could disable what is in force by putting a file there need not go
        // round a policy.
        if kernel::is_loaded(&config.bpf_fs_path) {
            warn!(
                why,
                "enforcement stays on until the next boot, or `karmor-enforcer unload`"
            );
        } else {
            node.observe_only.get_or_insert(why);
        }
    }
    if node.observe_only.is_some() {
        return Ok(Box::new(Memory::new(node)));
    }
    let mut kernel = Kernel::new(&config.bpf_fs_path, Path::new(CGROUPS), &protection(config))
        .with_context(|| NotEnforceable(format!("nothing can be enforced here; {ANYWAY}")))?;
    let program = std::env::current_exe().context("cannot find the own program")?;
    kernel
        .self_test(&program, &[args::SELF_TEST], Path::new(CGROUPS))
        .with_context(|| {
            NotEnforceable(format!(
                "the self-test failed, so nothing is enforced; {ANYWAY}"
            ))
        })?;
    Ok(Box::new(kernel))
}

/// What is the daemon's own: its state, its socket, the policies and settings it reads, and itself.
fn protection(config: &Config) -> Protection {
    let own = |path: &Path, depth| OwnFile {
        path: path.to_owned(),
        depth,
    };
    let mut files = vec![
        own(&config.state_dir, 2),
        own(&config.policy_dir, 1),
        own(&config.socket, 0),
        own(Path::new("/proc/self/exe"), 0),
    ];
    files.extend(config.origin.file.as_deref().map(|file| own(file, 0)));
    Protection {
        from: config.self_protection,
        files,
    }
}

#[expect(clippy::print_stdout, reason = "the subcommand's output")]
fn probe(json: bool) -> anyhow::Result<()> {
    let mut node = node::look();
    if node.observe_only.is_none() {
        match Kernel::rehearse() {
            Ok(hooks) => node.hooks = hooks,
            Err(error) => node.observe_only = Some(format!("{error:#}")),
        }
    }
    if json {
        println!("{}", serde_json::to_string(&node)?);
    } else {
        println!("Kernel  {}", node.kernel);
        println!("BTF     {}", if node.btf { "yes" } else { "no" });
        println!("LSMs    {}", node.lsms.join(", "));
        for hook in &node.hooks {
            match &hook.error {
                None => println!("Hook    {} loads", hook.hook),
                Some(why) => println!("Hook    {} does not load: {why}", hook.hook),
            }
        }
    }
    match node.observe_only {
        Some(why) => Err(NotEnforceable(format!("nothing can be enforced here: {why}")).into()),
        None => Ok(()),
    }
}

#[expect(clippy::print_stdout, reason = "the subcommand's output")]
fn unload(config: &Config) -> anyhow::Result<()> {
    match kernel::unload(&config.bpf_fs_path, Path::new(CGROUPS))? {
        0 => println!("Nothing was loaded."),
        pins => println!("Unloaded: {pins} programs and maps are gone, nothing is enforced."),
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the daemon waits for")]
fn self_test(dir: &Path) -> anyhow::Result<()> {
    println!("{}", kernel::self_test_child(dir)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_enforced_has_a_code_of_its_own() {
        let is = |error: anyhow::Error| format!("{:?}", exit_code(&error));
        let code = |code: u8| format!("{:?}", ExitCode::from(code));
        let why = || NotEnforceable("nothing can be enforced here".into());
        let cause = || anyhow::anyhow!("no such hook");
        assert_eq!(is(why().into()), code(5));
        assert_eq!(is(cause().context(why()).context("cannot start")), code(5));
        assert_eq!(is(cause().context("cannot start")), code(1));
    }

    #[test]
    fn the_node_is_looked_at_before_anything_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "in the way of a directory").unwrap();
        let settings = Settings {
            socket: Some(file.join("karmor.sock")),
            state_dir: Some(file.join("state")),
            ..Settings::default()
        };
        let node = Capabilities {
            observe_only: Some("this needs root".into()),
            ..Capabilities::default()
        };
        let error = daemon(Config::new(settings).unwrap(), node).unwrap_err();
        assert!(error.to_string().contains("needs root"), "{error:#}");
        assert!(error.is::<NotEnforceable>());
    }

    #[test]
    fn a_wrong_value_is_of_the_command_line_or_of_the_file() {
        let of = |given: Settings, file: Settings| {
            checked(given, file)
                .err()
                .map(|error| format!("{:?}", exit_code(&error)))
        };
        let code = |code: u8| Some(format!("{:?}", ExitCode::from(code)));
        let none = Settings::default;
        let wrong = [
            Settings {
                lsm: Some("foo".into()),
                ..none()
            },
            Settings {
                k8s: Some(true),
                ..none()
            },
            Settings {
                tls_enabled: Some(true),
                ..none()
            },
            Settings {
                cri_socket: Some("x".into()),
                ..none()
            },
        ];
        for wrong in wrong {
            assert_eq!(of(wrong.clone(), none()), code(2), "{wrong:?}");
            assert_eq!(of(none(), wrong.clone()), code(1), "{wrong:?}");
        }
        let right = Settings {
            k8s: Some(false),
            ..none()
        };
        let wrong = Settings {
            k8s: Some(true),
            ..none()
        };
        assert_eq!(of(right, wrong), None);
    }
}
