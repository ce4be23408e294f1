use std::sync::Mutex;

use karmor_policy::model::Kind;

use super::*;
use crate::index::Source;

/// A clock that stands still until it is set.
#[derive(Clone)]
pub(crate) struct Hands(Arc<Mutex<Moment>>);

impl Hands {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Moment {
            boot: "first".into(),
            age: Duration::from_secs(1_000),
        })))
    }

    pub(crate) fn clock(&self) -> Clock {
        let hands = self.clone();
        Clock::new(move || hands.0.lock().unwrap().clone())
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.0.lock().unwrap().age += Duration::from_secs(seconds);
    }

    /// The machine starts again.
    pub(crate) fn reboot(&self) {
        *self.0.lock().unwrap() = Moment {
            boot: "second".into(),
            age: Duration::from_secs(10),
        };
    }
}

const MINUTE: Duration = Duration::from_secs(60);

fn id(name: &str) -> PolicyId {
    PolicyId {
        source: Source::Grpc,
        kind: Kind::Host,
        namespace: String::new(),
        name: name.into(),
    }
}

/// `name` is to say `text`, and says `now`; nothing when that is empty.
fn candidate(name: &str, text: &str, now: &str) -> Candidate {
    Candidate {
        id: id(name),
        text: text.into(),
        now: (!now.is_empty()).then(|| Before {
            text: now.into(),
            since: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        }),
    }
}

struct Rig {
    dir: tempfile::TempDir,
    hands: Hands,
    trials: Trials,
}

impl Rig {
    fn new() -> Self {
        let (dir, hands) = (tempfile::tempdir().unwrap(), Hands::new());
        let trials = Trials::open(dir.path().join("t.json"), hands.clock()).unwrap();
        Self { dir, hands, trials }
    }

    fn begin(&mut self, candidates: Vec<Candidate>) -> Option<String> {
        let token = self.trials.begin(MINUTE, candidates).unwrap()?;
        self.trials.arm(&token, MINUTE).unwrap();
        Some(token)
    }

    /// What is left, and what each policy said before, after a restart of the daemon that finds
    /// these texts.
    fn restarted(&mut self, stored: &[(&str, &str)]) -> Vec<(u64, Vec<String>)> {
        self.trials = Trials::open(self.dir.path().join("t.json"), self.hands.clock()).unwrap();
        self.trials.survey(|id| {
            let found = stored.iter().find(|(name, _)| *name == id.name);
            found.map(|(_, text)| *text)
        });
        self.open()
    }

    fn open(&self) -> Vec<(u64, Vec<String>)> {
        let policy = |policy: &OnTrial| {
            let before = policy.before.as_ref().map(|before| &*before.text);
            format!("{}: {}", policy.id.name, before.unwrap_or("nothing"))
        };
        let open = self.trials.open.iter().map(|trial| {
            let left = self.trials.left(trial).as_secs();
            (left, trial.policies.iter().map(policy).collect())
        });
        open.collect()
    }
}

fn open<const N: usize>(left: u64, policies: [&str; N]) -> Vec<(u64, Vec<String>)> {
    vec![(left, policies.map(str::to_owned).to_vec())]
}

#[test]
fn a_trial_is_over_when_its_time_is_also_across_a_restart() {
    let mut rig = Rig::new();
    assert_eq!(rig.trials.next(), None);
    let both = vec![candidate("a", "a2", "a1"), candidate("b", "b1", "")];
    let token = rig.begin(both).unwrap();
    let both = ["a: a1", "b: nothing"];
    assert_eq!(rig.open(), open(60, both));
    let kept = rig.trials.open.clone();
    rig.hands.advance(20);
    assert_eq!(
        rig.restarted(&[("a", "a2"), ("b", "b1")]),
        open(40, both),
        "it goes on counting"
    );
    assert_eq!(rig.trials.open, kept);
    rig.hands.advance(39);
    assert!(rig.trials.over().is_empty());
    rig.hands.advance(1);
    assert_eq!(rig.trials.over().len(), 1);
    rig.hands.advance(1000);
    assert_eq!(rig.restarted(&[("a", "a2"), ("b", "b1")]), open(0, both));
    assert_eq!(rig.trials.over()[0].token, token);
}

#[test]
fn a_restart_of_the_machine_ends_it() {
    let mut rig = Rig::new();
    rig.begin(vec![candidate("a", "a2", "a1")]);
    rig.hands.reboot();
    assert_eq!(rig.restarted(&[("a", "a2")]), open(0, ["a: a1"]));
    assert_eq!(rig.trials.over().len(), 1);
}

#[test]
fn the_first_baseline_stays_and_the_last_time_counts() {
    let mut rig = Rig::new();
    let first = rig.begin(vec![candidate("a", "a2", "a1"), candidate("b", "b2", "")]);
    rig.hands.advance(30);
    let second = rig.begin(vec![candidate("a", "a3", "a2")]);
    assert_ne!(first, second);
    let expected = vec![
        (30, vec!["b: nothing".to_owned()]),
        (60, vec!["a: a1".to_owned()]),
    ];
    assert_eq!(rig.open(), expected);
    assert_eq!(rig.restarted(&[("a", "a3"), ("b", "b2")]), expected);
    // The same once more is the same, with more time.
    rig.hands.advance(10);
    rig.begin(vec![candidate("a", "a3", "a3")]).unwrap();
    assert_eq!(rig.open()[1], (60, vec!["a: a1".to_owned()]));
}

