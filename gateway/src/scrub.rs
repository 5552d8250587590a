//! The thread that reads every closed pack once in a configured time, at the rate that this takes.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use coffre_storage::scrub::{Scrub, ScrubProgress, ScrubState};
use coffre_storage::time::UnixNanos;
use coffre_storage::{Store, StoreError};

use crate::limits::{SCRUB_RATE_BYTES_MAX, SCRUB_RATE_BYTES_MIN, SCRUB_REST_SECS};

/// The thread. Dropped, it stops at the end of the step that it is at.
#[derive(Debug)]
pub struct Scrubbing {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubbing {
    /// Starts it; without a time nothing is read.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(store: Store, pass_secs: Option<u64>) -> std::io::Result<Self> {
        let Some(pass_secs) = pass_secs else { return Ok(Self { stop: None, thread: None }) };
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("scrub".into())
            .spawn(move || passes(&store, pass_secs, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Scrubbing {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Bytes a second at which so much is read in that time.
fn rate(bytes: u64, pass_secs: u64) -> u64 {
    (bytes / pass_secs.max(1)).clamp(SCRUB_RATE_BYTES_MIN, SCRUB_RATE_BYTES_MAX)
}

/// Whether a pass is under way, or the time of the last one is over.
fn is_due(state: &ScrubState, pass_secs: u64, now: UnixNanos) -> bool {
    let time = i64::try_from(pass_secs).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    state.begun.is_some() || state.last.is_none_or(|last| last.begun.0.saturating_add(time) <= now.0)
}

fn passes(store: &Store, pass_secs: u64, stopped: &Receiver<()>) {
    let mut scrub = None;
    loop {
        let rest = match step(store, &mut scrub, pass_secs) {
            Ok(rest) => rest,
            Err(StoreError::Poisoned) => return,
            Err(error) => {
                tracing::warn!(%error, "the scrub");
                Duration::from_secs(SCRUB_REST_SECS)
            }
        };
        match stopped.recv_timeout(rest) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// One step; how long to rest after it.
fn step(store: &Store, scrub: &mut Option<Scrub>, pass_secs: u64) -> Result<Duration, StoreError> {
    let scrub = match scrub {
        Some(scrub) => scrub,
        none => none.insert(Scrub::resume(store)?),
    };
    if !is_due(&scrub.state(), pass_secs, store.clock_now()) {
        return Ok(Duration::from_secs(SCRUB_REST_SECS));
    }
    let rate = rate(scrub.bytes_in_all()?, pass_secs);
    match scrub.step(rate)? {
        // A batch may be more than a second's worth.
        ScrubProgress::Reading { bytes } => {
            Ok(Duration::from_millis((bytes.saturating_mul(1000) / rate).max(100)))
        }
        ScrubProgress::Done(pass) => {
            tracing::info!(
                packs = pass.packs,
                bytes = pass.bytes,
                damaged = pass.damaged,
                "all packs were read"
            );
            Ok(Duration::from_secs(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_amount_within_its_bounds() {
        const MONTH: u64 = 30 * 86_400;
        assert_eq!(rate(0, MONTH), SCRUB_RATE_BYTES_MIN);
        assert_eq!(rate(MONTH << 20, MONTH), 1 << 20);
        assert_eq!(rate(u64::MAX, MONTH), SCRUB_RATE_BYTES_MAX);
        assert_eq!(rate(1 << 30, 0), SCRUB_RATE_BYTES_MAX);
    }

    #[test]
    fn a_pass_begins_one_time_after_the_last_began() {
        let pass = |begun| coffre_storage::scrub::ScrubPass {
            begun: UnixNanos(begun),
            ended: UnixNanos(begun + 1),
            packs: 0,
            bytes: 0,
            damaged: 0,
        };
        let mut state = ScrubState::default();
        assert!(is_due(&state, 10, UnixNanos(0)));
        state.last = Some(pass(5_000_000_000));
        assert!(!is_due(&state, 10, UnixNanos(14_999_999_999)));
        assert!(is_due(&state, 10, UnixNanos(15_000_000_000)));
        state.begun = Some(UnixNanos(1));
        assert!(is_due(&state, 10, UnixNanos(2)));
    }
}
