//! What runs the guest: the host itself, QEMU, and User Mode Linux under the monitor, by kernel and settings
//! (cargo xtask bench guest).

/// One of those that are compared.
pub(super) struct Machine {
    pub(super) name: &'static str,
    /// For people.
    pub(super) title: &'static str,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A process of the host, in the guest's tree of files.
    Native,
    Qemu {
        cpus: u32,
    },
    /// User Mode Linux, with these lines in its configuration.
    Uml(Kernel, &'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// Of Debian 12.
    Installed,
    /// One that `cargo xtask kernels` fetches.
    Newer(&'static str),
    Ours,
    OursSmp,
}

const SECCOMP: &str = "userspace = seccomp\n";
const UNBOUND: &str = "affinity = none\n";
const SECCOMP_UNBOUND: &str = "userspace = seccomp\naffinity = none\n";
const TWO_CPUS: &str = "userspace = seccomp\ncpus = 2\n";

/// The host itself.
pub(super) const NATIVE: &str = "native";
/// The peer of most ratios.
pub(super) const QEMU: &str = "qemu";
/// What the boot of the kernel is compared with.
pub(super) const DEBIAN: &str = "debian-6.1";
/// What people have had until now.
pub(super) const DEBIAN_UNBOUND: &str = "debian-6.1-unbound";
/// The fastest of Debian's.
pub(super) const DEBIAN_NEWEST: &str = "debian-7.2-seccomp";
/// What the limits are for.
pub(super) const OURS: &str = "ours-seccomp";

pub(super) const MACHINES: [Machine; 16] = [
    machine(NATIVE, "none: the host itself, in a chroot", Kind::Native),
    machine(QEMU, "QEMU without KVM", Kind::Qemu { cpus: 1 }),
    machine("qemu-2", "QEMU without KVM, 2 CPUs", Kind::Qemu { cpus: 2 }),
    uml(
        DEBIAN_UNBOUND,
        "Debian 6.1, affinity = none",
        Kernel::Installed,
        UNBOUND,
    ),
    uml(DEBIAN, "Debian 6.1", Kernel::Installed, ""),
    uml(
        "debian-6.12-unbound",
        "Debian 6.12, affinity = none",
        Kernel::Newer("6.12"),
        UNBOUND,
    ),
    uml("debian-6.12", "Debian 6.12", Kernel::Newer("6.12"), ""),
    uml(
        "debian-7.2-unbound",
        "Debian 7.2, affinity = none",
        Kernel::Newer("7.2"),
        UNBOUND,
    ),
    uml("debian-7.2", "Debian 7.2", Kernel::Newer("7.2"), ""),
    uml(
        "debian-7.2-seccomp-unbound",
        "Debian 7.2, seccomp, affinity = none",
        Kernel::Newer("7.2"),
        SECCOMP_UNBOUND,
    ),
    uml(
        DEBIAN_NEWEST,
        "Debian 7.2, seccomp",
        Kernel::Newer("7.2"),
        SECCOMP,
    ),
    uml(
        "ours-unbound",
        "ours, affinity = none",
        Kernel::Ours,
        UNBOUND,
    ),
    uml("ours", "ours", Kernel::Ours, ""),
    uml(
        "ours-seccomp-unbound",
        "ours, seccomp, affinity = none",
        Kernel::Ours,
        SECCOMP_UNBOUND,
    ),
    uml(OURS, "ours, seccomp", Kernel::Ours, SECCOMP),
    uml(
        "ours-smp",
        "ours with SMP, seccomp, 2 CPUs",
        Kernel::OursSmp,
        TWO_CPUS,
    ),
];

const fn machine(name: &'static str, title: &'static str, kind: Kind) -> Machine {
    Machine { name, title, kind }
}

const fn uml(
    name: &'static str,
    title: &'static str,
    kernel: Kernel,
    lines: &'static str,
) -> Machine {
    machine(name, title, Kind::Uml(kernel, lines))
}
