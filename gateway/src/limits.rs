//! Every bound of the gateway: its name, its unit, its reason.

// ---- accounts and admin ----

/// Bytes of one request line on the admin socket: a key file fits many times over.
pub const ADMIN_REQUEST_BYTES_MAX: u64 = 256 * 1024;
/// Lines that one `audit tail` gives: what a terminal can show and memory can hold.
pub const AUDIT_TAIL_LINES_MAX: u32 = 100_000;
/// Seconds a connection may take to log in, unless configured.
pub const LOGIN_GRACE_SECS: u64 = 30;
/// Connections of one listener, unless configured.
pub const CONNECTIONS_MAX: usize = 1024;
/// Seconds that sessions have to end after SIGTERM.
pub const DRAIN_SECS_MAX: u64 = 30;
/// Threads for blocking storage calls: more would only wait for the same disk.
pub const BLOCKING_THREADS_MAX: usize = 64;

/// Seconds after which the session of WebDAV requests that stopped coming ends.
pub const REQUEST_SESSION_IDLE_SECS: i64 = 300;
/// Bytes of an offered user name that are kept for a record: the longest valid name twice, and a slash.
pub const OFFERED_NAME_BYTES_MAX: usize = 130;

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
