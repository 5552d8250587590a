//! One connection: TLS, then HTTP/1.1 or HTTP/2 as was agreed, until it is idle, used up, or the server stops.
//!
//! Every answer of ours goes through [`Connection::answer`], which gives it its number and the headers that all have. What
//! cannot be read as HTTP is answered by hyper with a bare status and a date (400, 414, 431), or in HTTP/2 with an error of
//! the protocol.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coffre_auth::credential::tls_certificate::ClientCertificate;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::body::{Incoming, Trickled};
use super::request::{Body, refusal};
use super::service::Service;
use super::settings::Live;
use super::status::Refused;
use crate::config::Hsts;
use crate::limits::{
    CONNECTION_REQUESTS_MAX, CONNECTION_SECS_MAX, HANDSHAKE_SECS_MAX, HEAD_BYTES_MAX, HSTS_SECS,
    HTTP_2_HEADER_LIST_BYTES_MAX, HTTP_2_RESETS_MAX, HTTP_2_SEND_BYTES_MAX, HTTP_2_STREAMS_MAX,
    HTTP_2_WINDOW_BYTES, HTTP_BUFFER_BYTES_MAX, TARGET_BYTES_MAX,
};
use crate::line::stream::{Line, Rein};
use crate::tls::certificate::Certificates;
use crate::tls::{ACME_TLS, HTTP_2};

/// What all connections are served with. Cheap to clone.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) tls: TlsAcceptor,
    pub(super) certificates: Arc<Certificates>,
    pub(super) settings: Live,
    pub(super) service: Service,
    pub(super) drain: CancellationToken,
}

/// A connection that has agreed on a protocol.
struct Connection {
    serving: Serving,
    source: IpAddr,
    rein: Arc<Rein>,
    life: Arc<Life>,
    /// What the client has shown, and proven to hold the key of.
    certificate: Option<Arc<ClientCertificate>>,
}

/// What has become of a connection so far.
#[derive(Debug)]
struct Life {
    begun: Instant,
    requests: AtomicU32,
    under_way: AtomicUsize,
    quiet_since: Mutex<Instant>,
    /// Fires when it has had enough requests or is old enough.
    spent: CancellationToken,
}

/// A request that is under way until its answer has left.
#[derive(Debug)]
struct UnderWay(Arc<Life>);

impl Life {
    fn new() -> Arc<Self> {
        let begun = Instant::now();
        Arc::new(Self {
            begun,
            requests: AtomicU32::new(0),
            under_way: AtomicUsize::new(0),
            quiet_since: Mutex::new(begun),
            spent: CancellationToken::new(),
        })
    }

    /// One request more; the connection is over with it when it has had enough.
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let had = self.requests.fetch_add(1, Ordering::Relaxed);
        if had + 1 >= CONNECTION_REQUESTS_MAX
            || self.begun.elapsed() >= Duration::from_secs(CONNECTION_SECS_MAX)
        {
            self.spent.cancel();
        }
        UnderWay(Arc::clone(self))
    }

    /// Waits for its end: it is spent, or nothing was asked for too long.
    async fn over(&self) {
        let patience = Duration::from_secs(HANDSHAKE_SECS_MAX);
        loop {
            let quiet_since = *self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner);
            let is_quiet = self.under_way.load(Ordering::Relaxed) == 0;
            if is_quiet && quiet_since.elapsed() >= patience {
                return;
            }
            let next = if is_quiet { quiet_since + patience } else { Instant::now() + patience };
            tokio::select! {
                () = self.spent.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.0.quiet_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body on its way out; with it the request ends.
struct Outgoing {
    inner: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, source: IpAddr, serving: Serving) {
    let patience = Duration::from_secs(HANDSHAKE_SECS_MAX);
    drop(stream.set_nodelay(true));
    let rein = Arc::new(Rein::default());
    let stream = Line::new(stream, CancellationToken::new(), Arc::clone(&rein)).with_readers_watched();
    let stream = match tokio::time::timeout(patience, serving.tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let protocol = stream.get_ref().1.alpn_protocol();
    if protocol == Some(ACME_TLS) {
        return tracing::info!("an ACME directory has asked for a proof");
    }
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.and_then(|der| ClientCertificate::read(der).ok()).map(Arc::new);
    let is_http_2 = protocol == Some(HTTP_2);
    let drain = serving.drain.clone();
    let life = Life::new();
    let connection = Arc::new(Connection { serving, source, rein, life: Arc::clone(&life), certificate });
    let answer = service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move { Ok::<_, Infallible>(connection.answer(request).await) }
    });
    let stream = TokioIo::new(stream);
    let ended = if is_http_2 {
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP_2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP_2_WINDOW_BYTES)
            .max_concurrent_streams(HTTP_2_STREAMS_MAX)
            .max_send_buf_size(HTTP_2_SEND_BYTES_MAX)
            .max_header_list_size(HTTP_2_HEADER_LIST_BYTES_MAX)
            .max_pending_accept_reset_streams(HTTP_2_RESETS_MAX)
            .max_local_error_reset_streams(HTTP_2_RESETS_MAX)
            .keep_alive_interval(patience)
            .keep_alive_timeout(patience)
            .serve_connection(stream, answer);
        until_over(served, http2::Connection::graceful_shutdown, &life, &drain).await
    } else {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(HTTP_BUFFER_BYTES_MAX)
            .serve_connection(stream, answer);
        until_over(served, http1::Connection::graceful_shutdown, &life, &drain).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a WebDAV connection ended");
    }
}

