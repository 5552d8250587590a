//! OpenSSH user certificates (PROTOCOL.certkeys): which are taken, from whom, for whom.
//!
//! The SSH library verifies the authority's signature and the dates, and that the client holds the certified key. Everything else is
//! decided here, by an allow list: what is not understood refuses.

use ipnet::IpNet;
use minicbor::{Decode, Encode};
use ssh_key::certificate::Certificate;
use ssh_key::{Algorithm, HashAlg};

use super::{Network, ssh_key as keys};
use crate::id::{CredentialId, CustomerId};
use crate::limits::{CERTIFICATE_KEY_ID_BYTES_MAX, CERTIFICATE_SLACK_SECS};
use crate::permit::RightsSet;

/// Whose certificates a customer takes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Authority {
    /// Shown to people and written in the audit log.
    #[n(0)]
    pub id: CredentialId,
    /// Whose users it may name.
    #[n(1)]
    pub customer: CustomerId,
    /// Its public key, RFC 4253 section 6.6 encoding.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub key: Vec<u8>,
    /// `SHA256:...`
    #[n(3)]
    pub fingerprint: String,
    /// Seconds that a certificate of its may be valid in all.
    #[n(4)]
    pub life_secs_max: u64,
    /// At most these rights.
    #[n(5)]
    pub rights: Option<RightsSet>,
    /// Only from these networks; empty: from anywhere.
    #[n(6)]
    pub networks: Vec<Network>,
    /// Nanoseconds since 1970.
    #[n(7)]
    pub created: i64,
    /// When it stops being good.
    #[n(8)]
    pub expires: Option<i64>,
    /// When it was revoked.
    #[n(9)]
    pub revoked: Option<i64>,
}

impl Authority {
    /// Whether it is good at `now`, nanoseconds since 1970.
    pub fn is_live(&self, now: i64) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

/// By what certificates of an authority are revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Mark {
    /// Their serial number.
    #[n(0)]
    Serial(#[n(0)] u64),
    /// Their key id.
    #[n(1)]
    KeyId(#[n(0)] String),
    /// The fingerprint of the key that they certify, `SHA256:...`.
    #[n(2)]
    Fingerprint(#[n(0)] String),
}

/// Certificates that are not good any more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Revocation {
    /// Of which authority.
    #[n(0)]
    pub authority: CredentialId,
    /// Which of its certificates.
    #[n(1)]
    pub mark: Mark,
    /// When they were revoked, nanoseconds since 1970.
    #[n(2)]
    pub revoked: i64,
}

/// Why a certificate is not taken. For operators: a client hears the same of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// A host's.
    #[error("the certificate is not a user's")]
    Type,
    /// The authority's key is a certificate, too short, or of a kind that is not taken.
    #[error("the authority's key is of a kind that is not accepted")]
    AuthorityKey,
    /// The certified key is.
    #[error("the certified key is of a kind that is not accepted")]
    Key,
    /// Signed with SHA-1.
    #[error("the certificate is signed with SHA-1")]
    Signature,
    /// For everybody.
    #[error("the certificate names no principal")]
    NoPrincipal,
    /// For somebody else.
    #[error("the certificate's principals do not name the user")]
    Principal,
    /// Nobody knows what it would forbid.
    #[error("the certificate has a critical option that is not known")]
    CriticalOption,
    /// It cannot be read.
    #[error("the certificate's source-address cannot be read")]
    SourceAddress,
    /// From elsewhere.
    #[error("the certificate is not for this address")]
    Source,
    /// A name without end.
    #[error("the certificate's key id is too long")]
    KeyId,
    /// Not yet or not any more.
    #[error("the certificate is not valid now")]
    Dates,
    /// For longer than its authority may.
    #[error("the certificate is valid for longer than its authority may say")]
    Life,
    /// Nobody of the customer's, or not any more.
    #[error("the certificate's authority is not one of the customer's")]
    Authority,
    /// Revoked.
    #[error("the certificate is revoked")]
    Revoked,
    /// The user, or its customer, is out, or there is none.
    #[error("the user may not come in")]
    User,
}

/// What a certificate says, once it is known to be of a kind that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The authority's key, RFC 4253 section 6.6 encoding.
    pub authority_key: Vec<u8>,
    /// The certified key's, `SHA256:...`.
    pub fingerprint: String,
    /// As the authority numbers it.
    pub serial: u64,
    /// As the authority names it.
    pub key_id: String,
    principals: Vec<String>,
    valid_after: u64,
    valid_before: u64,
    sources: Vec<IpNet>,
}

