//! Long paths: decided to their end.

use std::iter::repeat_n;

use anyhow::{Result, ensure};

use super::{Case, Plan, case, reading, running};
use crate::support::{DefaultPostures, Guest};

pub(super) const CASES: &[Case] = &[
    case("escape_by_path_of_4000_bytes", bytes),
    case("escape_by_path_of_200_components", components),
];

/// Only the last component tells what is shut.
const SPEC: &str = "
  file:
    matchPatterns:
    - pattern: /srv/long/**/secret
  process:
    matchPatterns:
    - pattern: /srv/long/**/utool1
  action: Block
";

/// Length of the names in the directory, all the same.
const NAME: usize = "secret".len();

fn bytes(guest: &Guest) -> Result<()> {
    const WHOLE: usize = 4_000;
    let mut directory = "/srv/long".to_owned();
    while directory.len() < WHOLE - NAME - 1 {
        let left = WHOLE - NAME - 1 - directory.len() - 1;
        // Never leaves less than a slash and a byte.
        let name = if left <= 255 { left } else { left.min(250) };
        directory.push('/');
        directory.extend(repeat_n('d', name));
    }
    ensure!(directory.len() + 1 + NAME == WHOLE, "{}", directory.len());
    play(guest, "escape-long-path", &directory)
}

fn components(guest: &Guest) -> Result<()> {
    const COMPONENTS: usize = 200;
    // /srv, /srv/long and the file are components too.
    let directory = format!("/srv/long{}", "/c".repeat(COMPONENTS - 3));
    ensure!(
        directory.matches('/').count() + 1 == COMPONENTS,
        "{directory}"
    );
    play(guest, "escape-deep-path", &directory)
}

fn play(guest: &Guest, name: &str, directory: &str) -> Result<()> {
    let path = |name: &str| format!("{directory}/{name}");
    let (secret, tool) = (path("secret"), path("utool1"));
    let (cat, cat_free) = (format!("cat {secret}"), format!("cat {}", path("public")));
    let prepare = format!(
        "rm -rf /srv/long && mkdir -p {directory} && cd {directory} && echo 1 > secret \
         && echo 2 > public && cp /usr/bin/true utool1 && cp /usr/bin/true utool2"
    );
    guest.watched(&DefaultPostures::AUDIT, |watched| {
        Plan {
            name,
            spec: SPEC,
            prepare: &prepare,
            escapes: &[reading(&cat, &secret), running(&tool, &tool)],
            twins: &[&cat_free, &path("utool2")],
        }
        .play(watched, guest)
    })
}
