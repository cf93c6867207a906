//! Names of an interface file as Rust spells them. Runs in `cargo xtask gen`.

/// `ctl_error` and `CTL_ERROR` to `CtlError`.
pub(super) fn camel(name: &str) -> String {
    let mut camel = String::new();
    for word in name.split('_') {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(&letters.as_str().to_ascii_lowercase());
    }
    camel
}

/// A name that may be a keyword in Rust.
pub(super) fn field_name(name: &str) -> String {
    const KEYWORDS: &str = " abstract as async await become box break const continue do dyn else enum extern false \
        final fn for gen if impl in let loop macro match mod move mut override priv pub ref return static struct \
        trait true try type typeof unsafe unsized use virtual where while yield ";
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        // These cannot be raw.
        "self" | "super" | "crate" | "_" => format!("{name}_"),
        _ if KEYWORDS.contains(&format!(" {name} ")) => format!("r#{name}"),
        _ => name,
    }
}
