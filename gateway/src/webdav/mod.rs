//! WebDAV (RFC 4918) over TLS on hyper: `service` proves the sender and chooses the method; `headers` and `xml` read what
//! was sent; `get`, `put`, `partial`, `uploads`, `page`, `tree`, `propfind`, `proppatch`, `locking` do it through
//! the one door.
//!
//! The methods are ours and not dav-server's: what would be left of it after its defects were fenced off (MEASUREMENTS
//! lists twenty) is less than the fence.

pub mod asked;
pub mod dead;
pub mod get;
pub mod headers;
pub mod live;
pub mod locking;
pub mod locks;
pub mod markup;
pub mod page;
pub mod partial;
pub mod preconditions;
pub mod properties;
pub mod propfind;
pub mod proppatch;
pub mod put;
pub mod request;
pub mod service;
pub mod status;
pub mod tree;
pub mod uploads;
pub mod words;
pub mod xml;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::clock::SystemClock;
use crate::limits::{HANDSHAKE_SECS_MAX, HTTP_BUFFER_BYTES_MAX};
use crate::line;
use crate::line::stream::{Line, Rein};
use crate::vfs::Vfs;
use request::Shared;
use service::Service;

/// What the WebDAV listener needs.
#[derive(Debug, Clone)]
pub struct WebdavOptions {
    /// TLS 1.2 and 1.3, certificate loaded.
    pub tls: Arc<rustls::ServerConfig>,
    /// Authorities accepted in `Destination` besides the request's own `Host`.
    pub public_names: Vec<String>,
    /// Connections in all.
    pub connections_max: usize,
    /// Balancers that say from where a connection comes.
    pub proxy_from: Vec<IpNet>,
}

/// How long the accept loop rests after an error (out of file descriptors).
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves WebDAV until `drain` fires, then lets requests end.
///
/// # Errors
/// None now; the listener's own errors are waited out.
pub async fn serve(
    listener: TcpListener,
    options: Arc<WebdavOptions>,
    accounts: Accounts,
    vfs: Vfs,
    drain: CancellationToken,
) -> anyhow::Result<()> {
    let room = Arc::new(Semaphore::new(options.connections_max));
    let tls = TlsAcceptor::from(Arc::clone(&options.tls));
    let shared = Shared { public_names: options.public_names.clone() };
    let service = Service { shared: Arc::new(shared), accounts, vfs, clock: SystemClock };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((mut stream, peer)) => {
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
                let (tls, service, drain) = (tls.clone(), service.clone(), drain.clone());
                let options = Arc::clone(&options);
                connections.spawn(async move {
                    if let Some(source) = line::source(&mut stream, peer.ip(), &options.proxy_from).await {
                        connection(stream, source, tls, service, drain).await;
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a WebDAV connection");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection(
    stream: TcpStream,
    source: IpAddr,
    tls: TlsAcceptor,
    service: Service,
    drain: CancellationToken,
) {
    let patience = Duration::from_secs(HANDSHAKE_SECS_MAX);
    drop(stream.set_nodelay(true));
    let rein = Arc::new(Rein::default());
    let stream = Line::new(stream, CancellationToken::new(), Arc::clone(&rein));
    let stream = match tokio::time::timeout(patience, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let answer = service_fn(move |mut request: http::Request<Incoming>| {
        let service = service.clone();
        request.extensions_mut().insert(Arc::clone(&rein));
        async move { Ok::<_, Infallible>(service.answer(request, source).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HTTP_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = drain.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a WebDAV connection ended");
    }
}
