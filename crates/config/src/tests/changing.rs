//! Tests that a change of the main configuration file changes nothing else in it.

use proptest::prelude::*;

use super::*;

const SAMPLE: &str = include_str!("../../../../etc/umlmon");

/// Comments of all kinds, and a wrapped value.
const TEXT: &str = "# The host.
[GLOBAL]
#vardir = /srv
pool = mac_pool(first_mac_address=0A:12:BC:AF:32:00,
    # Not more.
    number=16)

# The web server.
# Ask Bob.
[ web ]
vmuser = 1001
  mem=64
# Two consoles.
con0 = pty:con0
con1 = pty
#mem_limit = 256

# --- Jobs ---

[job]
vmuser = 1002
mem = 32
kernelarg = quiet
kernelarg = ro
# Of job, or of last?
[last]
vmuser = 1003
mem = 32";

fn document(text: &str) -> Document {
    Document::new(text, Path::new("umlmon"))
}

fn changed(text: &str, change: impl Fn(&mut Document) -> Result<()>) -> String {
    let mut document = document(text);
    change(&mut document).unwrap();
    document.check().unwrap();
    document.text()
}

/// The lines that only one of two texts has, with `-` and `+`.
fn difference(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let ends = old[start..].iter().rev().zip(new[start..].iter().rev());
    let end = ends.take_while(|(a, b)| a == b).count();
    let gone = old[start..old.len() - end].iter().map(|l| format!("-{l}"));
    let come = new[start..new.len() - end].iter().map(|l| format!("+{l}"));
    gone.chain(come).collect()
}

#[test]
fn a_value_takes_the_place_of_the_old_one() {
    let set = |section: &str, param: &str, value: &str| {
        difference(TEXT, &changed(TEXT, |d| d.set(section, param, value)))
    };
    assert_eq!(set("web", "mem", "128"), ["-  mem=64", "+  mem=128"]);
    assert_eq!(set("last", "mem", "64"), ["-mem = 32", "+mem = 64"]);
    let pool = "mac_pool(first_mac_address=0A:12:BC:AF:32:00,number=8)";
    let pool = set("GLOBAL", "pool", pool);
    assert_eq!(pool.len(), 4, "{pool:?}");
    // Below the line where it is commented out, or after the last one.
    assert_eq!(set("web", "mem_limit", "512"), ["+mem_limit = 512"]);
    let text = changed(TEXT, |d| d.set("web", "mem_limit", "512"));
    assert!(text.contains("#mem_limit = 256\nmem_limit = 512\n\n# ---"));
    let text = changed(TEXT, |d| d.set("web", "con2", "pty"));
    assert!(text.contains("con1 = pty\ncon2 = pty\n#mem_limit"));
    // One more of several.
    let text = changed(TEXT, |d| d.set("job", "kernelarg", "debug"));
    assert!(text.contains("ro\nkernelarg = debug\n# Of job"));
    assert_eq!(document(TEXT).values("job", "kernelarg"), ["quiet", "ro"]);
}

#[test]
fn a_parameter_is_cleared_with_all_its_lines() {
    let clear =
        |section: &str, param: &str| difference(TEXT, &changed(TEXT, |d| d.clear(section, param)));
    assert_eq!(clear("GLOBAL", "pool").len(), 3);
    assert_eq!(
        clear("job", "kernelarg"),
        ["-kernelarg = quiet", "-kernelarg = ro"]
    );
    assert!(clear("job", "con0").is_empty());
}

#[test]
fn a_section_goes_with_its_comments() {
    let removed = |section: &str| difference(TEXT, &changed(TEXT, |d| d.remove(section)));
    let web = removed("web");
    assert_eq!(web.first().unwrap(), "-# The web server.");
    assert_eq!(web.last().unwrap(), "-");
    assert_eq!(web.get(web.len() - 2).unwrap(), "-#mem_limit = 256");
    let kept = changed(TEXT, |d| d.remove("job"));
    assert!(
        kept.ends_with("# --- Jobs ---\n\n# Of job, or of last?\n[last]\nvmuser = 1003\nmem = 32")
    );
    let kept = changed(TEXT, |d| d.remove("last"));
    assert!(kept.ends_with("kernelarg = ro\n# Of job, or of last?\n"));
    let kept = changed(SAMPLE, |d| d.remove("vm1"));
    assert!(
        kept.ends_with("#[template web]\n#kernelarg = panic=1\n"),
        "{kept}"
    );
}

#[test]
fn a_section_that_is_commented_out_stays() {
    let text = "[a]\nvmuser = 1\nmem = 32\n\n#[old]\n#mem = 64\n\n[b]\nvmuser = 2\nmem = 32\n";
    let kept = changed(text, |d| d.remove("a"));
    assert_eq!(kept, "#[old]\n#mem = 64\n\n[b]\nvmuser = 2\nmem = 32\n");
}

