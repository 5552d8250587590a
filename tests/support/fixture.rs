//! Data directories that an earlier release made (`tests/vectors/v1`), unpacked, with what must be found in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::run_ok;

/// A data directory in a temporary place, and its expectation.
#[derive(Debug)]
pub struct Fixture {
    directory: TempDir,
    /// The data directory.
    pub data: PathBuf,
    /// Who can log in.
    pub users: Vec<FixtureUser>,
    /// What they see.
    pub trees: Vec<Tree>,
    /// Paths of the first tree that may be there or not: they were never acknowledged.
    pub unpromised: Vec<Vec<u8>>,
}

/// A user of a fixture.
#[derive(Debug)]
pub struct FixtureUser {
    /// `USER` or `CUSTOMER/USER`.
    pub name: String,
    /// Private key that lets it in.
    pub key: PathBuf,
    /// Private key that was revoked.
    pub revoked_key: Option<PathBuf>,
    /// An app token, its identifier, and when it expires.
    pub token: Option<FixtureToken>,
}

/// An app token of a fixture.
#[derive(Debug)]
pub struct FixtureToken {
    /// As `credential list` shows it.
    pub id: String,
    /// The token.
    pub secret: String,
    /// When it ends, as RFC 3339 writes it.
    pub expires: String,
}

/// A vault as one of its users sees it.
#[derive(Debug)]
pub struct Tree {
    /// The user.
    pub user: String,
    /// `CUSTOMER/VAULT`.
    pub vault: String,
    /// Where it is mounted.
    pub at: String,
    /// What it holds: path below `at` -> line.
    pub lines: BTreeMap<Vec<u8>, Line>,
}

/// What a path is; fields that the server chose are absent unless they were read when the fixture was made.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its kind and content.
    pub object: Object,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Numbers of owner and group.
    pub owner: Option<(u32, u32)>,
    /// Nanoseconds since 1970.
    pub mtime_ns: Option<i64>,
    /// WebDAV properties: their namespace, names and values.
    pub properties: Option<(String, BTreeMap<String, String>)>,
    /// Whether its upload broke off.
    pub is_incomplete: bool,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A directory.
    Directory,
    /// A file of this many bytes, this SHA-256, and so many names.
    File {
        /// Bytes.
        size: u64,
        /// In hexadecimal.
        sha256: String,
        /// Hard links.
        links: u64,
    },
    /// A symbolic link to this.
    Link(Vec<u8>),
}

/// Bytes from text in which some are `%XX`.
///
/// # Errors
/// When it is not that.
pub fn decoded(text: &str) -> Result<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).context("two digits after %")?;
        bytes.push(u8::from_str_radix(code, 16)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Ok(bytes)
}

/// The folder of test vectors.
pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn text(value: &Value, field: &str) -> Result<String> {
    Ok(value[field].as_str().with_context(|| format!("{field} in {value}"))?.to_owned())
}

fn number<T: TryFrom<i64>>(value: &Value, field: &str) -> Option<T> {
    value[field].as_i64().and_then(|number| T::try_from(number).ok())
}

fn rows<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    value[field].as_array().with_context(|| format!("{field} in {value}"))
}

impl Fixture {
    /// Unpacks `NAME` of a release's folder.
    ///
    /// # Errors
    /// When it is not there, or tar refuses it.
    pub fn unpack(release: &str, name: &str) -> Result<Self> {
        let directory = TempDir::new()?;
        let folder = vectors().join(release);
        let archive = folder.join(format!("{name}.tar.gz"));
        run_ok(
            Command::new("tar")
                .arg("-C")
                .arg(directory.path())
                .args(["--no-same-owner", "-xzf"])
                .arg(archive),
        )?;
        let data = directory.path().join(name);
        let expected: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join(format!("{name}.json")))?)?;
        let users = rows(&expected, "users")?.iter().map(|row| user(row, &data)).collect::<Result<_>>()?;
        let trees = rows(&expected, "trees")?.iter().map(tree).collect::<Result<_>>()?;
        let unpromised = expected["unpromised"].as_array().map(Vec::as_slice).unwrap_or_default();
        let unpromised =
            unpromised.iter().map(|path| decoded(path.as_str().context("a path")?)).collect::<Result<_>>()?;
        Ok(Self { directory, data, users, trees, unpromised })
    }

    /// Where a server's log goes.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    /// A place beside the data directory.
    pub fn work(&self) -> &Path {
        self.directory.path()
    }

    /// The user of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn user(&self, name: &str) -> Result<&FixtureUser> {
        self.users.iter().find(|user| user.name == name).with_context(|| format!("user {name}"))
    }
}

fn user(row: &Value, data: &Path) -> Result<FixtureUser> {
    let token = match row["token"].as_str() {
        Some(secret) => Some(FixtureToken {
            id: text(row, "token_id")?,
            secret: secret.to_owned(),
            expires: text(row, "expires")?,
        }),
        None => None,
    };
    Ok(FixtureUser {
        name: text(row, "user")?,
        key: data.join(text(row, "key")?),
        revoked_key: row["revoked_key"].as_str().map(|key| data.join(key)),
        token,
    })
}

fn tree(row: &Value) -> Result<Tree> {
    let lines = rows(row, "entries")?
        .iter()
        .map(|entry| Ok((decoded(&text(entry, "path")?)?, line(entry)?)))
        .collect::<Result<_>>()?;
    Ok(Tree { user: text(row, "user")?, vault: text(row, "vault")?, at: text(row, "at")?, lines })
}

fn line(entry: &Value) -> Result<Line> {
    let object = match text(entry, "kind")?.as_str() {
        "directory" => Object::Directory,
        "file" => Object::File {
            size: number(entry, "size").context("size")?,
            sha256: text(entry, "sha256")?,
            links: number(entry, "links").context("links")?,
        },
        _ => Object::Link(decoded(&text(entry, "target")?)?),
    };
    let mode = match entry["mode"].as_str() {
        Some(octal) => Some(u32::from_str_radix(octal, 8)?),
        None => None,
    };
    let properties = match entry["properties"].as_object() {
        Some(properties) => {
            let values = properties["values"].as_object().context("values")?;
            let values = values
                .iter()
                .map(|(name, value)| Ok((name.clone(), value.as_str().context("a text")?.to_owned())))
                .collect::<Result<_>>()?;
            Some((text(&entry["properties"], "namespace")?, values))
        }
        None => None,
    };
    Ok(Line {
        object,
        mode,
        owner: number(entry, "uid").zip(number(entry, "gid")),
        mtime_ns: number(entry, "mtime_ns"),
        properties,
        is_incomplete: entry["incomplete"].as_bool().unwrap_or_default(),
    })
}
