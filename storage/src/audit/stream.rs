//! Reading the log record by record (FORMAT.md section 8): all of it, or one segment.

use std::io;
use std::sync::Arc;

use super::Record;
use super::beginning;
use super::record::{Outline, RECORD_BYTES_MAX, decode_record, outline};
use super::writer::{AuditPosition, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, segment_name, segment_number};
use crate::blob::{Blob, BlobStore};
use crate::id::RecordNumber;

/// Bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Reads a segment record by record.
#[derive(Debug)]
struct SegmentReader {
    blob: Arc<dyn Blob>,
    at: u64,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
}

/// What comes next in a segment.
enum Piece<'w> {
    Record(&'w [u8]),
    End,
    Damaged,
}

impl SegmentReader {
    /// What lies behind `until` is of no interest: it is being written.
    fn open(
        blobs: &dyn BlobStore,
        segment: u64,
        until: Option<&AuditPosition>,
        window_bytes: usize,
    ) -> io::Result<Option<(Self, u64)>> {
        let blob = match blobs.open(&segment_name(segment)) {
            Ok(blob) => blob,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bound = until.filter(|until| until.segment == segment).map(|until| until.segment_bytes);
        let len = blob.len()?.min(bound.unwrap_or(u64::MAX));
        let mut reader = Self { blob, at: 0, len, window: Vec::new(), window_at: 0, window_bytes };
        let Some(header) = reader.take(SEGMENT_HEADER_BYTES)? else { return Ok(None) };
        let first = header
            .strip_prefix(SEGMENT_MAGIC)
            .and_then(|rest| Some(u64::from_le_bytes(*rest.first_chunk()?)));
        Ok(first.map(|first| (reader, first)))
    }

    fn take(&mut self, bytes: usize) -> io::Result<Option<&[u8]>> {
        if self.at + bytes as u64 > self.len {
            return Ok(None);
        }
        let start = usize::try_from(self.at - self.window_at).unwrap_or(usize::MAX);
        if self.window.get(start..start.saturating_add(bytes)).is_none() {
            let left = usize::try_from(self.len - self.at).unwrap_or(usize::MAX);
            self.window.resize(left.min(bytes.max(self.window_bytes)), 0);
            self.blob.read_at(self.at, &mut self.window)?;
            self.window_at = self.at;
        }
        let start = usize::try_from(self.at - self.window_at).unwrap_or(usize::MAX);
        self.at += bytes as u64;
        Ok(self.window.get(start..start + bytes))
    }

    fn next(&mut self) -> io::Result<Piece<'_>> {
        if self.at == self.len {
            return Ok(Piece::End);
        }
        let Some(prefix) = self.take(4)? else { return Ok(Piece::Damaged) };
        let len = u32::from_le_bytes(*prefix.first_chunk().unwrap_or(&[0; 4])) as usize;
        if len == 0 || len > RECORD_BYTES_MAX {
            return Ok(Piece::Damaged);
        }
        Ok(self.take(len)?.map_or(Piece::Damaged, Piece::Record))
    }
}

/// Numbers of the segments that are there, in order.
///
/// # Errors
/// Listing failed.
pub fn segments(blobs: &dyn BlobStore) -> io::Result<Vec<u64>> {
    Ok(blobs.list("audit/segment-")?.iter().filter_map(|name| segment_number(name)).collect())
}

/// The first record of a segment, without reading on; nothing when it cannot be read.
///
/// # Errors
/// Reading failed.
pub fn first_of(blobs: &dyn BlobStore, segment: u64) -> io::Result<Option<Outline>> {
    let Some((mut reader, first)) = SegmentReader::open(blobs, segment, None, RECORD_BYTES_MAX)? else {
        return Ok(None);
    };
    Ok(match reader.next()? {
        Piece::Record(bytes) => outline(bytes).filter(|seen| seen.number.0 == first),
        Piece::End | Piece::Damaged => None,
    })
}

/// What comes next in a log.
#[derive(Debug)]
pub enum Streamed {
    /// A record, as it stands there and as it reads.
    Record(Vec<u8>, Box<Record>),
    /// Nothing more.
    End,
    /// This record cannot be read.
    Broken(RecordNumber),
}

/// As [`Streamed`], without a look at most of the record.
#[derive(Debug)]
pub enum Outlined<'r> {
    /// A record, and where it belongs.
    Record(&'r [u8], Outline),
    /// Nothing more.
    End,
    /// This record cannot be read.
    Broken(RecordNumber),
}

