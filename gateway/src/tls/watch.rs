//! The thread that keeps the served certificate that of its files: it looks at them every few seconds, and at once when it is
//! asked to (SIGHUP). What it does is recorded; what an operator must see to is an incident.
//!
//! Files that change are read when they have not changed between two looks: a chain and its key are two files, and who
//! replaces them does it one after the other.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use coffre_storage::audit::{Action, Actor, Outcome, RecordDraft};
use coffre_storage::tree::{IncidentDraft, IncidentKind};
use coffre_storage::{Store, StoreError};

use super::certificate::{Certificate, Certificates, Files};
use crate::limits::{CERTIFICATE_LOOK_SECS, CERTIFICATE_WARNING_SECS};
use crate::units::moment;

const NANOS: i64 = 1_000_000_000;

/// The thread. Dropped, it ends.
#[derive(Debug)]
pub struct CertificateWatch {
    asked: Option<Sender<Files>>,
    thread: Option<JoinHandle<()>>,
}

/// What tells one content of a file from another without reading it.
type Stamp = (u64, u64, i64, i64, u64);

/// What the thread knows.
#[derive(Debug)]
struct Watch {
    store: Store,
    served: Arc<Certificates>,
    files: Files,
    /// What was read last, good or not.
    read: [Option<Stamp>; 2],
    /// What was there at the last look.
    seen: [Option<Stamp>; 2],
    told: Option<Told>,
}

/// What was told of a certificate that ends then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    ends_at: i64,
    has_ended: bool,
}

impl CertificateWatch {
    /// Starts it.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(store: Store, served: Arc<Certificates>, files: Files) -> std::io::Result<Self> {
        let (asked, questions) = channel::<Files>();
        let stamps = stamps(&files);
        let mut watch = Watch { store, served, files, read: stamps, seen: stamps, told: None };
        let thread = std::thread::Builder::new().name("certificate".into()).spawn(move || {
            let rest = Duration::from_secs(CERTIFICATE_LOOK_SECS);
            loop {
                watch.tell_of_the_end();
                match questions.recv_timeout(rest) {
                    Ok(files) => {
                        watch.files = files;
                        watch.reload();
                    }
                    Err(RecvTimeoutError::Timeout) => watch.look(),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { asked: Some(asked), thread: Some(thread) })
    }

    /// Where files to be read now are sent to.
    ///
    /// The thread ends when nobody can send any more: whoever holds this must be gone before the watch is dropped.
    pub fn taking(&self) -> Option<Sender<Files>> {
        self.asked.clone()
    }

    /// Has the files read now, whether they have changed or not.
    pub fn reload(&self, files: Files) {
        // The thread ends with this value only.
        if let Some(asked) = &self.asked {
            drop(asked.send(files));
        }
    }
}

impl Drop for CertificateWatch {
    fn drop(&mut self) {
        drop(self.asked.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn stamps(files: &Files) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
    })
}

impl Watch {
    fn look(&mut self) {
        let before = std::mem::replace(&mut self.seen, stamps(&self.files));
        if self.seen != self.read && self.seen == before {
            self.reload();
        }
    }

    fn reload(&mut self) {
        self.seen = stamps(&self.files);
        self.read = self.seen;
        let now = self.now_secs();
        match self.served.reload(&self.files, now) {
            Ok(false) => {}
            Ok(true) => {
                let ends = end_of(&self.served.current());
                tracing::info!(%ends, "new connections get the new certificate");
                keep(&self.store, Outcome::Done, format!("it ends at {ends}"), None);
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate is not used, the former one is");
                let text = format!("a new one is not used: {error}");
                keep(&self.store, Outcome::Failed, error.to_string(), Some(text));
            }
        }
    }

    /// Raises an incident when the end is near, and another when it has come: once for each certificate.
    fn tell_of_the_end(&mut self) {
        let (current, now) = (self.served.current(), self.now_secs());
        if now < current.ends_at.saturating_sub(CERTIFICATE_WARNING_SECS) {
            return;
        }
        let told = Told { ends_at: current.ends_at, has_ended: now >= current.ends_at };
        if self.told == Some(told) {
            return;
        }
        self.told = Some(told);
        let verb = if told.has_ended { "ended" } else { "ends" };
        let text = format!("it {verb} at {}", end_of(&current));
        tracing::warn!("the certificate of [webdav]: {text}");
        note(self.store.raise_incident(incident(text)).map(drop));
    }

    fn now_secs(&self) -> i64 {
        self.store.clock_now().0.div_euclid(NANOS)
    }
}

/// Records a change that was made or not, with an incident if somebody must see to it.
pub(super) fn keep(store: &Store, outcome: Outcome, reason: String, text: Option<String>) {
    let record = RecordDraft {
        outcome,
        reason: Some(reason),
        ..RecordDraft::new(Actor::System, Action::CertificateChange)
    };
    let kept = || -> Result<(), StoreError> {
        let mut txn = store.begin()?;
        if let Some(text) = text {
            store.add_incident(&mut txn, incident(text))?;
        }
        txn.audit(record, None);
        txn.submit().map(drop)
    };
    note(kept());
}

fn note(kept: Result<(), StoreError>) {
    if let Err(error) = kept {
        tracing::warn!(%error, "what became of a certificate could not be recorded");
    }
}

fn incident(text: String) -> IncidentDraft {
    IncidentDraft { text: Some(text), ..IncidentDraft::new(IncidentKind::Certificate) }
}

fn end_of(certificate: &Certificate) -> String {
    moment(certificate.ends_at.saturating_mul(NANOS))
}
