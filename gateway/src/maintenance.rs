//! The thread that gives space back while the server serves: what was begun to be uploaded and waited too long goes, then
//! passes of reclaim, slowed down to the configured rate.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use coffre_storage::reclaim::{ExportPolicy, Flow};
use coffre_storage::time::UnixNanos;
use coffre_storage::{Store, StoreError};

use crate::config::Upkeep;
use crate::limits::PARTS_KEPT_SECS;

/// The thread. Dropped, it stops at the end of the step that it is at.
#[derive(Debug)]
pub struct Maintenance {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    /// Starts it.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(store: Store, upkeep: Upkeep) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("maintenance".into())
            .spawn(move || passes(&store, upkeep, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Waits; tells whether to go on.
fn rested(stopped: &Receiver<()>, time: Duration) -> Flow {
    match stopped.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Flow::GoOn,
        Ok(()) | Err(RecvTimeoutError::Disconnected) => Flow::Stop,
    }
}

/// Gives up what clients began to upload in parts and did not go on with.
fn give_up_parts(store: &Store) {
    let before = UnixNanos(store.clock_now().0.saturating_sub(PARTS_KEPT_SECS.saturating_mul(1_000_000_000)));
    let given_up = || -> Result<u64, StoreError> {
        let mut count = 0;
        for vault in store.vaults()? {
            // One that is erased or cannot be opened has none.
            if let Ok(vault) = store.vault(vault.id) {
                match vault.abandon_parts_older_than(before) {
                    // It was locked just now.
                    Err(StoreError::VaultLocked(_)) => {}
                    other => count += other?,
                }
            }
        }
        Ok(count)
    };
    match given_up() {
        Ok(0) => {}
        Ok(uploads) => tracing::info!(uploads, "uploads in parts given up"),
        Err(error) => tracing::warn!(%error, "giving up uploads in parts"),
    }
}

fn passes(store: &Store, upkeep: Upkeep, stopped: &Receiver<()>) {
    let options = upkeep.reclaim(ExportPolicy::OlderThan(upkeep.export_secs));
    while rested(stopped, Duration::from_secs(upkeep.interval_secs)) == Flow::GoOn {
        let mut pace = |_: &_, bytes: u64| {
            // Somebody at a terminal waits for this pass to end.
            let time = if store.is_reclaim_awaited() { Duration::ZERO } else { upkeep.rest_after(bytes) };
            rested(stopped, time)
        };
        give_up_parts(store);
        match store.reclaim(options, &mut pace) {
            Ok(report) if report.packs_removed > 0 => {
                tracing::info!(packs = report.packs_removed, bytes = report.bytes_freed, "space given back");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "giving space back"),
        }
    }
}