/// Serves until the connection ends; one that is over takes no further request and ends with those under way.
async fn until_over<C: Future<Output = hyper::Result<()>>>(
    served: C,
    close: impl Fn(Pin<&mut C>),
    life: &Life,
    drain: &CancellationToken,
) -> hyper::Result<()> {
    tokio::pin!(served);
    tokio::select! {
        ended = &mut served => return ended,
        () = drain.cancelled() => {}
        () = life.over() => {}
    }
    close(served.as_mut());
    served.await
}

impl Connection {
    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Outgoing> {
        let under_way = self.life.begin();
        let number = number();
        let trickled = Trickled::default();
        let is_http_2 = request.version() == http::Version::HTTP_2;
        let refused = too_large(&request);
        let mut request = request.map(|body| Incoming::new(body, Arc::clone(&self.rein), trickled.clone()));
        request.extensions_mut().insert(Arc::clone(&self.rein));
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(Arc::clone(certificate));
        }
        let span = tracing::info_span!("request", number = number.as_str());
        let mut response = match refused {
            Some(refused) => refusal(&refused),
            None => self.serving.service.answer(request, self.source).instrument(span.clone()).await,
        };
        if trickled.is_set() {
            response = refusal(&Refused::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"));
        }
        let status = response.status();
        if status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE {
            span.in_scope(|| tracing::warn!(status = status.as_u16(), "a request failed"));
        }
        let headers = response.headers_mut();
        if let Ok(number) = HeaderValue::try_from(number) {
            headers.insert(HeaderName::from_static("x-request-id"), number);
        }
        // No answer is anything but what it says that it is, refusals included.
        headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
        if let Some(strict) = self.strict_transport() {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, strict);
        }
        if !is_http_2 && (trickled.is_set() || self.life.spent.is_cancelled()) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|inner| Outgoing { inner, _under_way: under_way })
    }

    fn strict_transport(&self) -> Option<HeaderValue> {
        let secs = match self.serving.settings.now().hsts {
            Hsts::Off => return None,
            Hsts::Auto if self.serving.certificates.current().is_self_signed => return None,
            Hsts::Auto => HSTS_SECS,
            Hsts::Secs(secs) => secs,
        };
        HeaderValue::try_from(format!("max-age={secs}")).ok()
    }
}

/// What a request is called in our log and in its answer. Random: it tells nothing of other requests, and what a client calls
/// it is never taken over.
fn number() -> String {
    // Without randomness nothing is stored either; the answer can still be given.
    format!("{:016x}", getrandom::u64().unwrap_or(0))
}

/// Refuses a head that is larger than any client's of ours.
fn too_large(request: &Request<hyper::body::Incoming>) -> Option<Refused> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES_MAX {
        return Some(Refused::new(StatusCode::URI_TOO_LONG, "the path is too long"));
    }
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    (headers > HEAD_BYTES_MAX)
        .then(|| Refused::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large"))
}