impl Claim {
    /// Reads a certificate whose signature was verified.
    ///
    /// # Errors
    /// [`CertificateRefusal`] for what no authority could make good.
    pub fn read(certificate: &Certificate) -> Result<Self, CertificateRefusal> {
        if !certificate.cert_type().is_user() {
            return Err(CertificateRefusal::Type);
        }
        // A certificate in place of the authority's key is of no kind that is taken.
        let authority = keys::accept(certificate.signature_key()).ok().filter(|key| !key.is_security_key());
        let authority = authority.ok_or(CertificateRefusal::AuthorityKey)?;
        let key = keys::accept(certificate.public_key()).map_err(|_| CertificateRefusal::Key)?;
        if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None } | Algorithm::Dsa) {
            return Err(CertificateRefusal::Signature);
        }
        if certificate.valid_principals().is_empty() {
            return Err(CertificateRefusal::NoPrincipal);
        }
        if certificate.key_id().len() > CERTIFICATE_KEY_ID_BYTES_MAX {
            return Err(CertificateRefusal::KeyId);
        }
        let mut sources = Vec::new();
        for (name, value) in certificate.critical_options().iter() {
            if name != "source-address" {
                return Err(CertificateRefusal::CriticalOption);
            }
            sources = networks(value).ok_or(CertificateRefusal::SourceAddress)?;
        }
        Ok(Self {
            authority_key: authority.bytes,
            fingerprint: key.fingerprint,
            serial: certificate.serial(),
            key_id: certificate.key_id().to_owned(),
            principals: certificate.valid_principals().to_vec(),
            valid_after: certificate.valid_after(),
            valid_before: certificate.valid_before(),
            sources,
        })
    }

    /// Whether an authority's word makes it good for a user of these names, at `now` (nanoseconds since 1970), from `source`.
    ///
    /// # Errors
    /// [`CertificateRefusal`].
    pub fn check(
        &self,
        authority: &Authority,
        names: &[&str],
        source: std::net::IpAddr,
        now: i64,
    ) -> Result<(), CertificateRefusal> {
        let source = source.to_canonical();
        let is_within = |networks: &mut dyn Iterator<Item = IpNet>| {
            let mut networks = networks.peekable();
            networks.peek().is_none() || networks.any(|network| network.contains(&source))
        };
        let secs = u64::try_from(now.div_euclid(1_000_000_000)).unwrap_or(0);
        if authority.key != self.authority_key || !authority.is_live(now) {
            Err(CertificateRefusal::Authority)
        } else if !self.principals.iter().any(|principal| names.contains(&principal.as_str())) {
            Err(CertificateRefusal::Principal)
        } else if secs < self.valid_after || secs >= self.valid_before {
            Err(CertificateRefusal::Dates)
        } else if self.valid_before - self.valid_after
            > authority.life_secs_max.saturating_add(CERTIFICATE_SLACK_SECS)
        {
            Err(CertificateRefusal::Life)
        } else if !is_within(&mut self.sources.iter().copied())
            || !is_within(&mut authority.networks.iter().map(|network| network.0))
        {
            Err(CertificateRefusal::Source)
        } else {
            Ok(())
        }
    }

    /// Everything by which it may be revoked.
    pub fn marks(&self) -> [Mark; 3] {
        [
            Mark::Serial(self.serial),
            Mark::KeyId(self.key_id.clone()),
            Mark::Fingerprint(self.fingerprint.clone()),
        ]
    }
}

/// `source-address`: networks and addresses, separated by commas. Nothing when any of it is neither, or when there is none.
fn networks(text: &str) -> Option<Vec<IpNet>> {
    text.split(',')
        .map(|part| {
            part.parse::<IpNet>().ok().or_else(|| part.parse::<std::net::IpAddr>().ok().map(IpNet::from))
        })
        .collect()
}

