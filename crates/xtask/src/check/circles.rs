//! No circles between the files of a crate: none uses another that, directly or not, uses it (`cargo xtask check`).
//!
//! A file uses another if it names something of it, by a path or through an import. A name that a module only passes on
//! (`pub use`) counts for the file that it comes from, and not for the one that passes it on; `mod` is no use. What is
//! compiled for tests only does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::steps::repository;

/// How often a name may be passed on.
const MAX_PASSED_ON: usize = 16;

/// Each file with those it uses.
type Graph = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

pub(super) fn check() -> anyhow::Result<()> {
    let mut crates = fs::read_dir(repository().join("crates"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<PathBuf>>>()?;
    crates.sort();
    for one in crates {
        let name = one.file_name().unwrap_or_default().to_string_lossy();
        let mut circles = Vec::new();
        for root in ["src/lib.rs", "src/main.rs"] {
            let root = one.join(root);
            if root.exists() {
                circles.extend(circles_of(&uses(&root)?));
            }
        }
        ensure!(
            circles.is_empty(),
            "{name}: files that use each other in a circle:\n{}",
            shown(&circles)
        );
    }
    Ok(())
}

fn shown(circles: &[Vec<PathBuf>]) -> String {
    let line = |circle: &Vec<PathBuf>| {
        let names = circle.iter().map(|file| {
            let short = file.strip_prefix(repository()).unwrap_or(file);
            short.display().to_string()
        });
        names.collect::<Vec<_>>().join(" ")
    };
    circles.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The sets of files of which each reaches each other.
fn circles_of(graph: &Graph) -> Vec<Vec<PathBuf>> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = graph
        .keys()
        .map(|file| (file, reachable(graph, file)))
        .collect();
    let both = |a: &PathBuf, b: &PathBuf| {
        let from = |a, b| reached.get(a).is_some_and(|files| files.contains(b));
        from(a, b) && from(b, a)
    };
    let circles: BTreeSet<Vec<PathBuf>> = graph
        .keys()
        .map(|file| graph.keys().filter(|other| both(file, other)).cloned())
        .map(Iterator::collect)
        .filter(|circle: &Vec<PathBuf>| circle.len() > 1)
        .collect();
    circles.into_iter().collect()
}

fn reachable<'a>(graph: &'a Graph, from: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&PathBuf> = graph.get(from).into_iter().flatten().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(graph.get(file).into_iter().flatten());
        }
    }
    reached
}

/// A module, in a file of its own or in that of another.
#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    children: BTreeSet<String>,
    /// What each imported name stands for, as a path seen from here.
    imports: BTreeMap<String, Vec<String>>,
    /// The paths that are named here.
    paths: BTreeSet<Vec<String>>,
}

/// The modules of a crate by their paths; that of the root is empty.
type Modules = BTreeMap<Vec<String>, Module>;

/// Which file of a crate uses which.
fn uses(root: &Path) -> anyhow::Result<Graph> {
    let mut modules = Modules::new();
    let directory = root.parent().unwrap_or(root);
    read(&mut modules, root, directory, &[])?;
    let mut graph = Graph::new();
    for (at, module) in &modules {
        let used = graph.entry(module.file.clone()).or_default();
        let files = module.paths.iter().filter_map(|path| {
            let file = resolve(&modules, at, path, MAX_PASSED_ON)?;
            (file != module.file).then(|| file.to_owned())
        });
        used.extend(files);
    }
    Ok(graph)
}

/// The file in which the thing is that a path names, seen from the module `at`; None: it is not of this crate.
fn resolve<'a>(
    modules: &'a Modules,
    at: &[String],
    path: &[String],
    passed_on: usize,
) -> Option<&'a Path> {
    let passed_on = passed_on.checked_sub(1)?;
    let mut at = at.to_vec();
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        let begins = rest.len() == path.len();
        let module = modules.get(&at)?;
        match first.as_str() {
            "crate" if begins => at.clear(),
            "self" if begins => {}
            "super" => drop(at.pop()?),
            // A word alone is no module: it may be a variable of the same name.
            name if module.children.contains(name) && (path.len() > 1) => at.push(name.to_owned()),
            name => {
                return match module.imports.get(name) {
                    Some(import) => {
                        let whole: Vec<String> = import.iter().chain(others).cloned().collect();
                        resolve(modules, &at, &whole, passed_on)
                    }
                    None if begins => None,
                    None => Some(&module.file),
                };
            }
        }
        rest = others;
    }
    Some(&modules.get(&at)?.file)
}

