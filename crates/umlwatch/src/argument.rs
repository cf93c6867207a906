//! The arguments of commands: for each, its name in the help, its completion, and how it is read (umlwatch).

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cli::{Arg, Failure, Given, Kind};
use config::ChannelName;
use rpc_xdr::umlmonctrl::{ConfigDelArgs, ConfigSetArgs};

/// How many lines `-tail` shows by default.
const TAIL_LINES: u32 = 20;

/// A type that the argument of a command is read as.
pub(crate) trait Argument: Sized + 'static {
    /// Its name and kind; None if there is no argument.
    const ARG: Option<Arg>;

    /// Reads what was given.
    ///
    /// # Errors
    /// A usage failure.
    fn read(given: &Given) -> Result<Self, Failure>;
}

/// `VM_WAIT` and similar: the longest time.
#[derive(Debug, PartialEq)]
pub(crate) struct Seconds(pub(crate) u32);

/// A log, and how many of its last lines.
#[derive(Debug, PartialEq)]
pub(crate) struct Log {
    /// "monitor" or the name of a channel
    pub(crate) file: String,
    pub(crate) lines: u32,
}

/// What to record, and where to.
#[derive(Debug, PartialEq)]
pub(crate) struct Recording {
    pub(crate) channel: ChannelName,
    pub(crate) file: PathBuf,
}

/// How long to wait for a guest, and for what sign of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Ready {
    pub(crate) seconds: u32,
    pub(crate) sign: Sign,
}

/// What shows that a guest is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The guest's own report: `echo ready > /proc/mconsole`.
    Word,
    /// A text that a channel shows.
    Shown {
        /// The channel.
        channel: ChannelName,
        /// The text; never empty.
        text: String,
    },
}

/// The letter of a system request.
#[derive(Debug, PartialEq)]
pub(crate) struct Letter(pub(crate) char);

/// The memory of a guest, in megabytes.
#[derive(Debug, PartialEq)]
pub(crate) struct Memory(pub(crate) u32);

/// Any bytes.
#[derive(Debug, PartialEq)]
pub(crate) struct Text(pub(crate) Vec<u8>);

/// A command and its arguments, with NULs between them.
#[derive(Debug, PartialEq)]
pub(crate) struct Words(pub(crate) Vec<u8>);

impl Argument for Words {
    const ARG: Option<Arg> = Some(Arg::new("COMMAND [ARG]...", Kind::Command));

    fn read(given: &Given) -> Result<Words, Failure> {
        Ok(Words(given.value.as_bytes().to_vec()))
    }
}

/// What is copied, and where to.
#[derive(Debug, PartialEq)]
pub(crate) struct Paths(pub(crate) Vec<u8>, pub(crate) Vec<u8>);

impl Argument for Paths {
    const ARG: Option<Arg> = Some(Arg::new("SRC DEST", Kind::Paths));

    fn read(given: &Given) -> Result<Paths, Failure> {
        // In the interactive mode, a blank is between them.
        let value = given.value.as_bytes();
        let between = if value.contains(&0) { 0 } else { b' ' };
        match value.split(|byte| *byte == between).collect::<Vec<_>>()[..] {
            [source, to] if !source.is_empty() && !to.is_empty() => {
                Ok(Paths(source.into(), to.into()))
            }
            _ => Err(malformed::<Paths>(given)),
        }
    }
}

/// A user of the guest, and what follows for ssh, with NULs between them.
#[derive(Debug, PartialEq)]
pub(crate) struct Login(pub(crate) Vec<u8>);

impl Argument for Login {
    const ARG: Option<Arg> = Some(Arg::new("USER [ARG]...", Kind::Command));

    fn read(given: &Given) -> Result<Login, Failure> {
        Ok(Login(given.value.as_bytes().to_vec()))
    }
}

impl Argument for () {
    const ARG: Option<Arg> = None;

    fn read(_: &Given) -> Result<(), Failure> {
        Ok(())
    }
}

impl Argument for Seconds {
    const ARG: Option<Arg> = Some(Arg::new("N", Kind::Value));

    fn read(given: &Given) -> Result<Seconds, Failure> {
        number(given, given.text()?).map(Seconds)
    }
}

impl Argument for Memory {
    const ARG: Option<Arg> = Some(Arg::new("SIZE", Kind::Value));

    fn read(given: &Given) -> Result<Memory, Failure> {
        let size = config::megabytes(given.text()?);
        let size =
            size.map_err(|error| Failure::usage(format_args!("-{}: {error}", given.name)))?;
        // The monitor says that it is too much.
        Ok(Memory(u32::try_from(size).unwrap_or(u32::MAX)))
    }
}

