//! Builds C clients with rpcgen and libtirpc from the interface files. A module of tests, also of those of other
//! crates.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program; what it printed, or why it could not be run.
pub fn output(command: &mut Command) -> Result<String, String> {
    let what = format!("{command:?}");
    let output = command
        .output()
        .map_err(|error| format!("{what}: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "{what}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8(output.stdout).unwrap())
}

/// What gcc needs for libtirpc. None if the tools are missing, which is an error in CI.
pub fn flags() -> Option<String> {
    match output(Command::new("pkg-config").args(["--cflags", "--libs", "libtirpc"])) {
        Ok(flags) if Command::new("rpcgen").arg("--version").output().is_ok() => Some(flags),
        _ => {
            assert!(
                std::env::var_os("CI").is_none(),
                "rpcgen or libtirpc-dev is missing"
            );
            eprintln!("skipped: needs rpcgen, gcc, pkg-config and libtirpc-dev");
            None
        }
    }
}

fn repository() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = manifest.ancestors();
    above
        .find(|directory| directory.join("proto").is_dir())
        .unwrap()
}

/// Makes C of an interface file as it is, in `directory`.
pub fn rpcgen(directory: &Path, file: &str) {
    let proto = repository().join("proto");
    std::fs::copy(proto.join(file), directory.join(file)).unwrap();
    output(
        Command::new("rpcgen")
            .args(["-N", file])
            .current_dir(directory),
    )
    .unwrap();
}

/// Builds the client `name` in `directory`. None if the tools are missing.
pub fn build(directory: &Path, name: &str) -> Option<PathBuf> {
    let here = repository().join("crates/rpc-xdr/tests/c");
    let flags = flags()?;
    rpcgen(directory, "umlmonctrl.x");
    let mut gcc = Command::new("gcc");
    gcc.args([
        "-std=gnu11",
        "-Wall",
        "-Wno-unused-variable",
        "-I.",
        "-o",
        name,
    ])
    .arg(here.join(format!("{name}.c")));
    gcc.args(["umlmonctrl_clnt.c", "umlmonctrl_xdr.c"])
        .args(flags.split_whitespace());
    output(gcc.current_dir(directory)).unwrap();
    Some(directory.join(name))
}