/// Reads the module `at` and those below it. `directory` is where the files of its children are.
fn read(modules: &mut Modules, file: &Path, directory: &Path, at: &[String]) -> anyhow::Result<()> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let tokens: TokenStream = text
        .parse()
        .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", file.display()))?;
    let below = scan(modules, file, tokens, at);
    for child in below {
        let mut path = directory.to_owned();
        path.extend(child.at.get(at.len()..).unwrap_or_default());
        let beside = match child.file {
            Some(name) => directory.join(name),
            None => path.with_extension("rs"),
        };
        let file = match beside.exists() {
            true => beside,
            false => path.join("mod.rs"),
        };
        read(modules, &file, &path, &child.at)?;
    }
    Ok(())
}

/// A module that has a file of its own.
struct Below {
    at: Vec<String>,
    /// What `#[path]` says.
    file: Option<String>,
}

/// Notes what the module `at` says, which is in `file`. Returns the modules below it that have files of their own.
fn scan(modules: &mut Modules, file: &Path, tokens: TokenStream, at: &[String]) -> Vec<Below> {
    let mut below = Vec::new();
    let mut module = modules.remove(at).unwrap_or_default();
    module.file = file.to_owned();
    let mut reader = Reader::new(tokens);
    while let Some(token) = reader.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => reader.attribute(),
            TokenTree::Ident(word) if word == "pub" => reader.visibility(),
            TokenTree::Ident(word) if word == "use" => {
                let passes_on = std::mem::take(&mut reader.public);
                for (name, path) in reader.imports(&[]) {
                    if !passes_on {
                        module.paths.insert(path.clone());
                    }
                    module.imports.insert(name, path);
                }
            }
            TokenTree::Ident(word) if word == "mod" => {
                let Some(name) = reader.word() else { continue };
                let child = [at, std::slice::from_ref(&name)].concat();
                module.children.insert(name);
                match reader.next() {
                    Some(TokenTree::Group(body)) => {
                        below.extend(scan(modules, file, body.stream(), &child));
                    }
                    _ => below.push(Below {
                        at: child,
                        file: reader.file.take(),
                    }),
                }
            }
            TokenTree::Ident(word) => {
                reader.public = false;
                module.paths.insert(reader.path(plain(&word)));
            }
            TokenTree::Group(group) => {
                modules.insert(at.to_vec(), module);
                below.extend(scan(modules, file, group.stream(), at));
                module = modules.remove(at).unwrap_or_default();
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    modules.insert(at.to_vec(), module);
    below
}

/// Reads the tokens of a file, or of what is in brackets.
struct Reader {
    tokens: Vec<TokenTree>,
    at: usize,
    /// `pub` was read, and what it is about was not.
    public: bool,
    /// What the `#[path]` says that was read last.
    file: Option<String>,
}

impl Reader {
    fn new(tokens: TokenStream) -> Reader {
        Reader {
            tokens: tokens.into_iter().collect(),
            at: 0,
            public: false,
            file: None,
        }
    }

    fn next(&mut self) -> Option<TokenTree> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// The next token, if it is a word.
    fn word(&mut self) -> Option<String> {
        match self.tokens.get(self.at) {
            Some(TokenTree::Ident(word)) => {
                self.at += 1;
                Some(plain(word))
            }
            _ => None,
        }
    }

    /// Reads the two colons of a path, if they are next.
    fn colons(&mut self) -> bool {
        let next = self.tokens.get(self.at..self.at + 2).unwrap_or_default();
        let is_colon =
            |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':');
        let found = next.len() == 2 && next.iter().all(is_colon);
        self.at += if found { 2 } else { 0 };
        found
    }

    /// The path that begins with this word.
    fn path(&mut self, first: String) -> Vec<String> {
        let mut path = vec![first];
        while self.colons() {
            let Some(word) = self.word() else { break };
            path.push(word);
        }
        path
    }

    /// What follows `pub`.
    fn visibility(&mut self) {
        self.public = true;
        if let Some(TokenTree::Group(group)) = self.tokens.get(self.at)
            && group.delimiter() == Delimiter::Parenthesis
        {
            self.at += 1;
        }
    }

    /// What follows `#`. If the next item is for tests only, it is passed over.
    fn attribute(&mut self) {
        let text = match self.next() {
            Some(TokenTree::Group(group)) => group.stream().to_string().replace(' ', ""),
            // It is about all of the file.
            _ => return drop(self.next()),
        };
        if let Some(file) = text.strip_prefix("path=") {
            self.file = Some(file.trim_matches('"').to_owned());
        }
        if text != "cfg(test)" {
            return;
        }
        while let Some(token) = self.next() {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ';' => break,
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                _ => {}
            }
        }
        self.file = None;
    }

    /// What follows `use`: each name, with the path that it stands for. That of everything in a module is `*`.
    fn imports(&mut self, prefix: &[String]) -> Vec<(String, Vec<String>)> {
        let mut path = prefix.to_vec();
        loop {
            match self.next() {
                Some(TokenTree::Ident(word)) => path.push(plain(&word)),
                Some(TokenTree::Group(group)) => {
                    let mut inner = Reader::new(group.stream());
                    let mut all = Vec::new();
                    while inner.at < inner.tokens.len() {
                        all.extend(inner.imports(&path));
                    }
                    return all;
                }
                Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => {
                    return vec![("*".to_owned(), path)];
                }
                Some(TokenTree::Punct(punct)) if punct.as_char() == ':' => continue,
                _ => return Vec::new(),
            }
            if self.colons() {
                continue;
            }
            path.pop_if(|last| last == "self" && !prefix.is_empty());
            let last = path.last().cloned().unwrap_or_default();
            let is_renamed = self
                .tokens
                .get(self.at)
                .is_some_and(|next| next.to_string() == "as");
            if is_renamed {
                self.at += 1;
            }
            let name = self.word().filter(|_| is_renamed).unwrap_or(last);
            return vec![(name, path)];
        }
    }
}

