//! `Content-Digest` (RFC 9530): a body that disagrees with it was damaged.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use sha2::{Digest, Sha256, Sha512};

/// Whether the body has every digest that the header names and this build knows.
pub(super) fn fits(headers: &HeaderMap, body: &[u8]) -> bool {
    headers.get_all("content-digest").iter().all(|value| {
        let Ok(value) = value.to_str() else { return false };
        value.split(',').all(|item| item_fits(item.trim(), body))
    })
}

fn item_fits(item: &str, body: &[u8]) -> bool {
    let Some((algorithm, value)) = item.split_once('=') else { return false };
    let actual: Vec<u8> = match algorithm.trim() {
        "sha-256" => Sha256::digest(body).to_vec(),
        "sha-512" => Sha512::digest(body).to_vec(),
        // RFC 9530: what is not known is passed over.
        _ => return true,
    };
    let expected = value.trim().strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    expected.and_then(|text| STANDARD.decode(text).ok()).is_some_and(|bytes| bytes == actual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_body_is_noticed() {
        let mut headers = HeaderMap::new();
        assert!(fits(&headers, b"x"));
        let digest = STANDARD.encode(Sha256::digest(b"x"));
        headers
            .insert("content-digest", format!("crc=:AA==:, sha-256=:{digest}:").parse().unwrap());
        assert!(fits(&headers, b"x"));
        assert!(!fits(&headers, b"y"));
        headers.insert("content-digest", "nonsense".parse().unwrap());
        assert!(!fits(&headers, b"x"));
    }
}
