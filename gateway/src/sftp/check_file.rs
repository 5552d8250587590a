//! `check-file-handle` and `check-file-name`: digests of a file or of its blocks without reading it over the line
//! (draft-ietf-secsh-filexfer-extensions-00 section 3).
//!
//! The reply is the draft's: the algorithm's name, then the digests to the end of the packet. Under the name `check-file`,
//! which paramiko sends, the extension's name comes first: that is what paramiko's client takes off.

use super::handles::SharedFile;
use super::reply::Reply;
use super::status::{Answer, Failure};
use super::wire::{CheckFile, RequestId};
use crate::limits::{CHECK_BLOCK_BYTES_MIN, SFTP_FRAME_BYTES_MAX};
use crate::vfs::FileHandle;
use crate::vfs::digest::{Algorithm, Blocks};

/// Bytes of a reply besides the digests.
const REPLY_BYTES: usize = 64;

/// The first algorithm of the client's list that is known here.
fn chosen(list: &[u8]) -> Option<Algorithm> {
    let known = |name: &[u8]| Algorithm::ALL.into_iter().find(|known| known.name().as_bytes() == name);
    list.split(|byte| *byte == b',').find_map(|name| known(name.trim_ascii()))
}

/// Answers about an open file.
pub(super) async fn on_handle(id: RequestId, file: SharedFile, check: CheckFile) -> Answer {
    let guard = file.read().await;
    answer(id, guard.as_ref().ok_or(Failure::UNKNOWN_HANDLE)?, &check).await
}

async fn answer(id: RequestId, file: &FileHandle, check: &CheckFile) -> Answer {
    let algorithm = chosen(&check.algorithms).ok_or(Failure::UNKNOWN_DIGEST)?;
    let block = u64::from(check.block);
    if block != 0 && block < CHECK_BLOCK_BYTES_MIN {
        return Err(Failure::SMALL_BLOCK);
    }
    if check.offset > file.attributes().await?.size {
        return Err(Failure::END_OF_FILE);
    }
    // A length of 0 means to the end.
    let len = if check.len == 0 { u64::MAX } else { check.len };
    let room = (SFTP_FRAME_BYTES_MAX as usize).saturating_sub(REPLY_BYTES) / algorithm.bytes();
    let blocks = Blocks { offset: check.offset, len, block };
    let digests = file.block_digests(algorithm, blocks, room as u64).await?.ok_or(Failure::MANY_BLOCKS)?;
    let mut reply = Reply::extended(id);
    if check.is_echoed {
        reply.string(b"check-file");
    }
    reply.string(algorithm.name().as_bytes());
    reply.bytes(&digests);
    Ok(reply.finish())
}

/// Answers about a file that was opened for this.
pub(super) async fn answer_and_close(id: RequestId, file: FileHandle, check: &CheckFile) -> Answer {
    let reply = answer(id, &file, check).await?;
    file.close().await?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_first_known_digest_is_taken() {
        assert_eq!(chosen(b"crc32,sha512,md5"), Some(Algorithm::Sha512));
        assert_eq!(chosen(b"md5, sha1"), Some(Algorithm::Md5));
        assert_eq!(chosen(b"SHA256"), None, "names are written as the draft has them");
        assert_eq!(chosen(b""), None);
    }
}