#[test]
fn a_section_is_added_renamed_and_copied() {
    let values = [("vmuser", "1004"), ("mem", "48")];
    let added = changed(TEXT, |d| d.add("new", &values));
    assert_eq!(added, format!("{TEXT}\n\n[new]\nvmuser = 1004\nmem = 48\n"));
    assert_eq!(changed(&added, |d| d.remove("new")), format!("{TEXT}\n"));
    assert_eq!(
        changed("", |d| d.add("a", &values)),
        "[a]\nvmuser = 1004\nmem = 48\n"
    );
    let renamed = changed(TEXT, |d| d.rename("web", "www"));
    assert_eq!(difference(TEXT, &renamed), ["-[ web ]", "+[ www ]"]);
    let copied = changed(TEXT, |d| d.copy("web", "www"));
    let (_, copy) = copied.split_once("\n[www]\n").unwrap();
    assert!(copy.starts_with("vmuser = 1001\n  mem=64\n# Two consoles.\n"));
    let mut document = document(TEXT);
    for change in [
        document.add("web", &[]),
        document.rename("web", "job"),
        document.copy("web", "last"),
        document.remove("wbe"),
    ] {
        assert!(
            change
                .unwrap_err()
                .to_string()
                .starts_with("umlmon: there is ")
        );
    }
    assert_eq!(document.text(), TEXT);
}

#[test]
fn ends_of_lines_and_the_mark_stay() {
    let text = "\u{feff}[a]\r\nvmuser = 1\r\nmem = 32\r\n";
    let changed = changed(text, |d| {
        d.set("a", "mem", "64")
            .and_then(|()| d.set("a", "con0", "pty"))
    });
    assert_eq!(
        changed,
        "\u{feff}[a]\r\nvmuser = 1\r\nmem = 64\r\ncon0 = pty\r\n"
    );
}

#[test]
fn what_is_wrong_afterwards_is_refused() {
    let check = |text: &str, change: &dyn Fn(&mut Document) -> Result<()>| {
        let mut document = document(text);
        change(&mut document).and_then(|()| document.check().map(|_| ()))
    };
    let refused = |change| check(TEXT, change).unwrap_err().to_string();
    assert!(refused(&|d| d.set("web", "mem", "much")).starts_with("umlmon:12: mem: "));
    assert!(refused(&|d| d.set("web", "mme", "64")).contains("did you mean"));
    assert!(refused(&|d| d.clear("web", "mem")).contains("mem is missing"));
    assert!(refused(&|d| d.add("a b", &[("mem", "64")])).contains("a VM name"));
    assert!(refused(&|d| d.set("web", "mem", "64\n[x]")).contains("one line"));
    // The fault of another one is no obstacle, one's own is.
    let faulty = format!("[broken]\nmem = much\n\n[bad name]\n\n{TEXT}");
    assert!(check(&faulty, &|d| d.set("web", "mem", "128")).is_ok());
    assert!(check(&faulty, &|d| d.set("broken", "con0", "pty")).is_ok());
    assert!(check(&faulty, &|d| d.clear("web", "mem")).is_err());
    assert!(check("mem = 1\n", &|d| d.add("a", &[])).is_err());
}

proptest! {
    #[test]
    fn others_are_never_changed(
        text in "(\\[[ab]\\]\n|#\\[b\\]\n|[#; ]{0,2}(mem|con0|eth0|kernelarg) ?= ?[1(),]{1,5}\r?\n|# c\n| \n){0,16}",
        value in "[1-9][0-9]{0,3}",
    ) {
        let mut document = document(&text);
        prop_assert_eq!(document.text(), text.clone());
        let of_b = |text: &str| match ini::parse(text, Path::new("umlmon")) {
            Ok(sections) => {
                let entries = |s: &ini::Section| s.entries.iter().map(|e| (e.key.clone(), e.value.clone())).collect();
                let b = sections.iter().filter(|s| s.name == "b").map(entries);
                Some(b.collect::<Vec<Vec<(String, String)>>>())
            }
            Err(_) => None,
        };
        let before = of_b(&text);
        if document.has("a") && before.is_some() {
            document.set("a", "mem", &value).unwrap();
            prop_assert_eq!(&before, &of_b(&document.text()));
            let values = document.values("a", "mem");
            prop_assert_eq!(values.last().copied(), Some(value.as_str()));
            document.clear("a", "eth0").unwrap();
            prop_assert_eq!(&before, &of_b(&document.text()));
            document.remove("a").unwrap();
            prop_assert_eq!(&before, &of_b(&document.text()));
            prop_assert!(!document.has("a"));
        }
    }
}