impl Argument for ChannelName {
    const ARG: Option<Arg> = Some(Arg::new("CHANNEL", Kind::Channel));

    fn read(given: &Given) -> Result<ChannelName, Failure> {
        channel(given.text()?)
    }
}

impl Argument for Log {
    const ARG: Option<Arg> = Some(Arg::new("FILE[,N]", Kind::Log));

    fn read(given: &Given) -> Result<Log, Failure> {
        let text = given.text()?;
        let (file, lines) = match text.split_once(',') {
            Some((file, lines)) => (file, number(given, lines)?),
            None => (text, TAIL_LINES),
        };
        if file != "monitor" {
            channel(file).map_err(|_| {
                Failure::usage(format_args!(
                    "there is no log '{file}'; use 'monitor', or a channel such as con0 or ssl1"
                ))
            })?;
        }
        let file = file.to_owned();
        Ok(Log { file, lines })
    }
}

impl Argument for Recording {
    const ARG: Option<Arg> = Some(Arg::new(
        "CHANNEL:FILE",
        Kind::Pair(&Kind::Channel, &Kind::File),
    ));

    fn read(given: &Given) -> Result<Recording, Failure> {
        match given.text()?.split_once([':', ' ']) {
            Some((name, file)) if !file.is_empty() => Ok(Recording {
                channel: channel(name)?,
                file: file.into(),
            }),
            _ => Err(malformed::<Recording>(given)),
        }
    }
}

impl Argument for Ready {
    const ARG: Option<Arg> = Some(Arg::new("N[,CHANNEL:TEXT]", Kind::Value));

    fn read(given: &Given) -> Result<Ready, Failure> {
        let text = given.text()?;
        let (seconds, sign) = match text.split_once(',') {
            None => (text, Sign::Word),
            Some((seconds, shown)) => match shown.split_once(':') {
                Some((name, text)) if !text.is_empty() => {
                    let (channel, text) = (channel(name)?, text.to_owned());
                    (seconds, Sign::Shown { channel, text })
                }
                _ => return Err(malformed::<Ready>(given)),
            },
        };
        let seconds = number(given, seconds)?;
        Ok(Ready { seconds, sign })
    }
}

impl Argument for Letter {
    const ARG: Option<Arg> = Some(Arg::new("LETTER", Kind::Value));

    fn read(given: &Given) -> Result<Letter, Failure> {
        let text = given.text()?;
        let mut letters = text.chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) => Ok(Letter(letter)),
            _ => Err(Failure::usage(format_args!(
                "-{}: '{text}' is not one letter",
                given.name
            ))),
        }
    }
}

impl Argument for Text {
    const ARG: Option<Arg> = Some(Arg::new("ARG", Kind::Text));

    fn read(given: &Given) -> Result<Text, Failure> {
        Ok(Text(given.value.as_bytes().to_vec()))
    }
}

impl Argument for ConfigSetArgs {
    const ARG: Option<Arg> = Some(Arg::SETTING);

    fn read(given: &Given) -> Result<ConfigSetArgs, Failure> {
        let mut halves = given.value.as_bytes().splitn(2, |byte| *byte == b'=');
        let param = halves
            .next()
            .and_then(|param| std::str::from_utf8(param).ok());
        match (param, halves.next()) {
            (Some(param), Some(value)) if !param.is_empty() => Ok(ConfigSetArgs {
                param: param.to_owned(),
                value: value.to_vec(),
            }),
            _ => Err(Failure::usage(format_args!(
                "-{}: {:?} is not {}",
                given.name,
                given.value,
                Arg::SETTING.label
            ))),
        }
    }
}

impl Argument for ConfigDelArgs {
    const ARG: Option<Arg> = Some(Arg::PARAM);

    fn read(given: &Given) -> Result<ConfigDelArgs, Failure> {
        let param = given.text()?.to_owned();
        Ok(ConfigDelArgs { param })
    }
}

/// The argument does not have the form that the help shows.
fn malformed<T: Argument>(given: &Given) -> Failure {
    let text = given.value.to_string_lossy();
    let form = T::ARG.map_or("", |arg| arg.label);
    Failure::usage(format_args!("-{}: '{text}' is not {form}", given.name))
}

fn channel(text: &str) -> Result<ChannelName, Failure> {
    text.parse().map_err(|_| {
        Failure::usage(format_args!(
            "'{text}' is not a channel: con0 to con15, ssl0 to ssl63"
        ))
    })
}

fn number(given: &Given, text: &str) -> Result<u32, Failure> {
    text.parse()
        .map_err(|_| Failure::usage(format_args!("-{}: '{text}' is not a number", given.name)))
}
