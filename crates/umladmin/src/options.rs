//! The command line of umladmin: the modes and the options, as its help shows them (umladmin).

use cli::{Arg, Kind, Program, Section, Word};

use crate::modes::MODES;

/// The command line of umladmin.
pub const PROGRAM: Program = Program {
    name: "umladmin",
    about: "The administrators' client of UMLMON",
    synopsis: &[
        "[OPTION]... list|start|stop|update|upgrade [VM]...",
        "[OPTION]... events|top|metrics [VM]...",
        "[OPTION]... boot|restart|ctrlaltdel|kill VM...",
        "[-json] list VM@HOST...",
        "[OPTION]... run -- COMMAND [ARGUMENT]...",
        "[OPTION]... create|delete VM",
        "[-json] image list",
        "image build busybox|debian[:RELEASE] [NAME]",
        "image from-tar|from-oci|export NAME FILE",
        "image import FILE [NAME]",
        "image delete NAME...",
        "[-json] network list",
        "network delete NAME",
        "[OPTION]... clone|rename VM NAME",
        "[-dry-run] edit",
        "[-delete] snapshot VM [LABEL]",
        "snapshots VM",
        "[-yes] rollback VM [LABEL]",
        "[OPTION]... config VM",
        "certificate web|tls [NAME]...",
        "[OPTION]... check [FILE]",
        "[OPTION]... kernelcheck FILE",
        "[-verifier] password",
    ],
    sections: &[
        Section {
            heading: "For list",
            words: &[
                Word::new("active", None, "Only VMs with a running kernel"),
                Word::new(
                    "inactive",
                    None,
                    "Only VMs with a monitor but no running kernel",
                ),
                Word::new("off", None, "Only VMs without a monitor"),
                Word::new(
                    "columns",
                    Some(Arg::new("NAME,...", Kind::Value)),
                    "Shows these columns",
                ),
                Word::new("csv", None, "Prints comma-separated values"),
            ],
        },
        Section {
            heading: "For top",
            words: &[
                Word::new(
                    "interval",
                    Some(Arg::new("N", Kind::Value)),
                    "Looks every N seconds; else 2",
                ),
                Word::new(
                    "count",
                    Some(Arg::new("N", Kind::Value)),
                    "Ends after N tables",
                ),
            ],
        },
        Section {
            heading: "For list, events, image, network, top, check and kernelcheck",
            words: &[Word::new("json", None, "Prints JSON")],
        },
        Section {
            heading: "For stop, update, restart, run and delete",
            words: &[Word::new(
                "timeout",
                Some(Arg::new("N", Kind::Value)),
                "Gives a guest N seconds to shut down (300), or a command to end",
            )],
        },
        Section {
            heading: "For run and create",
            words: &[
                Word::new(
                    "image",
                    Some(Arg::FILE),
                    "Boots this image, which is not changed, instead of busybox",
                ),
                Word::new(
                    "kernel",
                    Some(Arg::FILE),
                    "Uses this kernel instead of the newest of ours, or Debian's",
                ),
                Word::new(
                    "mem",
                    Some(Arg::new("SIZE", Kind::Value)),
                    "Gives the VM this memory, such as 512 or 2G (512M)",
                ),
                Word::new(
                    "cpus",
                    Some(Arg::new("N", Kind::Value)),
                    "Gives the VM N processors (1)",
                ),
                Word::new(
                    "net",
                    Some(Arg::new("NETWORK", Kind::Text)),
                    "Gives it a network, as eth0 in umlmon(5): user, or for create nat",
                ),
            ],
        },
        Section {
            heading: "For run",
            words: &[
                Word::new(
                    "share",
                    Some(Arg::new("DIR[:PATH][:ro]", Kind::Text)),
                    "Shows the guest a directory of the host, at PATH",
                ),
                Word::new(
                    "env",
                    Some(Arg::new("NAME=VALUE", Kind::Text)),
                    "Sets a variable for the command",
                ),
                Word::new("keep", None, "Leaves disk and logs of the VM"),
            ],
        },
        Section {
            heading: "For metrics",
            words: &[Word::new(
                "o",
                Some(Arg::FILE),
                "Replaces FILE, instead of writing to stdout",
            )],
        },
        Section {
            heading: "For create and clone",
            words: &[Word::new(
                "user",
                Some(Arg::new("USER", Kind::Value)),
                "Runs the VM as this user (auto: one of its own)",
            )],
        },
        Section {
            heading: "For create",
            words: &[
                Word::new(
                    "disk",
                    Some(Arg::new("SIZE", Kind::Value)),
                    "Gives it a disk of its own, of this size, instead of a copy on write",
                ),
                Word::new(
                    "ssh-key",
                    Some(Arg::FILE),
                    "Lets the owner of this public key log in as root",
                ),
                Word::new("password", None, "Asks for the password of root"),
                Word::new("start", None, "Starts the VM, too"),
            ],
        },
        Section {
            heading: "For delete",
            words: &[Word::new(
                "stop",
                None,
                "Shuts the VM down first, if it runs",
            )],
        },
        Section {
            heading: "For delete and rollback",
            words: &[Word::new("yes", None, "Does not ask")],
        },
        Section {
            heading: "For snapshot",
            words: &[Word::new("delete", None, "Deletes this snapshot")],
        },
        Section {
            heading: "For create, clone, rename, delete and edit",
            words: &[Word::new(
                "dry-run",
                None,
                "Only shows what would be different",
            )],
        },
        Section {
            heading: "For password",
            words: &[Word::new(
                "verifier",
                None,
                "Prints a verifier, with which nobody can log in",
            )],
        },
        Section {
            heading: "For config, to change what is printed",
            words: &[
                Word::new("clear", Some(Arg::PARAM), "Leaves this parameter out"),
                Word::new("set", Some(Arg::SETTING), "Sets this parameter"),
                Word::new("rename", Some(Arg::VM), "Prints it under this name"),
            ],
        },
    ],
    modes: cli::words!(MODES),
    operand: None,
    notes: "A VM can be a pattern, such as 'web*', or a group, as @GROUP. Without names of\n\
            VMs, all configured VMs are used; boot, restart, ctrlaltdel and kill need names.",
    manual: include_str!("../../../man/umladmin.8"),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modes::run;
    use cli::{Exit, Request};

    fn usage(args: &[&str]) -> String {
        let Ok(Request::Run(line)) = PROGRAM.parse(args.iter().map(Into::into)) else {
            panic!("{args:?}")
        };
        let failure = run(line).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{args:?}: {failure}");
        failure.message
    }

    #[test]
    fn mistakes_change_nothing() {
        assert!(usage(&[]).contains("list, start, stop"));
        assert_eq!(
            usage(&["strat"]),
            "unknown mode 'strat'; did you mean start?"
        );
        assert_eq!(
            usage(&["-active", "stop"]),
            "-active cannot be used with stop"
        );
        assert_eq!(
            usage(&["-set", "mem=1", "list"]),
            "-set cannot be used with list"
        );
        assert_eq!(
            usage(&["-timeout", "-1", "stop"]),
            "-timeout \"-1\": not a number of seconds"
        );
        assert!(usage(&["password", "secret"]).contains("never from the command line"));
    }

    #[test]
    fn the_help_names_every_mode() {
        for mode in MODES {
            let line = format!("\n  {:11}  {}\n", mode.word.name, mode.word.help);
            assert!(PROGRAM.help().contains(&line), "{line}");
        }
    }

    #[test]
    fn the_headings_name_the_modes_of_their_options() {
        for section in PROGRAM.sections {
            let heading: Vec<&str> = section.heading.split([' ', ',']).collect();
            for word in section.words {
                // To these some have no meaning.
                let ignoring = ["start", "upgrade"];
                let modes = MODES.iter();
                for mode in modes.filter(|mode| !ignoring.contains(&mode.word.name)) {
                    assert_eq!(
                        heading.contains(&mode.word.name),
                        mode.options.contains(&word.name),
                        "-{} and {}",
                        word.name,
                        mode.word.name
                    );
                }
            }
        }
    }

    #[test]
    fn every_option_of_a_mode_is_a_word() {
        for name in MODES.iter().flat_map(|mode| mode.options) {
            assert!(PROGRAM.words().any(|word| word.name == *name), "-{name}");
        }
    }
}
