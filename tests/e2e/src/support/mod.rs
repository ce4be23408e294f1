//! Things every case needs, each started once and waited for with a deadline.

mod actor;
mod alerts;
mod container;
mod containerd;
mod enforcer;
mod hammer;
mod kernel;
mod postures;
mod program;
mod shell;
mod wait;
mod watched;
mod wire;
mod work;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context as _, Result};

pub use self::{
    actor::{Actor, ENDS_AT_ONCE},
    alerts::{Alerts, DELIVERY, Follower},
    container::{Container, ContainerBuilder, Image},
    containerd::{Containerd, Place},
    enforcer::{Enforcer, PINS, SOCKET, STATE, pins, probe, refusals},
    hammer::{Hammer, HammerCounts, HammerReport, Hammering},
    kernel::{KernelVersion, security_modules},
    postures::DefaultPostures,
    program::{Output, run},
    wait::until,
    watched::{Applied, Watched},
    wire::Wire,
    work::{Work, full},
};

/// The system the cases run on. It starts what a case asks for and keeps it for the next one.
#[derive(Debug)]
pub struct Guest {
    place: Place,
    /// Before containerd: the daemon goes first.
    watched: Mutex<Option<Watched>>,
    /// Never beside the other: only one can run.
    unwatched: Mutex<Option<Enforcer>>,
    containerd: OnceLock<Containerd>,
}

impl Guest {
    /// A guest whose daemons live in `place`.
    #[must_use]
    pub const fn new(place: Place) -> Self {
        Self {
            place,
            watched: Mutex::new(None),
            unwatched: Mutex::new(None),
            containerd: OnceLock::new(),
        }
    }

    /// containerd, with the images imported.
    ///
    /// # Errors
    /// When it does not start or an image cannot be imported.
    pub fn containerd(&self) -> Result<&Containerd> {
        if let Some(containerd) = self.containerd.get() {
            return Ok(containerd);
        }
        let containerd = Containerd::start(&self.place)?;
        Ok(self.containerd.get_or_init(|| containerd))
    }

    /// A container to be, from one of the images.
    ///
    /// # Errors
    /// When containerd does not start.
    pub fn container(&self, image: Image) -> Result<ContainerBuilder<'_>> {
        Ok(ContainerBuilder::new(self.containerd()?, image))
    }

    /// Does something beside an enforcer with these default postures, which enforces policies for the
    /// host as well: the one of the case before, when there is one.
    ///
    /// # Errors
    /// When the enforcer does not start or does not take the postures; what `work` returns.
    pub fn watched<T>(
        &self,
        postures: &DefaultPostures,
        work: impl FnOnce(&Watched) -> Result<T>,
    ) -> Result<T> {
        let mut kept = lock(&self.watched);
        let watched = match (kept.take(), lock(&self.unwatched).take()) {
            (Some(watched), _) => watched,
            (None, Some(enforcer)) => Watched::beside(enforcer)?,
            (None, None) => Watched::beside(self.start()?)?,
        };
        let watched = kept.insert(watched);
        postures.hold()?;
        work(watched)
    }

    /// As [`Guest::watched`], with alerts that nobody reads.
    ///
    /// # Errors
    /// As for [`Guest::watched`].
    pub fn unwatched<T>(
        &self,
        postures: &DefaultPostures,
        work: impl FnOnce(&Enforcer) -> Result<T>,
    ) -> Result<T> {
        let mut kept = lock(&self.unwatched);
        let enforcer = match (kept.take(), lock(&self.watched).take()) {
            (Some(enforcer), _) => enforcer,
            (None, Some(watched)) => watched.enforcer,
            (None, None) => self.start()?,
        };
        let enforcer = kept.insert(enforcer);
        postures.hold()?;
        work(enforcer)
    }

    /// The enforcer that cases share, for a case that ends it.
    ///
    /// # Errors
    /// As for [`Guest::watched`].
    pub fn take_enforcer(&self) -> Result<Enforcer> {
        self.unwatched(&DefaultPostures::AUDIT, |_| Ok(()))?;
        let enforcer = lock(&self.unwatched).take();
        enforcer.context("just now there was one")
    }

    /// Has the next case use an enforcer that [`Guest::start`] has started.
    pub fn keep(&self, enforcer: Enforcer) {
        *lock(&self.unwatched) = Some(enforcer);
    }

    /// Starts an enforcer as cases share it; none may run.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start(&self) -> Result<Enforcer> {
        let config = DefaultPostures::AUDIT.write()?;
        let arguments = ["--enableKubeArmorHostPolicy", &config];
        Enforcer::start(self.containerd()?, &arguments)
    }

    /// Ends the enforcer of the case before, for a case that starts its own.
    pub fn without_enforcer(&self) {
        drop(lock(&self.watched).take());
        drop(lock(&self.unwatched).take());
    }
}

/// Tells a figure that is worth knowing and decides nothing.
pub fn note(text: &str) {
    use std::io::Write as _;
    // Nobody is left to tell when the stream is gone.
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
