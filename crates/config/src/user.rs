//! User changes: the second configuration file of a VM, which its users write through the monitor. umlmon writes it,
//! umladmin reads it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::assignment::{Assignment, read_section};
use crate::error::{Error, Place, Result};
use crate::ini;
use crate::names::VmName;
use crate::setting::{Origin, SectionKind};

/// The parameters that the users of a VM have changed.
#[derive(Debug, Clone, Default)]
pub struct UserChanges {
    /// The section and, if it was read from a file, where it begins.
    section: Option<(VmName, Option<Place>)>,
    pub(crate) assignments: Vec<Assignment>,
}

impl UserChanges {
    /// Reads a file; if it is missing there are no changes. A value that a user could not have set is an error.
    pub fn load(path: &Path) -> Result<UserChanges> {
        match ini::read(path) {
            Ok(text) => UserChanges::parse(&text, path),
            Err(Error::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                Ok(UserChanges::default())
            }
            Err(e) => Err(e),
        }
    }

    /// Reads the text of a file; the path is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<UserChanges> {
        let sections = ini::parse(text, path)?;
        if let Some(second) = sections.get(1) {
            let why = "user changes have one section only".to_owned();
            return Err(Error::Conflict(why).at(&second.place));
        }
        let Some(section) = sections.first() else {
            return Ok(UserChanges::default());
        };
        let name = section
            .name
            .parse()
            .map_err(|e: Error| e.at(&section.place))?;
        Ok(UserChanges {
            section: Some((name, Some(section.place.clone()))),
            assignments: read_section(section, SectionKind::Vm, Origin::User)?,
        })
    }

    /// Writes the file so that after a crash it has either the old or the new content; mode 0600.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.write(path).map_err(|error| Error::Save {
            path: path.to_owned(),
            error,
        })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let (Some(dir), Some(file_name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut temp_name = std::ffi::OsString::from(".");
        temp_name.push(file_name);
        temp_name.push(".new");
        let temp = dir.join(temp_name);
        // A monitor that was killed may have left it. It is never opened, only created: no existing file is written to.
        match fs::remove_file(&temp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temp)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&temp, path)
        })();
        if written.is_err() {
            // The first error is more useful than one of cleaning up.
            let _ = fs::remove_file(&temp);
        }
        written?;
        File::open(dir)?.sync_all()
    }

    fn text(&self) -> String {
        let mut text = "# User changes, written by umlmon; see umlmon(5).\n".to_owned();
        if let Some((name, _)) = &self.section {
            text.push_str(&format!("[{name}]\n"));
        }
        for a in &self.assignments {
            text.push_str(&format!("{} = {}\n", a.name(), a.value));
        }
        text
    }

    /// The assignments, provided that they are those of this VM.
    pub(crate) fn assignments(&self, vm: &VmName) -> Result<&[Assignment]> {
        match &self.section {
            Some((name, place)) if name != vm => {
                let e = Error::Conflict(format!(
                    "[{name}] is not [{vm}], whose user changes should be here"
                ));
                Err(match place {
                    Some(place) => e.at(place),
                    None => e,
                })
            }
            _ => Ok(&self.assignments),
        }
    }

    /// A copy, provided that they are those of this VM.
    pub(crate) fn of_vm(&self, vm: &VmName) -> Result<UserChanges> {
        self.assignments(vm)?;
        let mut copy = self.clone();
        copy.section.get_or_insert_with(|| (vm.clone(), None));
        Ok(copy)
    }
}
