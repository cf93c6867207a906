//! The commands of umlwatch: one table, which is the argument list, the interactive mode, the help and the completion.

use cli::{Arg, Exit, Failure, Given, Kind, Program, Section, Word};
use client::{Client, REMOTE};
use config::ChannelName;
use rpc_xdr::umlmonctrl::*;

use crate::argument::{
    Argument, Letter, Log, Login, Memory, Paths, Ready, Recording, Seconds, Text, Words,
};
use crate::disk_argument::{Attached, Ubd, backed, pair, sized};
use crate::run::Runner;
use crate::style::OPTIONS;

/// The words of umlwatch's command line.
pub const PROGRAM: Program = Program {
    name: "umlwatch",
    about: "Commands the monitor of a virtual machine",
    synopsis: &["[COMMAND | OPTION]... VM[@HOST]"],
    sections: &[
        Section {
            heading: "Commands, carried out in the order given (without one: the interactive mode)",
            words: cli::words!(COMMANDS),
        },
        Section {
            heading: "Options",
            words: cli::words!(OPTIONS),
        },
        Section {
            heading: "For VMs on other hosts (VM@HOST)",
            words: REMOTE,
        },
    ],
    modes: &[],
    operand: Some(Arg::VM),
    notes: "A command that fails is the last one, and sets the exit status: 1 failed or\n\
            refused, 2 usage, 3 not running, 4 not authorised, 5 timeout. That of -exec\n\
            is the status of its command, or 125.",
    manual: include_str!("../../../man/umlwatch.1"),
};

/// A row of the table of commands.
pub struct Command {
    /// The word, its argument, and what it does in one line.
    pub word: Word,
    action: &'static dyn Prepare,
}

/// What a command does with its argument, whose type says how it is read.
struct Action<T>(fn(T) -> Task);

/// An [`Action`] with an argument of whatever type.
trait Prepare {
    fn prepare(&self, given: &Given) -> Result<Task, Failure>;
}

impl<T: Argument> Prepare for Action<T> {
    fn prepare(&self, given: &Given) -> Result<Task, Failure> {
        T::read(given).map(self.0)
    }
}

const fn command<T: Argument>(
    name: &'static str,
    help: &'static str,
    action: &'static Action<T>,
) -> Command {
    let word = Word::new(name, T::ARG, help);
    Command { word, action }
}

/// A command that is work on a disk. The monitor checks the name of the disk.
struct Work {
    arg: Arg,
    /// What the argument asks for.
    task: fn(&Given) -> Result<DiskTask, Failure>,
    /// What could not be done, as in [`Task`].
    cannot: &'static str,
}

impl Prepare for Work {
    fn prepare(&self, given: &Given) -> Result<Task, Failure> {
        let task = (self.task)(given)?;
        Ok(Task::new(self.cannot, move |runner| runner.work(&task)))
    }
}

const fn work(name: &'static str, help: &'static str, work: &'static Work) -> Command {
    let word = Word::new(name, Some(work.arg), help);
    Command { word, action: work }
}

