//! The directory that containerd makes for a container, and what its `config.json` says (every process of the shim).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use guest_line::is_container_id;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

/// Annotations of the pods of Kubernetes, as containerd sets them.
const KIND: &str = "io.kubernetes.cri.container-type";
const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";
const POD: &str = "io.kubernetes.cri.sandbox-uid";
const POD_NAME: [&str; 2] = [
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri.sandbox-name",
];
/// Bytes of memory that the containers of a pod may use together.
const MEMORY: &str = "io.kubernetes.cri.sandbox-memory";

/// What a container is to its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has a VM of its own.
    Alone,
    /// It stands for the pod, and has no program: the VM keeps what it would keep.
    Sandbox,
    /// It is in the pod with this identifier.
    Member(String),
}

/// A bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) directory: PathBuf,
    pub(crate) spec: Spec,
}

impl Bundle {
    /// Reads `config.json`.
    pub(crate) fn read(directory: &Path) -> anyhow::Result<Bundle> {
        let path = directory.join("config.json");
        let spec = Spec::load(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Bundle {
            directory: directory.to_owned(),
            spec,
        })
    }

    /// The value of an annotation.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.spec
            .annotations()
            .as_ref()?
            .get(name)
            .map(String::as_str)
    }

    pub(crate) fn kind(&self) -> anyhow::Result<Kind> {
        match (self.annotation(KIND), self.annotation(SANDBOX)) {
            (Some("sandbox"), _) => Ok(Kind::Sandbox),
            (Some("container"), Some(pod)) if is_container_id(pod) => {
                Ok(Kind::Member(pod.to_owned()))
            }
            (Some("container"), _) => bail!("the annotation {SANDBOX} names no pod"),
            _ => Ok(Kind::Alone),
        }
    }

    /// The identifier that Kubernetes gives the pod, which is a part of paths of its volumes.
    pub(crate) fn pod_uid(&self) -> Option<&str> {
        self.annotation(POD).filter(|uid| is_container_id(uid))
    }

    /// What users call the pod: `NAMESPACE/NAME`, if Kubernetes has given it a name.
    pub(crate) fn pod_name(&self) -> Option<String> {
        let [namespace, name] = POD_NAME.map(|annotation| self.annotation(annotation));
        Some(format!("{}/{}", namespace?, name?))
    }

    /// The bytes of memory that its programs may use, if that is limited.
    pub(crate) fn memory(&self) -> Option<u64> {
        let of_pod = || self.annotation(MEMORY)?.parse().ok();
        let own = || {
            let resources = self.spec.linux().as_ref()?.resources().as_ref()?;
            resources.memory().as_ref()?.limit()
        };
        let limit = own().and_then(|limit| u64::try_from(limit).ok());
        limit.or_else(of_pod).filter(|bytes| *bytes > 0)
    }

    /// How many processors its programs may use, if that is limited.
    pub(crate) fn processors(&self) -> Option<u64> {
        let resources = self.spec.linux().as_ref()?.resources().as_ref()?;
        let cpu = resources.cpu().as_ref()?;
        let (quota, period) = (u64::try_from(cpu.quota()?).ok()?, cpu.period()?);
        (quota > 0 && period > 0).then(|| quota.div_ceil(period))
    }

    /// The network namespace that it is to be in: nothing if it is that of the host, and no path if it is a new one.
    pub(crate) fn network(&self) -> Option<Option<PathBuf>> {
        let all = self.spec.linux().as_ref()?.namespaces().as_ref()?;
        let network = all
            .iter()
            .find(|one| one.typ() == LinuxNamespaceType::Network)?;
        Some(network.path().clone())
    }

    /// The name of the host that its programs are to see, if it has one of its own.
    pub(crate) fn host_name(&self) -> Option<String> {
        self.spec.hostname().clone().filter(|name| !name.is_empty())
    }

    /// The root directory on the host.
    pub(crate) fn rootfs(&self) -> PathBuf {
        let path = self.spec.root().as_ref().map(|root| root.path().clone());
        self.directory.join(path.unwrap_or_else(|| "rootfs".into()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn bundle(json: &str) -> Bundle {
        Bundle {
            directory: "/run/b".into(),
            spec: serde_json::from_str(json).unwrap(),
        }
    }

    #[test]
    fn a_member_of_a_pod_is_told_from_others() {
        let with = |annotations: &str| {
            bundle(&format!(
                r#"{{"ociVersion":"1.0.2","annotations":{annotations}}}"#
            ))
            .kind()
        };
        assert_eq!(with("{}").unwrap(), Kind::Alone);
        let sandbox = r#"{"io.kubernetes.cri.container-type":"sandbox"}"#;
        assert_eq!(with(sandbox).unwrap(), Kind::Sandbox);
        let member = r#"{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"p1"}"#;
        assert_eq!(with(member).unwrap(), Kind::Member("p1".into()));
        let wrong = r#"{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"../x"}"#;
        assert!(with(wrong).is_err());
    }

    #[test]
    fn what_programs_may_use_is_read() {
        let text = r#"{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"network","path":"/run/netns/a"}],
            "resources":{"memory":{"limit":1048576},"cpu":{"quota":150000,"period":100000}}}}"#;
        let bundle = bundle(text);
        assert_eq!(bundle.memory(), Some(1 << 20));
        assert_eq!(bundle.processors(), Some(2));
        assert_eq!(bundle.network(), Some(Some("/run/netns/a".into())));
        assert_eq!(bundle.rootfs(), PathBuf::from("/run/b/rootfs"));
    }
}
