//! Who was proven, and where their namespace leads.

use crate::id::{CredentialId, CustomerId, UserId};
use crate::permit::{Permit, Rights, RightsSet, Subject, action};

/// One step of proving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// A signature by a registered SSH key.
    SshKey,
    /// An app token.
    AppToken,
    /// A password.
    Password,
    /// A one-time code by the clock.
    Totp,
    /// A recovery code.
    RecoveryCode,
    /// A code that was sent to a phone or a mailbox.
    SentCode,
}

impl Factor {
    /// As written in audit records.
    pub fn name(self) -> &'static str {
        match self {
            Self::SshKey => "ssh-key",
            Self::AppToken => "app-token",
            Self::Password => "password",
            Self::Totp => "totp",
            Self::RecoveryCode => "recovery-code",
            Self::SentCode => "sent-code",
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
    /// Drop-box: existing things are not for this access.
    #[error("this access is a drop box: what is there cannot be read, changed, moved or removed")]
    DropBox,
    /// The user's and the credential's rights have nothing in common.
    #[error("this access has no rights here")]
    Nothing,
}

impl Mount {
    /// A permit to list or read.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permit_read(&self, right: Rights, subject: Subject) -> Result<Permit<action::Read>, Refusal> {
        self.check(right, subject).map(|()| Permit::granted())
    }
    /// A permit to change something that exists.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permit_change(&self, right: Rights, subject: Subject) -> Result<Permit<action::Change>, Refusal> {
        self.check(right, subject).map(|()| Permit::granted())
    }

    /// A permit to make something under a name that is free.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn permit_create(&self) -> Result<Permit<action::Change>, Refusal> {
        self.check(Rights::Create, Subject::File).map(|()| Permit::granted())
    }

    /// Whether all names in a directory are for this access; if not, only those of fresh objects are.
    pub fn shows_all(&self) -> bool {
        match self.rights {
            RightsSet::ReadOnly | RightsSet::AppendOnly | RightsSet::ReadWrite => true,
            RightsSet::DropBox | RightsSet::Nothing => false,
        }
    }

    fn check(&self, right: Rights, subject: Subject) -> Result<(), Refusal> {
        let is_fresh = subject == Subject::Fresh;
        let is_finishing = matches!(right, Rights::Overwrite | Rights::Rename | Rights::SetAttributes);
        match self.rights {
            RightsSet::ReadWrite => Ok(()),
            RightsSet::ReadOnly => match right {
                Rights::List | Rights::Read | Rights::Verify => Ok(()),
                Rights::Create
                | Rights::Overwrite
                | Rights::Delete
                | Rights::Rename
                | Rights::SetAttributes => Err(Refusal::ReadOnly),
            },
            RightsSet::AppendOnly => match right {
                Rights::List | Rights::Read | Rights::Verify | Rights::Create => Ok(()),
                _ if is_finishing && is_fresh => Ok(()),
                Rights::Overwrite | Rights::Delete | Rights::Rename | Rights::SetAttributes => {
                    Err(Refusal::AppendOnly)
                }
            },
            RightsSet::DropBox => match right {
                Rights::Create => Ok(()),
                Rights::List if subject != Subject::File => Ok(()),
                Rights::Verify if is_fresh => Ok(()),
                _ if is_finishing && is_fresh => Ok(()),
                Rights::List
                | Rights::Read
                | Rights::Verify
                | Rights::Overwrite
                | Rights::Delete
                | Rights::Rename
                | Rights::SetAttributes => Err(Refusal::DropBox),
            },
            RightsSet::Nothing => Err(Refusal::Nothing),
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

#[cfg(test)]
mod tests {
    use super::*;

    const SETS: [RightsSet; 5] = [
        RightsSet::Nothing,
        RightsSet::DropBox,
        RightsSet::ReadOnly,
        RightsSet::AppendOnly,
        RightsSet::ReadWrite,
    ];
    const RIGHTS: [Rights; 8] = [
        Rights::List,
        Rights::Read,
        Rights::Verify,
        Rights::Create,
        Rights::Overwrite,
        Rights::Delete,
        Rights::Rename,
        Rights::SetAttributes,
    ];

    fn allows(rights: RightsSet, right: Rights, subject: Subject) -> bool {
        let mount = Mount { path: Vec::new(), vault: [0; 16], subtree: Vec::new(), rights };
        mount.check(right, subject).is_ok()
    }

    #[test]
    fn what_two_sets_have_in_common_is_what_both_allow_and_nothing_else() {
        let subjects = [Subject::Fresh, Subject::Directory, Subject::File];
        for (one, other) in SETS.into_iter().flat_map(|one| SETS.map(|other| (one, other))) {
            let common = one.intersect(other);
            assert_eq!(common, other.intersect(one), "{one:?} {other:?}");
            for (right, subject) in
                RIGHTS.into_iter().flat_map(|right| subjects.map(|subject| (right, subject)))
            {
                let (allowed, by_both) = (
                    allows(common, right, subject),
                    allows(one, right, subject) && allows(other, right, subject),
                );
                // A drop box shows less than read-only does; of what it shows, reading is no part of dropping.
                assert!(!allowed || by_both, "{one:?} {other:?}: {right:?} {subject:?} is too much");
                assert!(allowed || !by_both || common == RightsSet::Nothing, "{one:?} {other:?}: {right:?}");
            }
        }
    }

    #[test]
    fn a_drop_box_takes_and_shows_only_what_it_just_took() {
        for right in RIGHTS {
            let expected = (right == Rights::Create, !matches!(right, Rights::Read | Rights::Delete));
            let allowed = (
                allows(RightsSet::DropBox, right, Subject::File),
                allows(RightsSet::DropBox, right, Subject::Fresh),
            );
            assert_eq!(allowed, expected, "{right:?}");
        }
    }
}