/// Every command; the interactive mode knows the same ones.
pub const COMMANDS: &[Command] = &[
    command(
        "info",
        "Shows state, consoles, disks, networks, configuration",
        &Action(|()| Task::new("show its state", Runner::info)),
    ),
    command(
        "tail",
        "Shows the last N (20) lines of 'monitor' or a channel",
        &Action(|log: Log| {
            let cannot = format!("show the log {}", log.file);
            Task::new(cannot, move |runner| runner.tail(&log.file, log.lines))
        }),
    ),
    command(
        "connect",
        "Connects the terminal with conN or sslN; CTRL-] leaves",
        &Action(|channel| connect(channel, ConMode::Write)),
    ),
    command(
        "force-connect",
        "The same, and takes it over from another user",
        &Action(|channel| connect(channel, ConMode::Force)),
    ),
    command(
        "watch",
        "Shows a channel without writing to it",
        &Action(|channel| connect(channel, ConMode::Watch)),
    ),
    command(
        "screen",
        "Shows what is on the screen of a channel, as text",
        &Action(|channel: ChannelName| {
            let cannot = format!("show the screen of {channel}");
            Task::new(cannot, move |runner| runner.screen(&channel.to_string()))
        }),
    ),
    command(
        "record",
        "Records a channel for asciinema, until CTRL-C",
        &Action(|to: Recording| {
            let channel = to.channel.to_string();
            let cannot = format!("record {channel}");
            Task::new(cannot, move |runner| runner.record(&channel, &to.file))
        }),
    ),
    command(
        "exec",
        "Runs a command in the guest, whose umlguest must run",
        &Action(|Words(words)| Task::new("run a command", move |runner| runner.exec(&words))),
    ),
    command(
        "push",
        "Copies a file or a directory into the guest",
        &Action(|Paths(source, to)| {
            Task::new("copy into the guest", move |runner| {
                runner.push(&source, &to)
            })
        }),
    ),
    command(
        "pull",
        "Copies a file or a directory out of the guest",
        &Action(|Paths(source, to)| {
            Task::new("copy out of the guest", move |runner| {
                runner.pull(&source, &to)
            })
        }),
    ),
    command(
        "ssh",
        "Becomes ssh, if a port is forwarded to the guest's",
        &Action(|Login(words)| Task::new("log in", move |runner| runner.ssh(&words))),
    ),
    command(
        "start",
        "Starts the kernel",
        &Action(|()| Task::new("start", |runner| runner.start(&[]))),
    ),
    command(
        "start-with",
        "Starts the kernel with one more argument",
        &Action(|Text(extra)| Task::new("start", move |runner| runner.start(&[extra]))),
    ),
    command(
        "suspend",
        "Suspends the kernel",
        &Action(|()| call("suspend", Client::suspend)),
    ),
    command(
        "continue",
        "Resumes the suspended kernel",
        &Action(|()| call("continue", Client::resume)),
    ),
    command(
        "halt",
        "Halts the kernel at once; the guest does not shut down",
        &Action(|()| call("halt", Client::halt)),
    ),
    command(
        "ctrlaltdel",
        "Sends CTRL-ALT-DEL: the proper shutdown of the guest",
        &Action(|()| call("send CTRL-ALT-DEL", |client| client.ctrl_alt_del(false))),
    ),
    command(
        "kill",
        "Ends the kernel's processes by force",
        &Action(|()| call("kill", Client::kill)),
    ),
    command(
        "sysrq",
        "Sends a system request; its output appears on con0",
        &Action(|Letter(letter)| {
            let cannot = format!("send the system request {letter}");
            call(cannot, move |client| client.sysrq(letter))
        }),
    ),
    command(
        "mem",
        "Takes memory from the running guest, or gives it back",
        &Action(|Memory(megabytes)| {
            call("change the memory", move |client| {
                client.resize_memory(megabytes)
            })
        }),
    ),
    command(
        "reclaim",
        "Gives memory that the guest does not use to the host",
        &Action(|()| Task::new("reclaim memory", Runner::reclaim)),
    ),
    command(
        "rotate",
        "Reopens all log files",
        &Action(|()| {
            call("reopen the log files", |client| {
                client.call(|monitor| Ok(monitor.log_rotate()?.into_result()))
            })
        }),
    ),
    command(
        "wait",
        "Waits until the kernel has ended, at most N seconds",
        &Action(|Seconds(seconds)| Task::new("wait", move |runner| runner.wait(seconds))),
    ),
    command(
        "wait-ready",
        "Waits until the guest is ready, at most N seconds",
        &Action(|ready: Ready| {
            Task::new("wait for the guest", move |runner| {
                runner.wait_ready(ready.seconds, &ready.sign)
            })
        }),
    ),
    command(
        "events",
        "Shows what happens to the VM, until CTRL-C",
        &Action(|()| Task::new("show its events", Runner::events)),
    ),
    command(
        "port",
        "Shows the TCP port of the monitor",
        &Action(|()| Task::new("show the port", Runner::port)),
    ),
    command(
        "set",
        "Sets a parameter for the next start",
        &Action(|args: ConfigSetArgs| call("set a parameter", move |client| client.set(args))),
    ),
    command(
        "del",
        "Resets a parameter to the administrator's value",
        &Action(|args: ConfigDelArgs| {
            call(format!("reset {}", args.param), move |client| {
                client.call(|monitor| Ok(monitor.config_del(&args)?.into_result()))
            })
        }),
    ),
    command(
        "disk-list",
        "Shows the disks: type, size, backing file, users",
        &Action(|()| Task::new("list the disks", Runner::list_disks)),
    ),
    work(
        "disk-create",
        "Makes a flat image of this size, in megabytes or as 2G",
        &Work {
            arg: Arg::new(
                "NAME:SIZE[:sparse]",
                Kind::Pair(&Kind::NewDisk, &Kind::Value),
            ),
            task: |given| Ok(DiskTask::Create(sized(given)?)),
            cannot: "create a disk",
        },
    ),
    work(
        "disk-create-cow",
        "Makes a copy-on-write image on a backing file",
        &Work {
            arg: Arg::new("NAME:BACKING", Kind::Pair(&Kind::NewDisk, &Kind::Disk)),
            task: |given| Ok(DiskTask::CreateCow(backed(given)?)),
            cannot: "create a disk",
        },
    ),
    work(
        "disk-delete",
        "Deletes a disk",
        &Work {
            arg: Arg::new("DISK", Kind::Disk),
            task: |given| Ok(DiskTask::Delete(given.text()?.into())),
            cannot: "delete a disk",
        },
    ),
    work(
        "disk-copy",
        "Copies a disk to one of the same type",
        &Work {
            arg: Arg::new("DISK:NAME", Kind::Pair(&Kind::Disk, &Kind::NewDisk)),
            task: |given| Ok(DiskTask::Copy(pair(given)?)),
            cannot: "copy a disk",
        },
    ),
    work(
        "disk-resize",
        "Makes a flat image longer or shorter",
        &Work {
            arg: Arg::new("DISK:SIZE[:sparse]", Kind::Pair(&Kind::Disk, &Kind::Value)),
            task: |given| Ok(DiskTask::Resize(sized(given)?)),
            cannot: "resize a disk",
        },
    ),
    work(
        "disk-import",
        "Sets the backing file of an imported image",
        &Work {
            arg: Arg::new("COW:BACKING", Kind::Pair(&Kind::Disk, &Kind::Disk)),
            task: |given| Ok(DiskTask::Import(backed(given)?)),
            cannot: "import a disk",
        },
    ),
    work(
        "disk-commit",
        "Makes a flat image of a copy-on-write image",
        &Work {
            arg: Arg::new("COW:NAME", Kind::Pair(&Kind::Disk, &Kind::NewDisk)),
            task: |given| Ok(DiskTask::Commit(pair(given)?)),
            cannot: "commit a disk",
        },
    ),
    command(
        "disk-attach",
        "Attaches a disk to the running kernel",
        &Action(|Attached(args)| {
            call("attach a disk", move |client| {
                client.call(|monitor| Ok(monitor.disk_attach(&args)?.into_result()))
            })
        }),
    ),
    command(
        "disk-detach",
        "Detaches a disk that the guest does not use",
        &Action(|Ubd(number)| {
            let args = DiskDetachArgs { number };
            call(format!("detach ubd{number}"), move |client| {
                client.call(|monitor| Ok(monitor.disk_detach(&args)?.into_result()))
            })
        }),
    ),
    command(
        "change-password",
        "Asks for the old and new password, and changes it",
        &Action(|()| Task::new("change the password", Runner::change_password)),
    ),
    command(
        "site",
        "Runs the site command with one argument",
        &Action(|Text(arg)| Task::new("run the site command", move |runner| runner.site(&arg))),
    ),
];

