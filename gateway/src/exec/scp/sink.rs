//! Takes files and directories. What a name may be, who may write where and how much fits is the door's to say; a file that
//! does not come to its end stays, marked as incomplete.

use std::sync::Arc;

use super::message::{Message, Times};
use super::{Copy, warning};
use crate::exec::output::{Gone, reason};
use crate::exec::pipe::Reader;
use crate::exec::{FAILED, Shell};
use crate::limits::{EXEC_PIECE_BYTES, SCP_LINE_BYTES_MAX};
use crate::vfs::path::PathError;
use crate::vfs::{
    AttributeChange, Creation, FileHandle, Follow, Kind, OpenOptions, StoreError, VaultPath, VfsError,
};

/// A directory that is being filled.
#[derive(Debug)]
struct Level {
    path: VaultPath,
    /// Set when it is full: filling it changes its time.
    change: AttributeChange,
}

/// What comes next.
enum Next {
    Message(Message),
    /// The other half could not read something.
    Warning,
    /// It gives up, or what it says makes no sense.
    Broken(&'static str),
    End,
}

/// Where what is sent goes.
enum Target {
    /// Into this directory.
    Into(VaultPath),
    /// It becomes this.
    As(VaultPath),
}

struct Sink<'c> {
    copy: &'c Copy,
    shell: &'c Shell,
    reader: Reader,
    target: Target,
    above: Vec<Level>,
    failed: bool,
}

/// How a file ended.
enum Received {
    /// The other half said that all of it was sent.
    Whole,
    /// It said that it was not.
    NotWhole,
    /// It is gone.
    Cut,
}

pub(super) async fn run(copy: &Copy, shell: &Shell) -> Result<u32, Gone> {
    let given = copy.paths.first().map(Vec::as_slice).unwrap_or_default();
    let target = match Target::find(shell, given).await {
        Ok(Target::As(_)) if copy.into_directory => Err(VfsError::from(StoreError::NotADirectory)),
        other => other,
    };
    let target = match target {
        Ok(target) => target,
        Err(error) => {
            shell.output.print(warning(given, &reason(&error))).await?;
            return Ok(FAILED);
        }
    };
    let reader = Reader::new(Arc::clone(&shell.input));
    let mut sink = Sink { copy, shell, reader, target, above: Vec::new(), failed: false };
    sink.run().await
}

impl Target {
    async fn find(shell: &Shell, given: &[u8]) -> Result<Self, VfsError> {
        let path = VaultPath::parse(given)?;
        match shell.namespace.stat(&path, Follow::Yes).await {
            Ok(found) if found.kind == Kind::Directory => Ok(Self::Into(path)),
            Ok(_) | Err(VfsError::Store(StoreError::NotFound)) => Ok(Self::As(path)),
            Err(error) => Err(error),
        }
    }

    fn place(&self, name: &[u8]) -> Result<VaultPath, PathError> {
        match self {
            Self::Into(path) => path.join(name),
            // Its name counts for nothing, and is no less checked.
            Self::As(path) => path.join(name).map(|_| path.clone()),
        }
    }
}

