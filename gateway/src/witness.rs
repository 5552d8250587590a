//! The audit log's witness: a place that the machine does not rule gets every signed checkpoint. Whoever sets the log back,
//! rewrites it or shows two of them is found out by it.
//!
//! `DIRECTORY/<date>/<records>-<time>.note` for the whole log, `DIRECTORY/<date>/<customer>-<records>-<time>.note` for a
//! customer's; a file appears whole, under a name that was never there before, and only once the note is durable here: what
//! the witness has, the log has. A server whose log does not hold the newest note of its witness does not start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use coffre_storage::Store;
use coffre_storage::audit::checkpoint::Checkpoint;
use coffre_storage::audit::verify::{Kept, note_texts, note_texts_within};
use coffre_storage::blob::BlobStore;
use coffre_storage::tree::{IncidentDraft, IncidentKind};

use crate::config::Audit;
use crate::limits::{WITNESS_LOOK_SECS, WITNESS_RETRY_SECS};
use crate::outbound::Address;
use crate::units::{hex, moment};

/// Where a note lies in the directory.
fn place_of(note: &Kept) -> (String, String) {
    let (size, time, prefix) = match note {
        Kept::System(note) => (note.size, note.time, String::new()),
        Kept::Customer(note) => (note.size, note.time, format!("{}-", hex(&note.customer))),
    };
    let day: String = moment(time.0).chars().take("2026-11-24".len()).collect();
    (day, format!("{prefix}{size:020}-{:020}.note", time.0))
}

fn sorted(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    found.sort();
    Ok(found)
}

/// Whether a file's name is that of a note over the whole log.
fn is_of_all(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.is_some_and(|name| name.strip_suffix(".note").is_some_and(|numbers| numbers.len() == 41))
}

/// The newest note over the whole log that a witness has.
///
/// # Errors
/// The directory cannot be read.
pub fn newest(directory: &Path) -> io::Result<Option<String>> {
    if !directory.exists() {
        return Ok(None);
    }
    for day in sorted(directory)?.into_iter().rev().filter(|day| day.is_dir()) {
        // By size, then by time: both only grow.
        if let Some(path) = sorted(&day)?.into_iter().rev().find(|path| is_of_all(path)) {
            return fs::read_to_string(path).map(Some);
        }
    }
    Ok(None)
}

/// Compares a log with the newest note of its witness, before anything of it is opened.
///
/// # Errors
/// The log does not hold that note: it is not the log that the witness saw, or an older state of it.
pub fn compare(directory: &Path, blobs: &dyn BlobStore, public: &[u8; 32]) -> anyhow::Result<()> {
    let shown = directory.display();
    let Some(text) = newest(directory).with_context(|| format!("the audit log's witness, {shown}"))? else {
        return Ok(());
    };
    let Some(note) = Checkpoint::verify(&text, public) else {
        bail!(
            "the newest checkpoint in {shown} is not signed by this log's key: it is the witness of another log"
        );
    };
    let own = note_texts(blobs, false)?;
    if own.iter().rev().any(|known| *known == text) {
        return Ok(());
    }
    let newest =
        own.iter().rev().find_map(|text| Checkpoint::verify(text, public)).map_or(0, |note| note.size);
    bail!(
        "the audit log was set back or rewritten: its witness {shown} has a checkpoint over {} records of {}, the log's newest is \
         over {newest} and that one is not among its own. Put the newest copy of the store in place. If what came after is lost \
         for good, say so to those concerned, keep that directory, and name another one as `[audit] witness`",
        note.size,
        moment(note.time.0)
    )
}

/// Writes a note into the directory, under its name, whole.
fn write(directory: &Path, note: &Kept, text: &str) -> io::Result<()> {
    let (day, name) = place_of(note);
    let day = directory.join(day);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&day)?;
    let (path, fresh) = (day.join(&name), day.join(format!(".{name}.new")));
    match fs::read(&path) {
        Ok(there) if there == text.as_bytes() => return Ok(()),
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another note has this name")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // A link does not replace what is there.
    fs::hard_link(&fresh, &path)?;
    fs::remove_file(&fresh)?;
    File::open(&day)?.sync_all()?;
    File::open(directory)?.sync_all()
}

/// One way to a witness, and how far it has come.
#[derive(Debug)]
struct Way {
    target: Target,
    /// Bytes of notes that were taken there: of the whole log, of customers.
    taken: [u64; 2],
    next_try: Option<Instant>,
    rest_secs: u64,
}

#[derive(Debug)]
enum Target {
    Directory(PathBuf),
    Url(Box<Address>),
}

