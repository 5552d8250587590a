//! WebDAV (RFC 4918) over TLS on hyper: `connection` speaks HTTP/1.1 and 2 within its bounds; `service` proves the
//! sender and chooses the method; `headers` and `xml` read what was sent; `get`, `put`, `partial`, `uploads`, `page`,
//! `tree`, `propfind`, `proppatch`, `locking` do it through the one door.
//!
//! The methods are ours and not dav-server's: what would be left of it after its defects were fenced off (MEASUREMENTS
//! lists twenty) is less than the fence.

pub mod asked;
pub mod body;
mod connection;
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
pub mod settings;
pub mod status;
pub mod tree;
pub mod uploads;
pub mod words;
pub mod xml;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::line;
use crate::line::sources::Sources;
use crate::tls::certificate::Certificates;
use crate::vfs::Vfs;
use connection::Serving;
use request::Shared;
use service::Service;
use settings::Live;

/// What the WebDAV listener needs.
#[derive(Debug, Clone)]
pub struct WebdavOptions {
    /// TLS 1.2 and 1.3.
    pub tls: Arc<rustls::ServerConfig>,
    /// The certificate that it serves.
    pub certificates: Arc<Certificates>,
    /// What may change meanwhile.
    pub settings: Live,
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
    let sources = Sources::default();
    let shared = Shared { settings: options.settings.clone() };
    let serving = Serving {
        tls: TlsAcceptor::from(Arc::clone(&options.tls)),
        certificates: Arc::clone(&options.certificates),
        settings: options.settings.clone(),
        service: Service { shared: Arc::new(shared), accounts, vfs },
        drain: drain.clone(),
    };
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
                let (serving, sources) = (serving.clone(), sources.clone());
                let options = Arc::clone(&options);
                connections.spawn(async move {
                    if let Some(source) = line::source(&mut stream, peer.ip(), &options.proxy_from).await {
                        let max = serving.settings.now().source_connections_max;
                        if let Some(counted) = sources.count(source, max) {
                            connection::serve(stream, source, serving).await;
                            drop(counted);
                        } else {
                            tracing::debug!(%source, "a source has its share of connections");
                        }
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
