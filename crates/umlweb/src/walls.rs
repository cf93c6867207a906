//! The walls against pages of others in a browser that has a session here (umlweb).
//!
//! A page of another origin can make a browser send requests to us, with the cookie of the session if the site is the
//! same; a name of its own can lead to our address (rebinding). So the host must be one of ours, the origin of what
//! does something must be exactly our page, and a token must be there that only our page can have read.

use crate::http::{Answer, Request};
use crate::settings::Settings;

/// Whether the request is for one of our names.
pub fn is_ours(request: &Request, settings: &Settings) -> bool {
    request.header("host").is_some_and(|host| {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        settings.names.contains(&name)
    })
}

/// Whether the request comes from a page of ours: as the browser says, which no page can change. Old browsers do not
/// tell the site, and tell the origin only where something is changed.
pub fn is_from_our_page(request: &Request, settings: &Settings) -> bool {
    let same_site = match request.header("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => !request.has("sec-fetch-site"),
    };
    let ours = || {
        let host = request.header("host").unwrap_or_default();
        format!("{}://{host}", settings.scheme())
    };
    let same_origin = match request.header("origin") {
        Some(origin) => origin.eq_ignore_ascii_case(&ours()),
        None => request.method == "GET" && !request.has("origin") && !request.has("upgrade"),
    };
    same_site && same_origin
}

/// What every answer says to the browser. `nonce` is that of the styles that the terminal makes for itself.
pub fn headers(answer: Answer, nonce: Option<&str>) -> Answer {
    let styles = nonce.map_or(String::new(), |nonce| format!(" 'nonce-{nonce}'"));
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'{styles}; img-src 'self'; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'"
    );
    answer
        .with("Content-Security-Policy", policy)
        .with("Cross-Origin-Opener-Policy", "same-origin")
        .with("Cross-Origin-Embedder-Policy", "require-corp")
        .with("Cross-Origin-Resource-Policy", "same-origin")
        .with(
            "Permissions-Policy",
            "camera=(), geolocation=(), microphone=()",
        )
        .with("Referrer-Policy", "no-referrer")
        .with("X-Content-Type-Options", "nosniff")
        .with("X-Frame-Options", "DENY")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn settings() -> Settings {
        Settings {
            listen: "127.0.0.1:8873".parse().unwrap(),
            names: ["127.0.0.1", "localhost", "[::1]"]
                .map(str::to_owned)
                .to_vec(),
            tls: None,
            directory: PathBuf::new(),
            redirector: PathBuf::new(),
        }
    }

    fn request(method: &str, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter();
        Request::of(
            method,
            headers.map(|(name, value)| ((*name).into(), (*value).into())),
        )
    }

    #[test]
    fn a_rebound_name_is_not_ours() {
        for (host, ours) in [
            ("127.0.0.1:8873", true),
            ("LocalHost:8873", true),
            ("localhost", true),
            ("[::1]:8873", true),
            ("evil.example:8873", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example:localhost", false),
            ("", false),
        ] {
            let request = request("GET", &[("host", host)]);
            assert_eq!(is_ours(&request, &settings()), ours, "{host}");
        }
        assert!(!is_ours(&request("GET", &[]), &settings()));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert!(!is_ours(&request("GET", &twice), &settings()));
    }

    #[test]
    fn only_our_page_may_do_something() {
        let (host, ours) = (("host", "localhost:8873"), "http://localhost:8873");
        let same = ("sec-fetch-site", "same-origin");
        for (method, headers, may) in [
            ("POST", vec![host, ("origin", ours), same], true),
            ("POST", vec![host, ("origin", ours)], true),
            ("POST", vec![host, same], false),
            ("POST", vec![host, ("origin", "null"), same], false),
            (
                "POST",
                vec![
                    host,
                    ("origin", "http://localhost:9999"),
                    ("sec-fetch-site", "same-site"),
                ],
                false,
            ),
            (
                "POST",
                vec![host, ("origin", "http://localhost:88731")],
                false,
            ),
            (
                "POST",
                vec![host, ("origin", "https://localhost:8873")],
                false,
            ),
            (
                "POST",
                vec![host, ("origin", "http://127.0.0.1:8873")],
                false,
            ),
            ("GET", vec![host, same], true),
            ("GET", vec![host], true),
            ("GET", vec![host, ("sec-fetch-site", "none")], false),
            ("GET", vec![host, ("sec-fetch-site", "cross-site")], false),
            ("GET", vec![host, ("upgrade", "websocket")], false),
            (
                "GET",
                vec![host, ("upgrade", "websocket"), ("origin", ours)],
                true,
            ),
            (
                "GET",
                vec![
                    host,
                    ("upgrade", "websocket"),
                    ("origin", "http://evil.example"),
                ],
                false,
            ),
        ] {
            let request = request(method, &headers);
            assert_eq!(
                is_from_our_page(&request, &settings()),
                may,
                "{method} {headers:?}"
            );
        }
    }

    #[test]
    fn nothing_of_others_is_loaded_and_nobody_frames_us() {
        let answer = headers(Answer::text(200, ""), Some("n0"));
        let policy = answer
            .headers
            .iter()
            .find(|(name, _)| *name == "Content-Security-Policy");
        let policy = &policy.unwrap().1;
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "script-src 'self';",
            "'nonce-n0'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
    }
}
