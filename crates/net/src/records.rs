//! Which parts of the host's network the VMs of a shared directory have, and which addresses of the pool they had.
//!
//! The directory `shared/macpool` belongs to root. Each monitor whose VM has networks has a file `VM.lease` there (see
//! [`files::HeldDir`]), written before anything is set up: with it, any other monitor can undo what a killed monitor
//! has left. `remembered` is no lease; with it, a VM gets the addresses again that it had before.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use config::{MacAddr, NetworkName, VmName};
use files::HeldDir;
use rustix::fs::stat;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::member::{Book, Member};
use crate::memory::Memories;
use crate::netns::Taken;

/// The directory below the shared one.
const DIRECTORY: &str = "macpool";
/// The suffix of the file of a VM's networks, after its name.
const SUFFIX: &str = ".lease";
const REMEMBERED: &str = "remembered";
/// What is known of the networks of `nat(...)`, by name.
const NETWORKS: &str = "networks";

/// Something that only one VM can have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Thing {
    Interface(String),
    Mac(MacAddr),
    Address(Ipv4Addr),
    /// As "tcp 127.0.0.1:2222".
    Port(String),
    /// In the domain of a network, as "web.uml".
    Name(String),
    /// An interface in another network namespace, which has this number.
    InterfaceIn {
        network: u64,
        name: String,
    },
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Thing::Interface(name) => write!(f, "the interface {name}"),
            Thing::Mac(mac) => write!(f, "the MAC address {mac}"),
            Thing::Address(address) => write!(f, "the address {address}"),
            Thing::Port(port) => write!(f, "the port {port}"),
            Thing::Name(name) => write!(f, "the name {name}"),
            Thing::InterfaceIn { network, name } => {
                write!(f, "the interface {name} of net:[{network}]")
            }
        }
    }
}

impl Taken {
    /// The interface, which only one VM can have.
    pub(crate) fn thing(&self) -> Thing {
        Thing::InterfaceIn {
            network: self.network,
            name: self.name.clone(),
        }
    }
}

/// A thing that a VM has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    pub(crate) thing: Thing,
    /// As what, for people: "proxy_if of eth0".
    pub(crate) role: String,
}

/// An address that the host answers for at one of its interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proxy {
    pub(crate) host_if: String,
    pub(crate) address: Ipv4Addr,
}

/// All that a VM has, and all that is to be undone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The network namespace (inode of its file): interfaces in another one cannot be undone from here.
    pub(crate) namespace: u64,
    pub(crate) holdings: Vec<Holding>,
    /// Name and alias of each tap.
    pub(crate) taps: Vec<(String, String)>,
    pub(crate) proxies: Vec<Proxy>,
    /// Interfaces on which forwarding was switched on for VMs.
    pub(crate) forwarding: Vec<String>,
    /// What it has in networks of `nat(...)`. Absent in records of older monitors.
    #[serde(default)]
    pub(crate) members: Vec<Member>,
    /// The interfaces that packets are taken from, in namespaces of others. Likewise.
    #[serde(default)]
    pub(crate) taken: Vec<Taken>,
}

impl Record {
    pub(crate) fn has(&self, thing: &Thing) -> Option<&Holding> {
        self.holdings.iter().find(|holding| holding.thing == *thing)
    }
}

/// The records of all VMs, as the monitor of one of them uses them.
#[derive(Debug)]
pub struct Records {
    files: HeldDir,
    directory: PathBuf,
    /// Empty for an administrator, who has none.
    vm: String,
}

