//! Users: natural persons or machine accounts of a customer.

use minicbor::{Decode, Encode};

use crate::id::{CustomerId, UserId};
use crate::principal::Mount;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct User {
    /// Random.
    #[n(0)]
    pub id: UserId,
    /// Whose.
    #[n(1)]
    pub customer: CustomerId,
    /// Unique for its customer.
    #[n(2)]
    pub name: String,
    /// Its namespace.
    #[n(3)]
    pub mounts: Vec<Mount>,
    /// Kept out.
    #[n(4)]
    pub disabled: bool,
    /// When it was added, nanoseconds since 1970.
    #[n(5)]
    pub created: i64,
}
