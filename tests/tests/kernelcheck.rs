//! Tier real: umladmin kernelcheck.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::path::Path;

use e2e::{World, real_kernel, run};

/// The verdicts on a kernel, by what was tried.
fn verdicts(world: &World, kernel: &Path, status: i32) -> serde_json::Value {
    let kernel = kernel.display().to_string();
    let mut command = world.command("umladmin", &["-json", "kernelcheck", &kernel]);
    let outcome = run(command.env("TMPDIR", world.path()));
    assert_eq!(outcome.status, Some(status), "{outcome:#?}");
    let made = std::fs::read_dir(world.path()).unwrap().flatten();
    let left = made.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let left: Vec<_> = left.filter(|name| name.contains("kernelcheck")).collect();
    assert_eq!(left, [""; 0]);
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn everything_that_a_vm_needs_works_with_a_real_kernel() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let found = verdicts(&world, &real_kernel(), 0);
    let results = found["results"].as_array().unwrap();
    for result in results {
        // What newer kernels survive, older ones need not.
        let is_free = result["what"] == "sysrq t";
        assert!(is_free || result["verdict"] == "works", "{result}");
    }
    for what in [
        "con1",
        "window size",
        "cow",
        "notify",
        "suspend, continue",
        "least memory",
    ] {
        assert!(
            results.iter().any(|result| result["what"] == what),
            "{what}"
        );
    }
}

#[test]
fn what_is_no_kernel_is_told() {
    let Some(world) = World::new() else { return };
    let file = world.path().join("text");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let found = verdicts(&world, &file, 1);
    assert_eq!(found["results"][0]["what"], "libraries");
    assert_eq!(found["results"][0]["verdict"], "fails");
    // A program that is none boots nothing.
    let found = verdicts(&world, Path::new("/bin/true"), 1);
    let results = found["results"].as_array().unwrap();
    let last = results.last().unwrap();
    assert_eq!(
        (&last["what"], &last["verdict"]),
        (&"networks".into(), &"fails".into())
    );
}
