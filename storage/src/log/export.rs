//! An export of the index on its way through the log (FORMAT.md section 10): parts of about a megabyte, one a batch at
//! most, among the batches that are written meanwhile. Together with the journal after its base it is the whole index.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::id::BatchNumber;
use crate::index::Table;

/// A row of the index as it is stored: its value is sealed already.
pub type ExportedRow = (Table, Vec<u8>, Vec<u8>);

/// Encoded bytes that a row adds to its key and value, at most.
const ROW_BYTES: usize = 24;

/// A piece of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportPart {
    /// Which export.
    pub number: u64,
    /// The batch up to which, exactly, the exported index is complete.
    pub base: BatchNumber,
    /// Which part of it, from 0.
    pub part: u64,
    /// How many parts there are: in the last one only.
    pub parts: Option<u64>,
    /// Rows, by table, then by key.
    pub rows: Vec<ExportedRow>,
}

#[derive(Encode, Decode)]
struct PartRow {
    #[n(0)]
    number: u64,
    #[n(1)]
    base: BatchNumber,
    #[n(2)]
    part: u64,
    #[n(3)]
    parts: Option<u64>,
    #[n(4)]
    rows: Vec<(u8, ByteVec, ByteVec)>,
}

impl ExportPart {
    /// About how many bytes a row takes in a part.
    pub fn row_bytes(key: &[u8], value: &[u8]) -> usize {
        key.len() + value.len() + ROW_BYTES
    }

    /// The part as it stands in the meta section.
    pub fn encode(self) -> Vec<u8> {
        let rows = self.rows.into_iter().map(|(table, key, value)| (table as u8, key.into(), value.into()));
        let row = PartRow {
            number: self.number,
            base: self.base,
            part: self.part,
            parts: self.parts,
            rows: rows.collect(),
        };
        let mut bytes = Vec::new();
        // Encoding into a Vec cannot fail.
        match minicbor::encode(&row, &mut bytes) {
            Ok(()) => bytes,
            Err(never) => match never.into_write() {
                None | Some(_) => bytes,
            },
        }
    }

    /// Reads a part; nothing for bytes that are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let row: PartRow = minicbor::decode(bytes).ok()?;
        let rows = row
            .rows
            .into_iter()
            .map(|(table, key, value)| Some((Table::from_number(table)?, key.into(), value.into())));
        Some(Self {
            number: row.number,
            base: row.base,
            part: row.part,
            parts: row.parts,
            rows: rows.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_reads_back_and_half_a_part_is_none() {
        let part = ExportPart {
            number: 3,
            base: BatchNumber(900),
            part: 1,
            parts: Some(2),
            rows: vec![(Table::Inodes, b"key".to_vec(), vec![7; 100]), (Table::Chunks, vec![], vec![])],
        };
        let bytes = part.clone().encode();
        assert_eq!(ExportPart::decode(&bytes), Some(part));
        assert_eq!(ExportPart::decode(&bytes[..bytes.len() / 2]), None);
    }
}
