//! The interactive mode: the commands without their dash, one per line, from a terminal or from a pipe.

use std::io::IsTerminal;
use std::path::PathBuf;

use cli::{Arg, Exit, Failure, Given, Kind, similar};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use crate::command::{COMMANDS, Command, PROGRAM, Task};
use crate::run::Runner;
use crate::style::{OPTIONS, Style, Taken};

/// The file with the history of lines, in the home directory.
const HISTORY: &str = ".umlwatch_history";

/// The words that only the interactive mode has.
const OWN_WORDS: &[(&str, &str)] = &[
    ("version", "Shows the version of umlwatch"),
    ("help", "Shows this list; 'help COMMAND' explains one"),
    ("quit", "Ends umlwatch; so do 'exit' and CTRL-D"),
    ("exit", "Leaves"),
];

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Input {
    Nothing,
    Command(Given, Style),
    Help,
    HelpAbout(String),
    Version,
    Quit,
}

/// Executes lines until there are none. On a terminal a failure is shown and the next line is read; from a pipe the
/// first failure is the end, as with the commands of an argument list.
pub fn interact(runner: &mut Runner) -> Result<Exit, Failure> {
    runner.begin()?;
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
    let prompt = format!("{}> ", runner.name());
    loop {
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(Exit::Done),
            Err(e) => return Err(broken(e)),
        };
        // Passwords are not stored.
        if !line.trim().is_empty() && !line.contains("password") {
            let _ = editor.add_history_entry(line.trim());
        }
        if let Some(history) = &history {
            // If the history cannot be saved, the session continues.
            let _ = editor.append_history(history);
        }
        let done = carry_out(runner, &line);
        // Much time may pass before the next line, and the monitor may end.
        runner.disconnect();
        match done {
            Ok(true) => {}
            Ok(false) => return Ok(Exit::Done),
            Err(failure) => eprintln!("{}", cli::printable(failure.message.as_bytes())),
        }
    }
}

/// Executes the line; false if it ends the session.
fn carry_out(runner: &mut Runner, line: &str) -> Result<bool, Failure> {
    match parse(line, runner.style())? {
        Input::Nothing => {}
        Input::Command(given, style) => {
            if let Some(task) = Task::of(&given)? {
                runner.styled(style, |runner| task.run(runner))?;
            }
        }
        Input::Help => runner.print(&help())?,
        Input::HelpAbout(word) => runner.print(&PROGRAM.help_about(&word)?)?,
        Input::Version => runner.print(&PROGRAM.version())?,
        Input::Quit => return Ok(false),
    }
    Ok(true)
}

/// Reads a line. Options apply to its command only, in addition to those of the command line.
fn parse(line: &str, mut style: Style) -> Result<Input, Failure> {
    let given = style;
    let line = take_options(line.trim(), &mut style)?.trim_start_matches('-');
    let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let mut value = value.trim_start();
    match name {
        "" if style == given => return Ok(Input::Nothing),
        "" => {
            return Err(Failure::usage("an option needs a command"));
        }
        "help" | "h" | "?" if value.is_empty() => return Ok(Input::Help),
        "help" | "h" | "?" => return Ok(Input::HelpAbout(value.trim_end().into())),
        "version" => return Ok(Input::Version),
        "quit" | "exit" => return Ok(Input::Quit),
        _ => {}
    }
    let Some(Command { word, .. }) = Command::find(name) else {
        let hint =
            similar(name, names()).map_or(String::new(), |name| format!("; '{name}' is similar"));
        return Err(Failure::usage(format_args!(
            "unknown command '{name}'{hint}"
        )));
    };
    // The argument of the others may have such words in it.
    let kind = word.arg.map(|arg| arg.kind);
    if !matches!(kind, Some(Kind::Text | Kind::Setting | Kind::Command)) {
        value = take_last_options(value, &mut style)?;
    }
    match (word.arg, value.is_empty()) {
        (Some(_), true) => {
            return Err(Failure::usage(format_args!(
                "an argument is missing: {}",
                word.form()
            )));
        }
        (None, false) => return Err(Failure::usage(format_args!("{name} takes no argument"))),
        _ => {}
    }
    let given = Given {
        name: word.name,
        value: value.into(),
    };
    Ok(Input::Command(given, style))
}

