//! A connection's life: who, from where, over what, and whether it still may.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffre_auth::Principal;
use coffre_storage::audit::{Action, Actor, Protocol, RecordDraft};
use tokio_util::sync::CancellationToken;

use crate::line::pace::Pace;

/// A live session. Ends when its connection ends or when its credential, user or customer stops being valid; `ended`
/// fires then, and every operation is refused from that moment on.
#[derive(Debug)]
pub struct Session {
    /// Random, in every audit record of the session.
    pub id: [u8; 16],
    /// Who.
    pub principal: Principal,
    /// Over what.
    pub protocol: Protocol,
    /// From where.
    pub source: IpAddr,
    /// How fast its connection may be.
    pub pace: Pace,
    /// Fires at revocation, expiry, disable, drain: the protocol closes the connection.
    pub ended: CancellationToken,
}

/// Bytes that a connection's channels carried.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the client.
    pub received: AtomicU64,
    /// To the client.
    pub sent: AtomicU64,
}

impl Traffic {
    /// Bytes both ways.
    pub fn moved(&self) -> u64 {
        self.received.load(Ordering::Relaxed).wrapping_add(self.sent.load(Ordering::Relaxed))
    }
}

/// A session shared by the tasks of a connection.
pub type SharedSession = Arc<Session>;

impl Session {
    /// Whether operations are still allowed.
    pub fn is_live(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// The beginning of an audit record of this session.
    pub fn record(&self, action: Action) -> RecordDraft {
        RecordDraft {
            customer: Some(self.principal.customer.0),
            credential: Some(self.principal.credential.0.clone()),
            factors: self.principal.factors.iter().map(|factor| factor.name()).collect(),
            source: Some(self.source),
            protocol: self.protocol,
            session: Some(self.id),
            ..RecordDraft::new(Actor::User(self.principal.user.0), action)
        }
    }
}