/// Whether a text may be a fingerprint, as `ssh-keygen -l` shows it.
pub fn is_fingerprint(text: &str) -> bool {
    text.parse::<ssh_key::Fingerprint>().is_ok_and(|known| known.algorithm() == HashAlg::Sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000 * 1_000_000_000;

    fn authority() -> Authority {
        Authority {
            id: CredentialId("abcdefghij".into()),
            customer: CustomerId([1; 16]),
            key: vec![1, 2, 3],
            fingerprint: "SHA256:x".into(),
            life_secs_max: 3600,
            rights: None,
            networks: Vec::new(),
            created: 0,
            expires: Some(NOW + 1),
            revoked: None,
        }
    }

    fn claim() -> Claim {
        Claim {
            authority_key: vec![1, 2, 3],
            fingerprint: "SHA256:y".into(),
            serial: 7,
            key_id: "somebody".into(),
            principals: vec!["demo".into()],
            valid_after: 1_000_000 - 60,
            valid_before: 1_000_000 + 60,
            sources: Vec::new(),
        }
    }

    fn checked(claim: &Claim, authority: &Authority) -> Result<(), CertificateRefusal> {
        claim.check(authority, &["demo", "clinic/demo"], "10.0.0.1".parse().unwrap(), NOW)
    }

    #[test]
    fn each_thing_that_is_wrong_refuses_by_itself() {
        use CertificateRefusal as Refusal;
        assert_eq!(checked(&claim(), &authority()), Ok(()));
        let from = |text: &str| networks(text).unwrap();
        let cases = [
            (Claim { principals: vec!["other".into()], ..claim() }, authority(), Refusal::Principal),
            (Claim { principals: vec!["Demo".into()], ..claim() }, authority(), Refusal::Principal),
            (Claim { valid_before: 1_000_000, ..claim() }, authority(), Refusal::Dates),
            (Claim { valid_after: 1_000_001, ..claim() }, authority(), Refusal::Dates),
            (Claim { valid_after: 0, ..claim() }, authority(), Refusal::Life),
            (Claim { valid_before: u64::MAX, ..claim() }, authority(), Refusal::Life),
            (Claim { sources: from("10.0.1.0/24,::1"), ..claim() }, authority(), Refusal::Source),
            (Claim { authority_key: vec![9], ..claim() }, authority(), Refusal::Authority),
            (claim(), Authority { revoked: Some(1), ..authority() }, Refusal::Authority),
            (claim(), Authority { expires: Some(NOW), ..authority() }, Refusal::Authority),
            (
                claim(),
                Authority { networks: vec![Network("192.0.2.0/24".parse().unwrap())], ..authority() },
                Refusal::Source,
            ),
        ];
        for (claim, authority, refusal) in cases {
            assert_eq!(checked(&claim, &authority), Err(refusal));
        }
        assert_eq!(checked(&Claim { sources: from("10.0.0.0/24"), ..claim() }, &authority()), Ok(()));
        assert_eq!(
            checked(&Claim { principals: vec!["clinic/demo".into()], ..claim() }, &authority()),
            Ok(())
        );
    }

    #[test]
    fn a_source_address_is_understood_whole_or_not_at_all() {
        assert_eq!(networks("10.0.0.1,2001:db8::/32").unwrap().len(), 2);
        for bad in ["", "10.0.0.1,", "10.0.0.0/33", "!10.0.0.1", "host", "10.0.0.1 "] {
            assert_eq!(networks(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_authority_and_a_revocation_read_back() {
        let bytes = minicbor::to_vec(authority()).unwrap();
        assert_eq!(minicbor::decode::<Authority>(&bytes).unwrap(), authority());
        for mark in claim().marks() {
            let revoked = Revocation { authority: authority().id, mark, revoked: 3 };
            let bytes = minicbor::to_vec(&revoked).unwrap();
            assert_eq!(minicbor::decode::<Revocation>(&bytes).unwrap(), revoked);
        }
    }
}
