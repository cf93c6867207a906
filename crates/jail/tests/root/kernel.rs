//! What a kernel needs: each fault has its own message, and what is found on the host appears in the jail.

use std::fs::{self, File};
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use crate::world::{UID, World, chmod};
use jail::{Error, Inspection, Jail, Kernel, Needs, Origin, Program, Source};

const LIB: &str = "/lib/x86_64-linux-gnu";

struct Kernels {
    /// Goes first, as it holds a mount in the world.
    jail: Jail,
    world: World,
}

impl Kernels {
    fn new() -> Option<Self> {
        let world = World::new()?;
        let jail = world.prepare().unwrap();
        Some(Self { world, jail })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.places.shared.join("kernels").join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
        chmod(&self.path(name), 0o755);
    }

    /// Looks at it as root, with the directories of the host where they are.
    fn examine(&self, name: &str) -> Result<Kernel, Error> {
        let path = Path::new("/shared/kernels").join(name);
        let (jail, host) = (&self.jail, File::open("/").unwrap());
        let program = Program::in_jail(jail.root(), &path, jail.account())?;
        let found = Inspection::make(&program, &host, &Needs::read)?;
        Kernel::new(jail.root(), &path, &found)
    }

    fn refused(&self, name: &str) -> String {
        self.examine(name).unwrap_err().to_string()
    }
}

/// A minimal program file: its headers, a loader, and a dynamic section that asks for libraries.
fn program(loader: Option<&str>, libraries: &[&str]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 3 * 56;
    let mut strings = vec![0];
    let mut dynamic = Vec::new();
    for library in libraries {
        dynamic.push((1, strings.len() as u64));
        strings.extend(library.bytes().chain([0]));
    }
    let loader: Vec<u8> = loader
        .into_iter()
        .flat_map(|path| path.bytes().chain([0]))
        .collect();
    let loader_at = HEADERS + strings.len() as u64;
    let dynamic_at = loader_at + loader.len() as u64;
    dynamic.extend([(5, HEADERS), (10, strings.len() as u64), (0, 0)]);
    let end = dynamic_at + dynamic.len() as u64 * 16;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2_u16, 62].iter().flat_map(|v| v.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    file.extend([0_u64, 64, 0].iter().flat_map(|v| v.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    file.extend(
        [64_u16, 56, 3, 64, 0, 0]
            .iter()
            .flat_map(|v| v.to_le_bytes()),
    );
    let interp = if loader.is_empty() { 0 } else { 3 };
    for (kind, at, to) in [
        (1_u32, 0, end),
        (interp, loader_at, dynamic_at),
        (2, dynamic_at, end),
    ] {
        file.extend([kind, 5].iter().flat_map(|v| v.to_le_bytes()));
        file.extend(
            [at, at, at, to - at, to - at, 1]
                .iter()
                .flat_map(|v| v.to_le_bytes()),
        );
    }
    file.extend(strings.iter().chain(&loader));
    file.extend(
        dynamic
            .iter()
            .flat_map(|&(tag, value): &(u64, u64)| [tag, value])
            .flat_map(u64::to_le_bytes),
    );
    file
}

#[test]
fn what_is_not_a_file_is_named() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    assert!(
        kernels
            .refused("none")
            .contains("/shared/kernels/none does not exist in the jail")
    );
    fs::create_dir(kernels.path("dir")).unwrap();
    assert!(
        kernels
            .refused("dir")
            .contains("is a directory, not a file")
    );
    nix::unistd::mkfifo(&kernels.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(
        kernels
            .refused("fifo")
            .contains("is a named pipe, not a file")
    );
    symlink("/usr/bin/linux.uml", kernels.path("outside")).unwrap();
    assert!(matches!(
        kernels.examine("outside"),
        Err(Error::NoKernel(_))
    ));
    symlink("loop", kernels.path("loop")).unwrap();
    assert!(matches!(kernels.examine("loop"), Err(Error::Read { .. })));
}

#[test]
fn what_is_no_kernel_is_told_from_another_machines() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    kernels.put("script", b"#!/bin/sh\nexec true\n");
    assert!(
        kernels
            .refused("script")
            .contains("is not a usable ELF program")
    );
    kernels.put("empty", b"");
    assert!(matches!(
        kernels.examine("empty"),
        Err(Error::NotElf { .. })
    ));
    let mut arm = program(None, &[]);
    arm[18] = 183;
    kernels.put("arm", &arm);
    let text = kernels.refused("arm");
    assert!(
        text.contains("AARCH64") && text.contains("x86-64"),
        "{text}"
    );
    let mut narrow = program(None, &[]);
    narrow[4] = 1;
    kernels.put("narrow", &narrow);
    assert!(kernels.refused("narrow").contains("32 bit"));
}

#[test]
fn what_is_missing_is_named() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    kernels.put("alien", &program(Some("/lib64/ld-alien.so.9"), &[]));
    let text = kernels.refused("alien");
    assert!(
        text.contains("/lib64/ld-alien.so.9") && text.contains("/shared/kernels/alien.lib"),
        "{text}"
    );
    for loader in [
        "/lib64/../etc/passwd",
        "/shared/locks/x",
        "/lib",
        "lib/x",
        "/library/x",
    ] {
        kernels.put("evil", &program(Some(loader), &[]));
        let said = kernels.refused("evil");
        assert!(said.contains("in /lib or /lib64"), "{loader}: {said}");
    }
    let loader = "/lib64/ld-linux-x86-64.so.2";
    kernels.put(
        "needy",
        &program(Some(loader), &["libc.so.6", "libnowhere.so.3"]),
    );
    assert!(
        kernels
            .refused("needy")
            .contains("needs the library libnowhere.so.3")
    );
    kernels.put("path", &program(Some(loader), &["../../etc/passwd"]));
    assert!(matches!(kernels.examine("path"), Err(Error::NotElf { .. })));
    // A refusal makes nothing in the jail.
    assert!(!kernels.world.inside("lib64").exists() && !kernels.world.inside("lib").exists());
}