impl Command {
    /// The command of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| command.word.name == name)
    }
}

type Act = dyn FnOnce(&mut Runner) -> Result<(), Failure>;

/// A command with its argument, ready to be carried out.
pub struct Task {
    /// What could not be done, for a sentence that begins with "cannot".
    cannot: String,
    act: Box<Act>,
}

impl Task {
    fn new(
        cannot: impl Into<String>,
        act: impl FnOnce(&mut Runner) -> Result<(), Failure> + 'static,
    ) -> Task {
        Task {
            cannot: cannot.into(),
            act: Box::new(act),
        }
    }

    /// The task of a given word; None if the word is an option.
    ///
    /// # Errors
    /// A usage failure.
    pub fn of(given: &Given) -> Result<Option<Task>, Failure> {
        let command = Command::find(given.name);
        command
            .map(|command| command.action.prepare(given))
            .transpose()
    }

    /// Carries it out.
    ///
    /// # Errors
    /// The failure says what could not be done, with which VM.
    pub fn run(self, runner: &mut Runner) -> Result<(), Failure> {
        (self.act)(runner).map_err(|failure| match failure.exit {
            // A command in the guest has said itself what it has to say.
            Exit::Command(_) if failure.message.is_empty() => failure,
            _ => failure.about(format_args!("{}: cannot {}", runner.name(), self.cannot)),
        })
    }
}

