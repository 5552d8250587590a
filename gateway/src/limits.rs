//! Every bound of the gateway: its name, its unit, its reason.

// ---- accounts and admin ----

// ---- vfs ----

/// Symbolic links followed in one path: what POSIX hosts allow, and the end of circles.
pub const LINK_DEPTH_MAX: usize = 40;
/// Files within their append-only grace time that are remembered: about 100 bytes each.
pub const FRESH_FILES_MAX: usize = 100_000;
/// Seconds in which an append-only credential may finish what it made: one night's job.
pub const FRESH_GRACE_SECS: i64 = 24 * 3600;
/// Bytes copied at a time between two vaults.
pub const COPY_PIECE_BYTES: usize = 1024 * 1024;

// ---- ssh and sftp ----

// ---- webdav ----
