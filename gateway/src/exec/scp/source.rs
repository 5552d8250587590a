//! Sends files and directories. Symbolic links are followed; one that leads to a directory around it is left out.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::message::{object_line, times_line};
use super::{Copy, warning};
use crate::exec::output::{Gone, reason};
use crate::exec::pipe::Reader;
use crate::exec::{FAILED, Shell};
use crate::limits::{EXEC_PIECE_BYTES, LISTING_PIECE, SCP_LINE_BYTES_MAX};
use crate::vfs::{
    Attributes, DirectoryEntry, DirectoryHandle, FileHandle, Follow, InodeId, Kind, OpenOptions, VaultPath,
    VfsError,
};

/// What the other half says to what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Taken,
    LeftOut,
    /// It gives up, or is gone.
    Over,
}

/// The copy is over before its end.
enum Stop {
    /// The other half gave up.
    Over,
    Gone,
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// A directory that is being sent.
struct Level {
    path: VaultPath,
    inode: InodeId,
    handle: DirectoryHandle,
    entries: VecDeque<DirectoryEntry>,
}

struct Source<'c> {
    copy: &'c Copy,
    shell: &'c Shell,
    reader: Reader,
    failed: bool,
}

pub(super) async fn run(copy: &Copy, shell: &Shell) -> Result<u32, Gone> {
    let reader = Reader::new(Arc::clone(&shell.input));
    let mut source = Source { copy, shell, reader, failed: false };
    match source.run().await {
        Ok(()) if !source.failed => Ok(0),
        Ok(()) | Err(Stop::Over) => Ok(FAILED),
        Err(Stop::Gone) => Err(Gone),
    }
}