/// Reads the records of a log one by one.
#[derive(Debug)]
pub struct RecordStream<'b> {
    blobs: &'b dyn BlobStore,
    until: Option<&'b AuditPosition>,
    segments: std::vec::IntoIter<u64>,
    reader: Option<SegmentReader>,
    next: u64,
}

impl<'b> RecordStream<'b> {
    /// Begins at the first record that is there.
    ///
    /// # Errors
    /// Reading failed.
    pub fn open(blobs: &'b dyn BlobStore) -> io::Result<Self> {
        Self::until(blobs, None)
    }

    /// As [`RecordStream::open`], up to a position that a checkpoint of the store wrote down.
    ///
    /// # Errors
    /// Reading failed.
    pub fn until(blobs: &'b dyn BlobStore, until: Option<&'b AuditPosition>) -> io::Result<Self> {
        let next = beginning::first_record(blobs)?;
        // The open segment is made with its first record.
        let end = until.map_or(u64::MAX, |until| until.segment + u64::from(until.segment_bytes > 0));
        let segments: Vec<u64> = segments(blobs)?.into_iter().filter(|segment| *segment < end).collect();
        Ok(Self { blobs, until, segments: segments.into_iter(), reader: None, next })
    }

    /// The records of one segment, and the number of the first; nothing when it is not there or none.
    ///
    /// # Errors
    /// Reading failed.
    pub fn of_segment(blobs: &'b dyn BlobStore, segment: u64) -> io::Result<Option<Self>> {
        let opened = SegmentReader::open(blobs, segment, None, WINDOW_BYTES)?;
        Ok(opened.map(|(reader, next)| Self {
            blobs,
            until: None,
            segments: Vec::new().into_iter(),
            reader: Some(reader),
            next,
        }))
    }

    /// The number of the record that [`Self::read`] gives next.
    pub fn next_number(&self) -> RecordNumber {
        RecordNumber(self.next)
    }

    /// The next record.
    ///
    /// # Errors
    /// Reading failed.
    pub fn read(&mut self) -> io::Result<Streamed> {
        let number = RecordNumber(self.next);
        Ok(match self.read_outline()? {
            Outlined::Record(bytes, _) => {
                if let Some(record) = decode_record(bytes) {
                    Streamed::Record(bytes.to_vec(), Box::new(record))
                } else {
                    self.next = number.0;
                    Streamed::Broken(number)
                }
            }
            Outlined::End => Streamed::End,
            Outlined::Broken(number) => Streamed::Broken(number),
        })
    }

    /// The next record's bytes, and where it belongs.
    ///
    /// # Errors
    /// Reading failed.
    pub fn read_outline(&mut self) -> io::Result<Outlined<'_>> {
        let number = RecordNumber(self.next);
        while self.reader.as_ref().is_none_or(|reader| reader.at == reader.len) {
            let Some(segment) = self.segments.next() else { return Ok(Outlined::End) };
            match SegmentReader::open(self.blobs, segment, self.until, WINDOW_BYTES)? {
                Some((reader, first)) if first == self.next => self.reader = Some(reader),
                Some(_) | None => return Ok(Outlined::Broken(number)),
            }
        }
        let Some(reader) = &mut self.reader else { return Ok(Outlined::End) };
        let Piece::Record(bytes) = reader.next()? else { return Ok(Outlined::Broken(number)) };
        Ok(match outline(bytes).filter(|seen| seen.number == number) {
            Some(seen) => {
                self.next += 1;
                Outlined::Record(bytes, seen)
            }
            None => Outlined::Broken(number),
        })
    }
}

/// Calls `each` with every record, in order, until it says stop. Returns the number of the first record that is not
/// readable, if one is not.
///
/// # Errors
/// Reading failed.
pub fn for_each_record(
    blobs: &dyn BlobStore,
    each: &mut dyn FnMut(&[u8], Record) -> bool,
) -> io::Result<Option<RecordNumber>> {
    let mut stream = RecordStream::open(blobs)?;
    loop {
        match stream.read()? {
            Streamed::Record(bytes, record) => {
                if !each(&bytes, *record) {
                    return Ok(None);
                }
            }
            Streamed::End => return Ok(None),
            Streamed::Broken(number) => return Ok(Some(number)),
        }
    }
}
