//! The helper on a terminal of this host, as on a serial line of a guest: the test is the monitor and its clients.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::process::{Child, Command as Program};
use std::time::{Duration, Instant};

use guest_line::{
    CHUNK, Command, Decoder, Encoder, Ending, Frame, Heard, MAX_COMMAND, MAX_PIECE, Said, Size,
    ToGuest, ToHost, UNREAD, VERSION, WINDOW, cost, decode, encode,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The helper, and this side of its line.
struct Host {
    helper: Child,
    line: OwnedFd,
    encoder: Encoder,
    decoder: Decoder,
    heard: VecDeque<Frame>,
    /// How many bytes were written since the greeting, and how many of them the helper has read.
    written: u32,
    read: u32,
    next: u32,
    /// What was taken of the output of each stream.
    taken: BTreeMap<u32, u64>,
}

impl Host {
    fn new() -> Host {
        let line = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&line).unwrap();
        unlockpt(&line).unwrap();
        let device = ptsname(&line, Vec::new()).unwrap();
        let mut program = Program::new(env!("CARGO_BIN_EXE_umlguest"));
        let helper = program
            .args(["-line", device.to_str().unwrap()])
            .spawn()
            .unwrap();
        let mut host = Host {
            helper,
            line,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            heard: VecDeque::new(),
            written: 0,
            read: 0,
            next: 1,
            taken: BTreeMap::new(),
        };
        host.welcome();
        host
    }

    /// Answers the next greeting.
    fn welcome(&mut self) {
        let Frame::Hello { version, nonce } =
            self.until(|frame| matches!(frame, Frame::Hello { .. }))
        else {
            unreachable!()
        };
        assert_eq!(version, VERSION);
        self.encoder = Encoder::default();
        self.write(&Frame::Welcome { nonce });
        self.until(|frame| *frame == Frame::Read(0));
        (self.written, self.read) = (0, 0);
    }

    fn write(&mut self, frame: &Frame) {
        let bytes = self.encoder.encode(frame).unwrap();
        self.written += u32::try_from(bytes.len()).unwrap();
        let mut left = &bytes[..];
        while !left.is_empty() {
            left = &left[rustix::io::write(&self.line, left).unwrap()..];
        }
    }

    /// The next frame that is not about what was read.
    fn frame(&mut self) -> Frame {
        loop {
            match self.heard.pop_front() {
                Some(frame) => return frame,
                None => self.listen(),
            }
        }
    }

    fn listen(&mut self) {
        let limit = Timespec {
            tv_sec: PATIENCE.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        let mut one = [PollFd::new(&self.line, PollFlags::IN)];
        assert_ne!(poll(&mut one, Some(&limit)).unwrap(), 0, "nothing is said");
        let mut buffer = [0; 4096];
        let length = rustix::io::read(&self.line, &mut buffer).unwrap();
        // The greeting begins with the end of what may have been before.
        for frame in self.decoder.take(&buffer[..length]).into_iter().flatten() {
            match frame {
                Frame::Read(read) if read > 0 => self.read = read,
                frame => self.heard.push_back(frame),
            }
        }
    }

    fn until(&mut self, is_it: impl Fn(&Frame) -> bool) -> Frame {
        let until = Instant::now() + PATIENCE;
        loop {
            let frame = self.frame();
            if is_it(&frame) {
                return frame;
            }
            assert!(Instant::now() < until, "not said in time");
        }
    }

    fn say(&mut self, stream: u32, message: &ToGuest) {
        let bytes = encode(message, MAX_PIECE).unwrap();
        let length = u32::try_from(bytes.len()).unwrap() + 64;
        while self.written - self.read + length > UNREAD {
            self.listen();
        }
        self.write(&Frame::Piece { stream, bytes });
    }

    fn begin(&mut self, command: &Command) -> u32 {
        let stream = self.next;
        self.next += 1;
        let told = encode(command, MAX_COMMAND).unwrap();
        for part in told.chunks(CHUNK) {
            self.say(stream, &ToGuest::Part(part.to_vec()));
        }
        self.say(stream, &ToGuest::Run);
        stream
    }

    /// What the helper says next about a stream; nothing at its end.
    fn hear(&mut self, stream: u32) -> Option<ToHost> {
        let is_it = |frame: &Frame| match frame {
            Frame::Piece { stream: of, .. } | Frame::End { stream: of } => *of == stream,
            _ => false,
        };
        match self.until(is_it) {
            Frame::Piece { bytes, .. } => Some(decode(&bytes).unwrap()),
            _ => None,
        }
    }

    /// Tells that so many bytes of output were passed on.
    fn take(&mut self, stream: u32, bytes: usize) {
        let taken = self.taken.entry(stream).or_default();
        *taken += u64::from(cost(bytes));
        let taken = *taken;
        self.say(stream, &ToGuest::Taken(taken));
    }

    /// The line begins again, without streams.
    fn begin_again(&mut self) {
        self.write(&Frame::Again);
        self.heard.clear();
        self.welcome();
        self.next = 1;
        self.taken.clear();
    }

    /// All that a command writes, and how it ends.
    fn finish(&mut self, stream: u32) -> Finished {
        let mut finished = Finished::default();
        while let Some(message) = self.hear(stream) {
            match message {
                ToHost::Output(bytes) => {
                    self.take(stream, bytes.len());
                    finished.output.extend(bytes);
                }
                ToHost::Error(bytes) => {
                    self.take(stream, bytes.len());
                    finished.error.extend(bytes);
                }
                ToHost::Ended(ending) => {
                    finished.ending = Some(ending);
                    self.write(&Frame::End { stream });
                    break;
                }
                ToHost::Refused(why) => finished.refused = Some(why),
                ToHost::Taken(_)
                | ToHost::Done
                | ToHost::Begun
                | ToHost::OutOfMemory
                | ToHost::Resumed { .. }
                | ToHost::Usage(_) => {}
            }
        }
        finished
    }

    fn run(&mut self, command: &Command) -> Finished {
        let stream = self.begin(command);
        self.say(stream, &ToGuest::EndOfInput);
        self.finish(stream)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.helper.kill().unwrap();
        self.helper.wait().unwrap();
    }
}

#[derive(Debug, Default, PartialEq)]
struct Finished {
    output: Vec<u8>,
    error: Vec<u8>,
    ending: Option<Ending>,
    refused: Option<String>,
}

impl Finished {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.output).unwrap()
    }
}

