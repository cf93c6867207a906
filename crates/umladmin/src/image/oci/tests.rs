//! Containers as tools write them, and hostile ones.

use std::fs;

use super::*;

fn sum(text: &[u8]) -> String {
    format!("{:x}", Sha256::digest(text))
}

/// A layout in a directory.
struct Layout(tempfile::TempDir);

impl Layout {
    fn new() -> Layout {
        let layout = Layout(tempfile::tempdir().unwrap());
        fs::create_dir_all(layout.path("blobs/sha256")).unwrap();
        layout
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Adds a blob; its digest.
    fn blob(&self, bytes: &[u8]) -> String {
        let sum = sum(bytes);
        fs::write(self.path("blobs/sha256").join(&sum), bytes).unwrap();
        format!("sha256:{sum}")
    }

    fn manifest(&self, layers: &[&str]) -> String {
        let layers: Vec<String> = layers
            .iter()
            .map(|digest| format!(r#"{{"mediaType":"layer","digest":"{digest}","size":1}}"#))
            .collect();
        self.blob(format!(r#"{{"layers":[{}]}}"#, layers.join(",")).as_bytes())
    }

    fn index(&self, manifests: &str) {
        fs::write(
            self.path("index.json"),
            format!(r#"{{"manifests":[{manifests}]}}"#),
        )
        .unwrap();
    }

    fn one(layers: &[&str]) -> Layout {
        let layout = Layout::new();
        let manifest = layout.manifest(layers);
        layout.index(&format!(r#"{{"digest":"{manifest}"}}"#));
        layout
    }

    fn why(&self) -> String {
        Container::open(self.0.path()).map(drop).unwrap_err()
    }
}

/// What is in the layers.
fn contents(path: &Path) -> Result<Vec<String>, String> {
    let container = Container::open(path)?;
    let parts = container.parts();
    parts
        .map(|part| {
            let mut text = String::new();
            let mut part = part?;
            let read = part.bytes.read_to_string(&mut text);
            read.map(|_| text).map_err(|error| error.to_string())
        })
        .collect()
}

#[test]
fn the_layers_of_a_layout_come_in_their_order() {
    let layout = Layout::new();
    let (one, two) = (layout.blob(b"layer one"), layout.blob(b"layer two"));
    let manifest = layout.manifest(&[&one, &two, &one]);
    let other = layout.manifest(&[]);
    let inner = layout.blob(
        format!(
            r#"{{"manifests":[
                {{"digest":"{other}","platform":{{"os":"linux","architecture":"arm64"}}}},
                {{"digest":"{manifest}","platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
        )
        .as_bytes(),
    );
    layout.index(&format!(
        r#"{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{inner}"}}"#
    ));
    let wanted = ["layer one", "layer two", "layer one"].map(str::to_owned);
    assert_eq!(contents(layout.0.path()).unwrap(), wanted);
    // The same as an archive.
    let archive = layout.path("all.tar");
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", layout.0.path()).unwrap();
    fs::write(&archive, builder.into_inner().unwrap()).unwrap();
    assert_eq!(contents(&archive).unwrap(), wanted);
}

#[test]
fn what_docker_saves_is_read_links_included() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("a")).unwrap();
    fs::create_dir(path("b")).unwrap();
    fs::write(path("a/layer.tar"), "layer one").unwrap();
    std::os::unix::fs::symlink("../a/layer.tar", path("b/layer.tar")).unwrap();
    let manifest = r#"[{"Config":"c","RepoTags":[],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    fs::write(path("manifest.json"), manifest).unwrap();
    let wanted = ["layer one", "layer one"].map(str::to_owned);
    assert_eq!(contents(directory.path()).unwrap(), wanted);
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", directory.path()).unwrap();
    fs::write(path("saved.tar"), builder.into_inner().unwrap()).unwrap();
    assert_eq!(contents(&path("saved.tar")).unwrap(), wanted);
}

#[test]
fn hostile_descriptions_lead_nowhere() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    let secret = outside.path().display().to_string();
    // Digests and names that are paths, and links out of the directory.
    for digest in [
        "sha256:../../../etc/passwd",
        "sha512:00",
        "sha256:AB",
        &secret,
    ] {
        assert!(
            Layout::one(&[digest]).why().contains("no digest"),
            "{digest}"
        );
    }
    for name in ["../secret", &secret, "a/../../secret"] {
        let layout = Layout::new();
        let manifest = format!(r#"[{{"Layers":["{name}"]}}]"#);
        fs::write(layout.path("manifest.json"), manifest).unwrap();
        assert!(layout.why().contains("no name of a layer"), "{name}");
    }
    let layout = Layout::new();
    std::os::unix::fs::symlink(&secret, layout.path("link")).unwrap();
    fs::write(layout.path("manifest.json"), r#"[{"Layers":["link"]}]"#).unwrap();
    let why = contents(layout.0.path()).unwrap_err();
    assert!(why.contains("cannot read link"), "{why}");
    // A layer that is another one than the description says.
    let layout = Layout::new();
    let digest = layout.blob(b"layer one");
    let manifest = layout.manifest(&[&digest]);
    layout.index(&format!(r#"{{"digest":"{manifest}"}}"#));
    let blob = digest.replace("sha256:", "blobs/sha256/");
    fs::write(layout.path(&blob), "layer two").unwrap();
    let why = contents(layout.0.path()).unwrap_err();
    assert!(why.contains("SHA-256"), "{why}");
    let manifest = manifest.replace("sha256:", "blobs/sha256/");
    fs::write(layout.path(&manifest), r#"{"layers":[]}"#).unwrap();
    assert!(layout.why().contains("SHA-256"));
}

#[test]
fn descriptions_have_bounds() {
    let layout = Layout::new();
    assert!(layout.why().contains("neither index.json"));
    layout.index("");
    assert!(layout.why().contains("0 images"));
    assert!(Layout::one(&[]).why().contains("0 layers"));
    let digest = format!("sha256:{}", "0".repeat(64));
    let many = vec![&*digest; MAX_LAYERS + 1];
    assert!(Layout::one(&many).why().contains("1001 layers"));
    fs::write(layout.path("index.json"), vec![b' '; 5 << 20]).unwrap();
    assert!(layout.why().contains("too long"));
    // An index in itself cannot be, but one in another, and so on.
    let mut inner = layout.blob(br#"{"manifests":[]}"#);
    for _ in 0..10 {
        let index = format!(r#"{{"manifests":[{{"mediaType":"index","digest":"{inner}"}}]}}"#);
        inner = layout.blob(index.as_bytes());
    }
    layout.index(&format!(r#"{{"mediaType":"index","digest":"{inner}"}}"#));
    assert!(layout.why().contains("too deep"));
    let nothing = tempfile::NamedTempFile::new().unwrap();
    fs::write(nothing.path(), [0x55; 4096]).unwrap();
    let why = Container::open(nothing.path()).map(drop).unwrap_err();
    assert!(why.contains("no archive of a container"), "{why}");
}
