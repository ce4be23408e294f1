//! Policies that change while they are needed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use karmor_proto::karmor::v1::{Enforcement, Outcome};

use super::{Case, case};
use crate::support::{DefaultPostures, Guest, Hammer, Image, Wire, Work, refusals};

pub(super) const CASES: &[Case] = &[case("swap_of_policies_under_load_opens_no_gap", swap)];

const NAME: &str = "swapped";

/// Both forbid the same file and the same program, by rules of different kinds among others, so
/// that no state of one table means the same in the other.
const SETS: [&str; 2] = [
    "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: swapped
spec:
  selector:
    matchLabels:
      app: nginx
  process:
    matchPaths:
    - path: /usr/bin/apt
    - path: /usr/bin/apt-get
  file:
    matchPaths:
    - path: /etc/nginx/nginx.conf
  action: Block
",
    "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: swapped
spec:
  selector:
    matchLabels:
      app: nginx
  process:
    matchDirectories:
    - dir: /usr/games/
      recursive: true
    matchPatterns:
    - pattern: /usr/bin/ap[st]
  file:
    matchPaths:
    - path: /etc/shadow
    - path: /etc/nginx/mime.types
      readOnly: true
    matchPatterns:
    - pattern: /etc/nginx/*.conf
  action: Block
",
];

/// Swaps: at least, and in a full run.
const SWAPS: [usize; 2] = [300, 10_000];

/// Time for more than the least.
const TIME: Duration = Duration::from_secs(30);

const HAMMER: [&str; 5] = [
    "--deny-open=/etc/nginx/nginx.conf",
    "--deny-exec=/usr/bin/apt",
    "--allow-open=/etc/nginx/mime.types",
    "--processes=2",
    "--until=stop",
];

fn swap(guest: &Guest) -> Result<()> {
    let hammer = Hammer::new("swap")?;
    let container = hammer
        .mount(guest.container(Image::Debian)?)?
        .start("swap")?;
    guest.unwatched(&DefaultPostures::AUDIT, |enforcer| {
        enforcer.knows(container.name())?;
        let wire = Wire::connect()?;
        apply(&wire, SETS[0], Outcome::Applied)?;
        let told = refusals()?;
        let denials = std::thread::scope(|scope| {
            let hammering = hammer.start(scope, &container, &HAMMER);
            let swapped = hammer.reaches(1, &hammering).and_then(|start| {
                let begin = Instant::now();
                Ok((start, swaps(&wire)?, begin.elapsed()))
            });
            let end = hammer.counts();
            hammer.stop()?;
            let report = hammering.report()?;
            let (start, swaps, took) = swapped?;
            let tried = end?.denials() - start.denials();
            crate::support::note(&format!(
                "{swaps} swaps in {took:.1?}, {tried} refusals meanwhile"
            ));
            // One for each swap at least, else too few fell into one.
            ensure!(
                tried > swaps as u64,
                "only {tried} attempts during {swaps} swaps"
            );
            Ok(report.all_right()?.denials())
        })?;
        let told = refusals()? - told;
        ensure!(told >= denials, "{told} events of {denials} refusals");
        wire.delete(NAME)?;
        Ok(())
    })
}

/// Swaps one set for the other as often as there is time for; how often.
fn swaps(wire: &Wire) -> Result<usize> {
    let work = Work::begin(SWAPS[0], SWAPS[1], TIME);
    let mut swaps = 0;
    while work.goes_on(swaps) {
        apply(wire, SETS[(swaps + 1) % SETS.len()], Outcome::Modified)?;
        swaps += 1;
    }
    Ok(swaps)
}

fn apply(wire: &Wire, set: &str, outcome: Outcome) -> Result<()> {
    let answer = wire.apply(set)?;
    let [result] = answer.results.as_slice() else {
        anyhow::bail!("not one result: {answer:?}");
    };
    ensure!(
        result.outcome() == outcome && result.enforcement() == Enforcement::Full,
        "{result:?}\n{}",
        answer.rendered
    );
    Ok(())
}
