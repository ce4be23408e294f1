//! Things every case needs, each started once and waited for with a deadline.

mod alerts;
mod container;
mod containerd;
mod enforcer;
mod kernel;
mod program;
mod wait;

use std::sync::OnceLock;

use anyhow::Result;

pub use self::{
    alerts::{Alerts, Follower},
    container::{Container, ContainerBuilder, Image},
    containerd::{Containerd, Place},
    enforcer::{Enforcer, SOCKET},
    kernel::{KernelVersion, security_modules},
    program::{Output, run},
    wait::until,
};

/// The system the cases run on. It starts what a case asks for and keeps it for the next one.
#[derive(Debug)]
pub struct Guest {
    place: Place,
    containerd: OnceLock<Containerd>,
}

impl Guest {
    /// A guest whose daemons live in `place`.
    #[must_use]
    pub const fn new(place: Place) -> Self {
        Self {
            place,
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
}
