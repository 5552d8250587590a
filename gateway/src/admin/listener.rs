//! The server's end of `admin.sock`: same machine, same user or root, one request a connection.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::service::Service;
use super::{Reply, Request};
use crate::limits::ADMIN_REQUEST_BYTES_MAX;

/// Name of the socket in the data directory.
pub const SOCKET_NAME: &str = "admin.sock";

/// Answers waiting for a slow reader.
const REPLIES_MAX: usize = 16;

/// Where the socket of a data directory is.
pub fn socket_path(data: &Path) -> PathBuf {
    data.join(SOCKET_NAME)
}

/// Binds the socket; the store's lock has shown that no other server lives, so what is there is a leftover.
///
/// # Errors
/// The system's.
pub fn bind(data: &Path) -> std::io::Result<UnixListener> {
    let path = socket_path(data);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until `drain` fires.
pub async fn serve(listener: UnixListener, service: Service, drain: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = drain.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "admin socket");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let own = rustix::process::geteuid().as_raw();
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == own || peer.uid() == 0 => {
                let service = service.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, service).await {
                        tracing::debug!(%error, "admin connection");
                    }
                });
            }
            Ok(_) | Err(_) => tracing::warn!("somebody else's process spoke to the admin socket"),
        }
    }
}

async fn converse(stream: UnixStream, service: Service) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    // It may hold a passphrase.
    let mut line = zeroize::Zeroizing::new(Vec::new());
    BufReader::new(reader.take(ADMIN_REQUEST_BYTES_MAX)).read_until(b'\n', &mut line).await?;
    let (tell, mut replies) = mpsc::channel(REPLIES_MAX);
    match serde_json::from_slice::<Request>(&line) {
        Ok(request) => drop(tokio::task::spawn_blocking(move || {
            let progress = tell.clone();
            let last = match service.execute(request, &mut |done, total| {
                // A reader that is slow misses a step of the progress bar.
                drop(progress.try_send(Reply::Progress { done, total }));
            }) {
                Ok(answer) => Reply::Done(answer),
                Err(error) => Reply::Failed(format!("{error:#}")),
            };
            drop(tell.blocking_send(last));
        })),
        Err(error) => drop(tell.send(Reply::Failed(format!("not a request: {error}"))).await),
    }
    while let Some(reply) = replies.recv().await {
        let mut bytes = serde_json::to_vec(&reply)?;
        bytes.push(b'\n');
        writer.write_all(&bytes).await?;
    }
    writer.shutdown().await
}
