//! The scrub: every closed pack is read again and again, slowly, so that damage is found while copies of what it hit still
//! exist. It needs no vault's key: batches carry checksums and are sealed with the gateway's.
//!
//! A pass goes through packs in the order of their numbers. Its position is written down after each pack, so that a restart
//! goes on where it was. A pack that is damaged gets a note in its row and raises one incident, in one transaction: later
//! passes pass it by, `check` tells of it, and a repair settles it.

use minicbor::{Decode, Encode};

use crate::aead::TAG_BYTES;
use crate::audit::{Action, Actor, Outcome, RecordDraft};
use crate::check::incident;
use crate::commit::{PackDamage, PackRow, Store};
use crate::error::StoreError;
use crate::id::{BatchNumber, PackId};
use crate::index::Table;
use crate::limits::BLOCK_BYTES;
use crate::log::pack::blob_name;
use crate::log::walk::PackReader;
use crate::rows::{decode, encode};
use crate::time::UnixNanos;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Row of `Table::Store`.
const SCRUB_KEY: &[u8] = b"scrub";

/// A pass that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ScrubPass {
    /// When it began.
    #[n(0)]
    pub begun: UnixNanos,
    /// When it ended.
    #[n(1)]
    pub ended: UnixNanos,
    /// Packs read.
    #[n(2)]
    pub packs: u64,
    /// Bytes read.
    #[n(3)]
    pub bytes: u64,
    /// Packs that were found damaged, those of earlier passes not counted.
    #[n(4)]
    pub damaged: u64,
}

/// How far the scrub is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ScrubState {
    /// When the present pass began; nothing between two passes.
    #[n(0)]
    pub begun: Option<UnixNanos>,
    /// The last pack that it has read.
    #[n(1)]
    through: u64,
    /// Packs it has read.
    #[n(2)]
    pub packs: u64,
    /// Bytes it has read.
    #[n(3)]
    pub bytes: u64,
    /// Packs it found damaged.
    #[n(4)]
    pub damaged: u64,
    /// The last pass that came to its end.
    #[n(5)]
    pub last: Option<ScrubPass>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubProgress {
    /// It read so many bytes, and there is more.
    Reading {
        /// About as many as it was allowed; at least one batch.
        bytes: u64,
    },
    /// The pass is at its end.
    Done(ScrubPass),
}

/// The pack that is being read.
struct Reading {
    pack: PackId,
    /// Nothing when it cannot be opened.
    reader: Option<PackReader>,
    offset: u64,
    chain: Option<(BatchNumber, [u8; TAG_BYTES])>,
    /// Where the first damage is.
    damage: Option<u64>,
}

/// A scrub under way. One for a store.
pub struct Scrub {
    store: Store,
    state: ScrubState,
    reading: Option<Reading>,
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrub").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Store {
    /// How far the scrub is, as of the last pack that it read.
    ///
    /// # Errors
    /// `Index`. A damaged record is as none: the next pass begins anew.
    pub fn scrub_state(&self) -> Result<ScrubState, StoreError> {
        match self.get(self.system_key(), Table::Store, SCRUB_KEY) {
            Ok(Some(row)) => Ok(decode(&row).unwrap_or_default()),
            Ok(None) | Err(StoreError::DamagedRecord) => Ok(ScrubState::default()),
            Err(error) => Err(error),
        }
    }
}

