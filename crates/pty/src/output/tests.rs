//! The output of a monitor that ended after any step, and a memory with any content.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use files::LogDir;

use super::*;
use crate::{Endpoint, LogStyle};

const NAME: ChannelName = ChannelName::Con(1);
const SIZE: (u16, u16) = (24, 80);
const BEFORE: &[u8] = b"before\r\nthe ";
const PIECE: &[u8] = b"piece\r\nafter";

/// A terminal with a log in a directory.
struct Parts {
    dir: tempfile::TempDir,
    style: LogStyle,
    endpoint: Endpoint,
    guest: File,
    _runtime: tokio::runtime::Runtime,
}

impl Parts {
    fn new(style: LogStyle) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let endpoint = Endpoint::open().unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            style,
            guest: endpoint.kernel_slave().unwrap().into(),
            endpoint,
            _runtime: runtime,
        }
    }

    fn log(&self) -> Log {
        let dir = LogDir::open(self.dir.path()).unwrap();
        Log::open(&dir, &"con1".parse().unwrap(), self.style).unwrap()
    }

    /// The guest writes; the pipe is filled with all of that.
    fn write(&mut self, output: &Output, text: &[u8]) {
        self.guest.write_all(text).unwrap();
        while output.transit.look().unwrap().len() < text.len() {
            output.transit.fill(self.endpoint.master());
        }
    }

    fn drain(&self, output: &Output) {
        output.drain(self.endpoint.master(), |_| {});
    }
}

/// Goes on with what an output has, as the next monitor does.
fn next(output: &Output, log: Option<Log>) -> io::Result<Output> {
    next_with(output, log, SIZE)
}

fn next_with(output: &Output, log: Option<Log>, size: (u16, u16)) -> io::Result<Output> {
    let (outlet, inlet) = output.transit.ends();
    let transit = Transit::adopt(outlet.try_clone().unwrap(), inlet.try_clone().unwrap()).unwrap();
    let memory = output.history.borrow().memory().file().try_clone().unwrap();
    let memory = Memory::adopt(memory.into()).unwrap();
    Output::adopt(NAME, (transit, memory), log, size)
}

/// The log, with what was kept of it under another name, and without times.
fn logged(dir: &Path, stamps: bool) -> Vec<u8> {
    let read = |name| fs::read(dir.join(name)).unwrap_or_default();
    let all = [read("con1~"), read("con1")].concat();
    let lines = all.split_inclusive(|byte| *byte == b'\n');
    let stamp = if stamps {
        "2026-11-30T08:00:00Z ".len()
    } else {
        0
    };
    lines.flat_map(|line| &line[stamp..]).copied().collect()
}

/// Does the steps for a piece that is in the pipe, up to one of them; the log gets so many bytes.
fn do_steps(output: &Output, parts: &Parts, steps: usize, logged: usize) {
    let mut log = parts.log();
    log.begins_line(false);
    let step = |n: usize, step: &mut dyn FnMut()| {
        if n <= steps {
            step();
        }
    };
    step(1, &mut || output.history.borrow_mut().push(PIECE).unwrap());
    step(2, &mut || output.say(PIECE.len() as u64, log.intent()));
    step(3, &mut || {
        let path = parts.dir.path().join("con1");
        let mut file = File::options().append(true).open(path).unwrap();
        let with_times = PIECE.split_inclusive(|byte| *byte == b'\n').enumerate();
        let text = with_times.flat_map(|(n, line)| match parts.style.timestamps && n > 0 {
            true => [b"2026-11-30T08:00:00Z ", line].concat(),
            false => line.to_vec(),
        });
        let text: Vec<u8> = text.take(logged).collect();
        file.write_all(&text).unwrap();
    });
    step(4, &mut || {
        // A rotation by size may follow.
        let intent = log.intent().unwrap();
        parts.log().append_rest(&intent, b"");
    });
    step(5, &mut || {
        let outlet = output.transit.ends().0.try_clone().unwrap();
        File::from(outlet).read_exact(&mut [0; 3]).unwrap();
    });
    step(6, &mut || {
        output.transit.consume(PIECE[3..].to_vec()).unwrap()
    });
    step(7, &mut || output.say(0, None));
}

#[test]
fn each_step_can_be_the_last() {
    let all = [BEFORE, PIECE, b" and\nthe next"].concat();
    let stamps = PIECE.len() + 21;
    let steps = (0..3).map(|n| (n, 0)).chain((0..=stamps).map(|n| (3, n)));
    let steps: Vec<_> = steps.chain((3..8).map(|n| (n, stamps))).collect();
    for (limit, timestamps) in [(0, false), (20, false), (0, true)] {
        for (steps, written) in &steps {
            let case = format!("{limit} {timestamps} {steps} {written}");
            let mut parts = Parts::new(LogStyle { limit, timestamps });
            let first = Output::new(NAME, Some(parts.log()), SIZE).unwrap();
            parts.write(&first, BEFORE);
            parts.drain(&first);
            first.process(&|_: &[u8]| {});
            parts.write(&first, PIECE);
            do_steps(&first, &parts, *steps, *written);
            let second = next(&first, Some(parts.log())).unwrap();
            drop(first);
            parts.drain(&second);
            parts.write(&second, b" and\nthe next");
            second.process(&|_: &[u8]| {});
            let third = next(&second, Some(parts.log())).unwrap();
            for output in [&second, &third] {
                assert_eq!(
                    output.peek(0, 100).data.escape_ascii().to_string(),
                    all.escape_ascii().to_string(),
                    "{case}"
                );
                let mut screen = Screen::new(24, 80);
                screen.feed(&all);
                assert_eq!(output.with_screen(Screen::text), screen.text(), "{case}");
            }
            let log = logged(parts.dir.path(), timestamps);
            let wanted = all.escape_ascii().to_string();
            assert_eq!(log.escape_ascii().to_string(), wanted, "{case}");
        }
    }
}

