//! Who is asking, and what may they do: pure types and decisions, no IO. Storage is behind the caller.

pub mod credential;
pub mod customer;
pub mod id;
pub mod limits;
pub mod permit;
pub mod principal;
pub mod throttle;
pub mod user;

pub use credential::{Credential, Network, Proof};
pub use customer::Customer;
pub use id::{CredentialId, CustomerId, UserId};
pub use permit::{Permit, Rights, RightsSet, Subject};
pub use principal::{Factor, Mount, Principal};
pub use user::User;
