//! SSH transport on russh: accept loop, limits, login; carries the sftp subsystem.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::vfs::Vfs;

/// What the SSH listener needs.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// Ed25519 and ECDSA host keys.
    pub host_keys: Vec<russh::keys::PrivateKey>,
    /// Seconds a connection may take to log in.
    pub login_grace_secs: u64,
    /// Connections in all.
    pub connections_max: usize,
}

/// Serves SSH until `drain` fires, then lets sessions end.
///
/// # Errors
/// When the listener fails.
#[allow(unused_variables, clippy::unused_async, reason = "signatures")]
pub async fn serve(listener: TcpListener, options: Arc<SshOptions>, accounts: Accounts, vfs: Vfs, drain: CancellationToken)
    -> anyhow::Result<()> { todo!() }
