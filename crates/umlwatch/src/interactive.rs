//! The interactive mode: the commands without their dash, one per line, from a terminal or from a pipe.

use std::io::IsTerminal;
use std::path::PathBuf;

use cli::{Exit, Failure, Given, similar};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use crate::command::{CHANNEL, COMMANDS, Command, LOG, PARAM, PROGRAM, SETTING};
use crate::disk_command::{
    COW_AND_BACKING, COW_AND_NEW, DISK, DISK_AND_NEW, NEW_COW, NEW_SIZED, SIZED,
};
use crate::run::Runner;

/// What is remembered of former lines, in the home directory.
const HISTORY: &str = ".umlwatch_history";

/// The words that only the interactive mode has.
const OWN_WORDS: &[(&str, &str)] = &[
    ("version", "Shows the version of umlwatch"),
    ("help", "Shows this list"),
    ("quit", "Leaves; so do 'exit' and CTRL-D"),
    ("exit", "Leaves"),
];

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Input {
    Nothing,
    Command(Command),
    Help,
    Version,
    Quit,
}

/// Carries out lines until there are none. On a terminal a failure is shown and the next line is read; from a pipe the
/// first failure is the end, as with the commands of an argument list.
pub fn interact(runner: &mut Runner) -> Result<Exit, Failure> {
    if std::io::stdin().is_terminal() {
        on_terminal(runner)
    } else {
        from_pipe(runner)
    }
}

fn from_pipe(runner: &mut Runner) -> Result<Exit, Failure> {
    while let Some(line) = read_line()? {
        if !carry_out(runner, &line)? {
            break;
        }
    }
    Ok(Exit::Done)
}

/// Reads a line byte by byte, so that what follows `connect` is left for the console.
fn read_line() -> Result<Option<String>, Failure> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.extend(byte),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Failure::new(Exit::Failed, e).about("cannot read stdin")),
        }
    }
    let line = String::from_utf8(line);
    line.map(Some)
        .map_err(|_| Failure::usage("a line on stdin is not UTF-8"))
}

fn on_terminal(runner: &mut Runner) -> Result<Exit, Failure> {
    let broken = |e: ReadlineError| Failure::new(Exit::Failed, e).about("cannot read the terminal");
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .build();
    let mut editor: Editor<Words, FileHistory> = Editor::with_config(config).map_err(broken)?;
    editor.set_helper(Some(Words {
        channels: runner.channels(),
        disks: runner.disk_names(),
    }));
    let history = std::env::home_dir().map(|home: PathBuf| home.join(HISTORY));
    if let Some(history) = &history {
        // There is none before the first session.
        let _ = editor.load_history(history);
    }
    let prompt = format!("{}> ", runner.vm());
    loop {
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(Exit::Done),
            Err(e) => return Err(broken(e)),
        };
        // Passwords are not written down.
        if !line.trim().is_empty() && !line.contains("password") {
            let _ = editor.add_history_entry(line.trim());
        }
        if let Some(history) = &history {
            // A history that cannot be saved is no reason not to work.
            let _ = editor.append_history(history);
        }
        let done = carry_out(runner, &line);
        // Much may happen until the next line, the end of the monitor among it.
        runner.disconnect();
        match done {
            Ok(true) => {}
            Ok(false) => return Ok(Exit::Done),
            Err(failure) => eprintln!("{}", cli::printable(failure.message.as_bytes())),
        }
    }
}

/// Does what the line says; false if it says to leave.
fn carry_out(runner: &mut Runner, line: &str) -> Result<bool, Failure> {
    match parse(line)? {
        Input::Nothing => {}
        Input::Command(command) => runner.run(&command)?,
        Input::Help => runner.print(&help())?,
        Input::Version => runner.print(&PROGRAM.version())?,
        Input::Quit => return Ok(false),
    }
    Ok(true)
}

fn parse(line: &str) -> Result<Input, Failure> {
    let line = line.trim().trim_start_matches('-');
    let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let value = value.trim_start();
    match name {
        "" => return Ok(Input::Nothing),
        "help" | "?" => return Ok(Input::Help),
        "version" => return Ok(Input::Version),
        "quit" | "exit" => return Ok(Input::Quit),
        _ => {}
    }
    let Some(word) = COMMANDS.iter().find(|word| word.name == name) else {
        let hint =
            similar(name, names()).map_or(String::new(), |name| format!("; '{name}' is similar"));
        return Err(Failure::usage(format_args!(
            "unknown command '{name}'{hint}"
        )));
    };
    match (word.arg, value.is_empty()) {
        (Some(arg), true) => {
            return Err(Failure::usage(format_args!(
                "an argument is missing: {name} {arg}"
            )));
        }
        (None, false) => return Err(Failure::usage(format_args!("{name} takes no argument"))),
        _ => {}
    }
    let given = Given {
        name: word.name,
        value: value.into(),
    };
    // Every word of COMMANDS is a command.
    Ok(Command::of(&given)?.map_or(Input::Nothing, Input::Command))
}

fn names() -> impl Iterator<Item = &'static str> {
    let own = OWN_WORDS.iter().map(|(name, _)| *name);
    COMMANDS.iter().map(|word| word.name).chain(own)
}

fn help() -> String {
    let commands = COMMANDS.iter().map(|word| {
        let arg = word.arg.unwrap_or_default();
        (format!("{} {arg}", word.name), word.help)
    });
    let own = OWN_WORDS
        .iter()
        .map(|(name, help)| ((*name).to_owned(), *help));
    let line = |(form, help): (String, &str)| format!("{form:<23} {help}\n");
    commands.chain(own).map(line).collect()
}

