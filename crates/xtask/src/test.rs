//! `cargo xtask test`: installs what the tests need, builds everything, runs the tiers one after the other, and ends
//! with one line that sums up.
//!
//! As root, tests run in mount and network namespaces of their own, so that nothing of them can show on the host. A
//! test that cannot run here says so in the file that `UMLMON_TEST_SKIPS` names.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use xtask::guest;

use crate::steps::{self, cargo, heading, repository, target_dir};
use crate::{engines, kernels, programs, setup, web};

/// In the order in which they run: the fastest first.
const TIERS: [&str; 6] = ["unit", "process", "root", "real", DOCKER, "fuzz"];

/// The tier for which Docker of a newer Debian release is fetched.
const DOCKER: &str = "docker";

/// For how long each fuzz target runs.
const FUZZ_SECONDS: &str = "5";

const PACKAGES: [&str; 24] = [
    "user-mode-linux",
    "uml-utilities",
    "mandoc",
    "zsh",
    "fish",
    "util-linux",
    "iproute2",
    "slirp4netns",
    "nftables",
    "dnsmasq-base",
    "dmsetup",
    "gcc",
    "pkg-config",
    "libtirpc-dev",
    "rpcsvc-proto",
    "openssl",
    "autopkgtest",
    "make",
    "chromium",
    "fonts-dejavu-core",
    "containerd",
    "containernetworking-plugins",
    "iptables",
    "python3-grpcio",
];

/// What the command line says.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Whether to repeat the tier `real` with the kernels of newer Debian releases.
    kernels: bool,
    /// The one tier to run; None: all.
    tier: Option<String>,
}

impl Options {
    /// Reads `[--kernels] [--tier TIER]`.
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--kernels" => options.kernels = true,
                "--tier" => {
                    let tier = words.next().filter(|tier| TIERS.contains(tier));
                    let tier =
                        tier.with_context(|| format!("--tier: one of {}", TIERS.join(", ")))?;
                    options.tier = Some((*tier).to_owned());
                }
                other => bail!("test knows no {other:?}: --kernels, --tier TIER"),
            }
        }
        Ok(options)
    }

    /// The tiers to run.
    fn tiers(&self) -> Vec<&str> {
        match &self.tier {
            Some(only) => vec![only],
            None => TIERS.to_vec(),
        }
    }
}

/// Where the packages of engines are unpacked.
fn packages() -> PathBuf {
    target_dir().join("engines")
}

/// How many tests ended how.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Sum {
    passed: u32,
    failed: u32,
    skipped: u32,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    heading("What the tests need");
    if setup::is_root() {
        setup::install(&[PACKAGES.as_slice(), &guest::PACKAGES].concat())?;
        web::install()?;
    } else {
        ensure!(
            !setup::is_ci(),
            "in CI all tests must run, and some need root"
        );
        println!("(not root: the tests that need it are skipped)");
    }
    let newer = if options.kernels {
        kernels::fetch(&target_dir().join("kernels"))?
    } else {
        Vec::new()
    };
    let tiers = options.tiers();
    if setup::is_root() && tiers.contains(&DOCKER) {
        engines::fetch(&packages())?;
    }
    // The end-to-end tests run the programs themselves, which `cargo test` alone does not build.
    steps::run(&mut cargo(&["build", "--workspace"]))?;
    programs::for_tests()?;
    steps::run(&mut cargo(&["test", "--workspace", "--no-run"]))?;

    let skips = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    let mut sum = Sum::default();
    for tier in tiers {
        sum.add(run_tier(tier, skips.path(), None)?);
        if tier == "real" {
            for kernel in &newer {
                sum.add(run_tier(tier, skips.path(), Some(kernel))?);
            }
        }
    }
    let skipped = fs::read_to_string(skips.path()).context("cannot read what was skipped")?;
    // Removes the file, which an exit with a failure would not.
    drop(skips);
    let reasons: Vec<&str> = skipped.lines().collect();
    if !reasons.is_empty() {
        heading(&format!("Skipped:\n{}", reasons.join("\n")));
    }
    // To the test harness, a test that gives up is one that passed.
    let unrun = u32::try_from(reasons.len())?;
    sum.passed = sum.passed.saturating_sub(unrun);
    sum.skipped += unrun;
    println!(
        "\n{} passed, {} failed, {} skipped",
        sum.passed, sum.failed, sum.skipped
    );
    if sum.failed > 0 || (setup::is_ci() && sum.skipped > 0) {
        std::process::exit(1);
    }
    Ok(())
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

