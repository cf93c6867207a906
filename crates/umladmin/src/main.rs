//! umladmin, the administrators' client: lists, starts and stops the VMs of the configuration.

fn main() -> std::process::ExitCode {
    if umladmin::is_guest() {
        return umladmin::guest();
    }
    if umladmin::is_looker() {
        return umladmin::look();
    }
    if umladmin::is_keeper() {
        return umladmin::keep();
    }
    cli::main(&umladmin::PROGRAM, umladmin::run)
}
