//! One client's connection: hyper speaks HTTP on it until an endpoint takes it over.
//!
//! hyper only lets go of a connection on status 101, but clients of the Engine API also expect raw streams after
//! `200 OK`. So the endpoint's answer is handed to this loop while hyper still waits for it: hyper has written nothing by
//! then, and gives back the stream together with the bytes it read ahead.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use berth_model::ErrorKind;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION, SERVER};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use crate::daemon::Daemon;
use crate::http::body::{self, RequestBody};
use crate::http::call::{Call, Peer};
use crate::http::error::ApiError;
use crate::http::hijack::{Hijack, Prefixed};
use crate::http::query::Query;
use crate::http::reply::{Payload, Reply};
use crate::http::router::{self, Endpoint, Kind, Route};
use crate::http::version::ApiVersion;
use crate::resources;

/// What every answer says of the server, but for the version.
const SERVER_NAME: &str = concat!("Berth/", env!("CARGO_PKG_VERSION"), " (linux)");

/// The headers of every answer as lines, for heads that are written by hand.
pub fn common_head() -> String {
    let newest = ApiVersion::NEWEST;
    format!("Api-Version: {newest}\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: {SERVER_NAME}\r\n")
}

/// Serves a connection until the client goes, an endpoint that took it is done, or the daemon stops.
pub async fn serve<S>(stream: S, peer: Peer, daemon: Arc<Daemon>, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let ignore_eof = Arc::new(AtomicBool::new(false));
    let (hijack, mut hijacked) = mpsc::channel(1);
    let service = Router { daemon, peer, ignore_eof: Arc::clone(&ignore_eof), hijack };
    let io = TokioIo::new(Guarded { stream, ignore_eof });
    let mut connection =
        http1::Builder::new().title_case_headers(true).header_read_timeout(None).serve_connection(io, service);
    let hijack = loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            Some(hijack) = hijacked.recv() => break hijack,
            Ok(()) = stopping.changed() => Pin::new(&mut connection).graceful_shutdown(),
        }
    };
    let parts = connection.into_parts();
    let stream = Prefixed::new(parts.read_buf, parts.io.into_inner().stream);
    if let Err(error) = hijack.serve(Box::new(stream)).await {
        tracing::debug!(%error, "the client went away");
    }
}

/// Routes requests of one connection and answers them.
struct Router {
    daemon: Arc<Daemon>,
    peer: Peer,
    ignore_eof: Arc<AtomicBool>,
    hijack: mpsc::Sender<Hijack>,
}

impl Service<Request<Incoming>> for Router {
    type Response = Response<Payload>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.daemon.activity.note();
        // hyper looks for the end of the stream before it first polls our future, so this is decided right here.
        self.ignore_eof.store(false, Ordering::Relaxed);
        let route = match missing_host(&request) {
            true => return after_body(request, refuse_missing_host()),
            false => router::route(
                resources::ENDPOINTS,
                self.daemon.settings.min_api_version,
                request.method().as_str(),
                request.uri().path(),
            ),
        };
        match route {
            Route::Endpoint { endpoint, object, version } => {
                self.ignore_eof.store(endpoint.kind == Kind::Hijack, Ordering::Relaxed);
                self.run(endpoint, object, version, request)
            }
            Route::Moved(path) => {
                let response = redirect(&path, request.uri().query());
                after_body(request, response)
            }
            Route::Options => after_body(request, http_of(Reply::empty(StatusCode::OK))),
            Route::NotFound => after_body(request, bare(Reply::refusal(&ApiError::not_found("page not found")))),
            Route::Refused(error) => after_body(request, http_of(Reply::refusal(&error))),
        }
    }
}

impl Router {
    fn run(
        &self,
        endpoint: &'static Endpoint,
        object: String,
        version: ApiVersion,
        request: Request<Incoming>,
    ) -> <Self as Service<Request<Incoming>>>::Future {
        let (head, body) = request.into_parts();
        let mut call = Call {
            daemon: Arc::clone(&self.daemon),
            operation: endpoint.operation,
            object,
            version,
            query: Query::parse(head.uri.query().unwrap_or_default()),
            headers: head.headers,
            body: None,
            peer: self.peer.clone(),
        };
        let (hijack, span) = (self.hijack.clone(), call.span());
        let answer = async move {
            let started = std::time::Instant::now();
            let body = match endpoint.kind {
                Kind::Upload => Ok(RequestBody::Incoming(body)),
                Kind::Plain | Kind::Hijack => body::collect(body).await.map(RequestBody::Whole),
            };
            let reply = match body {
                Ok(body) => {
                    call.body = Some(body);
                    (endpoint.run)(call).await
                }
                Err(refused) => Err(refused),
            };
            let elapsed = started.elapsed();
            let reply = reply.unwrap_or_else(|error| {
                // A fault of the engine is the operator's business; a refusal is the client's.
                match error.kind {
                    ErrorKind::Internal => tracing::warn!(?elapsed, %error, "failed"),
                    _ => tracing::debug!(?elapsed, %error, "refused"),
                }
                Reply::refusal(&error)
            });
            match reply {
                Reply::Http(response) => {
                    tracing::debug!(status = response.status().as_u16(), ?elapsed, "answered");
                    Ok(http_of(Reply::Http(response)))
                }
                Reply::Hijack(taken) => {
                    tracing::debug!(?elapsed, "connection taken");
                    // The loop that owns the connection drops this future when it takes the stream.
                    drop(hijack.send(taken).await);
                    std::future::pending().await
                }
            }
        };
        Box::pin(answer.instrument(span))
    }
}

/// Answers a request that goes nowhere, once its client has sent it.
fn after_body(
    request: Request<Incoming>,
    response: Response<Payload>,
) -> <Router as Service<Request<Incoming>>>::Future {
    Box::pin(async move {
        body::drain(request.into_body()).await;
        Ok(response)
    })
}

/// The response of an ordinary reply where no endpoint was found: it tells nothing of the engine.
fn bare(reply: Reply) -> Response<Payload> {
    let Reply::Http(response) = reply else {
        unreachable!("only ordinary replies come here");
    };
    response
}

/// The response of an ordinary reply, with the headers of every answer (B023).
fn http_of(reply: Reply) -> Response<Payload> {
    let mut response = bare(reply);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("api-version"), HeaderValue::from_static(berth_api::API_VERSION));
    headers.insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false"));
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
    headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    response
}

fn redirect(path: &str, query: Option<&str>) -> Response<Payload> {
    let location = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let location = HeaderValue::try_from(location).unwrap_or_else(|_| HeaderValue::from_static("/"));
    bare(Reply::empty(StatusCode::MOVED_PERMANENTLY).header(LOCATION, location))
}

fn missing_host(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST)
}

fn refuse_missing_host() -> Response<Payload> {
    let text = "400 Bad Request: missing required Host header";
    let Reply::Http(mut response) = Reply::text(StatusCode::BAD_REQUEST, text) else {
        unreachable!("a text is an ordinary reply");
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.extensions_mut().insert(ReasonPhrase::from_static(b"Bad Request: missing required Host header"));
    response
}

/// A stream whose end can be kept from hyper, which would give up a request whose client half-closed.
struct Guarded<S> {
    stream: S,
    ignore_eof: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let at_end = buffer.filled().len() == before && buffer.remaining() > 0;
        if at_end && self.ignore_eof.load(Ordering::Relaxed) {
            // Nobody wakes this up again, nor must they: the endpoint's answer ends the wait.
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
