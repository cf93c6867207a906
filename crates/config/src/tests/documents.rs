//! Tests that the sample file and umlmon(5) agree with the table of parameters.

use super::*;
use crate::SectionKind;
use crate::kernelarg::RESERVED;
use crate::params::{self, PARAMS, Param};

const SAMPLE: &str = include_str!("../../../../etc/umlmon");
const MANUAL: &str = include_str!("../../../../man/umlmon.5");

#[test]
fn the_sample_file_has_every_parameter() {
    let sample = config(SAMPLE);
    assert_eq!(
        sample.vm_names().map(VmName::as_str).collect::<Vec<_>>(),
        ["vm1"]
    );
    vm_of(SAMPLE);

    // Lines like "#mem_limit = 256" are settings to uncomment; all of them together must make sense, too.
    let uncommented: String = SAMPLE
        .lines()
        .map(|line| {
            let setting = line
                .strip_prefix('#')
                .filter(|rest| !rest.starts_with([' ', '#']) && !rest.is_empty());
            format!("{}\n", setting.unwrap_or(line))
        })
        .collect();
    vm_of(&uncommented);

    let mut section = SectionKind::Global;
    let mut seen = Vec::new();
    for line in uncommented.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') {
            section = if line == "[GLOBAL]" {
                SectionKind::Global
            } else {
                SectionKind::Vm
            };
        }
        let found = line
            .split_once('=')
            .and_then(|(key, _)| params::find(section, key.trim()));
        seen.extend(found.map(|(param, _)| (section, param.name)));
    }
    for p in PARAMS {
        assert!(
            seen.contains(&(p.section, p.name)),
            "{} is not in the sample file",
            p.name
        );
    }
}

#[test]
fn the_sample_file_says_what_is_protected() {
    let (_, vm) = SAMPLE.split_once("\n[vm1]\n").unwrap();
    for paragraph in vm.split("\n\n") {
        let remark = |line: &&str| line.starts_with("# ");
        let said = paragraph.lines().filter(remark).collect::<String>();
        let settings = paragraph.lines().filter(|line| !remark(line));
        let keys = settings.filter_map(|line| line.trim_start_matches('#').split_once(" ="));
        let mut params = keys.filter_map(|(key, _)| params::find(SectionKind::Vm, key));
        let protected = params.any(|(param, _)| param.protected);
        assert_eq!(said.contains("rotected"), protected, "{paragraph}");
    }
}

/// The description of a parameter in the manual.
fn entry(p: &Param) -> String {
    let (global, vm) = MANUAL.split_once(".Sh VM SECTIONS\n").unwrap();
    let text = match p.section {
        SectionKind::Global => global,
        SectionKind::Vm => vm,
    };
    let number = if p.indexed.is_some() { " Ns Ar n" } else { "" };
    let head = format!(".It Ic {}{number} = ", p.name);
    let (_, entry) = text
        .split_once(&head)
        .unwrap_or_else(|| panic!("no {head:?} in umlmon(5)"));
    entry.split("\n.It Ic ").next().unwrap().to_owned()
}

#[test]
fn the_manual_has_every_parameter() {
    for p in PARAMS {
        let entry = entry(p);
        let marked = |mark| entry.contains(mark);
        assert_eq!(marked("(Addition.)"), p.addition, "{}", p.name);
        assert_eq!(marked("(Protected.)"), p.protected, "{}", p.name);
        assert_eq!(marked("(Required.)"), p.required, "{}", p.name);
        if let Some(default) = p.default {
            let default = default
                .replace("VARDIR", "vardir")
                .replace("VMNAME", "vmname");
            let markup = [" Ns ", "Ar ", "Pa ", "Cm "];
            let plain = markup
                .iter()
                .fold(entry.clone(), |text, word| text.replace(word, ""));
            assert!(
                plain.contains(&default),
                "{}: no {default} in {plain}",
                p.name
            );
        }
        if let Some(max) = p.indexed {
            assert!(marked(&format!("0 to {max}")), "{}: the numbers", p.name);
        }
    }
}

#[test]
fn the_manual_has_every_reserved_argument() {
    let (_, changes) = MANUAL.split_once(".Sh USER CHANGES\n").unwrap();
    let words: Vec<String> = changes
        .lines()
        .filter_map(|line| line.strip_prefix(".Li "))
        .map(|rest| rest.split(' ').next().unwrap().replace('-', "_"))
        .collect();
    for (start, _) in RESERVED {
        assert!(
            words.iter().any(|word| word == start),
            "{start} is not in umlmon(5)"
        );
    }
}
