//! Large uploads: what is written is stored long before its commit. Nobody sees it until then, it comes back whole, and what
//! is never committed gives its space back. Segments gain holders without being written again.

#![expect(clippy::unwrap_used, reason = "a test's own functions fail the test")]

mod support;

use std::sync::Arc;

use coffre_storage::allowance::{Allowance, Amounts};
use coffre_storage::audit::Action;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::index::Table;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::limits::SEGMENT_BYTES;
use coffre_storage::reclaim::{ExportPolicy, Flow, ReclaimOptions, ReclaimReport};
use coffre_storage::tree::AttributeChange;
use coffre_storage::upload::{Completion, OpenFile, Precondition};
use coffre_storage::{Store, StoreError, StoreOptions, Vault};
use support::clock::{Dial, HOUR};
use support::{assert_clean, draft, noise, read};

const ROOT: InodeId = InodeId::ROOT;
const PACK_BYTES: u64 = 64 << 20;
/// Two pieces in each segment, without storing what lies between.
const STRIDE: u64 = SEGMENT_BYTES / 2;

struct Bench {
    options: StoreOptions,
    index: MemoryIndex,
    dial: Arc<Dial>,
    store: Store,
    id: VaultId,
}

impl Bench {
    /// Stores an upload early, after few chunks.
    fn new() -> Self {
        Self::storing_each(4)
    }

    fn storing_each(settle_chunks: usize) -> Self {
        let (blobs, index, dial) = (MemoryBlobs::default(), MemoryIndex::default(), Arc::<Dial>::default());
        let options = StoreOptions {
            clock: Arc::<Dial>::clone(&dial),
            settle_chunks,
            ..support::options(Arc::new(blobs), &index, PACK_BYTES)
        };
        Store::create(&options).unwrap();
        let store = Store::open(options.clone()).unwrap();
        let id = support::new_vault(&store).unwrap();
        Self { options, index, dial, store, id }
    }

    /// Ends the store as a crash would, and opens it again.
    fn again(self) -> Self {
        self.store.abandon();
        let store = Store::open(self.options.clone()).unwrap();
        Self { store, ..self }
    }

    fn vault(&self) -> Vault {
        self.store.vault(self.id).unwrap()
    }

    fn open(&self, name: &[u8]) -> OpenFile {
        let vault = self.vault();
        let made = vault.create_file(ROOT, name, &AttributeChange::default(), draft(Action::FileCreate));
        vault.open(made.unwrap().value).unwrap()
    }

    fn rows(&self, table: Table) -> usize {
        self.store.checkpoint().unwrap();
        self.index.rows_of(table)
    }

    fn used(&self) -> Amounts {
        self.store.quotas().vault(self.id).used
    }

    fn reserved(&self) -> Amounts {
        self.store.quotas().vault(self.id).reserved
    }

    fn reclaim(&self) -> ReclaimReport {
        self.dial.turn(HOUR);
        let options =
            ReclaimOptions { live_percent_max: 50, grace_secs: 0, export: ExportPolicy::WhenNeeded };
        self.store.reclaim(options, &mut |_, _| Flow::GoOn).unwrap()
    }
}

/// Pieces that lie in many segments, and what they hold.
fn write_pieces(file: &OpenFile, seed: u64) -> Vec<(u64, Vec<u8>)> {
    let pieces = (0..12).map(|n| (n * STRIDE + n * 4096, noise(seed + n, 600_000)));
    let pieces: Vec<(u64, Vec<u8>)> = pieces.collect();
    for (at, bytes) in &pieces {
        file.write_at(*at, bytes).unwrap();
    }
    pieces
}

fn assert_holds(file: &OpenFile, pieces: &[(u64, Vec<u8>)]) {
    for (at, bytes) in pieces {
        assert!(file.read_at(*at, bytes.len()).unwrap() == *bytes, "at {at}");
    }
}

fn commit(file: &OpenFile) {
    file.commit(Completion::Whole, draft(Action::FileWrite)).unwrap().wait().unwrap();
}