impl Sink<'_> {
    async fn run(&mut self) -> Result<u32, Gone> {
        self.taken().await?;
        let mut times: Option<Times> = None;
        loop {
            match self.next().await {
                Next::Message(Message::Times(said)) => {
                    times = Some(said);
                    self.taken().await?;
                }
                Next::Message(Message::File { mode, size, name }) => {
                    let change = self.attributes(mode, times.take());
                    match self.place(&name) {
                        Ok(path) => {
                            if self.file(&path, &name, size, change).await?.is_none() {
                                return Ok(FAILED);
                            }
                        }
                        Err(error) => return self.end(&name, &error.to_string()).await,
                    }
                }
                Next::Message(Message::Directory { mode, name }) => {
                    let change = self.attributes(mode, times.take());
                    match self.place(&name) {
                        Ok(_) if !self.copy.recursive => {
                            return self.end(&name, "received directory without -r").await;
                        }
                        Ok(path) => self.directory(path, &name, change).await?,
                        Err(error) => return self.end(&name, &error.to_string()).await,
                    }
                }
                Next::Message(Message::End) => match self.above.pop() {
                    Some(level) => self.full(&level).await?,
                    None => return self.end(b"E", "protocol error").await,
                },
                Next::Warning => self.failed = true,
                Next::Broken(why) => return self.end(b"", why).await,
                Next::End => {
                    let whole = !self.failed && self.above.is_empty();
                    return Ok(if whole { 0 } else { FAILED });
                }
            }
        }
    }

    async fn next(&mut self) -> Next {
        let Some(first) = self.reader.byte().await else { return Next::End };
        let Some(mut line) = self.reader.line(SCP_LINE_BYTES_MAX).await else {
            return Next::Broken("protocol error");
        };
        match first {
            1 => Next::Warning,
            2 => Next::Broken("the other side gave up"),
            first => {
                line.insert(0, first);
                Message::parse(&line).map_or(Next::Broken("protocol error"), Next::Message)
            }
        }
    }

    fn attributes(&self, mode: u32, times: Option<Times>) -> AttributeChange {
        let times = times.filter(|_| self.copy.preserve);
        AttributeChange {
            mode: Some(if self.copy.preserve { mode } else { mode & 0o777 }),
            atime: times.map(|times| times.atime),
            mtime: times.map(|times| times.mtime),
            ..AttributeChange::default()
        }
    }

    /// Where a name goes: into the directory that is being filled, into the target, or to the target itself. A name is one
    /// name: a path, `..` or nothing is refused.
    fn place(&self, name: &[u8]) -> Result<VaultPath, PathError> {
        match self.above.last() {
            Some(level) => level.path.join(name),
            None => self.target.place(name),
        }
    }

    async fn taken(&self) -> Result<(), Gone> {
        self.shell.output.print(&b"\0"[..]).await
    }

    /// Something is left out; the other half goes on with the next.
    async fn left_out(&mut self, name: &[u8], error: &VfsError) -> Result<(), Gone> {
        self.failed = true;
        self.shell.output.print(warning(name, &reason(error))).await
    }

    /// The other half is told why, and that this is the end.
    async fn end(&mut self, name: &[u8], why: &str) -> Result<u32, Gone> {
        let mut text = warning(name, why);
        if let Some(first) = text.first_mut() {
            *first = 2;
        }
        self.shell.output.print(text).await?;
        Ok(FAILED)
    }

    async fn directory(&mut self, path: VaultPath, name: &[u8], change: AttributeChange) -> Result<(), Gone> {
        let namespace = &self.shell.namespace;
        // What it is filled with needs rights that its mode may not have: only once it is full it counts.
        let mode = change.mode.map(|mode| (mode & 0o777) | 0o700);
        let outcome =
            namespace.make_directory(&path, AttributeChange { mode, ..AttributeChange::default() }).await;
        let outcome = match outcome {
            Err(VfsError::Store(StoreError::Exists)) => match namespace.stat(&path, Follow::Yes).await {
                Ok(found) if found.kind == Kind::Directory => Ok(false),
                Ok(_) => Err(StoreError::NotADirectory.into()),
                Err(error) => Err(error),
            },
            other => other.map(|()| true),
        };
        match outcome {
            Ok(is_new) => {
                let mode = change.mode.filter(|_| is_new || self.copy.preserve);
                self.above.push(Level { path, change: AttributeChange { mode, ..change } });
                self.taken().await
            }
            Err(error) => self.left_out(name, &error).await,
        }
    }

    /// A directory is full.
    async fn full(&mut self, level: &Level) -> Result<(), Gone> {
        if level.change != AttributeChange::default() {
            let set =
                self.shell.namespace.set_attributes(&level.path, level.change.clone(), None, Follow::Yes);
            if let Err(error) = set.await {
                return self.left_out(&level.path.to_bytes(), &error).await;
            }
        }
        self.taken().await
    }

    /// Takes a file; nothing when the other half is gone.
    async fn file(
        &mut self,
        path: &VaultPath,
        name: &[u8],
        size: u64,
        change: AttributeChange,
    ) -> Result<Option<()>, Gone> {
        let options = OpenOptions {
            write: true,
            truncate: true,
            creation: Creation::IfMissing,
            attributes: AttributeChange { mode: change.mode, ..AttributeChange::default() },
            ..OpenOptions::default()
        };
        let file = match self.shell.namespace.open(path, options).await {
            Ok(file) => file,
            Err(error) => return self.left_out(name, &error).await.map(Some),
        };
        self.taken().await?;
        let (received, written) = self.content(&file, size).await;
        let done = match (received, written) {
            // Dropped without being closed it stays as what it is: incomplete.
            (Received::Cut, _) => return Ok(None),
            (Received::NotWhole, _) => {
                self.failed = true;
                return self.taken().await.map(Some);
            }
            (Received::Whole, Err(error)) => Err(error),
            (Received::Whole, Ok(())) => self.close(file, change).await,
        };
        match done {
            Ok(()) => self.taken().await?,
            Err(error) => self.left_out(name, &error).await?,
        }
        Ok(Some(()))
    }

    async fn close(&self, file: FileHandle, change: AttributeChange) -> Result<(), VfsError> {
        if self.copy.preserve {
            file.set_attributes(change, None).await?;
        }
        file.close().await
    }

    /// Takes `size` bytes, and what the other half says about them. What cannot be written is taken all the same: the
    /// protocol has no way to stop a file.
    async fn content(&mut self, file: &FileHandle, size: u64) -> (Received, Result<(), VfsError>) {
        let (mut done, mut written) = (0, Ok(()));
        while done < size {
            let want = usize::try_from(size - done).unwrap_or(usize::MAX).min(EXEC_PIECE_BYTES);
            let Some(piece) = self.reader.some(want).await else { return (Received::Cut, written) };
            let offset = done;
            done += piece.len() as u64;
            if written.is_ok() {
                written = file.write(offset, piece).await;
            }
        }
        let received = match self.reader.byte().await {
            Some(0) => Received::Whole,
            Some(1) => {
                self.reader.line(SCP_LINE_BYTES_MAX).await.map_or(Received::Cut, |_| Received::NotWhole)
            }
            Some(_) | None => Received::Cut,
        };
        (received, written)
    }
}
