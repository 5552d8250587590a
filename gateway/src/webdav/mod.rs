//! WebDAV over TLS on hyper: authentication, XML pre-scan and policy in front of dav-server over the one door.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::vfs::Vfs;

/// What the WebDAV listener needs.
#[derive(Debug, Clone)]
pub struct WebdavOptions {
    /// TLS 1.2 and 1.3, certificate loaded.
    pub tls: Arc<rustls::ServerConfig>,
    /// Authorities accepted in `Destination` besides the request's own `Host`.
    pub public_names: Vec<String>,
    /// Connections in all.
    pub connections_max: usize,
}

/// Serves WebDAV until `drain` fires, then lets requests end.
///
/// # Errors
/// When the listener fails.
#[allow(unused_variables, clippy::unused_async, reason = "signatures")]
pub async fn serve(listener: TcpListener, options: Arc<WebdavOptions>, accounts: Accounts, vfs: Vfs, drain: CancellationToken)
    -> anyhow::Result<()> { todo!() }
