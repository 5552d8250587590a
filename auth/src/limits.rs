//! Every bound of authentication: its name, its unit, its reason.

/// Bits of the smallest RSA key taken: below, factoring is within a state's reach in the data's lifetime.
pub const RSA_BITS_MIN: usize = 3072;
/// Days a token lives when nothing is said.
pub const TOKEN_DAYS_DEFAULT: u32 = 30;
/// Days a token lives at most.
pub const TOKEN_DAYS_MAX: u32 = 365;
/// Failed logins of one user from one network before delays begin: a mistyped token, a stale script.
pub const THROTTLE_FREE_FAILURES: u32 = 5;
/// Failed logins of one network before delays begin: a hospital behind one address has many users.
pub const THROTTLE_FREE_NETWORK_FAILURES: u32 = 100;
/// Seconds of the longest delay.
pub const THROTTLE_DELAY_SECS_MAX: u64 = 60;
/// Seconds after which failures are forgotten.
pub const THROTTLE_FORGET_SECS: i64 = 3600;
/// Entries of each table of the throttle: about 100 bytes each.
pub const THROTTLE_ENTRIES_MAX: usize = 10_000;
/// Steps of 30 s by which the clock of a device may be off, each way (RFC 6238 section 5.2 recommends at most one).
pub const TOTP_DRIFT_STEPS: i64 = 1;
/// Recovery codes that a user gets at a time: a sheet of paper for a drawer.
pub const RECOVERY_CODES: usize = 10;
/// Characters of the shortest password: what guesses in the thousands a second need years for, when it is not in a list.
pub const PASSWORD_CHARS_MIN: usize = 10;
/// Bytes of the longest password.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// KiB of memory that hashing a password takes (OWASP's first choice for Argon2id, with two passes and one lane).
pub const PASSWORD_MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
pub const PASSWORD_PASSES: u32 = 2;
/// Lanes of that memory.
pub const PASSWORD_LANES: u32 = 1;
/// KiB that a stored password may ask for: a record that asks for more is damaged.
pub const PASSWORD_MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Passes that a stored password may ask for.
pub const PASSWORD_PASSES_MAX: u32 = 16;
/// Seconds that a sent code is good for: a text message may take its time.
pub const SENT_CODE_SECS: i64 = 300;
/// Tries of a sent code: two typing errors.
pub const SENT_CODE_TRIES: u32 = 3;
/// Seconds between two codes sent to one user: messages cost money and patience.
pub const SENT_CODE_REST_SECS: i64 = 60;
/// Codes under way at a time: about 100 bytes each.
pub const SENT_CODES_MAX: usize = 10_000;