/// Takes the options before a command; returns the rest.
fn take_options<'a>(line: &'a str, style: &mut Style) -> Result<&'a str, Failure> {
    let mut rest = line;
    while let Some(after) = rest.strip_prefix('-') {
        let mut words = after.trim_start_matches('-').splitn(2, char::is_whitespace);
        let option = words.next().unwrap_or_default();
        let after = words.next().unwrap_or_default().trim_start();
        let (key, beyond) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
        rest = match style.set(option, key)? {
            Taken::Nothing => break,
            Taken::Option => after,
            Taken::OptionAndKey => beyond.trim_start(),
        };
    }
    Ok(rest)
}

/// Takes the options that end an argument; returns what is before them.
fn take_last_options<'a>(value: &'a str, style: &mut Style) -> Result<&'a str, Failure> {
    let is_start = |at: usize| value.get(..at).is_some_and(|before| before.ends_with(' '));
    for (at, _) in value.match_indices('-') {
        let mut tried = *style;
        if (at == 0 || is_start(at))
            && take_options(value.get(at..).unwrap_or_default(), &mut tried)?.is_empty()
        {
            *style = tried;
            return Ok(value.get(..at).unwrap_or_default().trim_end());
        }
    }
    Ok(value)
}

fn names() -> impl Iterator<Item = &'static str> {
    let own = OWN_WORDS.iter().map(|(name, _)| *name);
    COMMANDS.iter().map(|command| command.word.name).chain(own)
}

fn help() -> String {
    let commands = COMMANDS.iter().map(|command| &command.word);
    let commands = commands.map(|word| (word.form(), word.help));
    let options = OPTIONS.iter().map(|option| &option.word);
    let options = options.map(|word| (format!("-{}", word.form()), word.help));
    let own = OWN_WORDS
        .iter()
        .map(|(name, help)| ((*name).to_owned(), *help));
    let line = |(form, help): (String, &str)| cli::entry(0, &form, help);
    commands.chain(own).chain(options).map(line).collect()
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
        let mut words = before.split_whitespace().filter(|word| !is_flag(word));
        let command = words.next().filter(|_| start > 0);
        let options = || {
            OPTIONS
                .iter()
                .map(|option| format!("-{}", option.word.name))
        };
        let possible: Vec<String> = match command {
            _ if typed.starts_with('-') => options().collect(),
            None => names().map(with_room_for_argument).collect(),
            Some(_) if words.next().is_some_and(|word| word != typed) => Vec::new(),
            Some(command) => self.arguments(command, typed),
        };
        let fitting = possible.into_iter().filter(|word| word.starts_with(typed));
        (start, fitting.collect())
    }

    fn arguments(&self, command: &str, typed: &str) -> Vec<String> {
        let arg = Command::find(command).and_then(|command| command.word.arg);
        arg.map_or(Vec::new(), |Arg { kind, .. }| self.values(kind, typed))
    }

    /// The completions of an argument that has been typed so far.
    fn values(&self, kind: Kind, typed: &str) -> Vec<String> {
        match (kind, typed.split_once(':')) {
            (Kind::Channel, _) => self.channels.clone(),
            (Kind::Log, _) => {
                let monitor = ["monitor".to_owned()].into_iter();
                monitor.chain(self.channels.clone()).collect()
            }
            (Kind::Disk, _) => self.disks.clone(),
            (Kind::NewDisk, _) => vec!["/disks/".into()],
            (Kind::Param, _) => parameters(""),
            (Kind::Setting, _) => parameters("="),
            (Kind::Words(words), _) => words.iter().map(|word| (*word).to_owned()).collect(),
            (Kind::Pair(first, _), None) => {
                let values = self.values(*first, typed).into_iter();
                // Of a new name, only the beginning can be completed.
                let end = if *first == Kind::NewDisk { "" } else { ":" };
                values.map(|value| value + end).collect()
            }
            // The name of a new disk is chosen by the user.
            (Kind::Pair(_, Kind::NewDisk), Some(_)) => Vec::new(),
            (Kind::Pair(_, second), Some((first, rest))) => {
                let values = self.values(*second, rest).into_iter();
                values.map(|value| format!("{first}:{value}")).collect()
            }
            (Kind::Value | Kind::Text | Kind::Command | Kind::File | Kind::Paths | Kind::Vm, _) => {
                Vec::new()
            }
        }
    }
}

