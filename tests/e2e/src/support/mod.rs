//! Things every case needs, each started once and waited for with a deadline.

mod alerts;
mod container;
mod containerd;
mod enforcer;
mod kernel;
mod program;
mod wait;

use std::sync::{Mutex, PoisonError};

use anyhow::Result;

pub use self::{
    alerts::Alerts,
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
    containerd: Mutex<Option<&'static Containerd>>,
}

impl Guest {
    /// A guest whose daemons live in `place`.
    #[must_use]
    pub const fn new(place: Place) -> Self {
        Self {
            place,
            containerd: Mutex::new(None),
        }
    }

    /// containerd, with the images imported.
    ///
    /// # Errors
    /// When it does not start or an image cannot be imported.
    pub fn containerd(&self) -> Result<&'static Containerd> {
        let mut slot = self
            .containerd
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(containerd) = *slot {
            return Ok(containerd);
        }
        // Lives as long as this process, which is as long as the VM.
        let containerd: &'static Containerd = Box::leak(Box::new(Containerd::start(&self.place)?));
        *slot = Some(containerd);
        Ok(containerd)
    }

    /// A container to be, from one of the images.
    ///
    /// # Errors
    /// When containerd does not start.
    pub fn container(&self, image: Image) -> Result<ContainerBuilder<'static>> {
        Ok(ContainerBuilder::new(self.containerd()?, image))
    }
}
