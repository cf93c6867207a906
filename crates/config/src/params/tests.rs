//! Tests of the table of parameters.

use super::*;

#[test]
fn other_spellings_are_not_found() {
    assert_eq!(
        find(SectionKind::Vm, "con15").map(|(p, n)| (p.name, n)),
        Some(("con", 15))
    );
    for name in [
        "VMUSER", "con", "con16", "con00", "eth00", "eth 0", "eth+0", "mem1", "", "GLOBAL", "tcp",
    ] {
        assert!(find(SectionKind::Vm, name).is_none(), "{name}");
    }
    let hint = |section, name| match find_or_hint(section, name) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("{name}"),
    };
    let vm = "in the section of a VM";
    assert_eq!(
        hint(SectionKind::Vm, "VMUSER"),
        format!("there is no parameter \"VMUSER\" {vm}; did you mean \"vmuser\"?")
    );
    assert_eq!(
        hint(SectionKind::Vm, "eth00"),
        format!("there is no parameter \"eth00\" {vm}; there is eth0 to eth15")
    );
    let other =
        "there is no parameter \"tcp\" in the section of a VM; it belongs in the section [GLOBAL]";
    assert_eq!(hint(SectionKind::Vm, "tcp"), other);
    assert!(hint(SectionKind::Global, "mem").ends_with("it belongs in the section of a VM"));
}

#[test]
fn the_table_is_consistent() {
    for (i, p) in PARAMS.iter().enumerate() {
        let twin = PARAMS
            .iter()
            .skip(i + 1)
            .find(|q| q.section == p.section && q.name == p.name);
        assert!(twin.is_none(), "{} is twice in the table", p.name);
        assert!(!p.value.is_empty() && !p.doc.is_empty(), "{}", p.name);
        assert!(!(p.required && p.default.is_some()), "{}", p.name);
    }
}
