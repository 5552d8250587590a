//! SSH transport on russh: accept loop, limits, login; carries the sftp subsystem and a few commands.

mod admission;
mod algorithms;
mod connection;
mod left;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ipnet::IpNet;
use russh::server::Config;
use russh::{Disconnect, Limits, MethodSet, SshId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::accounts::dialogue::Dialogue;
use crate::limits::{
    ANSWER_GRACE, AUTH_ATTEMPTS_MAX, KEEPALIVES_MAX, REKEY_BYTES, REKEY_SECS, SSH_PACKET_BYTES_MAX,
    WINDOW_BYTES_START,
};
use crate::line;
use crate::line::stream::{Line, Rein};
use crate::session::Traffic;
use crate::vfs::Vfs;
use admission::{Admission, Admitted};
use algorithms::Client;
use connection::{COMMANDS_OVER, Connection, METHODS, Shared};

/// What the SSH listener needs.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// Ed25519 and ECDSA host keys.
    pub host_keys: Vec<russh::keys::PrivateKey>,
    /// Seconds a connection may take to log in.
    pub login_grace_secs: u64,
    /// Connections in all.
    pub connections_max: usize,
    /// Balancers that say from where a connection comes.
    pub proxy_from: Vec<IpNet>,
    /// How often a silent client is asked for a sign of life.
    pub keepalive: Duration,
    /// How long a session may last without a byte of a channel's moving.
    pub idle: Option<Duration>,
}

/// How long a connection has to say good-bye before it is cut.
const FAREWELL: Duration = Duration::from_millis(300);
/// How often within the time allowed it is looked whether bytes moved: so much later at most a session ends.
const IDLE_LOOKS: u32 = 10;
/// And not more often than this.
const IDLE_LOOK_MIN: Duration = Duration::from_millis(100);
/// How often it is looked whether the last transfer has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(50);
/// Bytes of an identification string that tell the library and its version.
const IDENT_BYTES: usize = 32;
/// How long a client may take to say who it is before it is taken for any: few wait to hear the server first.
const IDENT_WAIT: Duration = Duration::from_millis(300);
/// How long the accept loop rests after an error (out of file descriptors).
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Who a client says that it is. Both sides speak first (RFC 4253 section 4.2), so this waits for nobody who does; what is
/// looked at stays to be read.
async fn client_of(stream: &TcpStream) -> Client {
    let mut sent = [0; IDENT_BYTES];
    match tokio::time::timeout(IDENT_WAIT, stream.peek(&mut sent)).await {
        Ok(Ok(len)) => Client::of(sent.get(..len).unwrap_or_default()),
        Ok(Err(_)) | Err(_) => Client::Any,
    }
}

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
    fn config(&self, client: Client) -> Config {
        Config {
            server_id: SshId::Standard(concat!("SSH-2.0-Coffre_", env!("CARGO_PKG_VERSION")).into()),
            methods: MethodSet::from(&METHODS[..]),
            auth_rejection_time: Duration::from_millis(500),
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: self.options.host_keys.clone(),
            window_size: WINDOW_BYTES_START,
            maximum_packet_size: SSH_PACKET_BYTES_MAX,
            event_buffer_size: 16,
            preferred: algorithms::preferred(client),
            max_auth_attempts: AUTH_ATTEMPTS_MAX,
            inactivity_timeout: None,
            limits: Limits::new(REKEY_BYTES, REKEY_BYTES, Duration::from_secs(REKEY_SECS)),
            keepalive_interval: Some(self.options.keepalive),
            keepalive_max: KEEPALIVES_MAX,
            nodelay: true,
            ..Config::default()
        }
    }

    async fn run(self, mut stream: TcpStream, peer: SocketAddr, admitted: Admitted) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay");
        }
        let begun = tokio::time::Instant::now();
        let Some(source) = line::source(&mut stream, peer.ip(), &self.options.proxy_from).await else {
            return;
        };
        let client = client_of(&stream).await;
        let cut = CancellationToken::new();
        let shared = Arc::new(Shared {
            session: OnceLock::new(),
            authenticated: CancellationToken::new(),
            is_answering: CancellationToken::new(),
            traffic: Arc::new(Traffic::default()),
            admitted: Mutex::new(admitted),
            rein: Arc::new(Rein::default()),
            busy: Arc::new(()),
            under_way: Arc::new(()),
            is_over: Notify::new(),
        });
        let connection = Connection {
            dialogue: Dialogue::new(self.accounts.clone(), source),
            vfs: self.vfs.clone(),
            admission: Arc::clone(&self.admission),
            shared: Arc::clone(&shared),
            drain: self.drain.clone(),
            channels: HashMap::new(),
            left: self.admission.left(),
        };
        let grace = Duration::from_secs(self.options.login_grace_secs);
        let config = Arc::new(self.config(client));
        let line = Line::new(stream, cut.clone(), Arc::clone(&shared.rein));
        let started =
            tokio::time::timeout_at(begun + grace, russh::server::run_stream(config, line, connection));
        let Ok(Ok(mut running)) = started.await else { return };
        let handle = running.handle();
        let watch = async {
            let reason = self.reason_to_end(&shared, (begun + grace, begun + ANSWER_GRACE.max(grace))).await;
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

    /// Waits until this side has a reason to end the connection.
    async fn reason_to_end(
        &self,
        shared: &Shared,
        (login_until, answers_until): (tokio::time::Instant, tokio::time::Instant),
    ) -> &'static str {
        tokio::select! {
            biased;
            () = shared.authenticated.cancelled() => {}
            () = self.drain.cancelled() => {}
            () = tokio::time::sleep_until(login_until) => {
                // Somebody who types gets as long as a login may take in all.
                if shared.is_answering.is_cancelled() {
                    tokio::select! {
                        () = shared.authenticated.cancelled() => {}
                        () = tokio::time::sleep_until(answers_until) => {}
                        () = self.drain.cancelled() => {}
                    }
                }
            }
        }
        let Some(session) = shared.session.get() else { return "the login took too long" };
        tokio::select! {
            () = session.ended.cancelled() => "the session has ended",
            () = self.idled(shared) => "nothing moved for too long",
            () = shared.is_over.notified() => COMMANDS_OVER,
            () = self.drained(shared) => "the server stops",
        }
    }

    /// Waits until no byte of a channel's has moved for as long as is allowed. What russh sends by itself to see whether the
    /// client lives moves none.
    async fn idled(&self, shared: &Shared) {
        let Some(idle) = self.options.idle else { return std::future::pending().await };
        let (mut moved, mut since) = (shared.traffic.moved(), tokio::time::Instant::now());
        while since.elapsed() < idle {
            tokio::time::sleep((idle / IDLE_LOOKS).max(IDLE_LOOK_MIN)).await;
            let now = shared.traffic.moved();
            if now != moved {
                (moved, since) = (now, tokio::time::Instant::now());
            }
        }
    }

    /// Waits until the server stops and nothing of this connection is under way.
    async fn drained(&self, shared: &Shared) {
        self.drain.cancelled().await;
        while shared.is_busy() {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
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