#[test]
fn the_user_must_be_able_to_execute_it() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    kernels.put("linux", &program(None, &[]));
    kernels.examine("linux").unwrap();
    chmod(&kernels.path("linux"), 0o744);
    assert!(
        kernels
            .refused("linux")
            .contains("linux is not executable for user vmtest (mode 0744)")
    );
    chmod(&kernels.path("linux"), 0o757);
    let notes = kernels.examine("linux").unwrap().notes;
    assert!(
        notes.len() == 1 && notes[0].contains("chmod go-w"),
        "{notes:?}"
    );
    chmod(&kernels.path(""), 0o700);
    let text = kernels.refused("linux");
    assert!(text.contains("/shared/kernels is not executable"), "{text}");
}

#[test]
fn a_static_kernel_needs_nothing() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    kernels.put("linux", &program(None, &[]));
    let kernel = kernels.examine("linux").unwrap();
    assert!(kernel.binds.is_empty() && kernel.notes.is_empty());
}

#[test]
fn a_kernel_that_others_can_change_is_warned_of() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    kernels.put("linux", &program(None, &[]));
    let path = kernels.path("linux");
    let notes = || kernels.examine("linux").unwrap().notes;
    for (owner, group, mode, doubts) in [
        (0, 0, 0o755, 0),
        (0, UID, 0o775, 1),
        (0, 0, 0o757, 1),
        (UID, 0, 0o755, 1),
    ] {
        chown(&path, Some(owner), Some(group)).unwrap();
        chmod(&path, mode);
        assert_eq!(notes().len(), doubts, "{owner} {mode:o}: {:?}", notes());
    }
    // Whoever can write the directory can replace the kernel.
    chown(&path, Some(0), Some(0)).unwrap();
    chown(path.parent().unwrap(), Some(UID), None).unwrap();
    let [note] = &notes()[..] else { panic!() };
    assert!(
        note.contains("/shared/kernels belongs to user ID"),
        "{note}"
    );
}

#[test]
fn a_dynamic_kernel_gets_loader_and_libraries_of_the_host() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    kernels.put("linux", &fs::read("/proc/self/exe").unwrap());
    let kernel = kernels.examine("linux").unwrap();
    let targets: Vec<_> = kernel
        .binds
        .iter()
        .map(|bind| bind.target.to_str().unwrap())
        .collect();
    assert_eq!(targets[0], "/lib64/ld-linux-x86-64.so.2");
    assert!(
        targets.contains(&&*format!("{LIB}/libc.so.6")),
        "{targets:?}"
    );
    assert!(
        targets.contains(&&*format!("{LIB}/libgcc_s.so.1")),
        "{targets:?}"
    );
    for bind in &kernel.binds {
        let Source::Host(source) = &bind.source else {
            panic!("{bind:?}")
        };
        assert_eq!(source.file_name(), bind.target.file_name());
    }
    // Of what is to be in the jail, nothing is made but the directories that are covered.
    assert!(!kernels.world.inside("lib64").exists());
    kernels
        .jail
        .confinement(&kernel, jail::Terms::default())
        .unwrap();
    for name in ["lib", "lib64"] {
        let mut entries = fs::read_dir(kernels.world.inside(name)).unwrap();
        assert!(entries.next().is_none(), "{name}");
    }
}

#[test]
fn libgcc_is_provided_though_nobody_asks_for_it() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    kernels.put(
        "linux",
        &program(Some("/lib64/ld-linux-x86-64.so.2"), &["libc.so.6"]),
    );
    let kernel = kernels.examine("linux").unwrap();
    assert!(
        kernel
            .binds
            .iter()
            .any(|bind| bind.target.ends_with("libgcc_s.so.1"))
    );
}

