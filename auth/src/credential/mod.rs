//! What proves who someone is: registered SSH keys and app tokens, and what stands beside them.

pub mod app_token;
pub mod password;
pub mod recovery;
pub mod sent_code;
pub mod ssh_key;
pub mod totp;

use std::net::IpAddr;

use ipnet::IpNet;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::id::{CredentialId, UserId};
use crate::permit::RightsSet;
use crate::principal::Factor;

/// A network that a credential is good for; text in CBOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl<C> Encode<C> for Network {
    fn encode<W: minicbor::encode::Write>(
        &self,
        out: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        out.str(&self.0.to_string())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Network {
    fn decode(from: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        from.str()?.parse().map(Self).map_err(|_| minicbor::decode::Error::message("not a network"))
    }
}

/// What is kept of a credential: nothing that lets its reader log in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Proof {
    /// An app token: HMAC-SHA-256 of its text.
    #[n(0)]
    Token {
        /// The MAC.
        #[cbor(n(0), with = "minicbor::bytes")]
        mac: [u8; 32],
    },
    /// An SSH public key.
    #[n(1)]
    SshKey {
        /// RFC 4253 section 6.6 encoding.
        #[cbor(n(0), with = "minicbor::bytes")]
        key: Vec<u8>,
        /// `SHA256:...`
        #[n(1)]
        fingerprint: String,
        /// An unattended machine's.
        #[n(2)]
        machine: bool,
    },
    /// A password: never enough alone.
    #[n(2)]
    Password {
        /// Its hash.
        #[n(0)]
        stored: password::StoredPassword,
    },
    /// A device that shows one-time codes.
    #[n(3)]
    Totp {
        /// What it shares with the gateway.
        #[n(0)]
        secret: totp::TotpSecret,
        /// Whether a first code was seen: until then it counts for nothing.
        #[n(1)]
        confirmed: bool,
        /// The step that was accepted last: neither it nor an earlier one is accepted again.
        #[n(2)]
        last_step: Option<i64>,
    },
    /// Recovery codes that are left.
    #[n(4)]
    RecoveryCodes {
        /// HMAC-SHA-256 of each.
        #[n(0)]
        macs: Vec<ByteArray<32>>,
    },
    /// A phone or a mailbox to which codes are sent.
    #[n(5)]
    SentCode {
        /// A number or an address, as the program that sends codes wants it.
        #[n(0)]
        address: String,
    },
}

/// A credential of a user.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Credential {
    /// Shown to people and written in the audit log.
    #[n(0)]
    pub id: CredentialId,
    /// Whose.
    #[n(1)]
    pub user: UserId,
    /// What it proves with.
    #[n(2)]
    pub proof: Proof,
    /// At most these rights.
    #[n(3)]
    pub rights: Option<RightsSet>,
    /// Only from these networks; empty: from anywhere.
    #[n(4)]
    pub networks: Vec<Network>,
    /// Nanoseconds since 1970.
    #[n(5)]
    pub created: i64,
    /// When it stops being good.
    #[n(6)]
    pub expires: Option<i64>,
    /// When it was revoked.
    #[n(7)]
    pub revoked: Option<i64>,
}

impl Credential {
    /// What it proves.
    pub fn factor(&self) -> Factor {
        match self.proof {
            Proof::Token { .. } => Factor::AppToken,
            Proof::SshKey { .. } => Factor::SshKey,
            Proof::Password { .. } => Factor::Password,
            Proof::Totp { .. } => Factor::Totp,
            Proof::RecoveryCodes { .. } => Factor::RecoveryCode,
            Proof::SentCode { .. } => Factor::SentCode,
        }
    }

    /// Whether it is good at `now`, nanoseconds since 1970.
    pub fn is_live(&self, now: i64) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether it is good from `source`. An IPv4 address inside IPv6 counts as itself.
    pub fn is_from(&self, source: IpAddr) -> bool {
        self.networks.is_empty()
            || self.networks.iter().any(|network| network.0.contains(&source.to_canonical()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> Credential {
        Credential {
            id: CredentialId("abcdefghij".into()),
            user: UserId([1; 16]),
            proof: Proof::SshKey { key: vec![1, 2], fingerprint: "SHA256:x".into(), machine: true },
            rights: Some(RightsSet::AppendOnly),
            networks: vec![Network("10.0.0.0/8".parse().unwrap())],
            created: 1,
            expires: Some(10),
            revoked: None,
        }
    }

    #[test]
    fn a_credential_is_dead_at_the_instant_it_expires_or_is_revoked() {
        assert!(credential().is_live(9));
        assert!(!credential().is_live(10));
        assert!(!Credential { revoked: Some(2), ..credential() }.is_live(9));
    }

    #[test]
    fn a_pinned_credential_is_good_from_its_networks_only() {
        assert!(credential().is_from("10.1.2.3".parse().unwrap()));
        assert!(credential().is_from("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!credential().is_from("11.1.2.3".parse().unwrap()));
        assert!(!credential().is_from("::1".parse().unwrap()));
    }

    #[test]
    fn a_credential_of_each_kind_reads_back() {
        for proof in [
            credential().proof,
            Proof::Token { mac: [3; 32] },
            Proof::Password { stored: password::StoredPassword::of_nobody() },
            Proof::Totp {
                secret: totp::TotpSecret::generate().unwrap(),
                confirmed: true,
                last_step: Some(7),
            },
            Proof::RecoveryCodes { macs: vec![[1; 32].into(), [2; 32].into()] },
            Proof::SentCode { address: "+33100000000".into() },
        ] {
            let credential = Credential { proof, ..credential() };
            let bytes = minicbor::to_vec(&credential).unwrap();
            assert_eq!(minicbor::decode::<Credential>(&bytes).unwrap(), credential);
        }
    }
}
