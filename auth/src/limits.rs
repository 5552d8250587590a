//! Every bound of authentication: its name, its unit, its reason.

/// Bits of the smallest RSA key taken: below, factoring is within a state's reach in the data's lifetime.
pub const RSA_BITS_MIN: usize = 3072;
/// Days a token lives when nothing is said.
pub const TOKEN_DAYS_DEFAULT: u32 = 30;
/// Days a token lives at most.
pub const TOKEN_DAYS_MAX: u32 = 365;
