//! umlwatch in TLS with the real monitor: whose certificate it takes, and what it says of others.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e::certificate::{Authority, certify, use_tls};
use e2e::other_host::{HERE, HERE_V6};
use e2e::{Directory, Outcome, wait_for};

use crate::{Setup, work};

const VIAS: [&str; 2] = ["direct", "redirector"];

/// Two hosts, of which one requires TLS.
fn setup() -> Option<Setup> {
    let setup = Setup::new("tcp = true\ntcp_redir = true")?;
    use_tls(&setup.world, "require");
    Some(setup)
}

/// Waits until the VM can be reached, without looking at a certificate.
fn wait_reachable(setup: &Setup, target: &str) {
    wait_for("the registration", || {
        let outcome = setup.run("secret", &["-tls", "off", target, "-info"]);
        (!outcome.stderr.contains("no monitor of ")).then_some(())
    });
}

fn known_hosts(setup: &Setup) -> PathBuf {
    let home = setup.world.path().join("home");
    home.join(".local/state/umlwatch/known_hosts")
}

/// Asserts that it succeeded and told of a new host; returns what is remembered of the certificate.
#[track_caller]
fn trusted(setup: &Setup, host: &str, outcome: &Outcome) -> String {
    let told = &outcome.stderr;
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(outcome.stdout.starts_with("vm1 is inactive"), "{outcome:?}");
    let known = fs::read_to_string(known_hosts(setup)).unwrap();
    let line = known.lines().last().unwrap();
    let fingerprint = line.strip_prefix(&format!("{host} ")).unwrap();
    assert_eq!(
        *told,
        format!(
            "umlwatch: first connection to {host}: its certificate {fingerprint} is trusted from now on ({})\n",
            known_hosts(setup).display()
        )
    );
    fingerprint.to_owned()
}

/// A30
#[test]
fn a_certificate_is_trusted_at_first_use_and_another_refused() {
    let Some(setup) = setup() else { return };
    certify(&setup.world, &["umlhost"]);
    let _directory = Directory::start(&setup.world);
    let vm = setup.vm1();
    let target = format!("vm1@{HERE}");
    wait_reachable(&setup, &target);
    let info = |via, host| {
        let target = format!("vm1@{host}");
        setup.run("secret", &["-via", via, &target, "-info"])
    };
    // Who does not prove that he knows the password is not remembered.
    let complaint = setup.run("guess", &[&target, "-info"]).fails(4);
    assert!(complaint.contains("wrong password"), "{complaint}");
    assert!(!known_hosts(&setup).exists());

    let first = trusted(&setup, HERE, &info("direct", HERE));
    for via in VIAS {
        assert!(info(via, HERE).ok().starts_with("vm1 is inactive"));
    }
    // Another name is another host.
    assert_eq!(
        trusted(&setup, HERE_V6, &info("redirector", HERE_V6)),
        first
    );
    vm.start();
    work(&setup, &["-tls", "require"], &target);
    work(&setup, &["-via", "redirector"], &target);
    vm.kill();

    // Whoever went said so.
    let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
    assert!(!log.contains("WARN vm1: connection of "), "{log}");

    certify(&setup.world, &["umlhost"]);
    let known = fs::read_to_string(known_hosts(&setup)).unwrap();
    for via in VIAS {
        let complaint = info(via, HERE).fails(1);
        for said in [
            format!(
                "umlwatch: {target}: cannot show its state: the certificate of {HERE} has changed: it is sha256:"
            ),
            format!(
                ", and was {first}. This may be an attack, or the host has a new certificate: "
            ),
            format!(
                "remove the line '{HERE}' from {}",
                known_hosts(&setup).display()
            ),
        ] {
            assert!(complaint.contains(&said), "{complaint}");
        }
    }
    assert_eq!(fs::read_to_string(known_hosts(&setup)).unwrap(), known);
    // Without its line it is a new host, by the redirector as well.
    let rest = known.lines().skip(1).collect::<Vec<_>>().join("\n");
    fs::write(known_hosts(&setup), rest + "\n").unwrap();
    let renewed = trusted(&setup, HERE, &info("redirector", HERE));
    assert_ne!(renewed, first);
    info("direct", HERE).ok();
}

