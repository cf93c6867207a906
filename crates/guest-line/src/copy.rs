//! The commands that copy files: the helper's own program, whose standard input or output is a stream of the crate
//! `file-stream`.

/// The program that begins a command is the helper itself, whatever its file is called.
const SELF: &[u8] = b"/proc/self/exe";

/// The option by which it sends a file or a tree.
pub const SEND: &str = "-send";

/// The option by which it receives one.
pub const RECEIVE: &str = "-receive";

/// The command that writes what is at this path to its standard output.
pub fn sending(source: &[u8]) -> Vec<Vec<u8>> {
    vec![SELF.into(), SEND.into(), source.into()]
}

/// The command that makes of its standard input what is called so on the other side; see `file_stream::Target`.
pub fn receiving(to: &[u8], name: Option<&[u8]>) -> Vec<Vec<u8>> {
    let words = [SELF, RECEIVE.as_bytes(), to].into_iter().chain(name);
    words.map(<[u8]>::to_vec).collect()
}
