//! What is measured on this machine: the compiler, and how long the command line takes to start.

use std::{process::Command, time::Instant};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Row;
use crate::{
    cache::Cache,
    programs::{self, Programs},
    shell, ui,
};

/// What the rows' names begin with.
pub(super) const NAMES: [&str; 3] = ["compile/", "table/", "start/"];

/// A program that does nothing: what starting any program costs here.
const NOTHING: &str = "true";

/// Times a program is started; the fastest counts.
const STARTS: u32 = 50;

#[derive(Debug, Deserialize)]
struct Figure {
    name: String,
    unit: String,
    value: f64,
}

pub(super) fn rows(cache: &Cache, built: &Programs) -> Result<Vec<Row>> {
    ui::status("compiler");
    let mut command = programs::cargo(cache);
    command.args(["run", "--quiet", "--release", "--package", "karmor-policy"]);
    command.args(["--example", "compile_bench"]);
    let figures: Vec<Figure> = serde_json::from_str(&shell::capture_text(&mut command)?)
        .context("the compiler's benchmark printed no rows")?;
    let mut rows: Vec<Row> = figures
        .into_iter()
        .map(|figure| row(figure.name, figure.unit, None, figure.value))
        .collect();

    ui::status("start-up");
    let nothing = start(&mut Command::new(NOTHING))?;
    let karmor = built.path("karmor")?;
    for arguments in [&["--help"][..], &["version"], &["completion", "bash"]] {
        let took = start(Command::new(&karmor).args(arguments))?;
        rows.push(row(
            format!("start/{}", arguments.join("_").trim_start_matches('-')),
            "ms".to_owned(),
            Some(nothing),
            took,
        ));
    }
    Ok(rows)
}

fn row(name: String, unit: String, baseline: Option<f64>, value: f64) -> Row {
    Row {
        name,
        unit,
        baseline,
        value,
        delta: baseline.map(|baseline| round(value - baseline)),
        kernel: None,
    }
}

/// Milliseconds from start to end.
fn start(command: &mut Command) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..STARTS {
        let start = Instant::now();
        shell::capture(command)?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(round(best))
}

fn round(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}