fn shell(script: &str) -> Command {
    let words = ["sh", "-c", script];
    Command {
        words: words.map(|word| word.as_bytes().to_vec()).into(),
        directory: Some(b"/".to_vec()),
        ..Command::default()
    }
}

#[test]
fn a_command_has_its_outputs_apart_and_a_status() {
    let mut host = Host::new();
    let finished = host.run(&shell("echo out; echo err >&2; exit 7"));
    assert_eq!(finished.text(), "out\n");
    assert_eq!(finished.error, b"err\n");
    assert_eq!(finished.ending, Some(Ending::Exited(7)));
    let killed = host.run(&shell("kill -9 $$"));
    assert_eq!(killed.ending, Some(Ending::Signalled(9)));
}

#[test]
fn a_command_gets_environment_directory_and_user() {
    let mut host = Host::new();
    let command = Command {
        environment: vec![b"COLOUR=light blue".to_vec(), b"nonsense".to_vec()],
        directory: Some(b"/tmp".to_vec()),
        user: Some(b"nobody".to_vec()),
        ..shell("echo $COLOUR $PWD; id -un; id -G; echo $USER; env | wc -l")
    };
    let finished = host.run(&command);
    let lines: Vec<_> = finished.text().lines().collect();
    assert_eq!(lines[..2], ["light blue /tmp", "nobody"]);
    assert_eq!(lines[3], "nobody");
    assert_eq!(finished.ending, Some(Ending::Exited(0)));
}

