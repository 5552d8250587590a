//! Uploads that come in parts over several requests, each part durable when it is acknowledged, until they become one file.
//!
//! Parts lie in the vault of their target, or of the first mount that may be written to when the target is not told at the
//! beginning, in a directory that no path leads to (`coffre_storage::tree::parts`): sealed, counted by quotas, kept over a
//! restart, gone with the vault. An upload belongs to the credential that began it. Inside one vault parts become a file by
//! sharing their content; into another vault their bytes are copied.

use coffre_storage::audit::{Action, DetailKey, RecordDraft};
use coffre_storage::id::{InodeId, VaultId};
use coffre_storage::tree::Entry;
use coffre_storage::upload::Upload;
use coffre_storage::{Pending, StoreError, Vault};

use super::digest::{Algorithm, Digests, Hasher};
use super::upload::{Checksum, PartPlace, Target, computed_for, verified};
use super::{
    AttributeChange, Attributes, Kind, Namespace, Precondition, UploadHandle, VaultPath, VfsError, blocking,
    durable, durable_value,
};
use crate::limits::{COPY_PIECE_BYTES, HASH_PIECE_BYTES, HASH_TURN_PIECES, PARTS_MAX, PARTS_UPLOADS_MAX};

/// Names asked of a directory of parts at a time.
const LISTING_PIECE: usize = 256;

/// A part of an upload.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its name, as the client gave it.
    pub name: Vec<u8>,
    /// What is known of it.
    pub attributes: Attributes,
}

/// An upload in parts, found.
#[derive(Debug, Clone)]
struct Home {
    mount: usize,
    vault: Vault,
    /// Its name among all of the vault.
    name: Vec<u8>,
    directory: InodeId,
}

impl Home {
    /// Its parts, in the order of the file.
    fn parts(&self) -> Result<Vec<Part>, VfsError> {
        let (mut parts, mut cursor) = (Vec::new(), None);
        loop {
            let (entries, next) = self.vault.list(self.directory, cursor, LISTING_PIECE)?;
            let files = entries.into_iter().filter(|entry| entry.attributes.kind == Kind::File);
            parts.extend(files.map(|Entry { name, attributes }| Part { name, attributes }));
            cursor = next;
            if cursor.is_none() {
                parts.sort_by_cached_key(|part| place_of(&part.name));
                return Ok(parts);
            }
        }
    }
}

/// How an upload in parts ends.
#[derive(Debug, Clone)]
pub struct Assembly {
    /// What it becomes.
    pub target: VaultPath,
    /// What must hold about the target.
    pub precondition: Precondition,
    /// For the file.
    pub attributes: AttributeChange,
    /// What its sender says of the whole.
    pub expected: Vec<Checksum>,
}

/// The order of parts: by the number that their name begins with, which is a count or an offset.
fn place_of(name: &[u8]) -> (u64, Vec<u8>) {
    let digits = name.iter().take_while(|byte| byte.is_ascii_digit());
    let number =
        digits.fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    (number, name.to_vec())
}

/// The offset that a part named after its first and last byte begins at.
fn offset_of(name: &[u8]) -> Option<u64> {
    let (first, last) = std::str::from_utf8(name).ok()?.split_once('-')?;
    last.parse::<u64>().ok()?;
    first.parse().ok()
}

/// Whether parts that say where they begin, all of them, begin where the one before ends. A count says nothing of it:
/// there OC-Total-Length does.
fn is_without_gap(parts: &[Part]) -> bool {
    let Some(offsets) = parts.iter().map(|part| offset_of(&part.name)).collect::<Option<Vec<_>>>() else {
        return true;
    };
    let mut end = 0;
    parts.iter().zip(offsets).all(|(part, offset)| {
        let follows = offset == end;
        end += part.attributes.size;
        follows
    })
}

impl Namespace {
    fn parts_record(&self, action: Action, id: &[u8]) -> RecordDraft {
        RecordDraft { details: vec![(DetailKey::Name, id.to_vec())], ..self.session().record(action) }
    }

    /// The name of a client's upload among those of all credentials.
    fn parts_name(&self, id: &[u8]) -> Vec<u8> {
        [self.parts_prefix(), id.to_vec()].concat()
    }

    fn parts_prefix(&self) -> Vec<u8> {
        [self.session().principal.credential.0.as_bytes(), b"."].concat()
    }

    /// Vaults that may be written to, each once, with the first mount of each.
    fn writable_vaults(&self) -> Vec<(usize, VaultId)> {
        let mut found: Vec<(usize, VaultId)> = Vec::new();
        for (index, mount) in self.mounts().iter().enumerate() {
            let id = VaultId(mount.vault);
            if mount.permit_create().is_ok() && !found.iter().any(|(_, known)| *known == id) {
                found.push((index, id));
            }
        }
        found
    }

