//! Programs of the engine that `config.json` names, executed on the host before a VM starts (the server of a pod).
//! Docker before 28 gives a network namespace its interfaces so.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use monitors::wait;
use oci_spec::runtime::Hook;
use serde_json::json;

use crate::bundle::Bundle;

/// How long one may take that names no limit.
const LIMIT: Duration = Duration::from_secs(60);

/// Executes those that belong to the creation of a container, which is known by this process.
pub(crate) fn run(bundle: &Bundle, id: &str, pid: u32) -> anyhow::Result<()> {
    let Some(hooks) = bundle.spec.hooks() else {
        return Ok(());
    };
    // What they are told: the state of a container (the runtime specification of OCI, "State").
    let state = json!({
        "ociVersion": bundle.spec.version(),
        "id": id,
        "status": "creating",
        "pid": pid,
        "bundle": bundle.directory,
    });
    let prestart = hooks.prestart().iter().flatten();
    let all = prestart.chain(hooks.create_runtime().iter().flatten());
    for hook in all {
        let path = hook.path().display().to_string();
        execute(hook, &state.to_string(), &bundle.directory).context(path)?;
    }
    Ok(())
}

fn execute(hook: &Hook, state: &str, directory: &Path) -> anyhow::Result<()> {
    let mut words = hook.args().iter().flatten();
    let mut command = Command::new(hook.path());
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let variables = hook.env().iter().flatten();
    let variables = variables.filter_map(|variable| variable.split_once('='));
    command.args(words).env_clear().envs(variables);
    command
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = command.spawn().context("cannot be executed")?;
    // One that does not read it may have ended before.
    let _ = child
        .stdin
        .take()
        .map(|mut input| input.write_all(state.as_bytes()));
    let limit = hook
        .timeout()
        .and_then(|seconds| u64::try_from(seconds).ok());
    let limit = limit
        .filter(|seconds| *seconds > 0)
        .map_or(LIMIT, Duration::from_secs);
    wait_for(&mut child, limit)
}

fn wait_for(child: &mut Child, limit: Duration) -> anyhow::Result<()> {
    match wait::child(child, limit).context("cannot be waited for")? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("it has failed ({status}); see the log of containerd"),
        None => {
            let _ = child.kill().and_then(|()| child.wait());
            bail!("it has not ended within {} s", limit.as_secs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::bundle;

    fn run_hook(script: &str, further: &str) -> anyhow::Result<()> {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b"]});
        let mut hook = hook.to_string();
        hook.truncate(hook.len() - 1);
        let text =
            format!(r#"{{"ociVersion":"1.0.2","hooks":{{"prestart":[{hook}{further}}}]}}}}"#);
        let mut bundle = bundle(&text);
        bundle.directory = std::env::temp_dir();
        run(&bundle, "c1", 42)
    }

    #[test]
    fn a_hook_is_told_the_state_of_the_container() {
        run_hook("[ $A = b ] && grep -q '\"pid\":42'", "").unwrap();
        // It need not read what it is told.
        run_hook("exec true", "").unwrap();
        let why = format!("{:#}", run_hook("exit 3", "").unwrap_err());
        assert!(
            why.starts_with("/bin/sh: it has failed (exit status: 3)"),
            "{why}"
        );
        let why = format!(
            "{:#}",
            run_hook("exec sleep 1000", ",\"timeout\":1").unwrap_err()
        );
        assert!(why.ends_with("it has not ended within 1 s"), "{why}");
    }
}
