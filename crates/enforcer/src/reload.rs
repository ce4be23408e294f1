//! Default postures, read again while the daemon runs: when the file of settings changes, and on
//! SIGHUP. Every other setting counts from the next start.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::signal::unix::Signal;
use tracing::{info, warn};

use crate::{
    config::{Config, DefaultPostures, Origin, parse},
    engine::Engine,
    source::watch::Watch,
};

/// How often what could not be put in force is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// What the names of the settings that are read again end with.
const POSTURE: &str = "Posture";

/// Follows the file of settings, if there is one, until the engine stops.
pub async fn follow(origin: Origin, engine: Engine, mut hangup: Signal) {
    let Some(file) = origin.file.clone() else {
        while hangup.recv().await.is_some() {
            info!("there is no file of settings to read again: none is named with --config");
        }
        return;
    };
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut settings = SettingsFile::new(file, origin);
    let mut watch = Watch::on(&directory);
    // At once too: what changed before the watch stood is told by nobody.
    let mut is_asked = false;
    let mut failed: Option<String> = None;
    loop {
        if is_asked || failed.is_some() {
            settings.seen = None;
        }
        if let Some(wanted) = settings.look() {
            let Ok(done) = engine.ask(|core| core.set_postures(wanted)).await else {
                return;
            };
            match &done {
                Ok(true) => info!("default postures are as the file of settings says now"),
                Ok(false) if is_asked => info!("default postures are as they were"),
                Ok(false) => {}
                Err(why) if failed.as_ref() == Some(why) => {}
                Err(why) => warn!(why, "default postures stay as they are"),
            }
            failed = done.err();
        }
        if watch.renew(&directory) {
            is_asked = false;
            continue;
        }
        is_asked = tokio::select! {
            () = watch.changed() => false,
            asked = hangup.recv() => asked.is_some(),
            () = tokio::time::sleep(AGAIN), if failed.is_some() => false,
        };
    }
}

/// The file of settings as it was last seen.
struct SettingsFile {
    path: PathBuf,
    origin: Origin,
    seen: Option<Result<Vec<u8>, String>>,
}

impl SettingsFile {
    fn new(path: PathBuf, origin: Origin) -> Self {
        Self {
            path,
            origin,
            seen: None,
        }
    }

    /// What the file wants, or why that cannot be told; `None` when it is as it was.
    fn look(&mut self) -> Option<Result<DefaultPostures, String>> {
        let content = fs::read(&self.path).map_err(|error| error.to_string());
        if self.seen.as_ref() == Some(&content) {
            return None;
        }
        self.seen = Some(content.clone());
        let wanted = content.and_then(|bytes| self.wanted(&bytes));
        Some(wanted.map_err(|why| format!("{}: {why}", self.path.display())))
    }

    fn wanted(&self, bytes: &[u8]) -> Result<DefaultPostures, String> {
        if bytes.trim_ascii().is_empty() {
            // Most often a writer that has emptied it first, or whose disk is full.
            return Err("it is empty".into());
        }
        let text = |error: crate::config::ConfigError| error.to_string();
        let (read, _notices) = parse(bytes, &self.path.display().to_string()).map_err(text)?;
        let others = self.origin.read.differing(&read).into_iter();
        let others: Vec<&str> = others.filter(|name| !name.ends_with(POSTURE)).collect();
        if !others.is_empty() {
            warn!(
                settings = others.join(", "),
                "settings were changed that count from the next start of the daemon"
            );
        }
        let config = Config::new(self.origin.given.clone().over(read)).map_err(text)?;
        Ok(config.postures)
    }
}

#[cfg(test)]
mod tests {
    use karmor_policy::model::Posture;

    use super::*;
    use crate::config::{PostureSetting, Settings};

    #[test]
    fn the_file_counts_below_what_was_given_and_an_empty_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("karmor.yaml");
        let origin = Origin {
            given: Settings {
                host_default_file_posture: Some(PostureSetting::Allow),
                ..Settings::default()
            },
            file: Some(path.clone()),
            read: Settings::default(),
        };
        let mut file = SettingsFile::new(path.clone(), origin);
        let error = file.look().unwrap().unwrap_err();
        assert!(error.contains("karmor.yaml: No such file"), "{error}");
        assert!(file.look().is_none(), "told once");

        let mut look = |text: &str| {
            fs::write(&path, text).unwrap();
            file.look()
        };
        let text = "defaultFilePosture: block\ndefaultNetworkPosture: allow\n\
                    hostDefaultFilePosture: block\nhostDefaultCapabilitiesPosture: block\n";
        let wanted = look(text).unwrap().unwrap();
        assert_eq!(wanted.containers.file, Posture::Block);
        assert_eq!(wanted.containers.network, Posture::Allow);
        assert_eq!(wanted.containers.capabilities, Posture::Audit);
        assert_eq!(wanted.host.file, Posture::Allow, "given with a flag");
        assert_eq!(wanted.host.capabilities, Posture::Block);
        assert!(look(text).is_none());
        for empty in ["", " \n"] {
            let error = look(empty).unwrap().unwrap_err();
            assert!(error.ends_with("it is empty"), "{error}");
        }
        let error = look("defaultFilePosture: deny\n").unwrap().unwrap_err();
        assert!(error.contains("karmor.yaml:1:21: "), "{error}");
        let wanted = look("# nothing is said\n").unwrap().unwrap();
        assert_eq!(wanted.containers.file, Posture::Audit);
    }

    #[test]
    fn what_is_not_read_again_is_known_by_name() {
        let read = |text: &str| parse(text.as_bytes(), "f").unwrap().0;
        let before = read("cluster: a\ndefaultFilePosture: audit\n");
        let after = read("cluster: b\ndefaultFilePosture: block\ngRPC: 1\n");
        let names = before.differing(&after);
        assert_eq!(names, ["cluster", "gRPC", "defaultFilePosture"]);
    }
}
