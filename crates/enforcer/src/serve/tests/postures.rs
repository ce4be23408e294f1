//! Default postures that are read again from the file of settings.

use karmor_proto::karmor::v1::DefaultPostures;
use rustix::process::{Signal, getpid, kill_process};

use super::*;
use crate::config::{Origin, read_file};

impl Daemon {
    /// A daemon whose settings are, for the greater part, in a file.
    async fn with_file(dir: TempDir, file: &Path) -> Self {
        let backend = Memory::new(Capabilities::default());
        let (handle, stop) = (backend.handle(), CancellationToken::new());
        let open = move |_: &Config| Ok(Box::new(backend) as Box<dyn Backend>);
        let mut config = config(dir.path());
        config.origin = Origin {
            given: Settings::default(),
            read: read_file(file).unwrap().0,
            file: Some(file.to_owned()),
        };
        let task = tokio::spawn(run::run(config, open, stop.clone()));
        let daemon = Self {
            dir,
            handle,
            stop,
            task,
        };
        daemon
            .wait(|d| UnixStream::connect(d.socket()).is_ok())
            .await;
        daemon
    }

    async fn postures(&self) -> DefaultPostures {
        let mut client = ControlClient::new(self.channel().await);
        let probe = client.probe(ProbeRequest {}).await.unwrap().into_inner();
        probe.postures.unwrap()
    }

    async fn until(&self, wanted: impl Fn(&DefaultPostures) -> bool) -> DefaultPostures {
        for _ in 0..500 {
            let postures = self.postures().await;
            if wanted(&postures) {
                return postures;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain: {:?}", self.postures().await);
    }
}

fn file_is(word: &str) -> impl Fn(&DefaultPostures) -> bool + '_ {
    move |postures| postures.containers.as_ref().unwrap().file == word && postures.error.is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_and_a_hangup_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    // Behind a link: who writes there tells the daemon nothing.
    let behind = dir.path().join("behind");
    std::fs::create_dir_all(&behind).unwrap();
    let (real, link) = (behind.join("real.yaml"), dir.path().join("karmor.yaml"));
    std::fs::write(&real, "defaultFilePosture: block\n").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let daemon = Daemon::with_file(dir, &link).await;
    daemon.until(file_is("block")).await;

    // As an editor does it, and a ConfigMap.
    let written = daemon.dir.path().join("new");
    let replace = |text: &str| {
        std::fs::write(&written, text).unwrap();
        std::fs::rename(&written, &link).unwrap();
    };
    replace("defaultFilePosture: allow\nhostDefaultNetworkPosture: block\n");
    let postures = daemon.until(file_is("allow")).await;
    assert_eq!(postures.host.unwrap().network, "block");

    // Damaged, and emptied.
    for (text, told) in [
        ("defaultFilePosture: x\n", "cannot be \"x\""),
        ("", "it is empty"),
    ] {
        replace(text);
        let is_told = |p: &DefaultPostures| p.error.as_ref().is_some_and(|e| e.contains(told));
        let postures = daemon.until(is_told).await;
        assert_eq!(postures.containers.unwrap().file, "allow");
    }

    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    daemon.until(file_is("block")).await;
    std::fs::write(&real, "defaultFilePosture: audit\n").unwrap();
    // Some daemon has taken over the signal by now; all of them read again.
    kill_process(getpid(), Signal::HUP).unwrap();
    daemon.until(file_is("audit")).await;
    daemon.stop().await;
}
