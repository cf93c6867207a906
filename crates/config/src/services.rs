//! The TCP ports of umldir that are the same on all hosts: set in `[GLOBAL]`, or those of /etc/services. Used by
//! umldir, which listens on them, and by the clients.

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::global::Global;

/// The file with the names of services (services(5)).
const SERVICES: &str = "/etc/services";

/// A TCP service of umldir. Displays as its name in /etc/services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The directory of the VMs.
    Umldir,
    /// The redirector to their monitors.
    Umlredir,
}

impl Service {
    /// The parameter of `[GLOBAL]` that sets the port.
    pub fn parameter(self) -> &'static str {
        match self {
            Service::Umldir => "umldir_port",
            Service::Umlredir => "umlredir_port",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Service::Umldir => "umldir",
            Service::Umlredir => "umlredir",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Global {
    /// The TCP port of a service: that of its parameter, else that of its entry in /etc/services.
    ///
    /// # Errors
    /// If there is neither, or /etc/services cannot be read. The message says what to add where.
    pub fn port_of(&self, service: Service) -> Result<u16> {
        let set = match service {
            Service::Umldir => self.umldir_port,
            Service::Umlredir => self.umlredir_port,
        };
        match set {
            Some(port) => Ok(port),
            None => read(Path::new(SERVICES), service),
        }
    }
}

/// The port of a service in a file of the form of /etc/services.
fn read(path: &Path, service: Service) -> Result<u16> {
    // The file may have comments in any encoding.
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        // A missing file counts as empty.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(Error::Read {
                path: path.to_owned(),
                error,
            });
        }
    };
    find(&text, service.name()).ok_or_else(|| {
        let parameter = service.parameter();
        Error::Conflict(format!(
            "the TCP port of {service} is not known: {} has no entry \"{service} PORT/tcp\"; add one, or set \
             {parameter} in [GLOBAL]",
            path.display()
        ))
    })
}

/// The TCP port of the service of this name, or with this alias.
fn find(text: &str, name: &str) -> Option<u16> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?;
        let mut words = line.split_whitespace();
        let (first, number) = (words.next()?, words.next()?);
        let port = number.strip_suffix("/tcp")?.parse().ok()?;
        let named = first == name || words.any(|alias| alias == name);
        (named && port != 0).then_some(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_lines_are_understood() {
        let text = include_str!("../../../etc/services");
        assert_eq!(find(text, "umldir"), Some(8871));
        assert_eq!(find(text, "umlredir"), Some(8872));
    }

    #[test]
    fn an_entry_has_the_name_and_is_for_tcp() {
        let text = "#umldir 1/tcp\numldir 2/udp\n umldir2 3/tcp\nx 4/tcp # umldir\numldir many/tcp\numldir 0/tcp\n\
            umldir\nother 5/tcp alias umldir\numldir 6/tcp\n";
        assert_eq!(find(text, "umldir"), Some(5));
        assert_eq!(find(text, "umlredir"), None);
    }

    #[test]
    fn a_missing_entry_is_named_with_the_parameter_that_helps() {
        let error = read(Path::new("/does/not/exist"), Service::Umlredir).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the TCP port of umlredir is not known: /does/not/exist has no entry \"umlredir PORT/tcp\"; add one, or \
             set umlredir_port in [GLOBAL]"
        );
        let unreadable = read(Path::new("/"), Service::Umldir).unwrap_err();
        assert!(
            unreadable.to_string().starts_with("cannot read /: "),
            "{unreadable}"
        );
    }

    #[test]
    fn the_parameter_comes_before_the_entry() {
        let mut global = Global::blank();
        (global.umldir_port, global.umlredir_port) = (Some(1), Some(2));
        assert_eq!(global.port_of(Service::Umldir).unwrap(), 1);
        assert_eq!(global.port_of(Service::Umlredir).unwrap(), 2);
    }
}