fn run_tier(tier: &str, skips: &Path, kernel: Option<&PathBuf>) -> anyhow::Result<Sum> {
    let with = kernel.map_or(String::new(), |kernel| {
        format!(", kernel {}", kernel.display())
    });
    heading(&format!("Tier {tier}{with}"));
    let args = match tier {
        "unit" => ["--workspace", "--exclude", "e2e"]
            .map(str::to_owned)
            .to_vec(),
        "fuzz" => return fuzz(),
        _ => tests_of(tier)?,
    };
    if args.is_empty() {
        println!("(no tests)");
        return Ok(Sum::default());
    }
    let mut test = cargo(&["test", "--offline", "--no-fail-fast"]);
    test.args(args);
    let mut test = if setup::is_root() {
        isolated(&test)
    } else {
        test
    };
    test.env("UMLMON_TEST_SKIPS", skips);
    if packages().exists() {
        test.env("UMLMON_TEST_ENGINES", packages());
    }
    if let Some(kernel) = kernel {
        test.env("UMLMON_TEST_KERNEL", kernel);
    }
    count(&mut test)
}

/// Names the tests of a tier: the first line of each file, or of the `main.rs` of each directory, says `//! Tier NAME`.
fn tests_of(tier: &str) -> anyhow::Result<Vec<String>> {
    let mut args = Vec::new();
    let mut tests: Vec<PathBuf> = fs::read_dir(repository().join("tests/tests"))
        .context("cannot list tests/tests")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    tests.sort();
    for test in tests {
        let file = match test.is_dir() {
            true => test.join("main.rs"),
            false => test.clone(),
        };
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let named = text
            .strip_prefix("//! Tier ")
            .and_then(|rest| rest.split([':', '\n']).next());
        let named = named.filter(|named| TIERS.contains(named));
        let named = named.with_context(|| {
            format!(
                "{}: the first line does not say `//! Tier NAME:`",
                file.display()
            )
        })?;
        if let Some(stem) = test.file_stem().filter(|_| named == tier) {
            args.extend(["--test".into(), stem.to_string_lossy().into_owned()]);
        }
    }
    if !args.is_empty() {
        args.extend(["-p".into(), "e2e".into()]);
    }
    Ok(args)
}

/// The same command in namespaces of its own, with a working loopback interface. SIGHUP acts as usual in it, which
/// tests rely on, also if nohup(1) was used.
fn isolated(command: &Command) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "--propagation", "private", "sh", "-c"]);
    unshare.args([
        "busybox ip link set lo up && exec env --default-signal=HUP \"$@\"",
        "sh",
    ]);
    unshare
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(repository());
    unshare
}

/// Runs `cargo test`, passing on what it prints, and sums up its results.
fn count(command: &mut Command) -> anyhow::Result<Sum> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run the tests")?;
    let stdout = child.stdout.take().context("the tests have no output")?;
    let mut sum = Sum::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what the tests say")?;
        println!("{line}");
        if let Some(result) = result_in(&line) {
            sum.add(result);
        }
    }
    let status = child.wait()?;
    if !status.success() && sum.failed == 0 {
        // Not a test, but the run of a test program failed: it crashed, or was not built.
        println!("cargo test: {status}");
        sum.failed += 1;
    }
    Ok(sum)
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; ...`
fn result_in(line: &str) -> Option<Sum> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| {
        let count = counts
            .split("; ")
            .find_map(|count| count.strip_suffix(what))?;
        count.trim().parse().ok()
    };
    Some(Sum {
        passed: number(" passed")?,
        failed: number(" failed")?,
        skipped: number(" ignored")?,
    })
}

fn fuzz() -> anyhow::Result<Sum> {
    let manifest = repository().join("tests/fuzz/Cargo.toml");
    let mut smoke = cargo(&["run", "--release", "--quiet", "--manifest-path"]);
    count(
        smoke
            .arg(manifest)
            .args(["--bin", "smoke", "--", FUZZ_SECONDS]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_what_cargo_prints() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(
            result_in(line),
            Some(Sum {
                passed: 12,
                failed: 2,
                skipped: 1
            })
        );
        assert_eq!(result_in("test tests::result ... ok"), None);
    }

    #[test]
    fn every_test_file_belongs_to_a_tier() {
        let named: Vec<String> = TIERS
            .iter()
            .flat_map(|tier| tests_of(tier).unwrap())
            .collect();
        assert!(named.iter().any(|name| name == "lifecycle"), "{named:?}");
    }

    #[test]
    fn options() {
        let options = Options::parse(&["--tier", "root", "--kernels"]).unwrap();
        assert!(options.kernels && options.tiers() == ["root"]);
        assert_eq!(Options::parse(&[]).unwrap().tiers(), TIERS);
        assert!(Options::parse(&["--tier", "roof"]).is_err());
        assert!(Options::parse(&["--fast"]).is_err());
    }
}
