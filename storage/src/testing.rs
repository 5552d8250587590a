//! Conformance suites: one for blob stores, one for indexes. Every back end passes the same one, from a test that makes
//! an empty store and hands it over. They panic on the first disagreement, as tests do.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a suite is a test: it panics on purpose")]

use std::io::ErrorKind;

use crate::blob::BlobStore;
use crate::index::{Change, Index, Table};

/// What every blob store does.
pub fn blob_store_conforms(blobs: &dyn BlobStore) {
    let blob = blobs.create("packs/a.pack", 8192).unwrap();
    assert_eq!(blobs.create("packs/a.pack", 0).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(blobs.open("packs/none.pack").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(blobs.remove("packs/none.pack").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(blob.len().unwrap(), 8192);
    let mut read = vec![1; 100];
    blob.read_at(4000, &mut read).unwrap();
    assert!(read.iter().all(|byte| *byte == 0), "preallocated bytes are zero");

    blob.write_at(4096, &[7; 4096]).unwrap();
    blob.write_at(10, b"odd").unwrap();
    blob.sync().unwrap();
    let again = blobs.open("packs/a.pack").unwrap();
    let mut read = vec![0; 5];
    again.read_at(9, &mut read).unwrap();
    assert_eq!(read, b"\0odd\0");
    again.read_at(8187, &mut read).unwrap();
    assert_eq!(read, [7; 5]);
    assert_eq!(again.read_at(8188, &mut read).unwrap_err().kind(), ErrorKind::UnexpectedEof);

    blob.write_at(8190, b"grown").unwrap();
    assert_eq!(blob.len().unwrap(), 8195);
    blob.set_len(4).unwrap();
    assert_eq!(again.len().unwrap(), 4);
    blob.set_len(12).unwrap();
    let mut read = vec![9; 12];
    again.read_at(0, &mut read).unwrap();
    assert_eq!(read, [0; 12], "what was cut off does not come back");

    blobs.create("audit/b", 0).unwrap();
    blobs.create("packs/c.pack", 0).unwrap();
    assert_eq!(blobs.list("packs/").unwrap(), ["packs/a.pack", "packs/c.pack"]);
    assert_eq!(blobs.list("audit/").unwrap(), ["audit/b"]);
    assert!(blobs.list("none/").unwrap().is_empty());
    blobs.remove("packs/a.pack").unwrap();
    assert_eq!(blobs.list("packs/").unwrap(), ["packs/c.pack"]);
    assert!(blobs.free_bytes().unwrap() > 0);
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Change {
    Change { table, key: key.to_vec(), value: Some(value.to_vec()) }
}

/// What every index does.
pub fn index_conforms(index: &dyn Index) {
    assert_eq!(index.snapshot().unwrap().get(Table::Inodes, b"a").unwrap(), None);
    let rows: Vec<Change> = (0..100_u8).map(|at| put(Table::Inodes, &[at], &[at, at])).collect();
    index.apply(&rows).unwrap();
    index.apply(&[put(Table::Dentries, &[5], b"other table")]).unwrap();
    let before = index.snapshot().unwrap();
    assert_eq!(before.get(Table::Inodes, &[5]).unwrap().unwrap(), [5, 5]);
    assert_eq!(before.get(Table::Dentries, &[5]).unwrap().unwrap(), b"other table");

    let found = before.range(Table::Inodes, &[10], &[20], 5).unwrap();
    assert_eq!(found.iter().map(|(key, _)| key[0]).collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
    assert_eq!(before.range(Table::Inodes, &[95], &[0xff], usize::MAX).unwrap().len(), 5);
    assert!(before.range(Table::Inodes, &[200], &[0xff], 9).unwrap().is_empty());
    assert_eq!(before.last(Table::Inodes, &[10], &[20]).unwrap().unwrap().0, [19]);
    assert_eq!(before.last(Table::Inodes, &[100], &[0xff]).unwrap(), None);
    assert_eq!(before.last(Table::Locks, &[0], &[0xff]).unwrap(), None);

    // In order, the last word wins; a snapshot does not see it.
    let gone = Change { table: Table::Inodes, key: vec![6], value: None };
    index.apply(&[put(Table::Inodes, &[5], b"x"), put(Table::Inodes, &[5], b"y"), gone]).unwrap();
    assert_eq!(before.get(Table::Inodes, &[5]).unwrap().unwrap(), [5, 5]);
    assert!(before.get(Table::Inodes, &[6]).unwrap().is_some());
    drop(before);
    let after = index.snapshot().unwrap();
    assert_eq!(after.get(Table::Inodes, &[5]).unwrap().unwrap(), b"y");
    assert_eq!(after.get(Table::Inodes, &[6]).unwrap(), None);
    drop(after);
    index.checkpoint().unwrap();
    assert!(index.verify().unwrap());
}