    /// The first of them, or why there is none.
    fn first_writable_vault(&self) -> Result<VaultId, VfsError> {
        if let Some((_, vault)) = self.writable_vaults().first() {
            return Ok(*vault);
        }
        self.mount(0)?.permit_create()?;
        Err(StoreError::NotFound.into())
    }

    fn parts_home(&self, id: &[u8]) -> Result<Home, VfsError> {
        let name = self.parts_name(id);
        for (mount, vault) in self.writable_vaults() {
            let vault = self.vfs.inner.store.vault(vault)?;
            match vault.parts(&name) {
                Ok(found) => return Ok(Home { mount, vault, name, directory: found.inode }),
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::NotFound.into())
    }

    /// Begins an upload in parts; its target, if it is known already, decides in which vault they wait.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn begin_parts(&self, id: &[u8], target: Option<&VaultPath>) -> Result<(), VfsError> {
        let (id, target) = (id.to_vec(), target.cloned());
        let record = self.parts_record(Action::PartsBegin, &id);
        let pending = self
            .audited(record.clone(), move |own| {
                if own.parts_home(&id).is_ok() {
                    return Err(StoreError::Exists.into());
                }
                let vault = match target {
                    Some(target) => own.upload_place(&target)?.parent.vault,
                    None => own.vfs.inner.store.vault(own.first_writable_vault()?)?,
                };
                own.parts_room(&vault)?;
                let record = RecordDraft { vault: Some(vault.id()), ..record };
                let made = vault.begin_parts(&own.parts_name(&id), record)?;
                Ok(Pending { value: (), ticket: made.ticket })
            })
            .await?;
        durable_value(pending).await
    }

