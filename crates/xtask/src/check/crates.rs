//! Which crate uses which: the table in docs/ARCHITECTURE.md and the manifests say the same (`cargo xtask check`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::steps::{cargo, output, repository};

const TABLE: &str = "docs/ARCHITECTURE.md";

/// What they have in common is in a library, whatever the table says.
const PROGRAMS: [&str; 6] = ["umlmon", "umldir", "umlweb", "umlwatch", "umladmin", "shim"];

/// Each crate with those it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check() -> anyhow::Result<()> {
    let metadata = output(&mut cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cannot read cargo metadata")?;
    let text = fs::read_to_string(repository().join(TABLE))
        .with_context(|| format!("cannot read {TABLE}"))?;
    compare(&table(&text), &manifests(&metadata)?)
}

/// The rows of the table: "| `name` | what it is | a, b |".
fn table(text: &str) -> Uses {
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` |")?;
        let (_, uses) = rest.strip_suffix('|')?.rsplit_once('|')?;
        let uses = uses.split(',').map(|used| used.trim().to_owned());
        Some((
            name.to_owned(),
            uses.filter(|used| !used.is_empty()).collect(),
        ))
    };
    text.lines().filter_map(row).collect()
}

/// Each crate of the workspace with those of its dependencies that have a path, not counting those of its tests.
fn manifests(metadata: &Value) -> anyhow::Result<Uses> {
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    let mut uses = Uses::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        let all = package["dependencies"]
            .as_array()
            .context("a package has no list of dependencies")?;
        let ours = all
            .iter()
            .filter(|dependency| !dependency["path"].is_null() && dependency["kind"] != "dev");
        let names = ours.filter_map(|dependency| dependency["name"].as_str());
        uses.insert(name.to_owned(), names.map(str::to_owned).collect());
    }
    Ok(uses)
}

fn compare(table: &Uses, manifests: &Uses) -> anyhow::Result<()> {
    for (name, used) in manifests {
        let program = used.iter().find(|used| PROGRAMS.contains(&used.as_str()));
        if let (true, Some(program)) = (PROGRAMS.contains(&name.as_str()), program) {
            bail!(
                "{name} uses {program}, but no program uses a program; move what they share to a library"
            );
        }
        let allowed = table
            .get(name)
            .with_context(|| format!("the crate {name} is not in the table of {TABLE}"))?;
        ensure!(
            used.is_subset(allowed),
            "{name} uses {}, which {TABLE} rules out",
            list(used.difference(allowed))
        );
        ensure!(
            allowed.is_subset(used),
            "{TABLE} says that {name} uses {}, which its Cargo.toml does not; take it out of the table",
            list(allowed.difference(used))
        );
    }
    let gone: Vec<&String> = table
        .keys()
        .filter(|name| !manifests.contains_key(*name))
        .collect();
    ensure!(
        gone.is_empty(),
        "{TABLE} lists {}, which is no crate; take it out of the table",
        list(gone.into_iter())
    );
    Ok(())
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "| crate | is | uses of ours |\n|---|---|---|\n\
                        | `config` | the vocabulary; no sockets | |\n| `jail` | directories | config, sys |\n";

    fn uses(rows: &[(&str, &[&str])]) -> Uses {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        rows.iter()
            .map(|(name, used)| ((*name).to_owned(), set(used)))
            .collect()
    }

    #[test]
    fn the_repository_is_as_its_table_says() {
        check().unwrap();
    }

    #[test]
    fn the_table_is_read() {
        let wanted = uses(&[("config", &[]), ("jail", &["config", "sys"])]);
        assert_eq!(table(ROWS), wanted);
    }

    #[test]
    fn table_and_manifests_must_say_the_same() {
        let table = table(ROWS);
        let error = |rows: &[(&str, &[&str])]| {
            let compared = compare(&table, &uses(rows));
            compared.map_or_else(|error| error.to_string(), |()| String::new())
        };
        let config: (&str, &[&str]) = ("config", &[]);
        let jail: (&str, &[&str]) = ("jail", &["config", "sys"]);
        assert_eq!(error(&[config, jail]), "");
        assert_eq!(
            error(&[config, ("jail", &["config", "pty", "sys"])]),
            "jail uses pty, which docs/ARCHITECTURE.md rules out"
        );
        assert!(error(&[config, ("jail", &["config"])]).contains("says that jail uses sys"));
        assert!(error(&[config, jail, ("novel", &[])]).contains("novel is not in the table"));
        assert!(error(&[jail]).contains("lists config, which is no crate"));
    }

    #[test]
    fn no_program_uses_a_program() {
        let rows: &[(&str, &[&str])] = &[("umladmin", &["umlwatch"]), ("umlwatch", &[])];
        let error = compare(&uses(rows), &uses(rows)).unwrap_err().to_string();
        assert!(error.contains("no program uses a program"), "{error}");
    }

    #[test]
    fn dependencies_of_tests_do_not_count() {
        let metadata = serde_json::json!({"packages": [{"name": "jail", "dependencies": [
            {"name": "config", "path": "/x", "kind": null},
            {"name": "pty", "path": "/x", "kind": "dev"},
            {"name": "nix", "kind": null},
        ]}]});
        assert_eq!(
            manifests(&metadata).unwrap(),
            uses(&[("jail", &["config"])])
        );
    }
}