/// A30
#[test]
fn tls_that_is_missing_is_told_on_both_sides() {
    let Some(setup) = setup() else { return };
    certify(&setup.world, &["umlhost"]);
    let _directory = Directory::start(&setup.world);
    let _vm = setup.vm1();
    let target = format!("vm1@{HERE}");
    wait_reachable(&setup, &target);
    let run = |args: &[&str]| setup.run("secret", &[args, &[&target, "-info"]].concat());
    let complaint = run(&["-tls", "off"]).fails(4);
    assert!(complaint.contains("TLS"), "{complaint}");
    assert_eq!(run(&[]).status, Some(0));
    setup.world.change_global("tls = require", "tls = off");
    for via in VIAS {
        let complaint = run(&["-via", via]).fails(1);
        assert!(
            complaint.contains(&format!("{HERE} does not offer TLS, but did before")),
            "{complaint}"
        );
        run(&["-via", via, "-tls", "off"]).ok();
    }
    let complaint = run(&["-ca", "/dev/null"]).fails(1);
    assert!(
        complaint.contains("so -ca cannot be checked"),
        "{complaint}"
    );
}

/// A30
#[test]
fn a_certification_authority_vouches_for_a_host() {
    let Some(setup) = setup() else { return };
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let files = ["ours.pem", "other.pem"].map(|name| setup.world.path().join(name));
    let [ours_file, other_file] = &files;
    ours.publish(ours_file);
    other.publish(other_file);
    ours.certify(&setup.world, &[HERE]);
    let _directory = Directory::start(&setup.world);
    let vm = setup.vm1();
    let target = format!("vm1@{HERE}");
    wait_reachable(&setup, &target);
    let info = |via: &str, ca: &PathBuf, target: &str| {
        let ca = ca.to_str().unwrap();
        setup.run("secret", &["-via", via, "-ca", ca, target, "-info"])
    };
    for via in VIAS {
        let page = info(via, ours_file, &target).ok();
        assert!(page.starts_with("vm1 is inactive"), "{page}");
        for (ca, target, said) in [
            (other_file, target.as_str(), "UnknownIssuer"),
            (ours_file, &format!("vm1@{HERE_V6}"), "not valid for name"),
        ] {
            let complaint = info(via, ca, target).fails(1);
            assert!(complaint.contains("no TLS connection with "), "{complaint}");
            assert!(complaint.contains(said), "{complaint}");
        }
    }
    vm.start();
    work(&setup, &["-ca", ours_file.to_str().unwrap()], &target);
    // What somebody vouches for need not be remembered.
    assert!(!known_hosts(&setup).exists());
    let complaint = info("direct", &"/none.pem".into(), &target).fails(1);
    assert!(complaint.contains("-ca /none.pem: "), "{complaint}");
}

/// Runs the command of umlmon(5) that makes a certificate, for this host and with the files of the world; without the
/// option for `CA:FALSE`, if that is wanted.
fn certify_as_the_manual_says(setup: &Setup, authority: bool) {
    const MANUAL: &str = include_str!("../../../man/umlmon.5");
    let (_, begin) = MANUAL.split_once("\nopenssl req").unwrap();
    let (command, _) = begin.split_once("\n.Ed").unwrap();
    let world = setup.world.path().display();
    let mut command = format!("openssl req{}", command.replace("\\e", "\\"))
        .replace("/etc/umlmon.key", &format!("{world}/key.pem"))
        .replace("/etc/umlmon.crt", &format!("{world}/cert.pem"))
        .replace("DNS:uml.example.org", &format!("IP:{HERE}"));
    if authority {
        let shorter = command.replace(" \\\n    -addext basicConstraints=critical,CA:FALSE", "");
        assert_ne!(shorter, command);
        command = shorter;
    }
    let made = e2e::run(Command::new("sh").args(["-euc", &command]));
    assert_eq!(made.status, Some(0), "{made:?}");
}

#[test]
fn a_certificate_that_the_host_signs_itself_is_made_as_the_manual_says() {
    let Some(setup) = setup() else { return };
    certify_as_the_manual_says(&setup, true);
    let _directory = Directory::start(&setup.world);
    let _vm = setup.vm1();
    let target = format!("vm1@{HERE}");
    wait_reachable(&setup, &target);
    let certificate = setup.world.path().join("cert.pem");
    let info = || {
        setup.run(
            "secret",
            &["-ca", certificate.to_str().unwrap(), &target, "-info"],
        )
    };
    let complaint = info().fails(1);
    assert!(
        complaint.contains("the host needs one with CA:FALSE"),
        "{complaint}"
    );

    certify_as_the_manual_says(&setup, false);
    let page = info().ok();
    assert!(page.starts_with("vm1 is inactive"), "{page}");
}
