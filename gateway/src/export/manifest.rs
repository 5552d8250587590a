//! The lines of `manifest.jsonl` and `SHA256SUMS`, and the signed note over both (storage/FORMAT.md section 10).

use std::io::{BufRead, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use coffre_storage::time::UnixNanos;
use coffre_storage::tree::{Attributes, Kind};
use serde::{Deserialize, Serialize};

use super::{MANIFEST, ORIGIN, SUMS, moment_text};
use crate::units::{hex, parse_moment};

/// Bytes without loss: text where they are, base64 where not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Text {
    Plain(String),
    Base64 { base64: String },
}

impl Text {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Plain(text.to_owned()),
            Err(_) => Self::Base64 { base64: BASE64.encode(bytes) },
        }
    }

    /// Nothing for base64 that is none.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(text) => Some(text.clone().into_bytes()),
            Self::Base64 { base64 } => BASE64.decode(base64).ok(),
        }
    }
}

/// What a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LineKind {
    File,
    Directory,
    SymbolicLink,
    /// Names of a directory that could not be read: never exported.
    Listing,
}

impl From<Kind> for LineKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File,
            Kind::Directory => Self::Directory,
            Kind::SymbolicLink => Self::SymbolicLink,
        }
    }
}

/// A WebDAV property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Property {
    pub(super) name: Text,
    pub(super) value: Text,
}

/// Bytes of the longest line: 64 KiB of properties and the longest path, each byte escaped.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads the next line of a manifest with its newline; 0 bytes at the end. A longer line than any comes in parts.
pub(super) fn read_line(reader: &mut impl BufRead, into: &mut Vec<u8>) -> std::io::Result<u64> {
    into.clear();
    Ok(reader.take(LINE_BYTES_MAX).read_until(b'\n', into)? as u64)
}

/// A line of the manifest: one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) path: Text,
    pub(super) kind: LineKind,
    /// Why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_exported: Option<String>,
    pub(super) size: u64,
    pub(super) mtime: String,
    pub(super) atime: String,
    /// Octal, as the client set it.
    pub(super) mode: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Of a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<Text>,
    /// The earlier path of the same file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hard_link_to: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) blake3: Option<String>,
    /// Its upload broke off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) incomplete: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) properties: Vec<Property>,
    /// Offset in the archive behind this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tar_end: Option<u64>,
}

impl Line {
    /// What is known before content is read.
    pub(super) fn of(path: &[u8], attributes: &Attributes) -> Self {
        Self {
            path: Text::of(path),
            kind: attributes.kind.into(),
            not_exported: None,
            size: attributes.size,
            mtime: moment_text(attributes.mtime),
            atime: moment_text(attributes.atime),
            mode: format!("{:04o}", attributes.mode),
            uid: attributes.uid,
            gid: attributes.gid,
            target: None,
            hard_link_to: None,
            sha256: None,
            blake3: attributes.blake3.filter(|_| attributes.kind == Kind::File).map(|hash| hex(&hash)),
            incomplete: attributes.incomplete,
            properties: Vec::new(),
            tar_end: None,
        }
    }

    /// One line with its newline.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line: Self = serde_json::from_slice(line).ok()?;
        line.path.bytes().is_some().then_some(line)
    }

    pub(super) fn is_exported(&self) -> bool {
        self.not_exported.is_none()
    }

    /// Modification time in nanoseconds.
    pub(super) fn mtime_nanos(&self) -> Option<i64> {
        parse_moment(&self.mtime).ok()
    }

    /// Permission bits as they are applied.
    pub(super) fn applied_mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode, 8).ok().map(applied_mode)
    }
}

/// Permission bits that are put on exported files: not those that would let whoever runs a customer's file act as the
/// exporter.
pub(super) fn applied_mode(mode: u32) -> u32 {
    mode & 0o1777
}

/// A line of `SHA256SUMS` as coreutils write and read it: behind a backslash at its start, a backslash in the name is
/// `\\`, a newline `\n`, and a carriage return at the end, where it would be taken for a line's, `\r`.
pub(super) fn sum_line(sha256: &str, path: &[u8]) -> Vec<u8> {
    let ends_in_return = path.ends_with(b"\r");
    let escaped = ends_in_return || path.iter().any(|byte| matches!(byte, b'\\' | b'\n'));
    let mut line = Vec::with_capacity(path.len() + 72);
    if escaped {
        line.push(b'\\');
    }
    line.extend_from_slice(sha256.as_bytes());
    line.extend_from_slice(b"  ");
    for (at, byte) in path.iter().enumerate() {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' if ends_in_return && at + 1 == path.len() => line.extend_from_slice(b"\\r"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) symbolic_links: u64,
    pub(super) bytes: u64,
    pub(super) not_exported: u64,
}

impl Counts {
    pub(super) fn add(&mut self, line: &Line) {
        match (line.is_exported(), line.kind) {
            (false, _) => self.not_exported += 1,
            (true, LineKind::File) => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(line.size);
            }
            (true, LineKind::Directory) => self.directories += 1,
            (true, LineKind::SymbolicLink) => self.symbolic_links += 1,
            (true, LineKind::Listing) => {}
        }
    }
}

/// What the signed note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) vault: String,
    /// 32 hexadecimal digits.
    pub(super) vault_id: String,
    pub(super) moment: UnixNanos,
    pub(super) commit: u64,
    pub(super) format: String,
    pub(super) counts: Counts,
    pub(super) manifest_sha256: String,
    pub(super) sums_sha256: String,
    pub(super) signed: UnixNanos,
}

