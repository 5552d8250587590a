//! OC-Checksum: what a client says its bytes have, as ownCloud writes it (`SHA1:<hexadecimal>`, several with spaces between).

use http::{HeaderMap, HeaderName, StatusCode};

use super::super::status::{Refused, refuse};
use super::fields::text;
use crate::vfs::Checksum;
use crate::vfs::digest::{Algorithm, Digests};

const KNOWN: [(&str, Algorithm); 4] = [
    ("SHA1", Algorithm::Sha1),
    ("MD5", Algorithm::Md5),
    ("SHA256", Algorithm::Sha256),
    ("ADLER32", Algorithm::Adler32),
];

/// OC-Checksum.
///
/// # Errors
/// 400: a checksum that cannot be verified is never taken for one that holds.
pub fn checksums(headers: &HeaderMap) -> Result<Vec<Checksum>, Refused> {
    let Some(value) = text(headers, &HeaderName::from_static("oc-checksum"))? else { return Ok(Vec::new()) };
    let mut found: Vec<Checksum> = Vec::new();
    for word in value.split_ascii_whitespace() {
        match one(word) {
            Some(checksum) if !found.iter().any(|known| known.algorithm == checksum.algorithm) => {
                found.push(checksum);
            }
            Some(_) | None => return malformed(),
        }
    }
    if found.is_empty() { malformed() } else { Ok(found) }
}

fn malformed<T>() -> Result<T, Refused> {
    refuse(
        StatusCode::BAD_REQUEST,
        "OC-Checksum is SHA1, MD5, SHA256 or ADLER32, a colon, and the digest in hexadecimal digits",
    )
}

fn one(word: &str) -> Option<Checksum> {
    let (name, digits) = word.split_once(':')?;
    let (_, algorithm) = KNOWN.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    let whole =
        digits.len() == 2 * algorithm.bytes() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let digest = (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>().filter(|_| whole)?;
    Some(Checksum { algorithm, digest })
}

fn shown(name: &str, digest: &[u8]) -> String {
    digest.iter().fold(format!("{name}:"), |text, byte| text + &format!("{byte:02x}"))
}

/// What is kept of a content, as `oc:checksum` holds it.
pub fn shown_checksums(digests: &Digests) -> String {
    let kept = KNOWN.into_iter().filter_map(|(name, algorithm)| Some(shown(name, algorithm.of(digests)?)));
    kept.collect::<Vec<_>>().join(" ")
}

/// The one of this name, in any case, as OC-Checksum holds it.
pub fn shown_checksum(name: &str, digests: &Digests) -> Option<String> {
    let (name, algorithm) = KNOWN.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(shown(name, algorithm.of(digests)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_known_whole_and_hexadecimal_or_refused() {
        let of = |value: &str| {
            checksums(&HeaderMap::from_iter([(
                HeaderName::from_static("oc-checksum"),
                value.parse().unwrap(),
            )]))
            .map_err(|refused| refused.status)
        };
        let md5 = Checksum { algorithm: Algorithm::Md5, digest: vec![0xab; 16] };
        assert_eq!(of(&format!("md5:{}", "aB".repeat(16))), Ok(vec![md5.clone()]));
        let two = format!("MD5:{} ADLER32:00000001", "ab".repeat(16));
        let adler = Checksum { algorithm: Algorithm::Adler32, digest: vec![0, 0, 0, 1] };
        assert_eq!(of(&two), Ok(vec![md5, adler]));
        assert_eq!(checksums(&HeaderMap::new()).unwrap(), []);
        let long = "ab".repeat(17);
        for bad in [
            "",
            "MD5",
            "MD5:",
            "MD5:ab",
            "CRC32:00000000",
            &format!("MD5:{long}"),
            &format!("SHA1:{}", "zz".repeat(20)),
            &format!("SHA1:{}", "+1".repeat(20)),
            "ADLER32:00000001 ADLER32:00000002",
            "ADLER32:0000\u{e9}1",
        ] {
            if let Ok(value) = bad.parse() {
                let headers = HeaderMap::from_iter([(HeaderName::from_static("oc-checksum"), value)]);
                assert_eq!(checksums(&headers).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
            }
        }
    }

    #[test]
    fn kept_digests_are_shown_as_clients_of_owncloud_read_them() {
        let digests = Digests { sha1: Some([1; 20]), md5: Some([0xfe; 16]), sha256: None };
        assert_eq!(shown_checksums(&digests), format!("SHA1:{} MD5:{}", "01".repeat(20), "fe".repeat(16)));
        assert_eq!(shown_checksums(&Digests::default()), "");
        assert_eq!(shown_checksum("md5", &digests), Some(format!("MD5:{}", "fe".repeat(16))));
        assert_eq!(shown_checksum("sha256", &digests), None);
    }
}
