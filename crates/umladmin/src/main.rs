//! umladmin, the administrators' client: lists, starts and stops the VMs of the configuration.

fn main() -> std::process::ExitCode {
    if client::guard::is_guard() {
        // On failure the terminal stays as it is; no reader is left for a message.
        return match client::guard::main() {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(_) => std::process::ExitCode::FAILURE,
        };
    }
    if umladmin::is_guest() {
        return umladmin::guest();
    }
    if monitors::look::is_looker() {
        return monitors::look::main();
    }
    if monitors::keeper::is_keeper() {
        return monitors::keeper::main();
    }
    if umladmin::is_apart() {
        return umladmin::apart();
    }
    cli::main(&umladmin::PROGRAM, umladmin::run)
}
