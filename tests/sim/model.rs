//! Random operations on the door to files and on a tree in memory give the same answers, across clean stops and crashes
//! of the store. Every operation goes through `vfs`, as the protocols' do. Earlier moments are looked at below `/.snapshots`
//! all the while, and put back from time to time (`history`).
//!
//! `COFFRE_MODEL_SEED` repeats a failed run, `COFFRE_MODEL_STEPS` makes runs longer.

mod history;
mod reference;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use coffre::session::Session;
use coffre::vfs::{
    AttributeChange, Creation, FileHandle, Follow, Kind, Namespace, OpenOptions, Precondition, Replace,
    UnixNanos, VaultPath, Vfs, VfsError,
};
use coffre_auth::{CredentialId, CustomerId, Factor, Mount, Principal, RightsSet, UserId};
use coffre_storage::audit::{Action, Actor, Protocol, RecordDraft};
use coffre_storage::blob::BlobStore;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::check::CheckOptions;
use coffre_storage::commit::IndexChoice;
use coffre_storage::id::{OwnerId, VaultId};
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::keys::{GatewayKey, Secret32};
use coffre_storage::time::Clock;
use coffre_storage::{Store, StoreError, StoreOptions};
use history::Moment;
use reference::{Problem, Reference, Shape};
use tokio_util::sync::CancellationToken;

/// Small, so that a run goes through many packs.
const PACK_BYTES: u64 = 16 << 20;
const HANDLES_MAX: usize = 6;
/// States are kept for longer than any run goes on.
const YEAR_SECS: u64 = 365 * 86_400;

/// A clock that goes on by a millisecond at each look.
#[derive(Debug, Default)]
struct Tick(AtomicI64);

impl Clock for Tick {
    fn now(&self) -> UnixNanos {
        UnixNanos(1_700_000_000_000_000_000 + self.0.fetch_add(1_000_000, Ordering::Relaxed))
    }
    fn boot_nanos(&self) -> u64 {
        1
    }
}

/// Numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    fn bytes(&mut self, max: u64) -> Vec<u8> {
        let len = usize::try_from(self.below(max) + 1).unwrap_or(1);
        coffre_tests::files::noise(self.below(1 << 30), len)
    }

    /// Few names and little depth, so that operations meet.
    fn path(&mut self) -> Vec<u8> {
        let mut path = Vec::new();
        for _ in 0..=self.below(3) {
            path.push(b'/');
            path.push([b'a', b'b', b'c', 0xe9][self.index(4)]);
        }
        path
    }

    fn replace(&mut self) -> Replace {
        [Replace::Never, Replace::Posix, Replace::Tree][self.index(3)]
    }
}

struct World {
    blobs: Arc<MemoryBlobs>,
    index: MemoryIndex,
    clock: Arc<Tick>,
    vault: VaultId,
    store: Store,
    namespace: Namespace,
}

fn options(blobs: &Arc<MemoryBlobs>, index: &MemoryIndex, clock: &Arc<Tick>) -> StoreOptions {
    StoreOptions {
        directory: std::path::PathBuf::new(),
        blobs: Arc::clone(blobs) as Arc<dyn BlobStore>,
        index: IndexChoice::Given(Arc::new(index.clone())),
        clock: Arc::<Tick>::clone(clock),
        gateway_key: GatewayKey::from_secret(Secret32::new([7; 32])),
        pack_bytes: PACK_BYTES,
        // Few, so that files are stored in part before they are closed.
        settle_chunks: 3,
        reserve_bytes: 0,
    }
}

fn namespace(store: &Store, vault: VaultId) -> Namespace {
    let mount = Mount { path: Vec::new(), vault: vault.0, subtree: Vec::new(), rights: RightsSet::ReadWrite };
    let principal = Principal {
        customer: CustomerId([1; 16]),
        customer_name: "model".into(),
        user: UserId([2; 16]),
        user_name: "model/model".into(),
        credential: CredentialId("model".into()),
        factors: vec![Factor::AppToken],
        mounts: vec![mount],
    };
    let session = Session {
        pace: coffre::line::pace::Pace::default(),
        id: [3; 16],
        principal,
        protocol: Protocol::Sftp,
        source: std::net::Ipv4Addr::LOCALHOST.into(),
        ended: CancellationToken::new(),
    };
    Vfs::new(store.clone()).namespace(Arc::new(session))
}

impl World {
    fn new() -> Result<Self> {
        let (blobs, index, clock) = (Arc::default(), MemoryIndex::default(), Arc::default());
        Store::create(&options(&blobs, &index, &clock))?;
        let store = Store::open(options(&blobs, &index, &clock))?;
        let record = RecordDraft::new(Actor::System, Action::VaultAdd);
        let vault = store.create_vault(OwnerId([1; 16]), "model", YEAR_SECS, record)?.wait()?;
        let namespace = namespace(&store, vault);
        Ok(Self { blobs, index, clock, vault, store, namespace })
    }