impl Records {
    /// Opens `SHARED/macpool`, which must be root's.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn open(shared: &Path, vm: &VmName) -> Result<Rc<Records>, Error> {
        Records::open_for(shared, vm.to_string()).map(Rc::new)
    }

    /// The same for an administrator, who has no VM; None if no monitor has made the directory yet.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn open_without_vm(shared: &Path) -> Result<Option<Records>, Error> {
        match shared.join(DIRECTORY).try_exists() {
            Ok(false) => Ok(None),
            _ => Records::open_for(shared, String::new()).map(Some),
        }
    }

    fn open_for(shared: &Path, vm: String) -> Result<Records, Error> {
        let directory = shared.join(DIRECTORY);
        Ok(Records {
            files: HeldDir::open(&directory)?,
            directory,
            vm,
        })
    }

    /// The directory of the files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn vm(&self) -> &str {
        &self.vm
    }

    fn own_file(&self) -> String {
        format!("{}{SUFFIX}", self.vm)
    }

    /// The mutex against other monitors that use these files, or change the host's network.
    pub(crate) fn mutex(&self) -> Result<File, Error> {
        Ok(self.files.mutex()?)
    }

    /// Removes what was left of files that were being written. To be called with the mutex.
    pub(crate) fn remove_drafts(&self) -> Result<(), Error> {
        Ok(self.files.remove_drafts()?)
    }

    /// Whether there is a record of the VM, valid or left.
    pub(crate) fn has_own(&self) -> bool {
        self.files.content(&self.own_file()).is_ok()
    }

    /// The records of the VMs that run, and those that were left by monitors that have ended, ours included.
    pub(crate) fn read(&self) -> Result<All, Error> {
        let mut all = All::default();
        for name in self.files.names()? {
            let Some(vm) = name.strip_suffix(SUFFIX) else {
                continue;
            };
            let content = self.files.content(&name);
            let record = content.and_then(|content| Ok(serde_json::from_slice(&content)?));
            // The lock cannot be taken while we have the mutex.
            match (self.files.is_held(&name)?, record) {
                (true, Ok(_)) if vm == self.vm => {}
                (true, Ok(record)) => all.running.push((vm.to_owned(), record)),
                (true, Err(problem)) => {
                    return Err(Error::Damaged {
                        path: format!("{DIRECTORY}/{name}"),
                        vm: vm.to_owned(),
                        problem: problem.to_string(),
                    });
                }
                (false, Ok(record)) => all.left.push((name, record)),
                (false, Err(problem)) => {
                    tracing::warn!("the record {DIRECTORY}/{name} of a former run: {problem}");
                    self.files.remove(&name)?;
                }
            }
        }
        Ok(all)
    }

    /// Writes what this VM has; it is valid until the file is dropped and removed.
    pub(crate) fn write(&self, record: &Record) -> Result<File, Error> {
        let name = self.own_file();
        self.files.check_no_namesake(&name)?;
        let written = serde_json::to_vec(record)
            .map_err(io::Error::from)
            .and_then(|text| self.files.replace(&name, &text));
        Ok(written.map_err(self.files.failed("write", &name))?)
    }

    /// The record that a former monitor of this VM has written, if this is its file, and a lock on that. To be called
    /// with the mutex.
    pub(crate) fn take_over(&self, file: &File) -> Result<(Record, File), Error> {
        let name = self.own_file();
        let taken = self.files.take_over(&name, file);
        let taken = taken.and_then(|(content, lock)| Ok((serde_json::from_slice(&content)?, lock)));
        Ok(taken.map_err(self.files.failed("take over", &name))?)
    }

    /// Another lock on the file of this VM, see [`HeldDir::another`].
    pub(crate) fn another(&self, file: &File) -> io::Result<File> {
        self.files.another(&self.own_file(), file)
    }

    /// Removes the record of this VM.
    pub(crate) fn remove_own(&self) -> Result<(), Error> {
        self.remove(&self.own_file())
    }

    /// Removes a record that was left and has been undone.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        Ok(self.files.remove(name)?)
    }

    /// The pool, as it was used until now. If the file cannot be read, a new one is begun: it is for convenience only.
    pub(crate) fn memories(&self) -> Memories<MacAddr> {
        let what = "which addresses of the pool belong to which VM";
        self.recall(REMEMBERED, what)
    }

    /// Writes the pool, if it has changed. After a failure, VMs may only get other addresses next time.
    pub(crate) fn remember(&self, memories: &Memories<MacAddr>) {
        if self.memories() != *memories {
            self.keep(REMEMBERED, memories);
        }
    }

    /// What is known of the networks of `nat(...)`; as for [`Records::memories`], what VMs have is in their records.
    pub(crate) fn book(&self) -> Book {
        self.recall(NETWORKS, "which addresses networks have")
    }

    /// Writes the book.
    pub(crate) fn write_book(&self, book: &Book) {
        self.keep(NETWORKS, book);
    }

    fn recall<T: DeserializeOwned + Default>(&self, name: &str, what: &str) -> T {
        let content = self.files.content(name);
        let read = content.and_then(|content| Ok(serde_json::from_slice(&content)?));
        read.unwrap_or_else(|problem: io::Error| {
            if problem.kind() != io::ErrorKind::NotFound {
                tracing::warn!("cannot read {what}: {DIRECTORY}/{name}: {problem}");
            }
            T::default()
        })
    }

    fn keep(&self, name: &str, value: &impl Serialize) {
        let written = serde_json::to_vec(value)
            .map_err(io::Error::from)
            .and_then(|text| self.files.replace(name, &text));
        if let Err(problem) = written {
            tracing::warn!("cannot write {DIRECTORY}/{name}: {problem}");
        }
    }
}