/// A task that is one call and shows nothing.
fn call(
    cannot: impl Into<String>,
    call: impl FnOnce(&mut Client) -> Result<(), Failure> + 'static,
) -> Task {
    Task::new(cannot, |runner| call(runner.client_mut()))
}

fn connect(channel: ChannelName, mode: ConMode) -> Task {
    let cannot = match mode {
        ConMode::Watch => format!("watch {channel}"),
        ConMode::Write | ConMode::Force => format!("connect to {channel}"),
    };
    Task::new(cannot, move |runner| {
        runner.connect(&channel.to_string(), mode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cli::Request;

    fn given(args: &[&str]) -> Result<Vec<Given>, Failure> {
        let Request::Run(line) = PROGRAM.parse(args.iter().map(Into::into))? else {
            panic!("not a run")
        };
        Ok(line.words)
    }

    fn tasks(args: &[&str]) -> Result<Vec<Task>, Failure> {
        let given = given(args)?;
        given
            .iter()
            .filter_map(|w| Task::of(w).transpose())
            .collect()
    }

    #[test]
    fn every_word_of_the_table_is_a_command() {
        for command in COMMANDS {
            let value = match command.word.name {
                "tail" => "con0,5",
                "connect" | "force-connect" | "watch" | "screen" => "con1",
                "record" => "con1:/tmp/x",
                "wait" | "wait-ready" | "mem" => "9",
                "sysrq" => "h",
                "disk-attach" => "ubd1:/disks/a.dsk",
                "disk-detach" => "ubd1",
                "set" => "mem=32",
                _ => match command.word.arg.map(|arg| arg.kind) {
                    Some(Kind::Paths) => "a b",
                    Some(Kind::Pair(_, Kind::Value)) => "/disks/a.dsk:1",
                    Some(Kind::Pair(..)) => "/disks/a.dsk:/disks/b.dsk",
                    _ => "x",
                },
            };
            let given = Given {
                name: command.word.name,
                value: value.into(),
            };
            assert!(Task::of(&given).unwrap().is_some(), "{}", given.name);
        }
        let options = OPTIONS.iter().map(|option| &option.word);
        for word in options.chain(REMOTE) {
            let given = Given {
                name: word.name,
                value: "".into(),
            };
            assert!(Task::of(&given).unwrap().is_none());
        }
    }

    #[test]
    fn commands_come_in_their_order() {
        let args = [
            "-start-with",
            "-s",
            "vm1",
            "-tail",
            "con0,5",
            "-json",
            "-set",
            "con0=pty:a=b",
            "-wait=5",
        ];
        let tasks = tasks(&args).unwrap();
        let order: Vec<&str> = tasks.iter().map(|task| &*task.cannot).collect();
        let expected = ["start", "show the log con0", "set a parameter", "wait"];
        assert_eq!(order, expected);
        let given = given(&args).unwrap();
        let [extra, log, _, setting, wait] = given.as_slice() else {
            panic!("{given:?}")
        };
        assert_eq!(Text::read(extra), Ok(Text(b"-s".to_vec())));
        let expected = Log {
            file: "con0".into(),
            lines: 5,
        };
        assert_eq!(Log::read(log), Ok(expected));
        let expected = ConfigSetArgs {
            param: "con0".into(),
            value: b"pty:a=b".to_vec(),
        };
        assert_eq!(ConfigSetArgs::read(setting), Ok(expected));
        assert_eq!(Seconds::read(wait), Ok(Seconds(5)));
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_done() {
        for args in [
            &["-tail", "../../etc/shadow,100"][..],
            &["-tail", "con0,many"],
            &["-connect", "tty1"],
            &["-record", "con1"],
            &["-wait-ready", "9,con1"],
            &["-sysrq", "help"],
            &["-disk-detach", "1"],
            &["-sysrq", ""],
            &["-wait", "-1"],
            &["-set", "mem"],
            &["-set", "=3"],
        ] {
            let refused = tasks(args).map(|_| ()).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{args:?}");
        }
    }
}
