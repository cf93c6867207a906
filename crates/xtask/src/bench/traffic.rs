//! What flows through a redirector that is measured: a server behind it, and clients before it (cargo xtask bench).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What flows in each direction when much does.
const MUCH: usize = 512 << 20;

/// Of one write.
const PIECE: usize = 128 << 10;

/// Stack of a server thread, of which there are a thousand.
const STACK: usize = 512 << 10;

/// The first byte is the client's request.
const ECHO: u8 = b'e';
const TAKE_AND_GIVE: u8 = b't';

/// Begins to serve on a socket of this host; each connection is preceded by so many bytes of the redirector's own.
/// It ends with the program.
pub(super) fn serve(socket: &Path, own: usize) -> anyhow::Result<()> {
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let thread = std::thread::Builder::new().stack_size(STACK);
            // A client that is not served says so.
            let _ = thread.spawn(move || answer(stream, own));
        }
    });
    Ok(())
}

fn answer(mut stream: UnixStream, own: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut first = vec![0; own + 1];
    stream.read_exact(&mut first)?;
    match first.last() {
        Some(&TAKE_AND_GIVE) => {
            let mut missing = MUCH;
            while missing > 0 {
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    return Ok(());
                }
                missing = missing.saturating_sub(count);
            }
            for _ in 0..MUCH / PIECE {
                stream.write_all(&buffer)?;
            }
            Ok(())
        }
        _ => {
            stream.write_all(&[ECHO])?;
            // Small from here on, and the memory for a thousand.
            buffer = vec![0; 64];
            loop {
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    return Ok(());
                }
                stream.write_all(buffer.get(..count).unwrap_or_default())?;
            }
        }
    }
}

/// The destination of a client.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) port: u16,
    /// What the redirector has to be told first, and how many bytes it answers.
    pub(super) request: Vec<u8>,
    pub(super) answer: usize,
}

impl Route {
    /// A client that is connected and has said what it wants; the redirector's answer has come.
    fn connect(&self, what: u8) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[self.request.as_slice(), &[what]].concat())?;
        let mut answer = vec![0; self.answer];
        stream.read_exact(&mut answer)?;
        Ok(stream)
    }

    /// A client whose server has answered.
    fn reach(&self) -> anyhow::Result<TcpStream> {
        let mut stream = self.connect(ECHO)?;
        stream.read_exact(&mut [0])?;
        Ok(stream)
    }

    /// Half a gigabyte there, and as much back; in milliseconds.
    pub(super) fn much(&self) -> anyhow::Result<f64> {
        let mut stream = self.connect(TAKE_AND_GIVE)?;
        let mut buffer = vec![0; PIECE];
        let begun = Instant::now();
        for _ in 0..MUCH / PIECE {
            stream.write_all(&buffer)?;
        }
        let mut missing = MUCH;
        while missing > 0 {
            let count = stream.read(&mut buffer)?;
            ensure!(count > 0, "the stream ended early");
            missing = missing.saturating_sub(count);
        }
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// The median of many round trips of 64 bytes, in microseconds.
    pub(super) fn round_trip(&self) -> anyhow::Result<f64> {
        let mut stream = self.reach()?;
        round_trip(&mut stream)
    }

    /// A connection until its server has answered, and its end; in microseconds, of `count`.
    pub(super) fn connections(&self, count: u32) -> anyhow::Result<f64> {
        let begun = Instant::now();
        for _ in 0..count {
            self.reach()?;
        }
        Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(count))
    }

    /// So many connections that are idle.
    pub(super) fn idle(&self, count: usize) -> anyhow::Result<Vec<TcpStream>> {
        (0..count).map(|_| self.reach()).collect()
    }
}

/// The round trip without anything in between, in microseconds.
pub(super) fn direct(socket: &Path) -> anyhow::Result<f64> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(&[ECHO])?;
    stream.read_exact(&mut [0])?;
    round_trip(&mut stream)
}

fn round_trip(stream: &mut (impl Read + Write)) -> anyhow::Result<f64> {
    let mut message = [7; 64];
    let mut times = Vec::new();
    for _ in 0..3000 {
        let begun = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    super::stats::median(&times)
}
