//! The line to a client, below SSH and TLS: from where it comes, how fast it may be, what of it waits, and its end.

pub mod inlet;
pub mod least;
pub mod pace;
pub mod proxy;
pub mod sources;
pub mod stream;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;

use crate::limits::PROXY_SECS_MAX;

/// Where a connection comes from: the peer, or what a balancer of `trusted` says in its header, which it must send first.
/// Nothing when it does not: such a connection is of no use.
pub async fn source(stream: &mut TcpStream, peer: IpAddr, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if !trusted.iter().any(|network| network.contains(&peer)) {
        return Some(peer);
    }
    let patience = Duration::from_secs(PROXY_SECS_MAX);
    match tokio::time::timeout(patience, proxy::read_header(stream)).await {
        Ok(Ok(said)) => Some(said.map_or(peer, |said| said.to_canonical())),
        Ok(Err(error)) => {
            tracing::info!(%error, %peer, "a connection through a balancer is refused");
            None
        }
        Err(_) => {
            tracing::info!(%peer, "a balancer sent no PROXY header in time");
            None
        }
    }
}
