//! The URLs of nodes: absolute, http or https, nothing after the port.

use http::Uri;

/// Checks a node's URL and writes it the one way it is compared and used:
/// lower case, without a slash at the end. The error says what to do.
pub(super) fn normalize(url: &str) -> Result<String, String> {
    let example = "write it like `http://edge1.example.org:8080`";
    if url.contains('@') {
        // Not repeated in the message: it may hold a password.
        return Err("the URL carries credentials, and topologies are no secret; \
                    remove what stands before the `@`"
            .to_owned());
    }
    let uri: Uri =
        url.parse().map_err(|error| format!("{url:?} is not a URL ({error}); {example}"))?;
    let Some(scheme @ ("http" | "https")) = uri.scheme_str() else {
        return Err(format!("{url:?} is not an absolute http or https URL; {example}"));
    };
    let Some(authority) = uri.authority() else {
        return Err(format!("{url:?} names no host; {example}"));
    };
    if authority.host().is_empty() {
        return Err(format!("{url:?} names no host; {example}"));
    }
    let port = &authority.as_str()[authority.host().len()..];
    if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(format!("{url:?} has no port from 1 to 65535 after the colon; {example}"));
    }
    if url.contains('#') || uri.query().is_some() || !matches!(uri.path(), "" | "/") {
        return Err(format!(
            "{url:?} has a path, query or fragment, and `/function/<name>` is put right after \
             the host; end it with host and port"
        ));
    }
    // The default port and its absence name the same place.
    let default = if scheme == "http" { 80 } else { 443 };
    let host = authority.host().to_ascii_lowercase();
    Ok(match authority.port_u16().filter(|port| *port != default) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn urls_are_written_one_way() {
        for (given, kept) in [
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("http://127.0.0.1:8081/", "http://127.0.0.1:8081"),
            ("HTTPS://Edge.Example.org:443/", "https://edge.example.org"),
            ("http://gateway.openfaas:8080", "http://gateway.openfaas:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://host:80", "http://host"),
        ] {
            assert_eq!(normalize(given).as_deref(), Ok(kept), "{given}");
        }
    }

    #[test]
    fn urls_that_redirects_could_not_use_are_refused() {
        for bad in [
            "",
            "milan",
            "/function",
            "127.0.0.1:8081",
            "ftp://milan",
            "http://",
            "http:///x",
            "http://milan/path",
            "http://milan?x=1",
            "http://milan/#a",
            "http://milan#a",
            "http://milan:0",
            "http://milan:",
            "http://milan:99999",
            "http://a b",
            "//milan",
            "http://:8080",
        ] {
            assert!(normalize(bad).is_err(), "{bad:?} gave {:?}", normalize(bad));
        }
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        for url in ["http://admin:hunter2@milan:8080", "ftp://a:hunter2@milan", "http://a:hunter2@"]
        {
            let fault = normalize(url).unwrap_err();
            assert!(fault.contains("credentials") && !fault.contains("hunter2"), "{fault}");
        }
    }
}