/// A word without the mark of one that the language has taken (`r#gen`).
fn plain(word: &proc_macro2::Ident) -> String {
    let word = word.to_string();
    word.strip_prefix("r#").map_or(word.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate of these files, by their names.
    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = directory.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let short = |file: PathBuf| {
            let name = file.strip_prefix(directory.path()).unwrap();
            name.display().to_string()
        };
        let graph = uses(&directory.path().join("lib.rs")).unwrap();
        let circles = circles_of(&graph).into_iter();
        circles
            .map(|circle| circle.into_iter().map(short).collect())
            .collect()
    }

    #[test]
    fn the_repository_has_no_circles() {
        check().unwrap();
    }

    #[test]
    fn imports_and_paths_are_uses() {
        let lib = ("lib.rs", "mod a; mod b; mod c; pub use a::A; pub use b::B;");
        let a = (
            "a.rs",
            "use crate::{b::{self as other, B}, C}; pub struct A;",
        );
        let circle = [vec!["a.rs".to_owned(), "b.rs".to_owned()]];
        let c = ("c.rs", "pub fn c() {}");
        for b in [
            "use super::a::A;",
            "use crate::A;",
            "fn f(a: &crate::a::A) {}",
            "fn f() { println!(\"{}\", crate::a::f()) }",
            "mod inner { use super::super::a::A; }",
        ] {
            assert_eq!(circles(&[lib, a, ("b.rs", b), c]), circle, "{b}");
        }
        for b in [
            "struct B; #[cfg(test)] mod tests { use crate::a::A; }",
            "#[cfg(test)]\nuse crate::a::{A, x};\nstruct B;",
            "/// Of [`crate::a::A`].\npub struct B; fn f(a: u8) -> u8 { a }",
            "use crate::c::c;",
        ] {
            assert!(circles(&[lib, a, ("b.rs", b), c]).is_empty(), "{b}");
        }
    }

    #[test]
    fn a_child_that_uses_its_parent_makes_a_circle_if_that_uses_it() {
        let lib = ("lib.rs", "mod a;");
        let child = ("a/b.rs", "use super::A; pub fn f(_: A) {}");
        let used = ("a.rs", "mod b; pub struct A; fn g() { b::f(A) }");
        assert_eq!(circles(&[lib, used, child]).len(), 1);
        let passed_on = ("a.rs", "mod b; pub use b::f; pub struct A;");
        assert!(circles(&[lib, passed_on, child]).is_empty());
        let both = ("a.rs", "mod b; pub use b::f; pub struct A; fn g() { f(A) }");
        assert_eq!(circles(&[lib, both, child]).len(), 1);
    }
}
