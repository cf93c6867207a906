//! Tier real: umladmin image, and guests that boot what it has built.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in functions beside the tests, too

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use e2e::host::install_below;
use e2e::network::enter;
use e2e::{Outcome, SmallDisk, World, real_kernel, run, wait_for};
use serde_json::Value;

const NOBODY: u32 = 65534;

/// The programs as they are installed, and a configuration.
struct Site {
    world: World,
    umladmin: PathBuf,
}

impl Site {
    fn new() -> Option<Site> {
        let world = World::with_real_kernel()?;
        let umladmin = install_below(&world.path().join("prefix"));
        Some(Site { world, umladmin })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.umladmin);
        command.arg("-config").arg(self.world.configuration());
        command.args(args);
        command
    }

    fn image(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(&[&["image"], args].concat()))
    }

    fn directory(&self) -> PathBuf {
        self.world.path().join("var/shared/images")
    }

    /// What is in the directory of images.
    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.directory()).unwrap().flatten();
        let mut names: Vec<_> = files
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_small_image_is_built_described_listed_and_deleted() {
    let Some(site) = Site::new() else { return };
    let none = site.image(&["list"]).ok();
    assert!(none.contains("image build busybox"), "{none}");
    let path = site.directory().join("busybox");
    let told = site.image(&["build", "busybox"]).ok();
    assert_eq!(told, format!("{}\n", path.display()));
    assert_eq!(site.files(), ["busybox", "busybox.json"]);
    let file = fs::metadata(&path).unwrap();
    assert_eq!((file.uid(), file.mode() & 0o777), (0, 0o644));
    assert!(file.blocks() * 512 < 12 << 20, "{} blocks", file.blocks());
    let listed = run(&mut site.command(&["-json", "image", "list"])).ok();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let manifest = &listed[0]["manifest"];
    assert_eq!(listed[0]["image"], "busybox");
    assert_eq!(manifest["source"], "busybox");
    assert_eq!(manifest["size"], file.len());
    let sum = run(Command::new("sha256sum").arg(&path)).ok();
    assert!(
        sum.starts_with(manifest["sha256"].as_str().unwrap()),
        "{sum}"
    );
    let checked = run(Command::new("/sbin/e2fsck").arg("-fn").arg(&path));
    assert_eq!(checked.status, Some(0), "{checked:#?}");
    // A name that is taken, and ones that are none.
    let why = site.image(&["build", "busybox"]).fails(1);
    assert!(why.contains("delete it first"), "{why}");
    let why = site.image(&["build", "busybox", "../x"]).fails(1);
    assert!(why.contains("is no name of an image"), "{why}");
    let why = site.image(&["delete", "../shared"]).fails(1);
    assert!(why.contains("is no name of an image"), "{why}");
    let why = site.image(&["delete", "nonexistent"]).fails(1);
    assert!(why.contains("there is no image nonexistent"), "{why}");
    site.image(&["delete", "busybox"]).ok();
    assert_eq!(site.files(), [""; 0]);
    let why = site.image(&["lits"]).fails(2);
    assert!(why.contains("did you mean list?"), "{why}");
}