    /// Stops and starts again: in order, or as after `kill -9` with the index back at its last checkpoint.
    fn restart(&mut self, crash: bool) -> Result<()> {
        if crash {
            self.store.abandon();
            self.index = self.index.after_power_cut();
        } else {
            self.store.shutdown()?;
        }
        self.store = Store::open(options(&self.blobs, &self.index, &self.clock))?;
        self.namespace = namespace(&self.store, self.vault);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let report = self.store.check(CheckOptions { read_data: true, progress: None })?;
        ensure!(report.findings.is_empty(), "{:#?}", report.findings);
        Ok(())
    }
}

/// What went wrong, as far as the reference tells it apart.
fn problem(error: &VfsError) -> Problem {
    match error {
        VfsError::Store(StoreError::NotFound | StoreError::NotADirectory) | VfsError::Hidden => {
            Problem::Missing
        }
        VfsError::Store(StoreError::Exists) => Problem::Exists,
        VfsError::LinkLoop => Problem::Loop,
        VfsError::Store(_)
        | VfsError::Refused(_)
        | VfsError::Path(_)
        | VfsError::MountPoint
        | VfsError::CrossDevice
        | VfsError::WrongMode
        | VfsError::ChecksumMismatch
        | VfsError::PartMissing
        | VfsError::SessionEnded
        | VfsError::Interrupted => Problem::Other,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the answers end here")]
fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    ours: Result<T, VfsError>,
    expected: Result<T, Problem>,
) -> Result<()> {
    let told = ours.as_ref().map_err(problem);
    ensure!(told == expected.as_ref().map_err(|problem| *problem), "{what}: {ours:?}, expected {expected:?}");
    Ok(())
}

/// One handle on both sides.
struct Pair {
    ours: FileHandle,
    /// Inode of the reference.
    inode: usize,
    append: bool,
}

struct Run {
    world: World,
    reference: Reference,
    handles: Vec<Pair>,
    dice: Dice,
    /// Moments and what there was, some of them with a name.
    moments: Vec<Moment>,
}

impl Run {
    fn path(&mut self) -> Result<(Vec<u8>, VaultPath)> {
        let bytes = self.dice.path();
        Ok((bytes.clone(), VaultPath::parse(&bytes)?))
    }

    async fn step(&mut self) -> Result<()> {
        match self.dice.below(24) {
            0..=2 => self.open().await,
            3..=6 => self.write().await,
            7 | 8 => self.read().await,
            9 => self.truncate().await,
            10 => self.settle().await,
            11 | 12 => self.make().await,
            13 => self.remove().await,
            14 | 15 => self.rename().await,
            16 => self.copy().await,
            17 => self.link().await,
            18 => self.upload().await,
            19 => self.attributes().await,
            20 | 21 => self.look().await,
            22 => self.list().await,
            _ => self.truncate_by_path().await,
        }
    }

    async fn open(&mut self) -> Result<()> {
        if self.handles.len() >= HANDLES_MAX {
            return Ok(());
        }
        let (name, path) = self.path()?;
        let creation = [Creation::Never, Creation::IfMissing, Creation::Exclusive][self.dice.index(3)];
        let (append, truncate) = (self.dice.one_in(4), self.dice.one_in(4));
        let options =
            OpenOptions { read: true, write: true, append, truncate, creation, ..OpenOptions::default() };
        let expected = self.reference.open(&name, creation, truncate);
        let ours = self.world.namespace.open(&path, options).await;
        match (ours, expected) {
            (Ok(ours), Ok(inode)) => self.handles.push(Pair { ours, inode, append }),
            (ours, expected) => same("open", ours.map(drop), expected.map(drop))?,
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        if self.handles.is_empty() {
            return Ok(());
        }
        let at = self.dice.index(self.handles.len());
        let max = [100, 5_000, 70_000, 400_000][self.dice.index(4)];
        let (bytes, offset) = (self.dice.bytes(max), self.dice.below(600_000));
        let pair = &self.handles[at];
        let offset = if pair.append { self.reference.size(pair.inode) } else { offset };
        self.reference.write(pair.inode, offset, &bytes);
        pair.ours.write(offset, Bytes::from(bytes)).await.context("write")?;
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        if self.handles.is_empty() {
            return Ok(());
        }
        let pair = &self.handles[self.dice.index(self.handles.len())];
        let (offset, len) = (self.dice.below(700_000), self.dice.index(300_000));
        let found = pair.ours.read(offset, len).await.context("read")?;
        ensure!(found == self.reference.read(pair.inode, offset, len), "read at {offset}, {len} bytes");
        ensure!(pair.ours.attributes().await?.size == self.reference.size(pair.inode), "fstat");
        Ok(())
    }

    async fn truncate(&mut self) -> Result<()> {
        if self.handles.is_empty() {
            return Ok(());
        }
        let pair = &self.handles[self.dice.index(self.handles.len())];
        let size = self.dice.below(700_000);
        pair.ours.set_attributes(AttributeChange::default(), Some(size)).await.context("truncate")?;
        self.reference.truncate(pair.inode, size);
        self.reference.dirty(pair.inode);
        Ok(())
    }

    /// fsync or close.
    async fn settle(&mut self) -> Result<()> {
        if self.handles.is_empty() {
            return Ok(());
        }
        let at = self.dice.index(self.handles.len());
        self.reference.clean(self.handles[at].inode);
        if self.dice.one_in(3) {
            self.handles[at].ours.sync().await.context("sync")?;
        } else {
            self.handles.swap_remove(at).ours.close().await.context("close")?;
        }
        Ok(())
    }

    async fn make(&mut self) -> Result<()> {
        let (name, path) = self.path()?;
        if self.dice.one_in(4) {
            let target = self.dice.path();
            let target = if self.dice.one_in(2) { target } else { target[1..].to_vec() };
            let ours = self.world.namespace.make_link(&path, &target).await;
            return same("symlink", ours, self.reference.make(&name, Shape::Link(target)));
        }
        let ours = self.world.namespace.make_directory(&path, AttributeChange::default()).await;
        same("mkdir", ours, self.reference.make(&name, Shape::directory()))
    }

    async fn remove(&mut self) -> Result<()> {
        let (name, path) = self.path()?;
        match self.dice.below(3) {
            0 => same("remove", self.world.namespace.remove(&path).await, self.reference.remove(&name)),
            1 => same(
                "rmdir",
                self.world.namespace.remove_directory(&path).await,
                self.reference.remove_directory(&name),
            ),
            _ => same(
                "remove tree",
                self.world.namespace.remove_tree(&path).await,
                self.reference.remove_tree(&name),
            ),
        }
    }

    async fn rename(&mut self) -> Result<()> {
        let ((from, ours_from), (to, ours_to)) = (self.path()?, self.path()?);
        let replace = self.dice.replace();
        let ours = self.world.namespace.rename(&ours_from, &ours_to, replace).await;
        let what = format!("rename {from:?} {to:?} {replace:?}");
        same(&what, ours, self.reference.rename(&from, &to, replace))
    }

    async fn copy(&mut self) -> Result<()> {
        // What is being written goes along with its own file only: the reference does not tell these apart.
        if self.reference.is_anything_dirty() {
            return Ok(());
        }
        let ((from, ours_from), (to, ours_to)) = (self.path()?, self.path()?);
        let (replace, deep) = (self.dice.replace(), self.dice.one_in(2));
        let ours = self.world.namespace.copy(&ours_from, &ours_to, replace, deep).await;
        let what = format!("copy {from:?} {to:?} {replace:?} {deep}");
        same(&what, ours, self.reference.copy(&from, &to, replace, deep))
    }

    async fn link(&mut self) -> Result<()> {
        let ((from, ours_from), (to, ours_to)) = (self.path()?, self.path()?);
        let ours = self.world.namespace.hard_link(&ours_from, &ours_to).await;
        same("link", ours, self.reference.hard_link(&from, &to))
    }

    async fn upload(&mut self) -> Result<()> {
        let (name, path) = self.path()?;
        // Unsaved writes of others and a new content at once: the last commit wins, which is not modelled.
        if self.reference.is_dirty_at(&name) {
            return Ok(());
        }
        let bytes = self.dice.bytes(800_000);
        let give_up = self.dice.one_in(4);
        let expected = self.reference.may_upload(&name);
        let mut upload = match self.world.namespace.begin_upload(&path, Some(bytes.len() as u64)).await {
            Ok(upload) => upload,
            Err(error) => return same("upload", Err::<(), _>(error), expected),
        };
        for piece in bytes.chunks(200_000) {
            upload.write(Bytes::copy_from_slice(piece)).await?;
        }
        if give_up {
            return expected.map_err(|problem| anyhow::anyhow!("upload begins, expected {problem:?}"));
        }
        let ours = upload.commit(Precondition::None, AttributeChange::default()).await.map(drop);
        same("upload", ours, expected.and_then(|()| self.reference.upload(&name, bytes)))
    }

    async fn attributes(&mut self) -> Result<()> {
        let (name, path) = self.path()?;
        let mode = u32::try_from(self.dice.below(0o1000)).unwrap_or(0);
        let mtime = UnixNanos(i64::try_from(self.dice.below(1 << 30)).unwrap_or(0) * 1_000_000_000);
        let change = AttributeChange { mode: Some(mode), mtime: Some(mtime), ..AttributeChange::default() };
        let ours = self.world.namespace.set_attributes(&path, change, None, Follow::Yes).await;
        same("setstat", ours, self.reference.set_attributes(&name, mode, mtime.0))
    }

    async fn truncate_by_path(&mut self) -> Result<()> {
        let (name, path) = self.path()?;
        let size = self.dice.below(500_000);
        let ours = self
            .world
            .namespace
            .set_attributes(&path, AttributeChange::default(), Some(size), Follow::Yes)
            .await;
        same("truncate", ours, self.reference.truncate_at(&name, size))
    }

    async fn look(&mut self) -> Result<()> {
        let (name, path) = self.path()?;
        let follow = if self.dice.one_in(2) { Follow::Yes } else { Follow::No };
        self.compare(&name, &path, follow).await
    }

    async fn compare(&self, name: &[u8], path: &VaultPath, follow: Follow) -> Result<()> {
        let expected = self.reference.stat(name, follow == Follow::Yes);
        let found = match self.world.namespace.stat(path, follow).await {
            Ok(found) => found,
            Err(error) => return same("stat", Err::<(), _>(error), expected.map(drop)),
        };
        let expected = expected.map_err(|problem| anyhow::anyhow!("stat {name:?} found, not {problem:?}"))?;
        ensure!(found.kind == expected.kind, "{name:?} is a {:?}", found.kind);
        if let Some(mode) = expected.mode {
            ensure!(found.mode == mode, "mode of {name:?}: {:o}, expected {mode:o}", found.mode);
        }
        if let Some(mtime) = expected.mtime {
            ensure!(found.mtime.0 == mtime, "mtime of {name:?}: {}, expected {mtime}", found.mtime.0);
        }
        if found.kind == Kind::File {
            let ours = (found.size, found.links);
            ensure!(ours == (expected.size, expected.links), "size and links of {name:?}: {ours:?}");
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<()> {
        let (name, path) = self.path()?;
        let expected = self.reference.list(&name);
        let mut directory = match self.world.namespace.open_directory(&path).await {
            Ok(directory) => directory,
            Err(error) => return same("list", Err::<(), _>(error), expected.map(drop)),
        };
        let mut names = Vec::new();
        loop {
            let entries = directory.next(2).await?;
            if entries.is_empty() {
                break;
            }
            names.extend(entries.into_iter().map(|entry| entry.name));
        }
        names.sort();
        ensure!(Ok(&names) == expected.as_ref(), "list {name:?}: {names:?}, expected {expected:?}");
        Ok(())
    }

    /// Closes everything, stops, starts, and compares the whole tree.
    async fn restart(&mut self, crash: bool) -> Result<()> {
        for pair in self.handles.drain(..) {
            self.reference.clean(pair.inode);
            if crash {
                // Made durable; the handle is then lost with the process.
                pair.ours.sync().await.context("sync")?;
                std::mem::drop(pair.ours);
            } else {
                pair.ours.close().await.context("close")?;
            }
        }
        self.world.restart(crash)?;
        self.world.check()?;
        for (name, content) in self.reference.whole_tree() {
            let path = VaultPath::parse(&name)?;
            self.compare(&name, &path, Follow::No).await?;
            if let Some(content) = content {
                let options = OpenOptions { read: true, ..OpenOptions::default() };
                let file = self.world.namespace.open(&path, options).await?;
                ensure!(file.read(0, content.len() + 1).await? == *content, "content of {name:?}");
                file.close().await?;
            }
        }
        Ok(())
    }
}

fn number_of(name: &str, default: u64) -> u64 {
    std::env::var_os(name).and_then(|text| text.to_str()?.parse().ok()).unwrap_or(default)
}

async fn agree(seed: u64, steps: u64) -> Result<()> {
    let mut run = Run {
        world: World::new()?,
        reference: Reference::default(),
        handles: Vec::new(),
        moments: Vec::new(),
        dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
    };
    for step in 0..steps {
        let context = || format!("COFFRE_MODEL_SEED={seed}, step {step}");
        run.step().await.with_context(context)?;
        run.look_back().await.with_context(context)?;
        if run.dice.one_in(400) {
            let crash = run.dice.one_in(2);
            run.restart(crash).await.with_context(context)?;
        }
    }
    let context = || format!("COFFRE_MODEL_SEED={seed}, at the end");
    run.restart(false).await.with_context(context)?;
    run.compare_all_moments().await.with_context(context)
}

#[test]
fn random_operations_agree_with_a_tree_in_memory() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let steps = number_of("COFFRE_MODEL_STEPS", 4_000);
    let first = number_of("COFFRE_MODEL_SEED", 1);
    (first..first + 5).try_for_each(|seed| runtime.block_on(agree(seed, steps)))
}