#[test]
fn what_is_written_is_stored_before_its_commit_and_seen_only_after_it() {
    let bench = Bench::new();
    let vault = bench.vault();
    let mut upload = vault.begin_upload().unwrap();
    let bytes = noise(1, 8 << 20);
    for piece in bytes.chunks(100_000) {
        upload.write(piece).unwrap();
    }
    assert!(bench.rows(Table::Uploads) > 0, "it was to be stored early");
    assert!(matches!(vault.lookup(ROOT, b"whole"), Err(StoreError::NotFound)));
    assert_eq!(bench.used().bytes, 0);
    assert_clean(&bench.store, "under way");
    let made = upload.commit(
        (ROOT, b"whole"),
        Precondition::Absent,
        &AttributeChange::default(),
        draft(Action::FileWrite),
    );
    let (inode, _) = made.unwrap().wait().unwrap();
    assert!(read(&vault, inode).unwrap() == bytes);
    assert_eq!((bench.rows(Table::Uploads), bench.used().bytes), (0, 8 << 20));
    assert_eq!(bench.reserved(), Amounts::default());
    assert_clean(&bench.store, "committed");
    drop(vault);
    let bench = bench.again();
    assert!(read(&bench.vault(), inode).unwrap() == bytes);
    assert_eq!(bench.reclaim().segments_released, 0);
    assert!(read(&bench.vault(), inode).unwrap() == bytes);
    assert_clean(&bench.store, "opened again");
}

#[test]
fn an_upload_that_is_never_committed_gives_its_space_back() {
    let bench = Bench::new();
    let mut upload = bench.vault().begin_upload().unwrap();
    upload.write(&noise(1, 8 << 20)).unwrap();
    assert!(bench.rows(Table::Uploads) > 0 && bench.used().stored > 0);
    assert_eq!(bench.reclaim().segments_released, 0, "it may still be committed");
    assert_clean(&bench.store, "under way");
    drop(upload);
    let report = bench.reclaim();
    assert!(report.segments_released > 0 && report.chunks_forgotten > 0, "{report:?}");
    assert_eq!(
        (bench.rows(Table::Uploads), bench.rows(Table::Segments), bench.rows(Table::Chunks)),
        (0, 0, 0)
    );
    assert_eq!((bench.used().stored, bench.reserved()), (0, Amounts::default()));
    assert_clean(&bench.store, "given back");
}

#[test]
fn what_uploads_had_stored_when_the_process_died_is_given_back() {
    let bench = Bench::new();
    let file = bench.open(b"f");
    let pieces = write_pieces(&file, 1);
    assert!(bench.rows(Table::Uploads) > 0);
    assert_holds(&file, &pieces);
    drop(file);
    let bench = bench.again();
    let vault = bench.vault();
    let inode = vault.lookup(ROOT, b"f").unwrap().inode;
    assert_eq!(read(&vault, inode).unwrap(), b"", "it was made, and never closed");
    assert_clean(&bench.store, "after the crash");
    assert!(bench.reclaim().segments_released > 0);
    assert_eq!((bench.rows(Table::Uploads), bench.rows(Table::Chunks), bench.used().stored), (0, 0, 0));
    assert_clean(&bench.store, "given back");
}

#[test]
fn what_was_stored_early_may_be_written_over_and_cut_off() {
    let bench = Bench::new();
    let file = bench.open(b"f");
    write_pieces(&file, 1);
    let pieces = write_pieces(&file, 100);
    assert_holds(&file, &pieces);
    commit(&file);
    assert_holds(&file, &pieces);
    assert_clean(&bench.store, "written over");
    // Changed after a commit: the state before stays whole in history, and goes with it.
    let later = write_pieces(&file, 200);
    file.truncate(5 * STRIDE).unwrap();
    assert_clean(&bench.store, "cut off, not committed");
    commit(&file);
    assert_holds(&file, &later[..5]);
    assert_eq!(file.attributes().unwrap().size, 5 * STRIDE);
    assert_clean(&bench.store, "cut off");
    // All of it is cut off and something small comes.
    write_pieces(&file, 300);
    file.truncate(0).unwrap();
    file.write_at(0, b"small").unwrap();
    commit(&file);
    assert_clean(&bench.store, "emptied");
    drop(file);
    bench.reclaim();
    let vault = bench.vault();
    let inode = vault.lookup(ROOT, b"f").unwrap().inode;
    assert_eq!(read(&vault, inode).unwrap(), b"small");
    assert_eq!(
        (bench.rows(Table::Uploads), bench.rows(Table::Segments), bench.rows(Table::Chunks)),
        (0, 0, 1)
    );
    assert_clean(&bench.store, "given back");
}