impl Scrub {
    /// Goes on where the store's last scrub was.
    ///
    /// # Errors
    /// `Index`.
    pub fn resume(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { store: store.clone(), state: store.scrub_state()?, reading: None })
    }

    /// How far it is.
    pub fn state(&self) -> ScrubState {
        self.state
    }

    /// Bytes of all closed packs: what a pass reads.
    ///
    /// # Errors
    /// The system's.
    pub fn bytes_in_all(&self) -> Result<u64, StoreError> {
        let blobs = self.store.blobs();
        let mut bytes = 0;
        for pack in crate::log::walk::packs(blobs.as_ref())? {
            if self.store.is_closed(pack) {
                bytes += blobs.open(&blob_name(pack)).and_then(|blob| blob.len()).unwrap_or(0);
            }
        }
        Ok(bytes)
    }

    /// Reads about `budget_bytes` more: whole batches, at least one. Begins a pass when none is under way.
    ///
    /// # Errors
    /// `Poisoned`, `DiskFull`, `Index`: nothing is lost by trying again.
    pub fn step(&mut self, budget_bytes: u64) -> Result<ScrubProgress, StoreError> {
        let now = self.store.clock_now();
        let begun = *self.state.begun.get_or_insert(now);
        let mut bytes = 0;
        loop {
            if self.reading.is_none() && !self.next_pack()? {
                let ScrubState { packs, bytes, damaged, .. } = self.state;
                let ended = self.store.clock_now();
                let pass = ScrubPass { begun, ended, packs, bytes, damaged };
                self.state = ScrubState { last: Some(pass), ..ScrubState::default() };
                self.end_pass(pass)?;
                return Ok(ScrubProgress::Done(pass));
            }
            if let Some(reading) = &mut self.reading {
                let read = reading.step(&self.store);
                bytes += read.unwrap_or(0);
                self.state.bytes += read.unwrap_or(0);
                if read.is_none() {
                    self.end_pack()?;
                }
            }
            if bytes >= budget_bytes.max(1) {
                return Ok(ScrubProgress::Reading { bytes });
            }
        }
    }

    /// Opens the next closed pack that nobody has found damaged; false when there is none.
    fn next_pack(&mut self) -> Result<bool, StoreError> {
        loop {
            let from = (self.state.through + 1).to_be_bytes();
            let rows = self.store.range(self.store.system_key(), Table::Packs, &from, &[0xff; 9], 1)?;
            let Some((at, row)) = rows.into_iter().next() else { return Ok(false) };
            let pack = PackId(u64::from_be_bytes(at.try_into().map_err(|_| StoreError::DamagedRecord)?));
            if !self.store.is_closed(pack) {
                return Ok(false);
            }
            let row: PackRow = decode(&row)?;
            if row.removed.is_some() || row.damage.is_some() {
                self.state.through = pack.0;
                continue;
            }
            let blobs = self.store.blobs();
            let reader = PackReader::open(blobs.as_ref(), self.store.packs_key(), pack);
            let reader = reader.ok().and_then(Result::ok);
            let damage = reader.is_none().then_some(0);
            self.reading = Some(Reading { pack, reader, offset: BLOCK, chain: None, damage });
            return Ok(true);
        }
    }

    fn end_pack(&mut self) -> Result<(), StoreError> {
        let Some(reading) = self.reading.take() else { return Ok(()) };
        let pack = reading.pack;
        let mut state = self.state;
        state.through = pack.0;
        state.packs += 1;
        let mut txn = self.store.begin()?;
        if let Some(offset) = reading.damage
            && let Some(row) = txn.get(self.store.system_key(), Table::Packs, &pack.0.to_be_bytes())?
            && let row = decode::<PackRow>(&row)?
            // It may have been given up while it was read.
            && row.removed.is_none()
            && row.damage.is_none()
        {
            tracing::error!(%pack, offset, "the scrub found a damaged pack; run `coffre check --read-data`");
            state.damaged += 1;
            let damage = PackDamage { found: txn.time(), settled: None };
            self.store.put_pack_row(&mut txn, pack, &PackRow { damage: Some(damage), ..row })?;
            let text = format!("the scrub found pack {pack} damaged at byte {offset}");
            incident::raise(&self.store, &mut txn, None, (Some(pack), None), text.clone())?;
            let record = RecordDraft {
                outcome: Outcome::Failed,
                reason: Some(text),
                ..RecordDraft::new(Actor::System, Action::Scrub)
            };
            txn.audit(record, None);
        }
        txn.put(self.store.system_key(), Table::Store, SCRUB_KEY, &encode(&state)?);
        // Nobody waits for it: when it is lost, that pack is read again.
        drop(txn.submit()?);
        self.state = state;
        Ok(())
    }

    fn end_pass(&self, pass: ScrubPass) -> Result<(), StoreError> {
        let mut txn = self.store.begin()?;
        txn.put(self.store.system_key(), Table::Store, SCRUB_KEY, &encode(&self.state)?);
        let record = RecordDraft {
            bytes: Some(pass.bytes),
            reason: Some(format!("{} packs read, {} damaged", pass.packs, pass.damaged)),
            ..RecordDraft::new(Actor::System, Action::Scrub)
        };
        txn.audit(record, None);
        drop(txn.submit()?);
        Ok(())
    }
}

impl Reading {
    /// Reads one batch; how many bytes that were, nothing at the end of the pack.
    fn step(&mut self, store: &Store) -> Option<u64> {
        let reader = self.reader.as_ref()?;
        let from = self.offset;
        match reader.batch_at(from) {
            Ok(Some(batch)) => {
                let follows = self.chain.is_none_or(|(number, tag)| {
                    batch.header.number.0 == number.0 + 1 && batch.header.previous == tag
                });
                if !follows {
                    self.damage.get_or_insert(from);
                }
                self.chain = Some((batch.header.number, batch.tag));
                self.offset = batch.end;
                return Some(batch.end - from);
            }
            Ok(None) => {
                let footer = reader.footer_at(store.packs_key(), from);
                let whole = footer.is_ok_and(|footer| {
                    footer.is_some_and(|footer| {
                        let last =
                            self.chain.is_none_or(|(last, _)| footer.batches == 0 || footer.last == last);
                        footer.end == from && last && reader.bytes == from + BLOCK
                    })
                });
                if whole {
                    return None;
                }
            }
            Err(_) => {}
        }
        self.damage.get_or_insert(from);
        // Once a pack is known to be damaged, how much more is for `check` to tell.
        None
    }
}
