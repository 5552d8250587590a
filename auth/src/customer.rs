//! Customers: who contracts; owns vaults, users and limits.

use minicbor::{Decode, Encode};

use crate::id::CustomerId;
use crate::policy::Policy;

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Customer {
    /// Random.
    #[n(0)]
    pub id: CustomerId,
    /// Unique.
    #[n(1)]
    pub name: String,
    /// Users it may have.
    #[n(2)]
    pub users_max: Option<u32>,
    /// Bytes it may store.
    #[n(3)]
    pub bytes_max: Option<u64>,
    /// When its contract ends, nanoseconds since 1970.
    #[n(4)]
    pub expires: Option<i64>,
    /// When it was added.
    #[n(5)]
    pub created: i64,
    /// Files it may have.
    #[n(6)]
    pub files_max: Option<u64>,
    /// When it was closed, if it is.
    #[n(7)]
    pub closed: Option<i64>,
    /// Sessions of its users at once; absent: what the server allows everybody.
    #[n(8)]
    pub sessions_max: Option<u32>,
    /// Bytes a second of all its sessions, each way; absent: what the server allows everybody.
    #[n(9)]
    pub rate_max: Option<u64>,
    /// How its users may log in; absent: it was there before there was a choice.
    #[n(10)]
    pub login: Option<Policy>,
}

impl Customer {
    /// How its users may log in.
    pub fn login(&self) -> Policy {
        self.login.unwrap_or(Policy::OF_BEFORE)
    }

    /// Whether its users may come in at `now`. A closed one's may not, whatever the clock says.
    pub fn is_live(&self, now: i64) -> bool {
        self.closed.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

/// Whether a text may name a customer, vault or user: 1 to 64 of `A-Z a-z 0-9 . _ - @`, not first `.` or `-`.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte))
        && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_of_an_earlier_version_is_read_and_a_closed_one_is_out_at_any_time() {
        let id = CustomerId([7; 16]);
        let mut old = Vec::new();
        minicbor::Encoder::new(&mut old)
            .array(6)
            .and_then(|row| row.bytes(&id.0))
            .and_then(|row| row.str("clinic"))
            .and_then(|row| row.null()?.u64(10)?.null()?.i64(5))
            .unwrap();
        let open: Customer = minicbor::decode(&old).unwrap();
        assert_eq!((open.bytes_max, open.files_max, open.closed), (Some(10), None, None));
        assert_eq!((open.sessions_max, open.rate_max), (None, None));
        assert_eq!(open.login(), Policy::OF_BEFORE);
        assert!(open.is_live(0) && open.is_live(i64::MAX));
        let closed = Customer { closed: Some(100), ..open };
        assert!(!closed.is_live(99) && !closed.is_live(100));
        let again: Customer = minicbor::decode(&minicbor::to_vec(&closed).unwrap()).unwrap();
        assert_eq!(again, closed);
    }

    #[test]
    fn a_name_is_short_and_plain() {
        assert!(is_name("demo") && is_name("dr.house@clinic-1"));
        for bad in ["", "a/b", ".hidden", "-x", "a b", "é", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