#[test]
fn nothing_is_left_of_an_image_whose_builder_is_killed() {
    let Some(site) = Site::new() else { return };
    // One of which nobody knows how far it was, and one whose builder lives.
    let left = site.directory().join(".new-left");
    fs::create_dir_all(left.join("tree/etc")).unwrap();
    let used = site.directory().join(".new-used");
    fs::create_dir(&used).unwrap();
    let lock = fs::File::open(&used).unwrap();
    lock.lock().unwrap();
    let mut command = site.command(&["image", "build", "busybox"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for("the first step", || (!left.exists()).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    site.image(&["build", "busybox", "other"]).ok();
    let files = site.files();
    assert!(!files.contains(&"busybox".into()) || files.contains(&"busybox.json".into()));
    let new: Vec<_> = files.iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(new, [".new-used"]);
}

#[test]
fn a_small_image_runs_a_command_and_boots_with_its_seed() {
    let Some(site) = Site::new() else { return };
    site.image(&["build", "busybox"]).ok();
    let kernel = real_kernel().display().to_string();
    let script = "cat /etc/hostname; touch /x && exit 7";
    let args = [
        "-kernel", &kernel, "-image", "busybox", "run", "--", "sh", "-c", script,
    ];
    let outcome = run(&mut site.command(&args));
    assert_eq!(
        (outcome.status, &*outcome.stdout),
        (Some(7), "uml\n"),
        "{outcome:#?}"
    );
    // As a machine of its own.
    let hash = "$6$umlguest$RT4ium6cwFOzp60gDLiul1r8oAuLx/vUx54hvPtlCIuTGmOik1a.jmOHhMOfPSMwX1azbkw/nKfUUIJP4I1tZ1";
    let seed = format!(
        "#umlmon-seed 1\ninstance = 1a\nhostname = web\nssh-key = ssh-ed25519 AAAA me\npassword = {hash}\n"
    );
    let mut disk = seed.into_bytes();
    disk.resize(64 << 10, 0);
    let vm = site
        .world
        .vm("vm1")
        .con(1)
        .kernel(real_kernel())
        .disk(15, disk);
    enter();
    let vm = vm.line("ubd0 = /disks/root.dsk").line("eth0 = nat()");
    let vm = vm.monitor();
    let root = vm.file("jail/disks/root.dsk");
    let image = site.directory().join("busybox");
    run(Command::new("cp")
        .arg("--sparse=always")
        .arg(image)
        .arg(&root))
    .ok();
    chown(&root, Some(NOBODY), Some(NOBODY)).unwrap();
    vm.umlwatch(&["-start", "-wait-ready", "60"]).ok();
    let script = "hostname; cat /root/.ssh/authorized_keys; cut -c 1-8 /etc/shadow | head -1";
    let said = vm.umlwatch(&["-exec", "sh", "-c", script]).ok();
    assert_eq!(said, "web\nssh-ed25519 AAAA me\nroot:$6$\n");
    // The interface has its address by DHCP, and the guest asks the server for names.
    let script =
        "until ping -c 1 -W 1 vm1.uml > /dev/null 2>&1; do sleep 0.1; done; cat /etc/resolv.conf";
    let said = vm.umlwatch(&["-exec", "sh", "-c", script]).ok();
    assert_eq!(said, "nameserver 10.86.0.1\n");
    let mut console = vm.connect("con1");
    console.expect("web login:");
    console.send("root\n");
    console.expect("Password:");
    console.send("uml\n");
    console.expect("# ");
    console.leave();
    vm.umlwatch(&["-ctrlaltdel", "-wait", "60"]).ok();
    vm.wait_inactive();
    assert_eq!(vm.last_end().0, "halted");
}

#[test]
fn a_machine_of_the_small_image_is_made_if_no_other_is_wanted() {
    let Some(site) = Site::new() else { return };
    let kernel = real_kernel().display().to_string();
    let create = |args: &[&str], vm: &str| {
        let fixed = ["-kernel", &kernel, "-mem", "64M"];
        run(&mut site.command(&[args, &fixed, &["create", vm]].concat())).ok()
    };
    create(&["-dry-run"], "web");
    assert!(!site.directory().exists());
    let built = format!("{}\n", site.directory().join("busybox").display());
    assert!(create(&[], "web").starts_with(&built));
    assert!(create(&[], "www").starts_with("www: created\n"));
    for vm in ["web", "www"] {
        let args = [vm, "-start", "-wait-ready", "60", "-exec", "hostname"];
        let said = run(&mut site.world.command("umlwatch", &args)).ok();
        assert_eq!(said, format!("{vm}\n"));
        run(&mut site.command(&["-stop", "-yes", "delete", vm])).ok();
    }
}

#[test]
fn images_are_made_of_archives_and_containers() {
    let Some(site) = Site::new() else { return };
    let path = |name: &str| site.world.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command
            .args(["-euc", script])
            .current_dir(site.world.path());
        run(&mut command).ok();
    };
    // Two layers, of which the second one removes a file and changes an owner, as an OCI layout.
    shell(
        "mkdir -p below/bin below/etc above/etc above/tmp oci/blobs/sha256
         cp /bin/busybox below/bin/busybox; ln -s busybox below/bin/sh; ln below/bin/busybox below/bin/cat
         echo old > below/etc/gone; mknod below/null c 1 3; chmod 4755 below/bin/busybox
         : > above/etc/.wh.gone; echo new > above/etc/made; chown 5:6 above/etc/made; chmod 1777 above/tmp
         tar -C below -czf below.tar.gz .; tar -C above -cf above.tar .
         blob() { sum=$(sha256sum < $1 | cut -d ' ' -f 1); cp $1 oci/blobs/sha256/$sum; echo sha256:$sum; }
         printf '{\"layers\":[{\"digest\":\"%s\"},{\"digest\":\"%s\"}]}' $(blob below.tar.gz) $(blob above.tar) > m
         printf '{\"manifests\":[{\"digest\":\"%s\"}]}' $(blob m) > oci/index.json
         echo '{\"imageLayoutVersion\":\"1.0.0\"}' > oci/oci-layout; tar -C oci -cf oci.tar .",
    );
    for (kind, name, file) in [
        ("from-oci", "layered", "oci.tar"),
        ("from-tar", "flat", "below.tar.gz"),
    ] {
        let outcome = site.image(&[kind, name, &text(file)]);
        assert_eq!(outcome.status, Some(0), "{outcome:#?}");
        let is_told = outcome.stderr.contains("device files were left out");
        assert!(is_told, "{outcome:#?}");
    }
    let kernel = real_kernel().display().to_string();
    let script = "echo /etc/*; cat /etc/made; busybox stat -c '%u %g' /etc/made; busybox stat -c %a /bin/busybox /tmp";
    let args = [
        "-kernel", &kernel, "-image", "layered", "run", "--", "sh", "-c", script,
    ];
    let said = run(&mut site.command(&args)).ok();
    assert_eq!(said, "/etc/made\nnew\n5 6\n4755\n1777\n");
    // An export has everything that an import needs, which finds out if it is damaged.
    site.image(&["export", "layered", &text("out")]).ok();
    assert!(
        site.image(&["export", "layered", &text("out")])
            .fails(1)
            .contains("exists")
    );
    site.image(&["import", &text("out"), "again"]).ok();
    let manifest = |name: &str| {
        let manifest = fs::read_to_string(site.directory().join(name)).unwrap();
        serde_json::from_str::<Value>(&manifest).unwrap()
    };
    assert_eq!(manifest("again.json"), manifest("layered.json"));
    shell("printf x | dd of=out bs=1 seek=5000 conv=notrunc status=none");
    let why = site.image(&["import", &text("out")]).fails(1);
    assert!(why.contains("it is damaged"), "{why}");
    let why = site.image(&["import", &text("oci.tar")]).fails(1);
    assert!(why.contains("no file system"), "{why}");
    assert_eq!(
        site.files(),
        [
            "again",
            "again.json",
            "flat",
            "flat.json",
            "layered",
            "layered.json"
        ]
    );
}

#[test]
fn a_hostile_archive_changes_nothing_and_is_told() {
    let Some(site) = Site::new() else { return };
    let directory = site.world.path();
    let secret = directory.join("secret");
    fs::write(&secret, "secret").unwrap();
    // Links that lead to the host, and names through them.
    let mut shell = Command::new("sh");
    shell.current_dir(directory).args([
        "-euc",
        "mkdir -p n/m; ln -s $PWD up; tar -cf hostile.tar up; rm up; mkdir up; echo changed > up/secret
         tar -rf hostile.tar up/secret; cd n/m; tar -P -cf ../../above.tar ../../secret
         cd ../..; head -c 1000000 /dev/urandom > filling; tar -cf filling.tar filling",
    ]);
    run(&mut shell).ok();
    for name in ["hostile.tar", "above.tar", "secret"] {
        let path = directory.join(name).display().to_string();
        let why = site.image(&["from-tar", "x", &path]).fails(1);
        assert!(why.starts_with("umladmin: x: cannot unpack "), "{why}");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret", "{why}");
    }
    // A disk that is full.
    let disk = SmallDisk::over(&site.directory());
    let filling = directory.join("filling.tar").display().to_string();
    let why = site.image(&["from-tar", "x", &filling]).fails(1);
    assert!(why.contains("No space left on device"), "{why}");
    assert_eq!(site.files(), [""; 0]);
    drop(disk);
}
