//! Paths and URIs: of the request, of Destination, of a tagged list in `If`. Another host is another server.

use http::{HeaderMap, HeaderName, StatusCode, Uri};

use super::super::status::{Refused, refuse};
use super::fields::text;
use crate::vfs::VaultPath;

/// A path as it stands in a URI. An encoded `/` would be a separator to one reader and not to another: refused.
///
/// # Errors
/// 400, 414.
pub fn path(encoded: &str) -> Result<VaultPath, Refused> {
    if encoded.is_empty() || !encoded.starts_with('/') {
        return refuse(StatusCode::BAD_REQUEST, "the path does not begin with /");
    }
    let lower = encoded.to_ascii_lowercase();
    if lower.contains("%2f") {
        return refuse(StatusCode::BAD_REQUEST, "an encoded / in a name is not allowed");
    }
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(encoded).collect();
    Ok(VaultPath::parse(&decoded)?)
}

fn authority(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    lower.strip_suffix(":443").map_or_else(|| lower.clone(), str::to_owned)
}

/// Where Destination leads: a path of ours. Another host is another server.
///
/// # Errors
/// 400, 502.
pub fn destination(
    headers: &HeaderMap,
    host: Option<&str>,
    public_names: &[String],
) -> Result<VaultPath, Refused> {
    let Some(text) = text(headers, &HeaderName::from_static("destination"))? else {
        return refuse(StatusCode::BAD_REQUEST, "Destination is missing");
    };
    local_path(text, host, public_names)
}

/// A URI of ours, absolute or only a path.
///
/// # Errors
/// 400, 502.
pub fn local_path(text: &str, host: Option<&str>, public_names: &[String]) -> Result<VaultPath, Refused> {
    if text.starts_with('/') && !text.starts_with("//") {
        return path(text.split(['?', '#']).next().unwrap_or_default());
    }
    let Ok(uri) = text.parse::<Uri>() else { return refuse(StatusCode::BAD_REQUEST, "the URI is not one") };
    let Some(named) = uri.authority().filter(|_| matches!(uri.scheme_str(), Some("https" | "http"))) else {
        return refuse(StatusCode::BAD_REQUEST, "the URI names no host");
    };
    // git repeats the credentials of its URL here: nobody but the request's own proves anything.
    let named = named.as_str().rsplit('@').next().unwrap_or_default();
    let ours = host
        .into_iter()
        .chain(public_names.iter().map(String::as_str))
        .any(|name| authority(name) == authority(named));
    if ours { path(uri.path()) } else { refuse(StatusCode::BAD_GATEWAY, "the URI names another server") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_destination_is_ours_or_refused() {
        let at = |text: &str| local_path(text, Some("h:8443"), &["files.example".to_owned()]);
        assert_eq!(at("https://H:8443/a%20b").unwrap().to_bytes(), b"/a b");
        assert_eq!(at("https://files.example:443/x").unwrap().to_bytes(), b"/x");
        assert_eq!(at("/x").unwrap().to_bytes(), b"/x");
        assert_eq!(at("https://user:secret@h:8443/x").unwrap().to_bytes(), b"/x");
        assert_eq!(at("https://h:8443@evil/x").unwrap_err().status, StatusCode::BAD_GATEWAY);
        assert_eq!(at("https://evil/x").unwrap_err().status, StatusCode::BAD_GATEWAY);
        for bad in ["//evil/x", "x", "file:///x", "https://h:8443/a%2Fb", "https://h:8443/../x"] {
            assert_eq!(at(bad).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "[<>()\\[\\]\"WNot/ a*,=0-9-]{0,40}") {
            drop(local_path(&text, Some("h"), &[]));
        }
    }
}
