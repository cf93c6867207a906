//! Templates that no VM uses (umladmin check).

use super::subject::{Finding, Subject};

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let unused = subject.config.unused_templates();
    unused
        .filter(|(name, _)| name.as_str() != monitors::pods::TEMPLATE)
        .map(|(name, place)| {
            let what = format!("no VM uses the template {name}");
            Finding::note(
                place,
                what,
                format!("write use = {name} into the section of a VM"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;

    #[test]
    fn unused_templates_are_told() {
        let text = "[template a]\nuse = b\n[template b]\nmem = 64\n[template c]\n[vm1]\nvmuser = nobody\nuse = a\n";
        let directory = tempfile::tempdir().unwrap();
        let expected =
            "umlmon:8: note: no VM uses the template c; write use = c into the section of a VM\n";
        assert_eq!(findings(check, text, directory.path()), [expected]);
    }
}
