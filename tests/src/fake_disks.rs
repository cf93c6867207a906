//! The disks of the fake kernel, and how its mconsole attaches and detaches them (`fake_linux`, in the jail).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The disks by number: file and, after a comma, backing file.
#[derive(Debug, Default)]
pub struct FakeDisks {
    has: BTreeMap<u8, String>,
    /// Those that the guest uses.
    used: BTreeSet<u8>,
    fault: Option<Fault>,
}

/// What becomes of the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is neither carried out nor answered.
    LosesRequest,
    /// It is carried out, and not answered.
    LosesAnswer,
}

impl FakeDisks {
    /// Those of the kernel's arguments.
    pub fn of(args: &[String]) -> FakeDisks {
        FakeDisks {
            has: args.iter().filter_map(|arg| parse(arg)).collect(),
            ..FakeDisks::default()
        }
    }

    /// Whether the guest uses a disk from now on.
    pub fn use_disk(&mut self, number: &str, uses: bool) {
        let number = number.parse().unwrap_or(u8::MAX);
        match uses {
            true => drop(self.used.insert(number)),
            false => drop(self.used.remove(&number)),
        }
    }

    /// What is to become of the next request.
    pub fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// Carries out a request `config ubd...` or `remove ubd...`. The answer is an error number, 0 for none, and a text;
    /// None if there is no answer.
    pub fn request(&mut self, command: &str, argument: &str) -> Option<(u32, &'static str)> {
        let fault = self.fault.take();
        if fault == Some(Fault::LosesRequest) {
            return None;
        }
        let answer = match command {
            "config" => self.attach(argument),
            _ => self.detach(argument),
        };
        (fault != Some(Fault::LosesAnswer)).then_some(answer)
    }

    fn attach(&mut self, argument: &str) -> (u32, &'static str) {
        let Some((number, files)) = parse(argument) else {
            return (1, "Bad configuration option");
        };
        if self.has.contains_key(&number) {
            return (16_u32.wrapping_neg(), "Device is already configured");
        }
        if !files.split(',').all(|file| Path::new(file).exists()) {
            let why = "Couldn't determine size of device's file";
            return (2_u32.wrapping_neg(), why);
        }
        self.has.insert(number, files);
        (0, "")
    }

    fn detach(&mut self, argument: &str) -> (u32, &'static str) {
        let number = argument.strip_prefix("ubd").map(str::parse);
        let Some(Ok(number)) = number else {
            return (1, "Invalid device number");
        };
        if self.used.contains(&number) {
            return (16_u32.wrapping_neg(), "Device is currently open");
        }
        self.has.remove(&number);
        (0, "")
    }
}

/// The number and the files of `ubdNFLAGS=FILE[,BACKING]`.
fn parse(argument: &str) -> Option<(u8, String)> {
    let (disk, files) = argument.strip_prefix("ubd")?.split_once('=')?;
    let number = disk.trim_end_matches(|c: char| c.is_ascii_lowercase());
    Some((number.parse().ok()?, files.to_owned()))
}
