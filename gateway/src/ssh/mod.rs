//! SSH transport on russh: accept loop, limits, login; carries the sftp subsystem.

mod admission;
mod algorithms;
mod connection;
mod stream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use russh::server::Config;
use russh::{Disconnect, MethodKind, MethodSet, SshId};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::limits::{AUTH_ATTEMPTS_MAX, KEEPALIVE_SECS, SSH_PACKET_BYTES_MAX, WINDOW_BYTES_START};
use crate::session::Traffic;
use crate::vfs::Vfs;
use admission::{Admission, Admitted};
use connection::{Connection, Shared};
use stream::Cuttable;

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

/// How long a connection has to say good-bye before it is cut.
const FAREWELL: Duration = Duration::from_millis(300);
/// How long the accept loop rests after an error (out of file descriptors).
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves SSH until `drain` fires, then lets sessions end.
///
/// # Errors
/// None now; the listener's own errors are waited out.
pub async fn serve(
    listener: TcpListener,
    options: Arc<SshOptions>,
    accounts: Accounts,
    vfs: Vfs,
    drain: CancellationToken,
) -> anyhow::Result<()> {
    let admission = Arc::new(Admission::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(admitted) = admission.admit(options.connections_max) {
                    let served = Served {
                        options: Arc::clone(&options),
                        accounts: accounts.clone(),
                        vfs: vfs.clone(),
                        admission: Arc::clone(&admission),
                        drain: drain.clone(),
                    };
                    connections.spawn(served.run(stream, peer, admitted));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accepting an SSH connection");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// What every connection of a listener has.
struct Served {
    options: Arc<SshOptions>,
    accounts: Accounts,
    vfs: Vfs,
    admission: Arc<Admission>,
    drain: CancellationToken,
}

impl Served {
    fn config(&self) -> Config {
        Config {
            server_id: SshId::Standard(concat!("SSH-2.0-Coffre_", env!("CARGO_PKG_VERSION")).into()),
            methods: MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..]),
            auth_rejection_time: Duration::from_millis(500),
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: self.options.host_keys.clone(),
            window_size: WINDOW_BYTES_START,
            maximum_packet_size: SSH_PACKET_BYTES_MAX,
            event_buffer_size: 16,
            preferred: algorithms::preferred(),
            max_auth_attempts: AUTH_ATTEMPTS_MAX,
            inactivity_timeout: None,
            keepalive_interval: Some(Duration::from_secs(KEEPALIVE_SECS)),
            keepalive_max: 3,
            nodelay: true,
            ..Config::default()
        }
    }

    async fn run(self, stream: TcpStream, peer: SocketAddr, admitted: Admitted) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay");
        }
        let cut = CancellationToken::new();
        let shared = Arc::new(Shared {
            session: OnceLock::new(),
            authenticated: CancellationToken::new(),
            traffic: Arc::new(Traffic::default()),
            admitted: Mutex::new(admitted),
        });
        let connection = Connection {
            accounts: self.accounts.clone(),
            vfs: self.vfs.clone(),
            admission: Arc::clone(&self.admission),
            source: peer.ip().to_canonical(),
            shared: Arc::clone(&shared),
            drain: self.drain.clone(),
            channels: HashMap::new(),
            channels_opened: 0,
        };
        let grace = Duration::from_secs(self.options.login_grace_secs);
        let begun = tokio::time::Instant::now();
        let config = Arc::new(self.config());
        let started = tokio::time::timeout(
            grace,
            russh::server::run_stream(config, Cuttable::new(stream, cut.clone()), connection),
        );
        let Ok(Ok(mut running)) = started.await else { return };
        let handle = running.handle();
        let watch = async {
            let late = tokio::select! {
                () = shared.authenticated.cancelled() => false,
                () = tokio::time::sleep_until(begun + grace) => true,
                () = self.drain.cancelled() => true,
            };
            let reason = match shared.session.get() {
                Some(session) if !late => {
                    session.ended.cancelled().await;
                    "the session has ended"
                }
                Some(_) | None => "the login took too long",
            };
            let farewell = handle.disconnect(Disconnect::ByApplication, reason.to_owned(), "en".to_owned());
            drop(tokio::time::timeout(FAREWELL, farewell).await);
            tokio::time::sleep(FAREWELL).await;
            cut.cancel();
        };
        tokio::select! {
            ended = &mut running => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an SSH connection ended");
                }
            }
            () = watch => drop((&mut running).await),
        }
        self.close(&shared).await;
    }

    async fn close(&self, shared: &Shared) {
        let Some(session) = shared.session.get().cloned() else { return };
        let (received, sent) = (&shared.traffic.received, &shared.traffic.sent);
        let totals = [received, sent].map(|counter| counter.load(std::sync::atomic::Ordering::Relaxed));
        let accounts = self.accounts.clone();
        let [received, sent] = totals;
        drop(tokio::task::spawn_blocking(move || accounts.close_session(&session, received, sent)).await);
    }
}