#[test]
fn a_kernel_of_root_can_bring_its_own_libraries() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    let needs = program(Some("/lib64/ld-seven.so"), &["libown.so.1"]);
    kernels.put("linux-7", &needs);
    kernels.put("linux-7.lib/ld-seven.so", &program(None, &[]));
    kernels.put("linux-7.lib/libown.so.1", &program(None, &[]));
    // The library directory is found by the real name of the kernel.
    symlink("linux-7", kernels.path("linux")).unwrap();
    let kernel = kernels.examine("linux").unwrap();
    let found = |target: &str| {
        kernel
            .binds
            .iter()
            .find(|bind| bind.target == Path::new(target))
            .map(|b| &b.source)
    };
    let own = |name| Source::Jail(Path::new("/shared/kernels/linux-7.lib").join(name));
    assert_eq!(found("/lib64/ld-seven.so"), Some(&own("ld-seven.so")));
    assert_eq!(
        found(&format!("{LIB}/libown.so.1")),
        Some(&own("libown.so.1"))
    );
    // Only root may change any of it.
    let library = kernels.path("linux-7.lib/libown.so.1");
    for changed in [library.clone(), kernels.path("linux-7.lib")] {
        chown(&changed, Some(UID), None).unwrap();
        let said = kernels.refused("linux");
        assert!(said.contains("belongs to user ID"), "{said}");
        chown(&changed, Some(0), None).unwrap();
    }
    chown(kernels.path("linux-7"), Some(UID), None).unwrap();
    let said = kernels.refused("linux");
    assert!(
        said.contains("library directories of this host; install it, or use"),
        "{said}"
    );
}

#[test]
fn libraries_are_searched_nowhere_but_in_directories_of_root() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    let loader = "/lib64/ld-linux-x86-64.so.2";
    // One in the jail itself, which a user may have put there.
    let in_jail = kernels.world.inside("usr/lib");
    fs::create_dir_all(&in_jail).unwrap();
    fs::write(in_jail.join("libjail.so.1"), program(None, &[])).unwrap();
    // One that a user of the jail says is beside a kernel of his.
    let disks = kernels.world.inside("disks");
    fs::create_dir(disks.join("k.lib")).unwrap();
    fs::write(disks.join("k.lib/libjail.so.1"), program(None, &[])).unwrap();
    fs::write(disks.join("k"), program(Some(loader), &["libjail.so.1"])).unwrap();
    for path in [disks.join("k"), disks.join("k.lib")] {
        chmod(&path, 0o755);
        chown(&path, Some(UID), None).unwrap();
    }
    let host = File::open("/").unwrap();
    let look = |path: &str| {
        let (root, account) = (kernels.jail.root(), kernels.jail.account());
        let program = Program::in_jail(root, Path::new(path), account)?;
        Inspection::make(&program, &host, &Needs::read)
    };
    let said = look("/disks/k").unwrap_err().to_string();
    assert!(said.contains("needs the library libjail.so.1"), "{said}");
    fs::write(disks.join("k"), program(Some(loader), &["libc.so.6"])).unwrap();
    assert!(look("/disks/k").is_ok(), "it may use the host's");
}

/// The process that looks is not trusted.
#[test]
fn nothing_but_a_library_can_be_asked_for() {
    let honest = Inspection {
        real: "/shared/kernels/linux".into(),
        loader: Some("/lib64/ld.so".into()),
        libraries: vec![("ld.so".into(), Origin::Host("/lib64".into()))],
    };
    let path = Path::new("/shared/kernels/linux");
    let root = File::open("/").unwrap();
    Kernel::new(&root, path, &honest).unwrap();
    let library = |name: &str, directory: &str| Inspection {
        libraries: vec![(name.into(), Origin::Host(directory.into()))],
        ..honest.clone()
    };
    for lie in [
        library("../shadow", "/lib64"),
        library("..", "/lib64"),
        library("", "/lib64"),
        library("shadow", "/etc"),
        library("x", "/lib64/../etc"),
        Inspection {
            loader: Some("/shared/locks/x".into()),
            ..honest.clone()
        },
        Inspection {
            libraries: vec![honest.libraries[0].clone(); 100],
            ..honest.clone()
        },
    ] {
        let said = Kernel::new(&root, path, &lie);
        assert!(matches!(said, Err(Error::Nonsense { .. })), "{lie:?}");
    }
}

#[test]
fn a_kernel_on_a_noexec_file_system_is_refused() {
    let Some(kernels) = Kernels::new() else {
        return;
    };
    let (none, noexec) = (None::<&str>, nix::mount::MsFlags::MS_NOEXEC);
    let at = kernels.world.inside("shared/kernels");
    nix::mount::mount(Some("tmpfs"), &at, Some("tmpfs"), noexec, none).unwrap();
    fs::write(at.join("linux"), program(None, &[])).unwrap();
    chmod(&at.join("linux"), 0o755);
    assert!(kernels.refused("linux").contains("mounted noexec"));
}