#[test]
fn a_file_without_a_name_keeps_what_was_written_for_those_who_have_it_open() {
    let bench = Bench::new();
    let (vault, file) = (bench.vault(), bench.open(b"f"));
    vault.remove(ROOT, b"f", draft(Action::Remove)).unwrap().wait().unwrap();
    let pieces = write_pieces(&file, 1);
    commit(&file);
    for _ in 0..3 {
        bench.reclaim();
    }
    assert_holds(&file, &pieces);
    assert_clean(&bench.store, "open");
    drop(file);
    bench.reclaim();
    assert_eq!((bench.rows(Table::Segments), bench.rows(Table::Chunks)), (0, 0));
    assert_clean(&bench.store, "closed");
}

#[test]
fn a_refused_commit_may_be_made_again_and_loses_nothing() {
    let bench = Bench::new();
    let file = bench.open(b"f");
    let pieces = write_pieces(&file, 1);
    let allow = |limits| {
        let set = bench.store.set_vault_allowance(bench.id, |_| limits, draft(Action::VaultChange));
        set.unwrap().wait().unwrap();
    };
    let limited = Allowance { bytes_max: Some(1 << 20), ..Allowance::default() };
    allow(limited);
    // What it holds was taken before the limit came; it is asked for again only for what grows.
    let refused = file.write_at(20 * STRIDE, &noise(7, 100_000));
    assert!(matches!(refused, Err(StoreError::QuotaExceeded { .. })), "{refused:?}");
    allow(Allowance::default());
    commit(&file);
    assert_holds(&file, &pieces);
    assert_clean(&bench.store, "committed");
}

#[test]
fn a_change_of_a_long_file_writes_the_segments_that_it_touches_and_no_other() {
    let bench = Bench::new();
    let file = bench.open(b"f");
    write_pieces(&file, 1);
    commit(&file);
    let segments = bench.rows(Table::Segments);
    assert!(segments >= 6, "{segments}");
    let batches = |bench: &Bench| bench.store.status().commit_number;
    let before = batches(&bench);
    file.write_at(0, b"one byte more").unwrap();
    commit(&file);
    assert!(batches(&bench) > before);
    assert_eq!(bench.rows(Table::Segments), segments + 1, "one segment has a new state");
    assert_eq!(bench.rows(Table::Shares), segments - 1, "the others have one holder more");
    assert_clean(&bench.store, "two states");
    // Copies hold them too, and each lets go for itself.
    let vault = bench.vault();
    let inode = file.inode();
    drop(file);
    for name in [b"c1", b"c2"] {
        let copy = bench.open(name);
        let source = vault.open(inode).unwrap();
        let shared = copy.share_content_of(&source, draft(Action::FileWrite)).unwrap().unwrap();
        shared.wait().unwrap();
    }
    assert_clean(&bench.store, "copies");
    vault.remove(ROOT, b"f", draft(Action::Remove)).unwrap().wait().unwrap();
    vault.remove(ROOT, b"c1", draft(Action::Remove)).unwrap().wait().unwrap();
    bench.reclaim();
    assert_eq!((bench.rows(Table::Segments), bench.rows(Table::Shares)), (segments, 0), "one copy is left");
    assert_clean(&bench.store, "one copy");
    let left = vault.lookup(ROOT, b"c2").unwrap().inode;
    assert_holds(&vault.open(left).unwrap(), &[(STRIDE + 4096, noise(2, 600_000))]);
    vault.remove(ROOT, b"c2", draft(Action::Remove)).unwrap().wait().unwrap();
    bench.reclaim();
    assert_eq!((bench.rows(Table::Segments), bench.rows(Table::Chunks)), (0, 0));
}

#[test]
fn a_file_in_more_fragments_than_a_segment_holds_is_refused_and_what_was_committed_stays() {
    let bench = Bench::storing_each(1 << 14);
    let file = bench.open(b"f");
    file.write_at(0, b"first").unwrap();
    commit(&file);
    let mut refused = None;
    for n in 1..100_000_u64 {
        refused = file.write_at(n * 600, &n.to_le_bytes()).err();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.or_else(|| file.commit(Completion::Whole, draft(Action::FileWrite)).err());
    assert!(matches!(refused, Some(StoreError::TooLarge(_))), "{refused:?}");
    assert_clean(&bench.store, "refused");
    drop(file);
    let vault = bench.vault();
    let inode = vault.lookup(ROOT, b"f").unwrap().inode;
    assert_eq!(read(&vault, inode).unwrap(), b"first");
    bench.reclaim();
    assert_eq!(bench.rows(Table::Uploads), 0);
    assert_clean(&bench.store, "given back");
}
