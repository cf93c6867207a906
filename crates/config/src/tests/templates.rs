//! Tests of templates: what a VM has from them, and what is wrong with them.

use super::*;

const WEB: &str = "[web1]
use = web
vmuser = anna
mem = 2G
con1 = pty
kernelarg = own
[template web]
use = base
mem = 64
kernelarg = web
con0 = pty:con0
[template  base]
vmuser = nobody
mem_limit = 4G
kernelarg = base
";

fn told(text: &str) -> String {
    let vm = Config::parse(text, Path::new("umlmon"))
        .and_then(|config| config.vm_with(&name("web1"), &UserChanges::default()));
    vm.expect_err(text).to_string()
}

#[test]
fn a_vm_has_what_its_templates_set() {
    let vm = vm_of(WEB);
    assert_eq!(
        (vm.vmuser.as_str(), vm.mem, vm.mem_limit),
        ("anna", 2048, Some(4096))
    );
    assert_eq!(vm.kernelargs, ["base", "web", "own"]);
    assert_eq!(vm.con.keys().collect::<Vec<_>>(), [&0, &1]);
    let origin = |param: &str| {
        let mut settings = vm.settings().into_iter();
        settings.find(|s| s.param == param).unwrap().origin
    };
    assert_eq!(origin("mem"), Origin::Main);
    assert_eq!(origin("con0"), Origin::Template);
    // What is printed needs no template.
    let printed = vm.to_ini();
    assert!(printed.contains("# use = web"), "{printed}");
    let again = vm_of(&printed);
    assert_eq!((again.kernelargs, again.con), (vm.kernelargs, vm.con));
    let unused = config(WEB);
    assert_eq!(unused.unused_templates().count(), 0);
    assert_eq!(unused.vm_names().count(), 1);
}

#[test]
fn a_template_is_read_by_itself() {
    let config = config(WEB);
    let all = config.template("web").unwrap().unwrap();
    let names: Vec<&str> = all.iter().map(|setting| setting.param.as_str()).collect();
    let expected = [
        "vmuser",
        "mem_limit",
        "kernelarg",
        "mem",
        "kernelarg",
        "con0",
    ];
    assert_eq!(names, expected);
    assert_eq!(config.template("none").unwrap(), None);
}

#[test]
fn users_change_what_a_template_sets() {
    let config = config(&WEB.replace("mem = 2G\n", ""));
    let mut changes = UserChanges::default();
    changes.set(&config, &name("web1"), "mem", "1G").unwrap();
    let vm = config.vm_with(&name("web1"), &changes).unwrap();
    assert_eq!(vm.mem, 1024);
    let refused = changes.set(&config, &name("web1"), "use", "base");
    assert!(refused.unwrap_err().to_string().contains("protected"));
    let edits = [Edit::Set("use".into(), "base".into())];
    let refused = config.vm_edited(&name("web1"), &changes, &edits);
    assert!(refused.unwrap_err().to_string().starts_with("use: "));
}

#[test]
fn faults_are_told_with_their_place() {
    assert_eq!(
        told(&WEB.replace("use = web\n", "use = wep\n")),
        "umlmon:2: use: there is no section [template wep]; did you mean \"web\"?"
    );
    assert_eq!(
        told(&WEB.replace("vmuser = nobody", "use = web")),
        "umlmon:8: use: the template base uses itself"
    );
    assert_eq!(
        told(&WEB.replace("  base", " web")),
        "umlmon:12: there is already a section [template web]"
    );
    assert!(told(&WEB.replace("  base", " b b")).contains("is not the name of a template"));
    assert!(told(&WEB.replace("mem_limit = 4G", "mem_limit = 1G")).contains("is more than"));
    let directory = "[template web]\nuse = base\nlogdir = /l";
    let twice = WEB.replace("[template web]\nuse = base", directory) + "[web2]\nuse = web\n";
    assert!(told(&twice).contains("the logdir of web2 is already a directory of web1"));
}

#[test]
fn a_fault_in_a_template_is_one_of_the_vms_that_use_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("umlmon");
    let other = "[vm1]\nvmuser = bert\nmem = 64\n";
    let text = WEB.replace("mem_limit = 4G", "mem_limit = lots") + other;
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path).unwrap();
    assert!(config.vm(&name("vm1")).is_ok() && !config.is_faultless());
    let fault = config.vm(&name("web1")).unwrap_err().to_string();
    assert!(fault.contains(":14: mem_limit: \"lots\""), "{fault}");
    let look = |vm: &str| Config::load_only(&path, &name(vm))?.vm(&name(vm));
    assert!(look("vm1").is_ok());
    assert_eq!(look("web1").unwrap_err().to_string(), fault);
    let (faults, rest) = lint(&path).unwrap();
    assert_eq!(faults.len(), 1, "{faults:?}");
    let web = rest
        .vm_with(&name("web1"), &UserChanges::default())
        .unwrap();
    assert_eq!((web.mem, web.mem_limit), (2048, None));
}