impl Source<'_> {
    async fn run(&mut self) -> Result<(), Stop> {
        // The other half says when it is ready.
        self.reply().await?;
        for given in &self.copy.paths {
            match self.found(given).await {
                Ok((path, found)) => self.send(path, &found).await?,
                Err(error) => self.left_out(given, &reason(&error)).await?,
            }
        }
        Ok(())
    }

    async fn found(&self, given: &[u8]) -> Result<(VaultPath, Attributes), VfsError> {
        let path = VaultPath::parse(given)?;
        let found = self.shell.namespace.stat(&path, Follow::Yes).await?;
        Ok((path, found))
    }

    /// Whether to go on with what was announced.
    async fn reply(&mut self) -> Result<bool, Stop> {
        let reply = match self.reader.byte().await {
            Some(0) => Reply::Taken,
            Some(1) => match self.reader.line(SCP_LINE_BYTES_MAX).await {
                Some(_) => Reply::LeftOut,
                None => Reply::Over,
            },
            Some(_) | None => Reply::Over,
        };
        match reply {
            Reply::Taken => Ok(true),
            Reply::LeftOut => {
                self.failed = true;
                Ok(false)
            }
            Reply::Over => Err(Stop::Over),
        }
    }

    async fn say(&mut self, line: Vec<u8>) -> Result<bool, Stop> {
        self.shell.output.print(line).await?;
        self.reply().await
    }

    async fn left_out(&mut self, name: &[u8], why: &str) -> Result<(), Gone> {
        self.failed = true;
        self.shell.output.print(warning(name, why)).await
    }

    /// Sends a file, or a directory and all below it.
    async fn send(&mut self, path: VaultPath, found: &Attributes) -> Result<(), Stop> {
        let mut above: Vec<Level> = Vec::new();
        above.extend(self.announce(path, found).await?);
        while let Some(level) = above.last_mut() {
            if let Some(entry) = level.entries.pop_front() {
                let Ok(path) = level.path.join(&entry.name) else {
                    self.left_out(&entry.name, "the path is too long").await?;
                    continue;
                };
                if let Some(found) = self.followed(&path, entry.attributes, &above).await? {
                    above.extend(self.announce(path, &found).await?);
                }
                continue;
            }
            match level.handle.next(LISTING_PIECE).await {
                Ok(more) if !more.is_empty() => level.entries.extend(more),
                ended => {
                    if let Err(error) = ended {
                        let name = level.path.to_bytes();
                        self.left_out(&name, &reason(&error)).await?;
                    }
                    above.pop();
                    self.say(b"E\n".to_vec()).await?;
                }
            }
        }
        Ok(())
    }

    /// What a link leads to; what is none, as it is.
    async fn followed(
        &mut self,
        path: &VaultPath,
        attributes: Attributes,
        above: &[Level],
    ) -> Result<Option<Attributes>, Stop> {
        if attributes.kind != Kind::SymbolicLink {
            return Ok(Some(attributes));
        }
        match self.shell.namespace.stat(path, Follow::Yes).await {
            Ok(found) if above.iter().any(|level| level.inode == found.inode) => {
                self.left_out(&path.to_bytes(), "the link leads to a directory around it").await?;
                Ok(None)
            }
            Ok(found) => Ok(Some(found)),
            Err(error) => {
                self.left_out(&path.to_bytes(), &reason(&error)).await?;
                Ok(None)
            }
        }
    }

    /// Sends a file whole, or begins a directory.
    async fn announce(&mut self, path: VaultPath, found: &Attributes) -> Result<Option<Level>, Stop> {
        let name = path.split_last().map(|(_, name)| name.to_vec());
        let Some(name) = name.filter(|name| !name.contains(&b'\n')) else {
            self.left_out(&path.to_bytes(), "this name cannot be sent").await?;
            return Ok(None);
        };
        match found.kind {
            Kind::Directory if self.copy.recursive => self.directory(path, &name, found).await,
            Kind::Directory | Kind::SymbolicLink => {
                self.left_out(&path.to_bytes(), "not a regular file").await?;
                Ok(None)
            }
            Kind::File => self.file(&path, &name).await.map(|()| None),
        }
    }

    async fn directory(
        &mut self,
        path: VaultPath,
        name: &[u8],
        found: &Attributes,
    ) -> Result<Option<Level>, Stop> {
        let handle = match self.shell.namespace.open_directory(&path).await {
            Ok(handle) => handle,
            Err(error) => {
                self.left_out(&path.to_bytes(), &reason(&error)).await?;
                return Ok(None);
            }
        };
        if self.copy.preserve && !self.say(times_line(found)).await? {
            return Ok(None);
        }
        if !self.say(object_line('D', found, 0, name)).await? {
            return Ok(None);
        }
        Ok(Some(Level { path, inode: found.inode, handle, entries: VecDeque::new() }))
    }

    async fn file(&mut self, path: &VaultPath, name: &[u8]) -> Result<(), Stop> {
        let options = OpenOptions { read: true, ..OpenOptions::default() };
        let opened = match self.shell.namespace.open(path, options).await {
            Ok(file) => file.attributes().await.map(|found| (file, found)),
            Err(error) => Err(error),
        };
        let (file, found) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(self.left_out(&path.to_bytes(), &reason(&error)).await?),
        };
        if self.copy.preserve && !self.say(times_line(&found)).await? {
            return Ok(());
        }
        if !self.say(object_line('C', &found, found.size, name)).await? {
            return Ok(());
        }
        let sent = self.content(&file, found.size).await?;
        let sent = match sent {
            Ok(()) => file.close().await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => drop(self.say(b"\0".to_vec()).await?),
            Err(error) => {
                self.left_out(&path.to_bytes(), &reason(&error)).await?;
                self.reply().await?;
            }
        }
        Ok(())
    }

    /// Sends `size` bytes, whatever can be read: their number was announced. One piece is read while another is sent.
    async fn content(&mut self, file: &FileHandle, size: u64) -> Result<Result<(), VfsError>, Gone> {
        let piece = |at: u64| {
            let want = usize::try_from(size - at).unwrap_or(usize::MAX).min(EXEC_PIECE_BYTES);
            async move { if want == 0 { Ok(Bytes::new()) } else { file.read(at, want).await } }
        };
        let (mut done, mut outcome) = (0, Ok(()));
        let mut next = piece(0).await;
        while done < size {
            match next {
                Ok(bytes) if !bytes.is_empty() => {
                    done += bytes.len() as u64;
                    let (sent, ahead) = tokio::join!(self.shell.output.print(bytes), piece(done));
                    sent?;
                    next = ahead;
                }
                // It became shorter, or cannot be read on.
                short => {
                    outcome = short.map(drop).and(Err(VfsError::Interrupted));
                    break;
                }
            }
        }
        while done < size {
            let want = usize::try_from(size - done).unwrap_or(usize::MAX).min(EXEC_PIECE_BYTES);
            self.shell.output.print(vec![0; want]).await?;
            done += want as u64;
        }
        Ok(outcome)
    }
}
