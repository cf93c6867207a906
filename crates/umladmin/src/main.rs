//! umladmin, the administrators' client: lists, starts and stops the VMs of the configuration.

fn main() -> std::process::ExitCode {
    if umladmin::is_guest() {
        return umladmin::guest();
    }
    if umladmin::is_looker() {
        return umladmin::look();
    }
    cli::main(&umladmin::PROGRAM, umladmin::run)
}
