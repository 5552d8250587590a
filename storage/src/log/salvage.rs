//! Reading a pack that may be damaged: every batch that is still authentic, in order, and where something is missing.
//!
//! Unlike replay this goes on behind damage. A batch's header and meta section are sealed each for itself and bound to their
//! place, so one that opens is what was written there, whatever became of its neighbours and of its own frames.

use std::io;

use super::batch::{BatchHeader, Meta};
use super::walk::PackReader;
use crate::aead::TAG_BYTES;
use crate::id::BatchNumber;
use crate::keys::Secret32;
use crate::limits::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A batch whose header and meta section are authentic.
#[derive(Debug)]
pub struct SalvagedBatch {
    /// Where it begins.
    pub offset: u64,
    /// Where the next one begins.
    pub end: u64,
    /// Its header.
    pub header: BatchHeader,
    /// Its header's tag.
    pub tag: [u8; TAG_BYTES],
    /// What it holds besides frames.
    pub meta: Meta,
}

/// Bytes between authentic batches that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// First byte.
    pub from: u64,
    /// The byte after the last.
    pub to: u64,
    /// The batch there, when its header still opens, and its header's tag.
    pub batch: Option<(BatchNumber, [u8; TAG_BYTES])>,
}

/// How a pack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackEnd {
    /// With its footer: this was the last batch (0: it held none).
    Closed(BatchNumber),
    /// Without one: it was open, or the footer is damaged.
    Open,
}

/// What one step through a pack finds.
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
#[derive(Debug)]
pub enum Step {
    /// A batch.
    Batch(SalvagedBatch),
    /// Damage, with something authentic behind it.
    Damage(Damage),
}

/// Goes through a pack.
#[derive(Debug)]
pub struct Salvage<'p> {
    reader: &'p PackReader,
    packs_key: &'p Secret32,
    offset: u64,
    end: Option<PackEnd>,
}

impl<'p> Salvage<'p> {
    /// Begins at the first batch.
    pub fn new(reader: &'p PackReader, packs_key: &'p Secret32) -> Self {
        Self { reader, packs_key, offset: BLOCK, end: None }
    }

    /// The next batch or damage; nothing at the end.
    ///
    /// # Errors
    /// The system's.
    pub fn step(&mut self) -> io::Result<Option<Step>> {
        if self.end.is_some() {
            return Ok(None);
        }
        let from = self.offset;
        if let Some(footer) = self.footer_at(from)? {
            self.end = Some(footer);
            return Ok(None);
        }
        if let Some((header, tag)) = self.reader.header_at(from)? {
            let end = from + u64::from(header.blocks) * BLOCK;
            if let Some(meta) = self.reader.meta_of(from, &header)? {
                self.offset = end;
                return Ok(Some(Step::Batch(SalvagedBatch { offset: from, end, header, tag, meta })));
            }
            // Its length is known: what follows it is looked for where it must be first.
            let known = Some((header.number, tag));
            let to = if self.is_something(end)? { Some(end) } else { self.find(from + BLOCK)? };
            return Ok(self.damage(from, to, known));
        }
        let to = self.find(from + BLOCK)?;
        Ok(self.damage(from, to, None))
    }

    fn damage(
        &mut self,
        from: u64,
        to: Option<u64>,
        batch: Option<(BatchNumber, [u8; TAG_BYTES])>,
    ) -> Option<Step> {
        let Some(to) = to else {
            // Nothing authentic behind: here the pack ends, torn or not.
            self.end = Some(PackEnd::Open);
            return None;
        };
        self.offset = to;
        Some(Step::Damage(Damage { from, to, batch }))
    }

    fn footer_at(&self, offset: u64) -> io::Result<Option<PackEnd>> {
        let footer = self.reader.footer_at(self.packs_key, offset)?;
        let own = footer.filter(|footer| footer.end == offset && footer.pack == self.reader.header.pack);
        Ok(own.map(|footer| PackEnd::Closed(footer.last)))
    }

    fn is_something(&self, offset: u64) -> io::Result<bool> {
        Ok(self.footer_at(offset)?.is_some() || self.reader.header_at(offset)?.is_some())
    }

    /// The next place at or after `from` where a batch or the footer begins.
    fn find(&self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        while at < self.reader.bytes {
            if self.is_something(at)? {
                return Ok(Some(at));
            }
            at += BLOCK;
        }
        Ok(None)
    }

    /// Where the last authentic batch ends, and how the pack does; known once [`Self::step`] gave nothing.
    pub fn end(&self) -> (u64, PackEnd) {
        (self.offset, self.end.unwrap_or(PackEnd::Open))
    }
}
