//! Where storage's blocking calls run: on the runtime's bounded pool, or, when they are brief and nothing else is asked of
//! storage, where they are: a client that waits for each of its answers would pay for four changes of thread with each.
//!
//! Invariant: one call at most runs in place, and only where other workers are left to serve everybody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::VfsError;

/// Calls under way, wherever they run.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// One of them.
struct Call;

impl Call {
    fn begin() -> Self {
        CALLS.fetch_add(1, Ordering::AcqRel);
        Self
    }

    /// If there is no other.
    fn alone() -> Option<Self> {
        CALLS.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok().then(|| Self)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        CALLS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs a call on the pool.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VfsError> + Send + 'static,
) -> Result<T, VfsError> {
    let call = Call::begin();
    let done = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(call);
        result
    });
    done.await.unwrap_or(Err(VfsError::Interrupted))
}

/// Runs a call that takes no longer than a look into the index or a small change of it.
pub(super) async fn brief<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VfsError> + Send + 'static,
) -> Result<T, VfsError> {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    match if workers > 1 { Call::alone() } else { None } {
        // What a panic leaves behind is what it leaves on the pool.
        Some(_alone) => catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(VfsError::Interrupted)),
        None => blocking(work).await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// The thread on which a brief call runs.
    async fn thread_of_brief() -> thread::ThreadId {
        brief(|| Ok(thread::current().id())).await.unwrap()
    }

    #[test]
    fn a_brief_call_runs_in_place_when_it_is_alone_and_on_the_pool_beside_others() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let here = async { (thread::current().id(), thread_of_brief().await) };
        let (asked, ran) = runtime.block_on(runtime.spawn(here)).unwrap();
        assert_eq!(asked, ran);

        let (begun, has_begun) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let other = runtime.spawn(blocking(move || {
            begun.send(()).unwrap();
            ends.recv().unwrap();
            Ok(())
        }));
        has_begun.recv().unwrap();
        let there = async { (thread::current().id(), thread_of_brief().await) };
        let (asked, ran) = runtime.block_on(runtime.spawn(there)).unwrap();
        assert_ne!(asked, ran);
        end.send(()).unwrap();
        runtime.block_on(other).unwrap().unwrap();

        let broken = runtime.block_on(runtime.spawn(brief(|| -> Result<(), _> { panic!("for the test") })));
        assert!(matches!(broken.unwrap(), Err(VfsError::Interrupted)));
        assert_eq!(CALLS.load(Ordering::Acquire), 0);
    }
}
