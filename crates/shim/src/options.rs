//! The command line with which containerd executes the shim (every process of the shim).

use std::path::PathBuf;

use anyhow::{Context as _, bail};

/// What the process is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Serve a pod.
    Serve,
    /// Begin a server.
    Start,
    /// Tell how a container ended whose server is gone.
    Delete,
    /// Tell the version.
    Version,
}

/// The words of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) action: Action,
    /// The namespace of containerd, such as `k8s.io` or `moby`.
    pub(crate) namespace: String,
    /// The container. A server has the identifier of its pod.
    pub(crate) id: String,
    /// The socket of containerd.
    pub(crate) address: String,
    /// The directory of the container, for [`Action::Delete`].
    pub(crate) bundle: PathBuf,
}

impl Options {
    /// Reads the words: flags in the manner of Go, with one or two hyphens, and `=` or a blank before the value.
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> anyhow::Result<Options> {
        let mut options = Options {
            action: Action::Serve,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: PathBuf::new(),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-') else {
                options.action = match word.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    _ => bail!("unknown action {word}: containerd uses start and delete"),
                };
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let mut value = || {
                let value = value.clone().or_else(|| words.next());
                value.with_context(|| format!("-{name} needs a value"))
            };
            match name {
                "v" => options.action = Action::Version,
                // The log of the server is whole without it.
                "debug" => {}
                "namespace" => options.namespace = value()?,
                "id" => options.id = value()?,
                "address" => options.address = value()?,
                "bundle" => options.bundle = value()?.into(),
                // Events go to the socket of containerd.
                "publish-binary" | "socket" => drop(value()?),
                _ => bail!("unknown option -{name}: this program is executed by containerd"),
            }
        }
        let is_complete = !options.namespace.is_empty() && !options.id.is_empty();
        if options.action != Action::Version && !is_complete {
            bail!("-namespace and -id are missing: this program is executed by containerd");
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> anyhow::Result<Options> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_are_read_as_containerd_writes_them() {
        let line = "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id a1";
        let options = read(&format!("{line} start")).unwrap();
        assert_eq!(options.action, Action::Start);
        assert_eq!((&*options.namespace, &*options.id), ("k8s.io", "a1"));
        let options = read("--namespace=moby -debug --id=b -bundle /run/b delete").unwrap();
        assert_eq!(options.action, Action::Delete);
        assert_eq!(options.bundle, PathBuf::from("/run/b"));
        assert_eq!(read("-v").unwrap().action, Action::Version);
        assert_eq!(read(line).unwrap().action, Action::Serve);
        for wrong in [
            "",
            "start",
            "-id a",
            "-id",
            "-namespace a -id b stop",
            "-namespace a -id b -x",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