    /// Refuses more uploads than one credential may have under way.
    fn parts_room(&self, vault: &Vault) -> Result<(), VfsError> {
        let (prefix, mut cursor, mut own) = (self.parts_prefix(), None, 0);
        loop {
            let (entries, next) = vault.list_parts(cursor, LISTING_PIECE)?;
            own += entries.iter().filter(|entry| entry.name.starts_with(&prefix)).count();
            if own >= PARTS_UPLOADS_MAX {
                return Err(StoreError::TooLarge("the number of uploads in parts").into());
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Starts a part, which replaces one of the same name at its commit.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn begin_part(
        &self,
        id: &[u8],
        name: &[u8],
        size_hint: Option<u64>,
    ) -> Result<UploadHandle, VfsError> {
        let (id, name) = (id.to_vec(), name.to_vec());
        let shown = [&id[..], b"/", &name].concat();
        self.audited(self.parts_record(Action::PartWrite, &shown), move |own| {
            let home = own.parts_home(&id)?;
            own.mount(home.mount)?.permit_create()?;
            let replaced = match home.vault.lookup(home.directory, &name) {
                Ok(found) => Some(found.inode),
                Err(StoreError::NotFound) => None,
                Err(error) => return Err(error.into()),
            };
            if replaced.is_none() && home.vault.count_names(home.directory, PARTS_MAX)? >= PARTS_MAX {
                return Err(StoreError::TooLarge("the number of parts").into());
            }
            own.has_room(size_hint)?;
            let upload = home.vault.begin_upload_at(replaced, size_hint)?;
            let place = PartPlace { vault: home.vault, directory: home.directory, name, shown };
            Ok(UploadHandle::new(own.clone(), Target::Part(place), upload))
        })
        .await
    }

    /// The parts that are there, in the order of the file.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn parts(&self, id: &[u8]) -> Result<Vec<Part>, VfsError> {
        let id = id.to_vec();
        self.audited(self.parts_record(Action::DirectoryList, &id), move |own| own.parts_home(&id)?.parts())
            .await
    }

    /// Gives an upload up, or one part of it.
    ///
    /// # Errors
    /// [`VfsError`].
    pub async fn abandon_parts(&self, id: &[u8], part: Option<&[u8]>) -> Result<(), VfsError> {
        let (id, part) = (id.to_vec(), part.map(<[u8]>::to_vec));
        let record = self.parts_record(Action::PartsAbandon, &id);
        let pending = self
            .audited(record.clone(), move |own| {
                let home = own.parts_home(&id)?;
                let record = RecordDraft { vault: Some(home.vault.id()), ..record };
                Ok(match part {
                    Some(part) => home.vault.remove(home.directory, &part, record)?,
                    None => home.vault.abandon_parts(&home.name, record)?,
                })
            })
            .await?;
        durable_value(pending).await
    }

    /// Makes a file of the parts, in one transaction; true when the name is new. Durable when this returns.
    ///
    /// # Errors
    /// [`VfsError`]: the parts are still there then.
    pub async fn assemble(&self, id: &[u8], assembly: Assembly) -> Result<(Attributes, bool), VfsError> {
        let id = id.to_vec();
        let record = self.about(Action::FileWrite, &assembly.target);
        let (found, wanted) = (id.clone(), assembly.target.clone());
        // Policy before anything is read.
        let (home, parts) = self
            .audited(record.clone(), move |own| {
                own.upload_place(&wanted)?;
                let home = own.parts_home(&found)?;
                let parts = home.parts()?;
                if !is_without_gap(&parts) {
                    return Err(VfsError::PartMissing);
                }
                Ok((home, parts))
            })
            .await?;
        let digests = match self.digests_of_parts(&home, &parts, &assembly.expected).await {
            Ok(digests) => digests,
            Err(error) => {
                if let Some(outcome) = error.outcome() {
                    let reason = Some(error.to_string());
                    self.record(RecordDraft { outcome, reason, ..record }).await?;
                }
                return Err(error);
            }
        };
        let target = Target::Path(assembly.target.clone());
        let (done, left) = self
            .audited(record, move |own| {
                let size = parts.iter().map(|part| part.attributes.size).sum();
                let (mut upload, left) = own.upload_of_parts(home, &parts, &assembly.target)?;
                upload.tell_digests(digests);
                let (precondition, attributes) = (assembly.precondition, &assembly.attributes);
                Ok((own.commit_upload(upload, &target, size, precondition, attributes)?, left))
            })
            .await?;
        let done = durable_value(done).await?;
        if let Some(home) = left {
            let record = self.parts_record(Action::PartsAbandon, &id);
            let record = RecordDraft { vault: Some(home.vault.id()), ..record };
            let gone = blocking(move || Ok(home.vault.abandon_parts(&home.name, record)?)).await?;
            durable(gone.ticket).await?;
        }
        Ok(done)
    }

    /// An upload that holds what the parts hold; with parts of another vault, those are left to be given up.
    fn upload_of_parts(
        &self,
        home: Home,
        parts: &[Part],
        target: &VaultPath,
    ) -> Result<(Upload, Option<Home>), VfsError> {
        let place = self.upload_place(target)?;
        let vault = &place.parent.vault;
        let replaced = place.existing.as_ref().map(|existing| existing.attributes.inode);
        let mut upload = vault.begin_upload_at(replaced, None)?;
        if vault.id() == home.vault.id() {
            let bytes = parts.iter().map(|part| part.attributes.size).sum();
            upload.spend_parts(home.name, bytes)?;
            for part in parts {
                upload.append_content_of(part.attributes.inode, part.attributes.content)?;
            }
            return Ok((upload, None));
        }
        for part in parts {
            let (open, mut at) = (home.vault.open(part.attributes.inode)?, 0);
            loop {
                self.live()?;
                let piece = open.read_at(at, COPY_PIECE_BYTES)?;
                if piece.is_empty() {
                    break;
                }
                at += piece.len() as u64;
                upload.write(&piece)?;
            }
        }
        // What came meanwhile would be given up with the rest.
        let shown = |parts: &[Part]| -> Vec<_> {
            parts.iter().map(|part| (part.attributes.inode, part.attributes.content)).collect()
        };
        if shown(&home.parts()?) != shown(parts) {
            return Err(StoreError::Changed.into());
        }
        Ok((upload, Some(home)))
    }

    /// Parts come in any order, so a digest of the whole is computed when all are there; in turns with whoever else hashes.
    async fn digests_of_parts(
        &self,
        home: &Home,
        parts: &[Part],
        expected: &[Checksum],
    ) -> Result<Digests, VfsError> {
        let mut hashers = computed_for(expected);
        if hashers.is_empty() {
            return Ok(Digests::default());
        }
        for part in parts {
            let (vault, inode) = (home.vault.clone(), part.attributes.inode);
            let open = blocking(move || Ok(vault.open(inode)?)).await?;
            let mut at = 0;
            while at < part.attributes.size {
                let _turn = self.vfs.inner.hashing.turn().await?;
                self.live()?;
                let open = open.clone();
                (hashers, at) = blocking(move || hash_some(&open, hashers, at)).await?;
            }
        }
        verified(hashers, expected)
    }
}

type Hashing = (Vec<(Algorithm, Hasher)>, u64);

fn hash_some(
    open: &coffre_storage::upload::OpenFile,
    mut hashers: Vec<(Algorithm, Hasher)>,
    mut at: u64,
) -> Result<Hashing, VfsError> {
    for _ in 0..HASH_TURN_PIECES {
        let piece = open.read_at(at, HASH_PIECE_BYTES)?;
        if piece.is_empty() {
            break;
        }
        hashers.iter_mut().for_each(|(_, hasher)| hasher.update(&piece));
        at += piece.len() as u64;
    }
    Ok((hashers, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_in_the_order_of_their_numbers_whatever_their_width() {
        let mut names: Vec<&[u8]> = vec![b"10", b"00002", b"9", b"000000000010485760-1", b"1"];
        names.sort_by_cached_key(|name| place_of(name));
        assert_eq!(names, [&b"1"[..], b"00002", b"9", b"10", b"000000000010485760-1"]);
    }
}
