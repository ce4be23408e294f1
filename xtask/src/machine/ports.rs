//! The host's end of the guest's serial ports: unix sockets that QEMU connects to.

use std::{
    io::Read as _,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use anyhow::{Context, Result};

/// A serial port whose bytes go to a function on a thread of its own, until QEMU closes it.
pub(crate) struct Port {
    path: PathBuf,
    listener: UnixListener,
}

impl Port {
    pub(crate) fn bind(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot create the socket {}", path.display()))?;
        listener
            .set_nonblocking(true)
            .context("cannot make a socket non-blocking")?;
        Ok(Self { path, listener })
    }

    /// The `-chardev` argument.
    pub(crate) fn chardev(&self, id: &str) -> String {
        // A comma in a value is written twice.
        let path = self.path.display().to_string().replace(',', ",,");
        format!("socket,id={id},path={path}")
    }

    /// The connection QEMU made, if it did already. It connects before it runs the guest.
    pub(crate) fn accept(&self) -> Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream
                    .set_nonblocking(false)
                    .context("cannot make a socket blocking")?;
                Ok(Some(stream))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("cannot accept on {}", self.path.display()))
            }
        }
    }
}

/// Reads a port to its end.
pub(crate) fn pump(
    mut stream: UnixStream,
    mut sink: impl FnMut(&[u8]) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        // A reset connection is QEMU gone, and so is an end of file.
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            sink(&buffer[..count]);
        }
    })
}
