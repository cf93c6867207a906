//! umlweb, the web interface: `umlweb [-fg] [-config FILE]`.

fn main() -> std::process::ExitCode {
    umlweb::main()
}
