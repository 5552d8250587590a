//! Locks as a client writes and reads them: tokens and `activelock` (RFC 4918 sections 6.5 and 14.1). Locks themselves are
//! the store's.

use quick_xml::escape::escape;

use super::request::Request;
use crate::vfs::{LockDepth, LockScope, LockToken, SeenLock, UnixNanos};

/// What stands before the UUID of a token (RFC 4918 section 6.5).
const SCHEME: &str = "urn:uuid:";
/// Where the parts of a UUID begin and end among its 32 digits.
const PARTS: [(usize, usize); 5] = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
const NANOS: i64 = 1_000_000_000;

/// A fresh lock token: a UUID of version 4 (RFC 9562 section 5.4).
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn fresh_token() -> Result<LockToken, getrandom::Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)?;
    let mut number = u128::from_be_bytes(bytes);
    // Version 4, variant 10.
    number = (number & !(0xf << 76)) | (0x4 << 76);
    number = (number & !(0x3 << 62)) | (0x2 << 62);
    Ok(LockToken(number.to_be_bytes()))
}

/// A token as a URI.
pub fn token_uri(token: LockToken) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(token.0));
    let parts = PARTS.map(|(from, to)| hex.get(from..to).unwrap_or_default());
    format!("{SCHEME}{}", parts.join("-"))
}

/// The token of a URI; nothing for one that is none of ours.
pub fn token_of(uri: &str) -> Option<LockToken> {
    let uuid = uri.get(SCHEME.len()..).filter(|_| uri.to_ascii_lowercase().starts_with(SCHEME))?;
    let parts: Vec<&str> = uuid.split('-').collect();
    let fits = parts.len() == PARTS.len()
        && parts.iter().zip(PARTS).all(|(part, (from, to))| {
            part.len() == to - from && part.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
    let number = u128::from_str_radix(&parts.concat(), 16).ok().filter(|_| fits)?;
    Some(LockToken(number.to_be_bytes()))
}

/// When a lock of so many seconds ends.
pub fn until(secs: u64, now: i64) -> UnixNanos {
    UnixNanos(now.saturating_add(i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(NANOS)))
}

/// A lock as `activelock`. Its own user sees all of it; others see that there is one, and where, not its token.
pub fn active_lock(seen: &SeenLock, viewer: [u8; 16], now: i64) -> String {
    let lock = &seen.record;
    let scope = match lock.scope {
        LockScope::Exclusive => "exclusive",
        LockScope::Shared => "shared",
    };
    let depth = match lock.depth {
        LockDepth::Infinity => "infinity",
        LockDepth::Zero => "0",
    };
    let (owner, token) = if lock.holder == viewer {
        let token = token_uri(lock.token);
        (lock.owner.as_str(), format!("<D:locktoken><D:href>{token}</D:href></D:locktoken>"))
    } else {
        ("", String::new())
    };
    // Rounded up: what is left is not nothing.
    let left = lock.expires.0.saturating_sub(now).max(0).saturating_add(NANOS - 1) / NANOS;
    let root = Request::href(&seen.root, lock.depth == LockDepth::Infinity);
    format!(
        "<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope><D:{scope}/></D:lockscope><D:depth>{depth}</D:depth>\
         <D:owner>{owner}</D:owner><D:timeout>Second-{left}</D:timeout>{token}\
         <D:lockroot><D:href>{}</D:href></D:lockroot></D:activelock>",
        escape(&root)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_uuid_of_version_4_and_reads_back() {
        let token = fresh_token().unwrap();
        let uri = token_uri(token);
        assert_eq!(uri.len(), "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6".len());
        assert_eq!(&uri[23..24], "4");
        assert!(matches!(&uri[28..29], "8" | "9" | "a" | "b"));
        assert_eq!(token_of(&uri), Some(token));
        assert_eq!(token_of(&uri.to_uppercase()), Some(token));
    }

    #[test]
    fn what_is_no_token_of_ours_is_none() {
        for uri in [
            "",
            "DAV:no-lock",
            "urn:uuid:",
            "urn:uuid:f81d4fae7dec41d0a76500a0c91e6bf6",
            "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6-",
            "urn:uuid:f81d4fae-7dec-41d0-a765-+0a0c91e6bf6",
            "opaquelocktoken:f81d4fae-7dec-41d0-a765-00a0c91e6bf6",
            "urn:uuid:é81d4fae-7dec-41d0-a765-00a0c91e6bf",
        ] {
            assert_eq!(token_of(uri), None, "{uri}");
        }
    }
}
