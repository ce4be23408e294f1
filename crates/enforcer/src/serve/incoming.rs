//! Connections on their way in. What anybody on this machine may open is limited: descriptors are
//! also needed to look containers up, and to answer root.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use rustix::io::Errno;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use tracing::warn;

/// What strangers may take of the daemon through one port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// How long a connection may take to show that HTTP/2 is spoken.
    pub handshake: Duration,
    /// How often a client that says nothing is asked whether it is there.
    pub ping: Duration,
    /// How long it may take to answer.
    pub pong: Duration,
}

impl Limits {
    /// Of the feed's port.
    pub const FEED: Self = Self {
        connections: 96,
        handshake: Duration::from_secs(5),
        ping: Duration::from_secs(60),
        pong: Duration::from_secs(20),
    };

    /// Of the health port. Its own: whoever fills the feed's cannot have the daemon taken for dead.
    pub const HEALTH: Self = Self {
        connections: 32,
        ..Self::FEED
    };
}

/// How long nothing is accepted after the system had no more descriptors or memory to give.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How often it is said that connections are refused.
const SAID: Duration = Duration::from_secs(60);

/// Bytes of the preface that every HTTP/2 client sends first.
const PREFACE: usize = 24;

/// A socket that connections come from.
pub(super) trait Accept: Unpin {
    /// A connection.
    type Stream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Self::Stream>>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        Self::poll_accept(self, context).map_ok(|(stream, _)| stream)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        Self::poll_accept(self, context).map_ok(|(stream, _)| stream)
    }
}

/// The connections of a socket. Never ends.
pub(super) struct Incoming<L> {
    listener: L,
    guard: Option<Guard>,
    pause: Option<Pin<Box<Sleep>>>,
}

struct Guard {
    places: Arc<Semaphore>,
    limits: Limits,
    said: Option<Instant>,
}

impl<L: Accept> Incoming<L> {
    /// Of clients that are trusted.
    pub(super) const fn trusted(listener: L) -> Self {
        Self {
            listener,
            guard: None,
            pause: None,
        }
    }

    /// Of anybody.
    pub(super) fn limited(listener: L, limits: Limits) -> Self {
        let guard = Guard {
            places: Arc::new(Semaphore::new(limits.connections)),
            limits,
            said: None,
        };
        Self {
            guard: Some(guard),
            ..Self::trusted(listener)
        }
    }
}

impl Guard {
    fn admit<S>(&mut self, stream: S) -> Option<Connection<S>> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            // Closed at once: one that waited would hold up those after it, and its client could
            // not tell why.
            if self.said.is_none_or(|said| said.elapsed() >= SAID) {
                self.said = Some(Instant::now());
                let limit = self.limits.connections;
                warn!(
                    limit,
                    "a TCP port has all the clients it may; others are refused"
                );
            }
            return None;
        };
        Some(Connection {
            stream,
            preface: Some(Preface {
                missing: PREFACE,
                deadline: Box::pin(tokio::time::sleep(self.limits.handshake)),
            }),
            _place: Some(place),
        })
    }
}

impl<L: Accept> Stream for Incoming<L> {
    type Item = io::Result<Connection<L::Stream>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            match (ready!(this.listener.poll_accept(context)), &mut this.guard) {
                (Ok(stream), None) => {
                    return Poll::Ready(Some(Ok(Connection {
                        stream,
                        preface: None,
                        _place: None,
                    })));
                }
                (Ok(stream), Some(guard)) => {
                    if let Some(connection) = guard.admit(stream) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                // The connection stays in the queue, so the next attempt fails as fast.
                (Err(error), _) if is_exhausted(&error) => {
                    this.pause = Some(Box::pin(tokio::time::sleep(EXHAUSTED)));
                }
                // Who wanted to connect has gone.
                (Err(_), _) => {}
            }
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// A connection that was let in, and its place.
pub(super) struct Connection<S> {
    stream: S,
    preface: Option<Preface>,
    _place: Option<OwnedSemaphorePermit>,
}

/// What must come before the transport's own pings begin.
struct Preface {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<S: Connected> Connected for Connection<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(preface) = &mut self.preface {
            let came = buffer.filled().len() - before;
            preface.missing = preface.missing.saturating_sub(came);
            if preface.missing == 0 {
                self.preface = None;
            } else if preface.deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio_stream::StreamExt;

    use super::*;

    /// A socket that the system has no descriptors for.
    #[derive(Default)]
    struct Exhausted(Arc<AtomicUsize>);

    impl Accept for Exhausted {
        type Stream = TcpStream;

        fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
            if self.0.fetch_add(1, Ordering::Relaxed) > 1000 {
                // So that the test can end when nothing pauses.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Err(Errno::MFILE.into()))
        }
    }

    #[tokio::test]
    async fn accepting_pauses_when_descriptors_have_run_out() {
        let listener = Exhausted::default();
        let tries = Arc::clone(&listener.0);
        let mut incoming = Incoming::trusted(listener);
        let next = tokio::time::timeout(3 * EXHAUSTED, incoming.next());
        assert!(next.await.is_err());
        let tries = tries.load(Ordering::Relaxed);
        assert!((2..=4).contains(&tries), "{tries} tries");
    }
}
