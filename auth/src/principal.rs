//! Who was proven, and where their namespace leads.

use crate::id::{CredentialId, CustomerId, UserId};
use crate::permit::{Permit, Rights, RightsSet, action};

/// One step of proving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// A signature by a registered SSH key.
    SshKey,
    /// An app token.
    AppToken,
}

impl Factor {
    /// As written in audit records.
    pub fn name(self) -> &'static str {
        match self {
            Self::SshKey => "ssh-key",
            Self::AppToken => "app-token",
        }
    }
}

/// A path of a user's namespace backed by a vault subtree with rights.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Mount {
    /// Components of the path in the namespace; empty for `/`.
    #[n(0)]
    pub path: Vec<minicbor::bytes::ByteVec>,
    /// The vault's identifier.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub vault: [u8; 16],
    /// Components of the subtree inside the vault; empty for its root.
    #[n(2)]
    pub subtree: Vec<minicbor::bytes::ByteVec>,
    /// What may be done there.
    #[n(3)]
    pub rights: RightsSet,
}

/// Why policy said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rights set does not hold the right.
    #[error("this access is read-only")]
    ReadOnly,
    /// Append-only: existing things stay as they are.
    #[error("this access is append-only: what exists cannot be changed, moved or removed")]
    AppendOnly,
}

impl Mount {
    /// A permit to list or read.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permit_read(&self, right: Rights) -> Result<Permit<action::Read>, Refusal> {
        self.check(right, false).map(|()| Permit::granted())
    }
    /// A permit to change something. `fresh` says that this session created the object.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permit_change(&self, right: Rights, fresh: bool) -> Result<Permit<action::Change>, Refusal> {
        self.check(right, fresh).map(|()| Permit::granted())
    }

    fn check(&self, right: Rights, fresh: bool) -> Result<(), Refusal> {
        match (self.rights, right) {
            (_, Rights::List | Rights::Read)
            | (RightsSet::ReadWrite, _)
            | (RightsSet::AppendOnly, Rights::Create) => Ok(()),
            (RightsSet::AppendOnly, Rights::Overwrite | Rights::Rename | Rights::SetAttributes) if fresh => {
                Ok(())
            }
            (RightsSet::AppendOnly, _) => Err(Refusal::AppendOnly),
            (RightsSet::ReadOnly, _) => Err(Refusal::ReadOnly),
        }
    }
}

/// Who was proven by what; mounts already carry the intersection of the user's and the credential's rights.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The customer.
    pub customer: CustomerId,
    /// The customer's name, for display to its users.
    pub customer_name: String,
    /// The user.
    pub user: UserId,
    /// The user's name, for display to the user itself.
    pub user_name: String,
    /// By which credential.
    pub credential: CredentialId,
    /// What was proven, in order.
    pub factors: Vec<Factor>,
    /// The namespace.
    pub mounts: Vec<Mount>,
}
