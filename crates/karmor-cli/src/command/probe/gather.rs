//! Finding out: from the daemon, from its program, from files.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use karmor_proto::karmor::v1::{Capabilities, HookSupport, ProbeRequest, ProbeResponse};

use super::report::{Daemon, Enforcement, Report};
use crate::{
    command::version::VERSION,
    connect::{ANSWER, Address, ConnectArgs, block_on, call_failed, control, within},
    error::CommandResult,
    exit::Exit,
    node,
    ui::Ui,
};

/// The daemon's program.
const ENFORCER: &str = "karmor-enforcer";

/// Finds out. A daemon that was named must answer; one that merely might be there need not.
pub(super) fn gather(ui: &mut Ui, args: &ConnectArgs) -> CommandResult<Report> {
    let is_named = args.grpc.is_some() || args.socket.is_some();
    let address = args.address()?;
    match ask(&address) {
        Ok(answer) => Ok(from_daemon(&address, answer)),
        Err(error) if is_named || error.exit != Exit::Unreachable => Err(error),
        Err(error) => {
            ui.status(format_args!(
                "{}; showing what can be seen without it",
                error.text().unwrap_or_default()
            ));
            Ok(without_daemon(ui))
        }
    }
}

fn ask(address: &Address) -> CommandResult<ProbeResponse> {
    block_on(async {
        let mut client = control(address).await?;
        let answer = client.probe(within(ANSWER, ProbeRequest {})).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| call_failed(address, &status))
    })
}

fn from_daemon(address: &Address, answer: ProbeResponse) -> Report {
    let capabilities = answer.capabilities.unwrap_or_default();
    let (enforcement, reasons) = judge(&capabilities);
    Report {
        version: VERSION,
        daemon: Some(Daemon {
            address: address.to_string(),
            version: answer.version,
            host_name: answer.host_name,
            started_at: answer.started_at,
        }),
        enforcement,
        reasons,
        kernel: capabilities.kernel,
        btf: capabilities.btf,
        lsms: Some(capabilities.lsms),
        hooks: Some(capabilities.hooks),
        cgroup: answer.cgroup,
        runtimes: answer.runtimes,
        workloads: Some(answer.workloads),
        policies: Some(answer.policies),
        events: Some(answer.events.unwrap_or_default()),
        postures: answer.postures,
    }
}

/// What programs that were really loaded say.
fn judge(capabilities: &Capabilities) -> (Enforcement, Vec<String>) {
    if let Some(reason) = &capabilities.observe_only {
        (Enforcement::Impossible, vec![reason.clone()])
    } else if capabilities.hooks.iter().any(|hook| hook.loads) {
        (Enforcement::Possible, Vec::new())
    } else {
        (Enforcement::Impossible, vec!["no program loads".to_owned()])
    }
}

fn without_daemon(ui: &mut Ui) -> Report {
    let node = node::look(Path::new("/"));
    let obstacles = node.obstacles();
    let (enforcement, reasons, hooks) = match load_for_real(ui) {
        Ok(capabilities) => {
            let (enforcement, mut reasons) = judge(&capabilities);
            if enforcement == Enforcement::Impossible {
                // The more telling ones: they say what to do.
                reasons.extend(obstacles);
            }
            (enforcement, reasons, tried(capabilities.hooks))
        }
        Err(_) if !obstacles.is_empty() => (Enforcement::Impossible, obstacles, None),
        Err(reason) => (Enforcement::Unknown, vec![reason], None),
    };
    Report {
        version: VERSION,
        daemon: None,
        enforcement,
        reasons,
        kernel: node.kernel,
        btf: node.btf,
        lsms: node.lsms,
        hooks,
        cgroup: node.cgroup.to_owned(),
        runtimes: node.runtimes,
        workloads: None,
        policies: None,
        events: None,
        postures: None,
    }
}

/// A list without hooks means that none was tried.
fn tried(hooks: Vec<HookSupport>) -> Option<Vec<HookSupport>> {
    (!hooks.is_empty()).then_some(hooks)
}

/// Has the daemon's program load what it would enforce with, and says why when it has not.
fn load_for_real(ui: &mut Ui) -> Result<Capabilities, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("loading the programs was not tried: that needs root".to_owned());
    }
    let path = std::env::var_os("PATH");
    let Some(program) = find(std::env::current_exe().ok().as_deref(), path.as_deref()) else {
        return Err(format!(
            "loading the programs was not tried: there is no {ENFORCER} here"
        ));
    };
    ui.status(format_args!("trying with {}", program.display()));
    run(&program)
}

fn run(program: &Path) -> Result<Capabilities, String> {
    let output = Command::new(program)
        .args(["probe", "--json"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} does not start: {error}", program.display()))?;
    // It exits with an error when nothing can be enforced, having said so on stdout all the same.
    serde_json::from_slice(&output.stdout).map_err(|_not_json| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("{} probe failed: {}", program.display(), said.trim())
    })
}

/// The daemon's program beside this one, else in the search path.
fn find(this: Option<&Path>, path: Option<&OsStr>) -> Option<PathBuf> {
    let beside = this.and_then(Path::parent).map(Path::to_owned);
    let searched = path.map(std::env::split_paths).into_iter().flatten();
    beside
        .into_iter()
        .chain(searched)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(ENFORCER))
        .find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that answers as an enforcer would.
    fn enforcer(script: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(ENFORCER);
        let text = format!("#!/bin/sh\n{script}\n");
        // Written by another process: a descriptor open for writing in this one would be
        // inherited by whatever another test starts just then, and the file could not be run
        // ("text file busy").
        let made = Command::new("sh")
            .args([
                "-c",
                "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"",
                "sh",
                &text,
            ])
            .arg(&program)
            .status()
            .unwrap();
        assert!(made.success());
        (dir, program)
    }

    #[test]
    fn programs_that_load_decide() {
        let (_dir, program) = enforcer(
            r#"echo '{"kernel":"6.12","btf":true,"lsms":["bpf"],"hooks":[{"hook":"file_open","loads":true,"attached":false,"verifiedInstructions":9,"error":null}],"observeOnly":null}'"#,
        );
        let capabilities = run(&program).unwrap();
        assert_eq!(capabilities.hooks[0].verified_instructions, 9);
        assert_eq!(judge(&capabilities), (Enforcement::Possible, Vec::new()));
    }

    #[test]
    fn a_failed_exit_with_an_answer_is_an_answer() {
        let (_dir, program) = enforcer(
            r#"echo '{"kernel":"5.4","btf":false,"lsms":[],"hooks":[],"observeOnly":"too old"}'; exit 1"#,
        );
        let capabilities = run(&program).unwrap();
        assert_eq!(
            judge(&capabilities),
            (Enforcement::Impossible, vec!["too old".to_owned()])
        );
    }

    #[test]
    fn without_an_answer_its_own_words_are_passed_on() {
        let (_dir, program) = enforcer("echo 'error: no memory' >&2; exit 1");
        assert!(
            run(&program)
                .unwrap_err()
                .ends_with("probe failed: error: no memory")
        );
    }

    #[test]
    fn it_is_sought_beside_this_program_and_in_the_search_path_only() {
        let (dir, program) = enforcer("");
        assert_eq!(
            find(Some(&dir.path().join("karmor")), None).as_ref(),
            Some(&program)
        );
        assert_eq!(
            find(None, Some(dir.path().as_os_str())).as_ref(),
            Some(&program)
        );
        assert_eq!(
            find(
                Some(Path::new("/nonexistent/karmor")),
                Some(OsStr::new("."))
            ),
            None
        );
    }
}