/// All records.
#[derive(Debug, Default)]
pub(crate) struct All {
    /// Of the other VMs that run, by name.
    pub(crate) running: Vec<(String, Record)>,
    /// By name of the file.
    pub(crate) left: Vec<(String, Record)>,
}

/// Those of these VMs that are on a network.
pub(crate) fn members<'a>(
    running: &'a [(String, Record)],
    network: &'a NetworkName,
) -> impl Iterator<Item = (&'a str, &'a Member)> {
    running.iter().flat_map(move |(vm, record)| {
        let members = record.members.iter();
        let members = members.filter(move |member| member.network == *network);
        members.map(move |member| (vm.as_str(), member))
    })
}

impl All {
    /// All MAC addresses of the other VMs.
    pub(crate) fn macs(&self) -> BTreeSet<MacAddr> {
        let holdings = self.running.iter().flat_map(|(_, record)| &record.holdings);
        holdings
            .filter_map(|holding| match holding.thing {
                Thing::Mac(mac) => Some(mac),
                _ => None,
            })
            .collect()
    }
}

/// The network namespace of this thread.
pub(crate) fn namespace() -> u64 {
    stat("/proc/thread-self/ns/net").map_or(0, |stat| stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_or_forgotten() {
        let shared = tempfile::tempdir().unwrap();
        let directory = shared.path().join(DIRECTORY);
        std::fs::create_dir(&directory).unwrap();
        let of = |name: &str| Records::open(shared.path(), &name.parse().unwrap()).unwrap();
        let (one, two) = (of("vm1"), of("vm2"));
        std::fs::write(directory.join("remembered"), "[{").unwrap();
        assert_eq!(one.memories(), Memories::default());
        // That of a monitor that has ended is worthless; that of a running one could hide addresses.
        std::fs::write(directory.join("vm3.lease"), "nonsense").unwrap();
        assert!(one.read().unwrap().left.is_empty());
        assert!(!directory.join("vm3.lease").exists());
        let held = two.write(&Record::default()).unwrap();
        assert_eq!(one.read().unwrap().running.len(), 1);
        std::fs::write(directory.join("vm2.lease"), "nonsense").unwrap();
        let said = one.read().unwrap_err().to_string();
        assert!(
            said.contains("macpool/vm2.lease") && said.contains("umladmin stop vm2"),
            "{said}"
        );
        drop(held);
        assert!(one.read().unwrap().left.is_empty());
    }
}
