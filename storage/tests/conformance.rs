//! Every back end passes the one suite of its kind.

use coffre_storage::blob::disk::DiskBlobs;
use coffre_storage::blob::faulty::FaultyBlobs;
use coffre_storage::blob::memory::MemoryBlobs;
use coffre_storage::index::memory::MemoryIndex;
use coffre_storage::index::redb::RedbIndex;
use coffre_storage::testing::{blob_store_conforms, index_conforms};

#[test]
fn blobs_on_a_disk_conform() {
    let home = tempfile::tempdir().unwrap();
    blob_store_conforms(&DiskBlobs::new(home.path()).unwrap());
}

#[test]
fn blobs_in_memory_conform() {
    blob_store_conforms(&MemoryBlobs::default());
}

#[test]
fn blobs_that_can_fail_conform_while_they_do_not() {
    blob_store_conforms(&FaultyBlobs::default());
}

#[test]
fn the_index_in_memory_conforms() {
    index_conforms(&MemoryIndex::default());
}

#[test]
fn the_index_in_redb_conforms() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("index.redb");
    RedbIndex::create(&path).unwrap();
    index_conforms(&RedbIndex::open(&path).unwrap());
}
