//! `karmor version`.

use std::time::Duration;

use karmor_proto::karmor::v1::{VersionRequest, VersionResponse};
use serde::Serialize;

use crate::{
    connect::{Address, ConnectArgs, block_on, call_failed, control},
    error::CommandResult,
    ui::Ui,
};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Show the version of karmor, and of the daemon if one runs
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only the version of this program
    #[arg(long, conflicts_with_all = ["grpc", "socket"])]
    client: bool,

    /// How to print it
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: Client,
    /// `null` when there is none to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon: Option<VersionResponse>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
}

impl Args {
    pub(crate) fn run(self, ui: &mut Ui) -> CommandResult {
        let daemon = if self.client { None } else { self.daemon(ui)? };
        let client = Client {
            version: VERSION,
            os: std::env::consts::OS,
            arch: arch(),
        };
        match self.output {
            Output::Json => ui.json(&Versions { client, daemon }),
            Output::Text => {
                ui.data(&format!(
                    "karmor version {} {}/{}\n",
                    client.version, client.os, client.arch
                ))?;
                match daemon {
                    Some(daemon) => {
                        ui.data(&format!("karmor-enforcer version {}\n", daemon.version))
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Asks a daemon that was named, or that has its socket here. Only the former has to answer.
    fn daemon(&self, ui: &mut Ui) -> CommandResult<Option<VersionResponse>> {
        let is_named = self.connect.grpc.is_some() || self.connect.socket.is_some();
        let address = self.connect.address()?;
        if !is_named && !matches!(address, Address::Unix(_)) {
            return Ok(None);
        }
        match ask(&address) {
            Ok(version) => Ok(Some(version)),
            Err(error) if is_named => Err(error),
            Err(error) => {
                ui.warning(error.text().unwrap_or_default());
                Ok(None)
            }
        }
    }
}

fn ask(address: &Address) -> CommandResult<VersionResponse> {
    block_on(async {
        let answer = tokio::time::timeout(PATIENCE, async {
            let mut client = control(address).await?;
            let answer = client.version(VersionRequest {}).await;
            answer.map_err(|status| call_failed(address, &status))
        });
        match answer.await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_elapsed) => Err(call_failed(
                address,
                &tonic::Status::unavailable("it does not answer"),
            )),
        }
    })
}

/// The architecture as container images and KubeArmor name it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
