//! A daemon that does not read: refusals stand, and no event is unaccounted for.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Case, case};
use crate::support::{Alerts, DefaultPostures, Enforcer, Guest, Hammer, Image, probe, until};

pub(super) const CASES: &[Case] = &[case(
    "ring_full_changes_no_verdict_and_loses_no_count",
    ring,
)];

const NAME: &str = "fills-the-rings";

const POLICY: &str = "\
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: fills-the-rings
spec:
  selector:
    matchLabels:
      app: nginx
  file:
    matchPaths:
    - path: /etc/nginx/nginx.conf
      action: Block
    - path: /etc/nginx/mime.types
      action: Audit
  action: Audit
";

/// An event has some 300 bytes, so a ring of 4 MiB holds fewer than 15,000.
const HAMMER: [&str; 5] = [
    "--deny-open=/etc/nginx/nginx.conf",
    "--allow-open=/etc/nginx/mime.types",
    "--opens-per-exec=16",
    "--processes=2",
    "--rounds=2000",
];
const OPENS: u64 = 2 * 16 * 2000;

/// Tens of thousands of alerts, made and printed under emulation.
const PATIENCE: Duration = Duration::from_secs(120);

fn ring(guest: &Guest) -> Result<()> {
    let hammer = Hammer::new("ring")?;
    let container = hammer
        .mount(guest.container(Image::Debian)?)?
        .start("ring")?;
    guest.unwatched(&DefaultPostures::AUDIT, |enforcer| {
        enforcer.knows(container.name())?;
        let policy = enforcer.add_manifest(NAME, POLICY)?;
        let before = settled()?;
        let losses_before = losses_logged(enforcer);
        let alerts = Alerts::watch(&[])?;

        enforcer.freeze()?;
        let report = std::thread::scope(|scope| hammer.start(scope, &container, &HAMMER).report());
        enforcer.thaw()?;
        let counts = report?.all_right()?;
        ensure!(
            (counts.denied_opens, counts.allowed_opens) == (OPENS, OPENS),
            "{counts:?}"
        );

        let book = overflowed(&before)?;
        accounted_for(&alerts, book, || losses_logged(enforcer) - losses_before)?;
        drop(alerts);
        enforcer.delete_policy(&policy)?;
        Ok(())
    })
}

/// What became of the events of both classes: each had some of every kind.
fn overflowed(before: &Books) -> Result<Book> {
    let after = settled()?;
    let mut sum = Book::default();
    for class in ["denials", "audits"] {
        let book = after.of(class)?.since(before.of(class)?);
        ensure!(book.emitted == OPENS, "{class}: {book:?}, not {OPENS}");
        ensure!(book.lost > 0, "no {class} were lost: {book:?}");
        ensure!(book.delivered > 0, "no {class} arrived: {book:?}");
        sum.emitted += book.emitted;
        sum.delivered += book.delivered;
        sum.lost += book.lost;
    }
    Ok(sum)
}

/// Waits until one client has seen what was delivered: as alerts, as `reports` of losses, and as how
/// many it was too slow for.
fn accounted_for(alerts: &Alerts, book: Book, reports: impl Fn() -> u64) -> Result<()> {
    let seen = until(
        "every alert to arrive or be accounted for",
        PATIENCE,
        || {
            let seen = Seen::of(&alerts.lines())?;
            let reports = reports();
            let due = book.delivered + reports;
            let told = seen.alerts + seen.reports + seen.dropped;
            ensure!(
                told <= due,
                "{seen:?}, but only {book:?} and {reports} reports"
            );
            Ok((told == due).then_some((seen, reports)))
        },
    );
    let (seen, reports) =
        seen.with_context(|| format!("{book:?}; {:?}", Seen::of(&alerts.lines())))?;
    ensure!(seen.alerts > 0, "no alert arrived: {seen:?}");
    ensure!(
        seen.lost == book.lost || (seen.lost < book.lost && seen.reports < reports),
        "{seen:?}, but {} events were lost",
        book.lost
    );
    Ok(())
}

/// What became of the events of one class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Book {
    emitted: u64,
    delivered: u64,
    lost: u64,
}

impl Book {
    fn of(events: &Value) -> Result<Self> {
        let number = |name: &str| {
            events[name]
                .as_u64()
                .with_context(|| format!("no number `{name}` in {events}"))
        };
        Ok(Self {
            emitted: number("emitted")?,
            delivered: number("delivered")?,
            lost: number("lost")?,
        })
    }

    const fn balances(self) -> bool {
        self.emitted == self.delivered + self.lost
    }

    const fn since(self, before: Self) -> Self {
        Self {
            emitted: self.emitted - before.emitted,
            delivered: self.delivered - before.delivered,
            lost: self.lost - before.lost,
        }
    }
}

/// All books.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Books(BTreeMap<String, Book>);

impl Books {
    fn now() -> Result<Self> {
        let report = probe()?;
        let events = &report["events"];
        let mut books = BTreeMap::from([("sum".to_owned(), Book::of(events)?)]);
        for class in ["denials", "audits"] {
            books.insert(class.to_owned(), Book::of(&events[class])?);
        }
        Ok(Self(books))
    }

    fn of(&self, name: &str) -> Result<Book> {
        self.0.get(name).copied().context("no such book")
    }
}

/// The books once nothing is on its way any more: they balance, in each class and in sum.
fn settled() -> Result<Books> {
    until("the books to balance", PATIENCE, || {
        let books = Books::now()?;
        Ok(books
            .0
            .values()
            .all(|book| book.balances())
            .then_some(books))
    })
    .with_context(|| format!("the books: {:?}", Books::now()))
}

/// How often the daemon has reported losses.
fn losses_logged(enforcer: &Enforcer) -> u64 {
    let log = enforcer.log();
    let lines = log.lines().filter(|line| line.contains("events were lost"));
    lines.map(|_| 1).sum()
}

/// What a client was sent.
#[derive(Debug, Default)]
struct Seen {
    alerts: u64,
    /// Reports of events the kernel had no room for.
    reports: u64,
    /// Events those reports are about.
    lost: u64,
    /// Alerts this client was too slow for.
    dropped: u64,
}

impl Seen {
    fn of(lines: &[String]) -> Result<Self> {
        let mut seen = Self::default();
        for line in lines {
            let alert: Value = serde_json::from_str(line)
                .with_context(|| format!("karmor logs printed no JSON: {line}"))?;
            if alert["Operation"] != "EventLoss" {
                ensure!(
                    alert["PolicyName"] == NAME,
                    "an alert of another policy: {line}"
                );
                seen.alerts += 1;
                continue;
            }
            let data = alert["Data"].as_str().context("a loss has no data")?;
            seen.reports += u64::from(data.starts_with("denials="));
            for part in data.split(' ') {
                let (name, number) = part.split_once('=').context("a loss has no numbers")?;
                let number: u64 = number.parse().context("a loss has no numbers")?;
                match name {
                    "dropped" => seen.dropped += number,
                    _ => seen.lost += number,
                }
            }
        }
        Ok(seen)
    }
}