#[test]
fn what_cannot_be_executed_is_told_as_by_a_shell() {
    let mut host = Host::new();
    for (word, status, said) in [
        ("/nonexistent", 127, "No such file or directory"),
        ("/etc/passwd", 126, "Permission denied"),
    ] {
        let finished = host.run(&Command {
            words: vec![word.into()],
            ..Command::default()
        });
        assert_eq!(
            finished.ending,
            Some(Ending::Exited(status)),
            "{finished:?}"
        );
        let error = String::from_utf8(finished.error).unwrap();
        assert!(error.contains(word) && error.contains(said), "{error}");
    }
    let finished = host.run(&Command {
        user: Some(b"nobodyelse".to_vec()),
        ..shell("true")
    });
    let error = String::from_utf8(finished.error).unwrap();
    assert_eq!(error, "umlguest: user nobodyelse: there is no such user\n");
}

#[test]
fn a_megabyte_goes_through_and_comes_back() {
    let mut host = Host::new();
    let sent: Vec<u8> = (0..1_u32 << 20)
        .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let stream = host.begin(&shell("cat"));
    let (mut came, mut said, mut left) = (Vec::new(), Said::default(), &sent[..]);
    while came.len() < sent.len() {
        if !left.is_empty() && !said.is_full() {
            let (chunk, rest) = left.split_at(CHUNK.min(left.len()));
            host.say(stream, &ToGuest::Input(chunk.to_vec()));
            said.say((), chunk.len());
            left = rest;
            continue;
        }
        match host.hear(stream) {
            Some(ToHost::Output(bytes)) => {
                host.take(stream, bytes.len());
                came.extend(bytes);
            }
            Some(ToHost::Taken(taken)) => said.was_taken(taken).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert!(came == sent);
    host.say(stream, &ToGuest::EndOfInput);
    assert_eq!(host.finish(stream).ending, Some(Ending::Exited(0)));
}

#[test]
fn output_that_nobody_takes_stops_its_command_and_no_other() {
    let mut host = Host::new();
    let flood = host.begin(&shell("yes"));
    let mut came = 0;
    // The window is full.
    while came < WINDOW {
        match host.hear(flood) {
            Some(ToHost::Output(bytes)) => came += cost(bytes.len()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(host.run(&shell("echo still here")).text(), "still here\n");
    host.say(flood, &ToGuest::Signal(15));
    host.taken.insert(flood, came.into());
    host.say(flood, &ToGuest::Taken(came.into()));
    assert_eq!(host.finish(flood).ending, Some(Ending::Signalled(15)));
}

/// What a command is known by.
const KEY: [u8; 16] = *b"0123456789abcdef";

/// However often the line begins again, no byte of input or output is lost or doubled.
#[test]
fn a_command_goes_on_on_another_line() {
    let mut host = Host::new();
    let command = Command {
        key: KEY,
        ..shell("while read line; do echo $line; echo $line; done; exit 4")
    };
    let mut stream = host.begin(&command);
    let lines: Vec<String> = (0..4000).map(|n| format!("line {n}\n")).collect();
    let expected: String = lines.iter().map(|line| line.repeat(2)).collect();
    let (mut said, mut heard, mut came) = (Said::default(), Heard::default(), String::new());
    for part in lines.concat().as_bytes().chunks(777) {
        said.say(ToGuest::Input(part.to_vec()), part.len());
    }
    said.say(ToGuest::EndOfInput, 0);
    let (mut messages, mut sent) = (0, 0);
    let ending = loop {
        messages += 1;
        if messages % 9 == 0 {
            host.begin_again();
            stream = 1;
            let (heard, taken) = heard.so_far();
            let key = KEY;
            host.say(stream, &ToGuest::Resume { key, heard, taken });
            let Some(ToHost::Resumed { heard, taken }) = host.hear(stream) else {
                panic!("not resumed")
            };
            said.begin_again(heard, taken).unwrap();
            sent = 0;
        }
        // A few messages are under way; the rest may be lost.
        while sent <= messages % 9
            && let Some(message) = said.next_due()
        {
            host.say(stream, &message);
            sent += 1;
        }
        match host.hear(stream) {
            Some(ToHost::Output(bytes)) => {
                heard.hear(bytes.len());
                heard.pass_on(cost(bytes.len()));
                came.push_str(std::str::from_utf8(&bytes).unwrap());
                if let Some(taken) = heard.due() {
                    host.say(stream, &ToGuest::Taken(taken));
                }
            }
            Some(ToHost::Taken(taken)) => said.was_taken(taken).unwrap(),
            Some(ToHost::Ended(ending)) => break ending,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ending, Ending::Exited(4));
    assert!(came == expected, "{} bytes", came.len());
    its_end_is_told_until_it_was_heard(&mut host, heard.so_far());
}

/// The client has heard and passed on so much, and nothing of the end.
fn its_end_is_told_until_it_was_heard(host: &mut Host, (heard, taken): (u64, u64)) {
    host.begin_again();
    host.say(
        1,
        &ToGuest::Resume {
            key: KEY,
            heard,
            taken,
        },
    );
    assert!(matches!(host.hear(1), Some(ToHost::Resumed { .. })));
    assert_eq!(host.finish(1).ending, Some(Ending::Exited(4)));
    // And nobody else goes on with it.
    let stranger = ToGuest::Resume {
        key: [1; 16],
        heard: 0,
        taken: 0,
    };
    host.say(2, &stranger);
    let refused = host.finish(2).refused.unwrap();
    assert_eq!(refused, "the command is not there any more");
}

#[test]
fn a_terminal_has_a_size_and_passes_signals() {
    let mut host = Host::new();
    let command = Command {
        terminal: Some(Size {
            rows: 24,
            columns: 80,
        }),
        ..shell("trap 'stty size; exit 3' WINCH; stty size; tty; while :; do sleep 0.1; done")
    };
    let stream = host.begin(&command);
    let mut text = String::new();
    while !text.contains("/dev/pts/") {
        let Some(ToHost::Output(bytes)) = host.hear(stream) else {
            panic!()
        };
        text.push_str(&String::from_utf8(bytes).unwrap());
    }
    assert!(text.starts_with("24 80\r\n"), "{text}");
    host.say(
        stream,
        &ToGuest::Resize(Size {
            rows: 33,
            columns: 111,
        }),
    );
    let finished = host.finish(stream);
    assert!(finished.text().contains("33 111"), "{finished:?}");
    assert_eq!(finished.ending, Some(Ending::Exited(3)));
}

#[test]
fn a_client_that_goes_hangs_its_command_up() {
    let mut host = Host::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ended");
    let script = format!(
        "trap 'echo hup > {}; exit' HUP; echo up; sleep 1000 & wait",
        file.display()
    );
    let stream = host.begin(&shell(&script));
    assert_eq!(host.hear(stream), Some(ToHost::Output(b"up\n".to_vec())));
    host.write(&Frame::End { stream });
    let until = Instant::now() + PATIENCE;
    while std::fs::read_to_string(&file).unwrap_or_default() != "hup\n" {
        assert!(Instant::now() < until, "it was not hung up");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nonsense_ends_its_stream_and_noise_begins_the_line_again() {
    let mut host = Host::new();
    let stream = host.begin(&shell("sleep 1000"));
    host.write(&Frame::Piece {
        stream,
        bytes: vec![0xff; 10],
    });
    let refused = host.finish(stream).refused.unwrap();
    assert_eq!(refused, "what was said is not understood");
    assert_eq!(host.run(&shell("echo well")).text(), "well\n");
    // A frame is missing.
    let _ = host.encoder.encode(&Frame::End { stream });
    host.write(&Frame::End { stream });
    host.welcome();
    host.next = 1;
    assert_eq!(host.run(&shell("echo again")).text(), "again\n");
}

#[test]
fn there_is_a_limit_to_commands() {
    let mut host = Host::new();
    let streams: Vec<_> = (0..64)
        .map(|_| host.begin(&shell("echo up; read line")))
        .collect();
    let refused = host.run(&shell("true")).refused.unwrap();
    assert_eq!(refused, "64 commands run already");
    let finished = {
        host.say(streams[0], &ToGuest::EndOfInput);
        host.finish(streams[0])
    };
    assert_eq!(finished.ending, Some(Ending::Exited(1)));
    assert_eq!(host.run(&shell("echo room")).text(), "room\n");
}