impl Summary {
    pub(super) fn body(&self) -> String {
        let Counts { files, directories, symbolic_links, bytes, not_exported } = self.counts;
        format!(
            "{ORIGIN}\nvault {} {}\nmoment {}\ncommit {}\nformat {}\nfiles {files}\ndirectories {directories}\n\
             symbolic-links {symbolic_links}\nbytes {bytes}\nnot-exported {not_exported}\n\
             sha256 {} {MANIFEST}\nsha256 {} {SUMS}\nsigned {}\n",
            self.vault,
            self.vault_id,
            moment_text(self.moment),
            self.commit,
            self.format,
            self.manifest_sha256,
            self.sums_sha256,
            moment_text(self.signed),
        )
    }

    /// Nothing for a text that [`Summary::body`] does not write.
    pub(super) fn parse(body: &str) -> Option<Self> {
        let mut lines = body.lines().skip(1);
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let (vault, vault_id) = field("vault")?.split_once(' ')?;
        let moment = UnixNanos(parse_moment(field("moment")?).ok()?);
        let commit = field("commit")?.parse().ok()?;
        let format = field("format")?.to_owned();
        let counts = Counts {
            files: field("files")?.parse().ok()?,
            directories: field("directories")?.parse().ok()?,
            symbolic_links: field("symbolic-links")?.parse().ok()?,
            bytes: field("bytes")?.parse().ok()?,
            not_exported: field("not-exported")?.parse().ok()?,
        };
        let (manifest_sha256, _) = field("sha256")?.split_once(' ')?;
        let (sums_sha256, _) = field("sha256")?.split_once(' ')?;
        let found = Self {
            vault: vault.to_owned(),
            vault_id: vault_id.to_owned(),
            moment,
            commit,
            format,
            counts,
            manifest_sha256: manifest_sha256.to_owned(),
            sums_sha256: sums_sha256.to_owned(),
            signed: UnixNanos(parse_moment(field("signed")?).ok()?),
        };
        (found.body() == body).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use coffre_storage::id::{ContentId, InodeId};

    use super::*;

    #[test]
    fn names_of_any_bytes_come_back_from_a_line() {
        let attributes = Attributes {
            inode: InodeId(2),
            kind: Kind::File,
            size: 3,
            mode: 0o4755,
            uid: 7,
            gid: 8,
            atime: UnixNanos(-1),
            mtime: UnixNanos(i64::MIN),
            ctime: UnixNanos(0),
            links: 1,
            content: ContentId(1),
            blake3: Some([0xab; 32]),
            incomplete: true,
            has_properties: false,
        };
        for path in [
            &b"files/a"[..],
            b"files/\xe9t\xe9",
            b"files/new\nline",
            b"files/\"\\\r",
            "files/\u{2028}é".as_bytes(),
        ] {
            let mut line = Line::of(path, &attributes);
            line.target = Some(Text::of(path));
            let json = line.to_json();
            assert_eq!(json.split(|byte| *byte == b'\n').count(), 2);
            let back = Line::parse(&json).unwrap();
            assert_eq!(back, line);
            assert_eq!(back.path.bytes().unwrap(), path);
            assert_eq!(back.mtime_nanos(), Some(i64::MIN));
            assert_eq!((back.mode.as_str(), back.applied_mode()), ("4755", Some(0o755)));
        }
        assert_eq!(moment_text(UnixNanos(-1)), "1969-12-31T23:59:59.999999999Z");
        assert!(Line::parse(b"{}").is_none() && Line::parse(b"").is_none());
    }

    #[test]
    fn sums_are_escaped_as_coreutils_escape_them() {
        let shown = |path: &[u8]| String::from_utf8(sum_line("00", path)).unwrap();
        assert_eq!(shown(b"files/a b"), "00  files/a b\n");
        assert_eq!(shown(b"files/a\\b"), "\\00  files/a\\\\b\n");
        assert_eq!(shown(b"files/a\nb"), "\\00  files/a\\nb\n");
        assert_eq!(shown(b"files/a\rb"), "00  files/a\rb\n");
        assert_eq!(shown(b"files/a\r"), "\\00  files/a\\r\n");
        assert_eq!(sum_line("00", b"files/\xe9"), b"00  files/\xe9\n");
    }

    #[test]
    fn a_summary_reads_back_and_nothing_else_does() {
        let summary = Summary {
            vault: "clinic/records".to_owned(),
            vault_id: "00".repeat(16),
            moment: UnixNanos(1_700_000_000_000_000_001),
            commit: 9,
            format: "tree".to_owned(),
            counts: Counts { files: 1, directories: 2, symbolic_links: 3, bytes: 4, not_exported: 5 },
            manifest_sha256: "11".repeat(32),
            sums_sha256: "22".repeat(32),
            signed: UnixNanos(-5),
        };
        let body = summary.body();
        assert_eq!(Summary::parse(&body), Some(summary));
        assert!(Summary::parse(&body.replace("files 1", "files 01")).is_none());
        assert!(Summary::parse(&format!("{body}more\n")).is_none());
        for cut in 0..body.len() {
            assert!(Summary::parse(&body[..cut]).is_none(), "cut at {cut}");
        }
    }
}
