//! Answers that strangers have not read yet. They wait in the daemon's memory, so they are few.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{
    Status,
    body::Body,
    codegen::{
        Bytes,
        http::{Request, Response},
    },
    server::NamedService,
};
use tower::Service;

/// Most bytes handed to the transport at once. It keeps what it was handed, and takes more only when
/// the client has made room.
const CHUNK: usize = 16 << 10;

/// Places of all that strangers ask, from the question until the answer is read.
#[derive(Clone, Debug)]
pub(super) struct Places {
    places: Arc<Semaphore>,
    count: usize,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(count)),
            count,
        }
    }

    /// Lets a service answer only where there is a place.
    pub(super) fn guard<S>(&self, service: S) -> Guarded<S> {
        Guarded {
            service,
            places: self.clone(),
        }
    }
}

/// A service whose answers take places.
#[derive(Clone, Debug)]
pub(super) struct Guarded<S> {
    service: S,
    places: Places,
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places.places).try_acquire_owned() else {
            // To wait would mean for ever where somebody never reads.
            let refusal = Status::resource_exhausted(format!(
                "{} questions over TCP are under way, or their answers are not read yet; try again, \
                 or use the unix socket",
                self.places.count
            ));
            return Box::pin(std::future::ready(Ok(refusal.into_http())));
        };
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| {
                Body::new(Held {
                    body,
                    rest: Bytes::new(),
                    _place: place,
                })
            }))
        })
    }
}

/// An answer in its place, which goes to the transport in chunks.
struct Held {
    body: Body,
    /// What is left of the last frame of data.
    rest: Bytes,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = self.rest.len().min(CHUNK);
        // A copy: a slice that the transport still has would keep the whole answer in memory.
        let chunk = Bytes::copy_from_slice(&self.rest.split_to(length));
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}
