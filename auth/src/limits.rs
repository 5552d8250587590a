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