#[test]
fn what_changes_nothing_waits_for_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.begin(vec![candidate("a", "a1", "a1")]), None);
    assert_eq!(rig.open(), []);
    rig.begin(vec![candidate("a", "a2", "a1")]).unwrap();
    assert_eq!(rig.begin(vec![candidate("a", "a1", "a2")]), None);
    assert_eq!(rig.open(), [], "it is as it was before");
}

#[test]
fn a_decision_about_one_policy_leaves_the_others_on_trial() {
    let mut rig = Rig::new();
    let both = vec![candidate("a", "a2", "a1"), candidate("b", "b1", "")];
    let token = rig.begin(both).unwrap();
    rig.trials.release([&id("a")]);
    assert_eq!(
        rig.restarted(&[("a", "a3"), ("b", "b1")]),
        open(60, ["b: nothing"])
    );
    rig.trials.confirm(&token).unwrap();
    assert_eq!(rig.restarted(&[("a", "a3"), ("b", "b1")]), []);
    assert_eq!(
        rig.trials.named(&token),
        Err(Unknown::Token(token.clone())),
        "nothing is confirmed twice"
    );
}

#[test]
fn without_a_name_the_only_one_is_meant() {
    let mut rig = Rig::new();
    assert_eq!(rig.trials.named(""), Err(Unknown::None));
    let a = rig.begin(vec![candidate("a", "a1", "")]).unwrap();
    assert_eq!(rig.trials.named("").unwrap().token, a);
    let b = rig.begin(vec![candidate("b", "b1", "")]).unwrap();
    assert_eq!(
        rig.trials.named(""),
        Err(Unknown::Several(format!("{a}, {b}")))
    );
    assert_eq!(rig.trials.named(&b).unwrap().token, b);
}

#[test]
fn what_a_daemon_left_halfway_is_over() {
    // On disk, and nothing in force yet.
    let both = || vec![candidate("a", "a2", "a1"), candidate("b", "b1", "")];
    let began = || {
        let mut rig = Rig::new();
        rig.trials.begin(MINUTE, both()).unwrap();
        rig
    };
    let expected = open(0, ["a: a1", "b: nothing"]);
    for stored in [
        &[("a", "a1")][..],
        &[("a", "a2")],
        &[("a", "a1"), ("b", "b1")],
    ] {
        assert_eq!(began().restarted(stored), expected, "{stored:?}");
    }
    // In the middle of a second one.
    let mut rig = began();
    rig.trials
        .begin(MINUTE, vec![candidate("a", "a3", "a2")])
        .unwrap();
    let found = rig.restarted(&[("a", "a2"), ("b", "b1")]);
    assert_eq!(found[1], (0, vec!["a: a1".to_owned()]));
    // Changed by somebody who meant it, and the daemon ended before it could write so.
    assert_eq!(
        began().restarted(&[("a", "other"), ("b", "b1")]),
        open(60, ["b: nothing"])
    );
}

#[test]
fn a_clock_that_is_set_moves_nothing() {
    // The time of day is nowhere in what is kept, but in what is for people.
    let mut rig = Rig::new();
    rig.begin(vec![candidate("a", "a1", "")]);
    let text = std::fs::read_to_string(rig.dir.path().join("t.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(kept["trials"][0]["endMs"], 1_060_000);
    assert_eq!(kept["trials"][0]["bootId"], "first");
    let now = Clock::of_machine();
    let (first, second) = (now.now(), now.now());
    assert!(first.boot == second.boot && first.age <= second.age);
}

#[test]
fn what_cannot_be_kept_is_not_begun_nor_confirmed() {
    let mut rig = Rig::new();
    let token = rig.begin(vec![candidate("a", "a1", "")]).unwrap();
    let path = rig.dir.path().join("t.json");
    // A directory in the way, also of the superuser.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let before = rig.open();
    let candidates = vec![candidate("a", "a2", "a1"), candidate("b", "b1", "")];
    assert!(rig.trials.begin(MINUTE, candidates).is_err());
    assert!(rig.trials.confirm(&token).is_err());
    assert_eq!(rig.open(), before);
    // What is decided is, and is written later.
    rig.trials.release([&id("a")]);
    std::fs::remove_dir(&path).unwrap();
    rig.trials.release([]);
    assert_eq!(rig.restarted(&[("a", "a1")]), []);
}

#[test]
fn a_damaged_file_is_set_aside() {
    let mut rig = Rig::new();
    let path = rig.dir.path().join("t.json");
    std::fs::write(&path, "{\"trials\": [{}]}").unwrap();
    assert_eq!(rig.restarted(&[]), []);
    assert!(rig.dir.path().join("t.json.broken").exists());
    assert!(!path.exists());
}
