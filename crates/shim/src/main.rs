//! containerd-shim-uml-v2: the runtime io.containerd.uml.v2, with which containerd, and so Kubernetes and Docker, runs
//! containers in User Mode Linux VMs: one VM for a pod, or for a container without one.
//!
//! containerd executes it in three ways: `start` begins a server for a pod, or names the one that is there; the server
//! carries out what containerd asks for; `delete` tells how a container ended whose server is gone.

mod address;
mod bundle;
mod container;
mod events;
mod exit;
mod holder;
mod hooks;
mod image;
mod io;
mod network;
mod options;
mod pod;
mod process;
mod rootfs;
mod serve;
mod service;
mod settings;
mod start;
mod stats;
mod translate;
mod vm;
mod volumes;

use std::process::ExitCode;

use options::{Action, Options};

fn main() -> ExitCode {
    if monitors::look::is_looker() {
        return monitors::look::main();
    }
    if monitors::keeper::is_keeper() {
        return monitors::keeper::main();
    }
    if holder::is_holder() {
        return holder::main();
    }
    if exit::is_clearer() {
        return exit::main();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows it to who asked for the container.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    match options.action {
        Action::Version => {
            println!("containerd-shim-uml-v2 {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Action::Start => start::start(&options),
        Action::Serve => serve::serve(options),
        Action::Delete => exit::delete(&options),
    }
}
