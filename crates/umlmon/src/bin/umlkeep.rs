//! umlkeep, the second process of a running VM, which umlmon starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    umlmon::second::child::main()
}
