//! `coffre credential` for certificates.

use anyhow::bail;
use coffre_auth::credential::ssh_certificate::{Authority, Mark};
use serde_json::{Value, json};

use super::CertificateMark;
use super::service::Service;
use crate::accounts::CredentialScope;
use crate::units::{moment, rights_name};

fn row(customer: &str, state: &str, revoked: usize, authority: &Authority) -> Value {
    json!({
        "id": authority.id.to_string(), "customer": customer, "kind": "ssh authority", "state": state,
        "fingerprint": authority.fingerprint, "rights": authority.rights.map(rights_name),
        "from": authority.networks.iter().map(|network| network.0.to_string()).collect::<Vec<_>>(),
        "validity_secs": authority.life_secs_max, "certificates_revoked": revoked,
        "expires": authority.expires.map(moment), "created": moment(authority.created),
    })
}

impl Service {
    pub(super) fn authority_rows(&self) -> Vec<Value> {
        let all = self.accounts.authorities();
        all.iter().map(|(customer, state, revoked, known)| row(customer, state, *revoked, known)).collect()
    }

    pub(super) fn authority_add(
        &self,
        customer: &str,
        key: &str,
        life_secs_max: u64,
        scope: CredentialScope,
    ) -> anyhow::Result<Value> {
        let added = self.accounts.add_authority(customer, key, life_secs_max, scope)?;
        Ok(row(customer, "live", 0, &added))
    }

    pub(super) fn certificate_revoke(&self, authority: &str, mark: CertificateMark) -> anyhow::Result<Value> {
        let CertificateMark { serial, key_id, fingerprint } = mark;
        let shown = json!({
            "authority": authority, "serial": serial, "key_id": key_id, "fingerprint": fingerprint, "state": "revoked",
        });
        let mark = match (serial, key_id, fingerprint) {
            (Some(serial), None, None) => Mark::Serial(serial),
            (None, Some(key_id), None) => Mark::KeyId(key_id),
            (None, None, Some(fingerprint)) => Mark::Fingerprint(fingerprint),
            _ => bail!("say one of serial, key id and fingerprint"),
        };
        self.accounts.revoke_certificate(authority, mark)?;
        Ok(shown)
    }
}