impl Target {
    fn take(&self, note: &Kept, text: &str) -> io::Result<()> {
        match self {
            Self::Directory(directory) => write(directory, note, text),
            Self::Url(address) => address.post(text),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Directory(directory) => directory.display().to_string(),
            Self::Url(address) => format!("{}:{}", address.host, address.port),
        }
    }
}

impl Way {
    fn new(target: Target) -> Self {
        Self { target, taken: [0; 2], next_try: None, rest_secs: WITNESS_RETRY_SECS.0 }
    }

    /// Begins behind what is there: a directory is asked, an address gets the newest note and those to come.
    fn begin(&mut self, store: &Store) -> io::Result<()> {
        let blobs = store.blobs().as_ref();
        for (nth, of_customers) in [(0, false), (1, true)] {
            let durable = store.durable_notes(of_customers);
            let (texts, _) = note_texts_within(blobs, of_customers, 0..durable)?;
            let known = |text: &String| match &self.target {
                Target::Url(_) => Some(text) != texts.last(),
                Target::Directory(directory) => {
                    Kept::verify(text, &store.audit_public_key()).is_some_and(|note| {
                        let (day, name) = place_of(&note);
                        directory.join(day).join(name).exists()
                    })
                }
            };
            // Notes are taken in their order, so those behind the last known one are missing.
            let count = texts.iter().rposition(known).map_or(0, |last| last + 1);
            self.taken[nth] = texts.iter().take(count).map(|text| 4 + text.len() as u64).sum();
        }
        Ok(())
    }

    /// Takes what is new there.
    fn go(&mut self, store: &Store) -> io::Result<()> {
        let public = store.audit_public_key();
        for (nth, of_customers) in [(0, false), (1, true)] {
            let range = self.taken[nth]..store.durable_notes(of_customers);
            let (texts, _) = note_texts_within(store.blobs().as_ref(), of_customers, range)?;
            for text in texts {
                let note = Kept::verify(&text, &public);
                let note =
                    note.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a damaged note"))?;
                self.target.take(&note, &text)?;
                self.taken[nth] += 4 + text.len() as u64;
            }
        }
        Ok(())
    }

    fn look(&mut self, store: &Store) {
        if self.next_try.is_some_and(|then| Instant::now() < then) {
            return;
        }
        match self.go(store) {
            Ok(()) => {
                if self.next_try.take().is_some() {
                    tracing::info!(
                        witness = self.target.name(),
                        "the audit log's witness has everything again"
                    );
                }
                self.rest_secs = WITNESS_RETRY_SECS.0;
            }
            Err(error) => {
                let text = format!("{}: {error}", self.target.name());
                tracing::error!("a checkpoint did not reach the audit log's witness {text}");
                // Once for each time that it is out of reach.
                if self.next_try.is_none() {
                    let incident =
                        IncidentDraft { text: Some(text), ..IncidentDraft::new(IncidentKind::Witness) };
                    if let Err(error) = store.raise_incident(incident) {
                        tracing::error!(%error, "and the incident could not be kept");
                    }
                }
                self.next_try = Some(Instant::now() + Duration::from_secs(self.rest_secs));
                self.rest_secs = (self.rest_secs * 2).min(WITNESS_RETRY_SECS.1);
            }
        }
    }
}

/// The thread that takes notes to the witness. Dropped, it takes what is signed by then once more, and ends.
#[derive(Debug)]
pub struct Witnessing {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Witnessing {
    /// Starts it; nothing when nobody is a witness.
    ///
    /// # Errors
    /// The system has no thread to give; an address that is none.
    pub fn start(store: Store, audit: &Audit) -> anyhow::Result<Option<Self>> {
        let url = audit.witness_url.as_deref();
        let address = url.map(|url| Address::parse(url, audit.witness_ca_file.as_deref()));
        let address = address.transpose().map_err(anyhow::Error::msg).context("audit.witness_url")?;
        let targets = audit.witness.clone().map(Target::Directory);
        let targets = targets.into_iter().chain(address.map(|address| Target::Url(Box::new(address))));
        let mut ways: Vec<Way> = targets.map(Way::new).collect();
        if ways.is_empty() {
            return Ok(None);
        }
        for way in &mut ways {
            way.begin(&store).context("the audit log's witness")?;
        }
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new().name("witness".into()).spawn(move || {
            let rest = Duration::from_secs(WITNESS_LOOK_SECS);
            loop {
                ways.iter_mut().for_each(|way| way.look(&store));
                if stopped.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
                    // What the end of the sessions brought.
                    if let Err(error) = store.sign_audit() {
                        tracing::error!(%error, "the last checkpoint for the audit log's witness");
                    }
                    ways.iter_mut().for_each(|way| way.look(&store));
                    return;
                }
            }
        })?;
        Ok(Some(Self { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Witnessing {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
