//! Which algorithms are offered: post-quantum first, AEAD first, encrypt-then-MAC next, no SHA-1, no compression.

use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    // For libraries that know none of these.
    kex::DH_G16_SHA512,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    // Terrapin: without it a message could be cut out before the keys are in place.
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[
    mac::HMAC_SHA256_ETM,
    mac::HMAC_SHA512_ETM,
    // The last, with a counter mode only: libssh2 before 1.11 (curl of Debian 12, PHP) knows no other and no AEAD.
    mac::HMAC_SHA256,
];

/// RSA stands for signatures of users only: there is no RSA host key.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// What a server offers.
pub(super) fn preferred() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(KEYS),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_weak_is_offered() {
        let offered = preferred();
        let names: Vec<&str> = offered
            .kex
            .iter()
            .map(AsRef::as_ref)
            .chain(offered.cipher.iter().map(AsRef::as_ref))
            .chain(offered.mac.iter().map(AsRef::as_ref))
            .chain(offered.compression.iter().map(AsRef::as_ref))
            .collect();
        for weak in ["sha1", "cbc", "3des", "arcfour", "zlib", "md5"] {
            assert!(names.iter().all(|name| !name.contains(weak)), "{weak}");
        }
        let etm = offered.mac.iter().take_while(|name| name.as_ref().contains("etm")).count();
        assert_eq!((etm, offered.mac.len()), (2, 3), "those over the ciphertext come first");
        assert!(names.contains(&"kex-strict-s-v00@openssh.com"));
        assert!(!offered.key.contains(&Algorithm::Rsa { hash: None }));
    }
}
