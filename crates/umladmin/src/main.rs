//! umladmin, the administrators' client: lists, starts and stops the VMs of the configuration.

fn main() -> std::process::ExitCode {
    cli::main(&umladmin::PROGRAM, umladmin::run)
}