/// Whether the word is an option without an argument.
fn is_flag(word: &str) -> bool {
    let name = word.strip_prefix('-');
    OPTIONS
        .iter()
        .any(|option| option.word.arg.is_none() && Some(option.word.name) == name)
}

/// A word as it is completed: if it takes an argument, a blank follows.
fn with_room_for_argument(name: &str) -> String {
    match Command::find(name).and_then(|command| command.word.arg) {
        Some(_) => format!("{name} "),
        None => name.to_owned(),
    }
}

/// The parameters that users may set, with what follows a name; a number is missing to some of them yet.
fn parameters(follows: &str) -> Vec<String> {
    let params = config::params::PARAMS.iter();
    let settable = params.filter(|p| p.section == config::SectionKind::Vm && !p.protected);
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
    use crate::keys::Escape;

    /// What a line without options asks for.
    fn plain(line: &str) -> Given {
        match parse(line, Style::default()) {
            Ok(Input::Command(given, style)) if style == Style::default() => given,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lines_are_commands_without_dash() {
        let given = |name, value: &str| Given {
            name,
            value: value.into(),
        };
        assert_eq!(plain("  info "), given("info", ""));
        assert_eq!(plain("-info"), given("info", ""));
        assert_eq!(parse("", Style::default()).unwrap(), Input::Nothing);
        assert_eq!(parse("exit", Style::default()).unwrap(), Input::Quit);
        assert_eq!(
            plain("start-with  init=/bin/sh -raw"),
            given("start-with", "init=/bin/sh -raw")
        );
        assert_eq!(
            parse("inof", Style::default()).unwrap_err().message,
            "unknown command 'inof'; 'info' is similar"
        );
        assert_eq!(
            parse("wait", Style::default()).unwrap_err().message,
            "an argument is missing: wait N"
        );
        assert_eq!(
            parse("halt now", Style::default()).unwrap_err().message,
            "halt takes no argument"
        );
    }

    #[test]
    fn options_count_for_their_line() {
        let style = |line| match parse(line, Style::default()) {
            Ok(Input::Command(_, style)) => style,
            other => panic!("{line}: {other:?}"),
        };
        for line in [
            "info -json",
            "-json info",
            "--json  -info",
            "screen con1 -json",
        ] {
            let json = Style {
                json: true,
                ..Style::default()
            };
            assert_eq!(style(line), json, "{line}");
        }
        let both = style("tail con0,5 -raw -follow");
        assert!(both.raw && both.follow && !both.json);
        for line in [
            "-escape ^A connect con1",
            "connect con1 -escape ^A",
            "-escape=^A -raw connect con1",
        ] {
            let escape = Escape::parse("^A").unwrap();
            assert_eq!(style(line).escape, escape, "{line}");
        }
        let failure = |line| parse(line, Style::default()).unwrap_err().message;
        assert_eq!(failure("halt -nonsense"), "halt takes no argument");
        assert_eq!(
            failure("connect -raw"),
            "an argument is missing: connect CHANNEL"
        );
        assert_eq!(
            failure("-escape x connect con1"),
            "-escape: 'x' is not a key such as ^] or ^A, nor 'none'"
        );
        assert_eq!(failure("-json"), "an option needs a command");
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
        assert_eq!(completed("record con1"), ["con1:"]);
        assert_eq!(completed("tail -fol"), ["-follow"]);
        assert_eq!(completed("-raw tail m"), ["monitor"]);
        assert!(!words.candidates("set vm").1.contains(&"vmuser".to_owned()));
    }
}
