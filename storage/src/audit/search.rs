//! Finding records: by what they say, in a part of the log.
//!
//! Times never go back from one record to the next, so a search by time begins in the right segment and reads no others.

use std::collections::VecDeque;
use std::io;

use super::Record;
use super::record::{Outline, decode_record};
use super::stream::{Outlined, RecordStream, first_of, segments};
use crate::blob::BlobStore;
use crate::id::RecordNumber;
use crate::time::UnixNanos;

/// Which part of a log is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Not before this moment.
    pub from: Option<UnixNanos>,
    /// Before this moment.
    pub to: Option<UnixNanos>,
    /// Behind this record.
    pub after: Option<RecordNumber>,
    /// In front of this record.
    pub before: Option<RecordNumber>,
    /// Of this customer only.
    pub customer: Option<[u8; 16]>,
}

impl Span {
    fn is_before(&self, seen: &Outline) -> bool {
        self.from.is_some_and(|from| seen.utc < from) || self.after.is_some_and(|after| seen.number <= after)
    }

    fn is_behind(&self, seen: &Outline) -> bool {
        self.to.is_some_and(|to| seen.utc >= to) || self.before.is_some_and(|before| seen.number >= before)
    }
}

/// Which record comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest.
    #[default]
    OldestFirst,
    /// The newest.
    NewestFirst,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Searched {
    /// Records, in the order asked for.
    pub records: Vec<Record>,
    /// The first record that cannot be read: the search ended there.
    pub broken: Option<RecordNumber>,
}

/// What is done with a record that is wanted or not.
type Wanted<'w> = dyn FnMut(&Record) -> bool + 'w;

/// What a segment held.
#[derive(Debug, Default)]
struct Here {
    records: VecDeque<Record>,
    broken: Option<RecordNumber>,
    /// The span ended in it.
    behind: bool,
}

impl Here {
    /// Up to `room` records of a segment: the first ones, or the last ones.
    fn read(
        stream: &mut RecordStream<'_>,
        span: &Span,
        (order, room): (Order, usize),
        wanted: &mut Wanted<'_>,
    ) -> io::Result<Self> {
        let mut here = Self::default();
        while order == Order::NewestFirst || here.records.len() < room {
            let number = stream.next_number();
            let (bytes, seen) = match stream.read_outline()? {
                Outlined::End => break,
                Outlined::Broken(number) => {
                    here.broken = Some(number);
                    break;
                }
                Outlined::Record(bytes, seen) => (bytes, seen),
            };
            if span.is_behind(&seen) {
                here.behind = true;
                break;
            }
            if span.is_before(&seen) || (span.customer.is_some() && seen.customer != span.customer) {
                continue;
            }
            let Some(record) = decode_record(bytes) else {
                here.broken = Some(number);
                break;
            };
            if wanted(&record) {
                here.records.push_back(record);
                if here.records.len() > room {
                    here.records.pop_front();
                }
            }
        }
        Ok(here)
    }
}

/// Up to `max` records of a span that are wanted. Holds no more than these in memory; reads the segments that the span
/// touches, newest first one segment after the other.
///
/// # Errors
/// Reading failed.
pub fn search(
    blobs: &dyn BlobStore,
    span: &Span,
    order: Order,
    max: usize,
    wanted: &mut Wanted<'_>,
) -> io::Result<Searched> {
    let all = segments(blobs)?;
    // The last segment that begins in front of the span is the first that may hold something of it.
    let (mut low, mut high) = (0, all.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let Some(seen) = first_of(blobs, all[middle])? else { break };
        if span.is_before(&seen) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut left: Vec<u64> = all.into_iter().skip(low.saturating_sub(1)).collect();
    if order == Order::OldestFirst {
        left.reverse();
    }
    let mut found = Searched::default();
    while found.records.len() < max
        && let Some(segment) = left.pop()
    {
        let Some(mut stream) = RecordStream::of_segment(blobs, segment)? else { continue };
        let room = max - found.records.len();
        let here = Here::read(&mut stream, span, (order, room), wanted)?;
        match order {
            Order::OldestFirst => found.records.extend(here.records),
            Order::NewestFirst => found.records.extend(here.records.into_iter().rev()),
        }
        found.broken = here.broken;
        if found.broken.is_some() || (here.behind && order == Order::OldestFirst) {
            break;
        }
    }
    Ok(found)
}