/// A process of the VM's user fills the pipe; the guest is heard nevertheless.
#[test]
fn a_full_pipe_does_not_stop_the_output() {
    let mut parts = Parts::new(LogStyle::default());
    let output = Output::new(NAME, Some(parts.log()), SIZE).unwrap();
    let (_, inlet) = output.transit.ends();
    while rustix::io::write(inlet, &[b'x'; 4096]).is_ok() {}
    parts.guest.write_all(b"the guest").unwrap();
    while !logged(parts.dir.path(), false).ends_with(b"the guest") {
        parts.drain(&output);
    }
}

/// The screen is another than what is kept would draw: it was begun before that.
#[test]
fn the_screen_comes_back_although_its_beginning_is_forgotten() {
    let first = Output::new(NAME, None, SIZE).unwrap();
    first.resize_history(5000).unwrap();
    first.resized(30, 100);
    let process = |text: &str| {
        let (_, inlet) = first.transit.ends();
        rustix::io::write(inlet, text.as_bytes()).unwrap();
        first.process(&|_: &[u8]| {});
    };
    process("\x1b[31;44m\x1b[5;20rheading\x1b[5;1H");
    for n in 0..1000 {
        process(&format!("\r\nline {n}"));
    }
    assert!(first.range().start > 0);
    first.resized(40, 90);
    process("\r\nlast \x1b[1");
    let seen = |output: &Output| {
        output.with_screen(|screen| {
            let all = (0..40).flat_map(|row| (0..90).map(move |column| (row, column)));
            let cells: Vec<_> = all.map(|(row, column)| screen.cell(row, column)).collect();
            (screen.text(), screen.cursor(), cells)
        })
    };
    let second = next_with(&first, None, (40, 90)).unwrap();
    assert!(seen(&first) == seen(&second));
    assert_eq!(second.sizes_after(0), first.sizes_after(0));
    // The window was changed just before the end.
    let third = next_with(&second, None, (24, 80)).unwrap();
    assert_eq!(third.with_screen(Screen::size), (24, 80));
    let last = third.sizes_after(0).pop().unwrap();
    assert_eq!(
        (last.number, last.offset, last.rows),
        (4, third.range().end, 24)
    );
}

/// Whatever a process of the VM's user writes into the memory: no more than what is in the pipe is affected.
#[test]
fn any_memory_is_adopted_or_refused() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut adopted = 0;
    for _ in 0..300 {
        let mut parts = Parts::new(LogStyle::default());
        let first = Output::new(NAME, Some(parts.log()), SIZE).unwrap();
        first.resize_history(4096).unwrap();
        parts.write(&first, BEFORE);
        first.process(&|_: &[u8]| {});
        parts.write(&first, PIECE);
        let (end, stat) = (first.range().end, parts.log().intent().unwrap().end);
        let number = |random: &mut fastrand::Rng| match random.u8(..5) {
            0 => random.u64(..),
            1 => random.u64(..64),
            2 => u64::MAX - random.u64(..3),
            3 => end + random.u64(..20),
            _ => 1 << random.u8(..63),
        };
        let mut n = || number(&mut random);
        let (kept, pending) = match n() % 2 {
            0 => (end, n() % 40),
            _ => (n(), n()),
        };
        let log = [stat.file.0, stat.file.1, n(), n()];
        let numbers = [&[1, n() % end, kept, pending, n()][..], &log].concat();
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let (view, whole) = ([1, n(), n() % 70, n(), n(), n(), n()], n() % 2 == 0);
        let view: Vec<u8> = view.iter().flat_map(|n| n.to_le_bytes()).collect();
        {
            let history = first.history.borrow();
            let memory = history.memory();
            let bytes = if whole { &bytes } else { &view };
            memory.state.store(memory.file(), bytes).unwrap();
            memory.view.store(memory.file(), &view).unwrap();
        }
        if let Ok(second) = next(&first, Some(parts.log())) {
            adopted += 1;
            parts.drain(&second);
            parts.write(&second, b"more");
            parts.drain(&second);
            second.process(&|_: &[u8]| {});
            let _ = (
                second.tail(3),
                second.peek(0, usize::MAX),
                second.sizes_after(0),
            );
            second.with_memory(|_| ());
        }
        let log = fs::read(parts.dir.path().join("con1")).unwrap();
        assert!(log.starts_with(BEFORE), "{seed}");
        assert!(log.len() <= BEFORE.len() + PIECE.len() + 4 + 60, "{seed}");
    }
    assert!(adopted > 10, "{adopted}");
}