/// Completes commands, channels, disks and parameters.
struct Words {
    /// The channels that the VM has.
    channels: Vec<String>,
    /// The disks that it could use.
    disks: Vec<String>,
}

impl Words {
    /// Where the word under the cursor begins, and what it may become.
    fn candidates(&self, before: &str) -> (usize, Vec<String>) {
        let start = before
            .rfind(char::is_whitespace)
            .map_or(0, |space| space + 1);
        let typed = before.get(start..).unwrap_or_default();
        let mut words = before.split_whitespace();
        let command = words.next().filter(|_| start > 0);
        let possible: Vec<String> = match command {
            None => names().map(with_room_for_argument).collect(),
            Some(_) if words.next().is_some_and(|word| word != typed) => Vec::new(),
            Some(command) => self.arguments(command, typed),
        };
        let fitting = possible.into_iter().filter(|word| word.starts_with(typed));
        (start, fitting.collect())
    }

    fn arguments(&self, command: &str, typed: &str) -> Vec<String> {
        let word = COMMANDS.iter().find(|word| word.name == command);
        match word.and_then(|word| word.arg) {
            Some(CHANNEL) => self.channels.clone(),
            Some(LOG) => ["monitor".to_owned()]
                .into_iter()
                .chain(self.channels.clone())
                .collect(),
            Some(PARAM) => parameters(""),
            Some(SETTING) => parameters("="),
            Some(DISK) => self.disks.clone(),
            Some(SIZED | DISK_AND_NEW | COW_AND_NEW) => self.pairs(typed, &[]),
            Some(COW_AND_BACKING) => self.pairs(typed, &self.disks),
            Some(NEW_COW) if typed.contains(':') => self.pairs(typed, &self.disks),
            Some(NEW_SIZED | NEW_COW) => vec!["/disks/".into()],
            _ => Vec::new(),
        }
    }

    /// A disk and a colon; after that, one of the `second` ones, or a new one.
    fn pairs(&self, typed: &str, second: &[String]) -> Vec<String> {
        match typed.split_once(':') {
            None => self.disks.iter().map(|disk| format!("{disk}:")).collect(),
            Some((first, _)) => second
                .iter()
                .map(|disk| format!("{first}:{disk}"))
                .collect(),
        }
    }
}

/// A word as completion puts it: if it takes an argument, that comes next.
fn with_room_for_argument(name: &str) -> String {
    let word = COMMANDS.iter().find(|word| word.name == name);
    match word.and_then(|word| word.arg) {
        Some(_) => format!("{name} "),
        None => name.to_owned(),
    }
}

/// The parameters that users may set, with what follows a name; a number is missing to some of them yet.
fn parameters(follows: &str) -> Vec<String> {
    let params = config::params::PARAMS.iter();
    let settable = params.filter(|p| p.section == config::params::Section::Vm && !p.protected);
    let name = |p: &config::params::Param| match p.indexed {
        Some(_) => p.name.to_owned(),
        None => format!("{}{follows}", p.name),
    };
    settable.map(name).collect()
}

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(line.get(..pos).unwrap_or_default()))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_without_dash() {
        assert_eq!(parse("  info ").unwrap(), Input::Command(Command::Info));
        assert_eq!(parse("-info").unwrap(), Input::Command(Command::Info));
        assert_eq!(parse("").unwrap(), Input::Nothing);
        assert_eq!(parse("exit").unwrap(), Input::Quit);
        assert_eq!(
            parse("start-with  init=/bin/sh -x").unwrap(),
            Input::Command(Command::Start(vec![b"init=/bin/sh -x".to_vec()]))
        );
        assert_eq!(
            parse("inof").unwrap_err().message,
            "unknown command 'inof'; 'info' is similar"
        );
        assert_eq!(
            parse("wait").unwrap_err().message,
            "an argument is missing: wait N"
        );
        assert_eq!(
            parse("halt now").unwrap_err().message,
            "halt takes no argument"
        );
    }

    #[test]
    fn help_names_every_command() {
        for name in names() {
            assert!(
                help()
                    .lines()
                    .any(|line| line.split_whitespace().next() == Some(name)),
                "{name}"
            );
        }
    }

    #[test]
    fn completion_knows_what_may_follow() {
        let words = Words {
            channels: vec!["con0".into(), "con1".into()],
            disks: vec!["/disks/a.cow".into(), "/shared/disks/b.dsk".into()],
        };
        assert_eq!(words.candidates("for"), (0, vec!["force-connect ".into()]));
        assert_eq!(
            words.candidates("connect c"),
            (8, vec!["con0".into(), "con1".into()])
        );
        assert_eq!(
            words.candidates("connect "),
            (8, vec!["con0".into(), "con1".into()])
        );
        assert_eq!(words.candidates("tail m"), (5, vec!["monitor".into()]));
        assert_eq!(words.candidates("halt "), (5, vec![]));
        assert_eq!(words.candidates("connect con0 c"), (13, vec![]));
        assert!(
            words
                .candidates("set ker")
                .1
                .contains(&"kernel=".to_owned())
        );
        let completed = |before: &str| words.candidates(before).1;
        assert_eq!(completed("disk-delete /d"), ["/disks/a.cow"]);
        assert_eq!(completed("disk-copy /disks/a"), ["/disks/a.cow:"]);
        assert_eq!(
            completed("disk-import /disks/a.cow:/s"),
            ["/disks/a.cow:/shared/disks/b.dsk"]
        );
        assert_eq!(completed("disk-create-cow /d"), ["/disks/"]);
        assert!(!words.candidates("set vm").1.contains(&"vmuser".to_owned()));
    }
}
