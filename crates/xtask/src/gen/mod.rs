//! `cargo xtask gen`: writes the Rust side of the wire from the interface files (`proto/*.x`).
//!
//! The stages, one file each: `lexer` (text to tokens and comments), `parser` (tokens to the items of RFC 4506 and
//! RFC 5531), `check` (names, bounds, sizes; refuses what is dangerous), `emit` (types) and `program` (procedures).
//! Types and procedures are files of their own, as rpcgen makes them: code that only uses types does not depend
//! on connections. The output is committed: a change of the wire shows as a diff, and a build needs no generator.

mod check;
mod emit;
mod error;
mod lexer;
mod names;
mod parser;
mod program;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Writes all generated files; with `check` it writes none and fails if one is not current.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut stale = Vec::new();
    for (input, output) in files(&root)? {
        let stem = output.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(root.join(&input))
            .with_context(|| format!("cannot read {}", input.display()))?;
        let (types, programs) = translate(&input.display().to_string(), &stem, &text)?;
        for (kind, rust) in [("xdr", types), ("rpc", programs)] {
            let output = output.with_file_name(format!("{stem}_{kind}.rs"));
            let rust = rustfmt(&rust)?;
            if std::fs::read_to_string(root.join(&output)).unwrap_or_default() == rust {
                continue;
            }
            if check {
                stale.push(output.display().to_string());
            } else {
                std::fs::write(root.join(&output), rust)
                    .with_context(|| format!("cannot write {}", output.display()))?;
                println!("wrote {}", output.display());
            }
        }
    }
    if !stale.is_empty() {
        bail!(
            "not current: {}; run `cargo xtask gen` and commit the result",
            stale.join(", ")
        );
    }
    Ok(())
}

/// The interface files and what is made of them, without `_xdr.rs` and `_rpc.rs`, relative to the root of the
/// repository.
fn files(root: &Path) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let mut files = vec![(
        PathBuf::from("crates/rpc-xdr/tests/kit/kit.x"),
        PathBuf::from("crates/rpc-xdr/tests/kit/kit"),
    )];
    for entry in std::fs::read_dir(root.join("proto")).context("cannot list proto")? {
        let path = entry.context("cannot list proto")?.path();
        if path.extension().is_some_and(|extension| extension == "x")
            && let (Some(name), Some(stem)) = (path.file_name(), path.file_stem())
        {
            let output = Path::new("crates/rpc-xdr/src").join(stem);
            files.push((Path::new("proto").join(name), output));
        }
    }
    files.sort();
    Ok(files)
}

/// Rust for one interface file, not formatted yet: its types, and its programs. Errors begin with `file:line:`.
fn translate(name: &str, stem: &str, text: &str) -> anyhow::Result<(String, String)> {
    let result = lexer::tokens(text)
        .and_then(parser::parse)
        .and_then(check::check)
        .map(|model| {
            let programs = program::emit(name, stem, &model);
            (emit::emit(name, &model), programs)
        });
    result.map_err(|error| anyhow::anyhow!("{name}:{}: {}", error.line, error.text))
}

/// Output in the formatting that the rest of the repository has.
fn rustfmt(rust: &str) -> anyhow::Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run rustfmt")?;
    let mut stdin = child.stdin.take().context("rustfmt has no stdin")?;
    // rustfmt reads to the end before it writes, so this cannot block without end.
    stdin
        .write_all(rust.as_bytes())
        .context("cannot write to rustfmt")?;
    drop(stdin);
    let output = child.wait_with_output().context("rustfmt did not end")?;
    if !output.status.success() {
        bail!("rustfmt refused the generated code: a defect of the generator");
    }
    String::from_utf8(output.stdout).context("rustfmt wrote something else than text")
}

#[cfg(test)]
mod tests;
