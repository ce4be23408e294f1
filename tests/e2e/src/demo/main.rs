//! Plays the scenes of `cargo xtask demo`: each policy before and after, and what
//! `karmor logs` shows of it.

mod scenes;
mod stage;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use karmor_e2e::support::{Alerts, Enforcer, Follower, Guest, Image, Place};

use self::{
    scenes::SCENES,
    stage::{Stage, Voice},
};

/// Play karmor's demonstration on this system's kernel
#[derive(Debug, Parser)]
struct Args {
    /// Print nothing on stdout but one JSON object per alert
    #[arg(long)]
    json: bool,

    /// Directory for everything the daemons write; their usual places without it
    #[arg(long, value_name = "DIRECTORY", requires = "images")]
    state: Option<PathBuf>,

    /// Directory with the container images' archives
    #[arg(long, value_name = "DIRECTORY", requires = "state")]
    images: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let voice = Voice::new(args.json);
    let (place, options) = match (args.state, args.images) {
        (Some(state), Some(images)) => {
            let options = vec![
                format!("--policy-dir={}", state.join("policies").display()),
                format!("--state-dir={}", state.join("karmor").display()),
            ];
            (Place::below(&state, images), options)
        }
        _ => (Place::system(), Vec::new()),
    };
    let guest = Guest::new(place);
    voice.narrate("starting containerd and a container from a Debian image");
    let containerd = guest.containerd()?;
    let container = guest
        .container(Image::Debian)?
        .service_account()?
        .start("shop")?;
    voice.narrate("starting karmor-enforcer");
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let enforcer = Enforcer::start(containerd, &options)?;
    let stage = Stage {
        voice,
        container,
        text: Follower::start(&[])?,
        alerts: Alerts::watch(&[])?,
        enforcer,
    };
    let mut good = true;
    for (number, scene) in SCENES.iter().enumerate() {
        good &= stage.play(number + 1, scene)?;
    }
    stage.voice.narrate(if good {
        "\nAll as promised."
    } else {
        "\nNot as promised: see above."
    });
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
