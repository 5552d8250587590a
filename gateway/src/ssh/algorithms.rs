//! Which algorithms are offered: post-quantum first, AEAD first, encrypt-then-MAC only, no SHA-1, no compression. One old
//! library that has no such MAC is offered another, by its identification string: the client's order decides in SSH, and
//! others (PuTTY) would take it too.

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

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

/// For libssh2 before 1.11 (curl of Debian 12, PHP): it has no AEAD either, so this goes with a counter mode.
const MACS_OF_OLD_LIBSSH2: &[mac::Name] = &[mac::HMAC_SHA256];

/// What a client can do, as far as its identification string tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// Whatever is offered to everybody.
    Any,
    /// libssh2 without encrypt-then-MAC.
    OldLibssh2,
}

impl Client {
    /// By the first bytes that it sent: `SSH-2.0-libssh2_1.10.0`. What is not whole or not known is any client.
    pub(super) fn of(sent: &[u8]) -> Self {
        let minor = sent.strip_prefix(b"SSH-2.0-libssh2_1.").map(|rest| {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest.split_at(digits)
        });
        let Some((minor, [b'.' | b'\r' | b'\n' | b' ' | b'_', ..])) = minor else { return Self::Any };
        let minor = std::str::from_utf8(minor).ok().and_then(|minor| minor.parse::<u32>().ok());
        if minor.is_some_and(|minor| minor < 11) { Self::OldLibssh2 } else { Self::Any }
    }

    fn macs(self) -> &'static [mac::Name] {
        match self {
            Self::Any => MACS,
            Self::OldLibssh2 => MACS_OF_OLD_LIBSSH2,
        }
    }
}

/// RSA stands for signatures of users only: there is no RSA host key.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// What a client is offered.
pub(super) fn preferred(client: Client) -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(KEYS),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(client.macs()),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_weak_is_offered() {
        let offered = preferred(Client::Any);
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
        assert!(offered.mac.iter().all(|name| name.as_ref().contains("etm")));
        assert!(names.contains(&"kex-strict-s-v00@openssh.com"));
        assert!(!offered.key.contains(&Algorithm::Rsa { hash: None }));
    }

    #[test]
    fn only_a_library_that_has_no_better_mac_is_offered_another() {
        for old in
            [&b"SSH-2.0-libssh2_1.10.0\r\n"[..], b"SSH-2.0-libssh2_1.9.0_DEV\r\n", b"SSH-2.0-libssh2_1.4.3"]
        {
            assert_eq!(Client::of(old), Client::OldLibssh2, "{old:?}");
        }
        for other in [
            &b"SSH-2.0-libssh2_1.11.0\r\n"[..],
            b"SSH-2.0-libssh2_2.0.0\r\n",
            b"SSH-2.0-libssh2_1.1",
            b"SSH-2.0-libssh2_1.",
            b"SSH-2.0-libssh2_1.x",
            b"SSH-2.0-PuTTY_Release_0.78\r\n",
            b"SSH-2.0-OpenSSH_9.2 libssh2_1.10.0\r\n",
            b"",
        ] {
            assert_eq!(Client::of(other), Client::Any, "{other:?}");
        }
    }
}
