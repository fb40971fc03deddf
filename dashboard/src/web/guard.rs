//! Who is let in, and what answers say to browsers: pure checks on headers.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, header};

/// What a page may do: its own style, script and events, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// Whether a request names this machine by an address or as `localhost`. A page from elsewhere
/// that has its own name resolved to 127.0.0.1 (DNS rebinding) sends that name. Asked only where it
/// is served on loopback: in a pod that a port is forwarded to, every name is taken.
pub(super) fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a request that changes something comes from one of our own pages. Browsers send
/// `Origin` with every POST.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST) else { return false };
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin") {
        return false;
    }
    match text(headers, header::ORIGIN) {
        Some(origin) => origin.split_once("://").is_some_and(|(_, theirs)| theirs == host),
        None => false,
    }
}

/// What every answer carries.
pub(super) fn protect(headers: &mut HeaderMap) {
    let set = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: then a form's `Origin` is `null`.
        (header::REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn g8_a_name_that_somebody_resolved_to_this_machine_is_none_of_ours() {
        for good in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.0.0.2"] {
            assert!(names_this_machine(&headers(&[("host", good)])), "{good}");
        }
        for bad in
            ["evil.example:8080", "10.0.0.1:8080", "127.0.0.1.evil.example", "localhost.evil", ""]
        {
            assert!(!names_this_machine(&headers(&[("host", bad)])), "{bad}");
        }
        assert!(!names_this_machine(&headers(&[])));
    }

    #[test]
    fn g8_only_our_own_pages_change_anything() {
        let host = ("host", "127.0.0.1:8080");
        let origin = ("origin", "http://127.0.0.1:8080");
        assert!(is_own(&headers(&[host, origin])));
        assert!(is_own(&headers(&[host, origin, ("sec-fetch-site", "same-origin")])));
        for bad in ["http://127.0.0.1:8081", "null", "http://evil.example", "127.0.0.1:8080"] {
            assert!(!is_own(&headers(&[host, ("origin", bad)])), "{bad}");
        }
        assert!(!is_own(&headers(&[host])));
        assert!(!is_own(&headers(&[host, origin, ("sec-fetch-site", "same-site")])));
    }
}
