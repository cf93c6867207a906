//! What a program needs to run: its loader and libraries, read from its ELF headers (elf(5)). A confined process of the
//! monitor, and one of umladmin.
//!
//! The file may have any content: only what is needed is read, each part up to a fixed size, and nothing in it is
//! trusted. The directories that it names for the search (`DT_RUNPATH`) are not read at all.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use elf::abi;
use elf::dynamic::DynamicTable;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};
use elf::string_table::StringTable;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The processor that programs must be for, as this program is.
const MACHINE: u16 = abi::EM_X86_64;
/// Its name in messages.
const MACHINE_NAME: &str = "x86-64 (64 bit)";

const MAX_SEGMENTS: u64 = 128;
const MAX_DYNAMIC: u64 = 64 << 10;
const MAX_STRINGS: u64 = 4 << 20;
const MAX_NAME: usize = 255;

/// What a program or library needs.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// `PT_INTERP`: the program loader, for a dynamically linked program.
    pub(crate) loader: Option<PathBuf>,
    /// `DT_NEEDED`: libraries by file name.
    pub(crate) libraries: Vec<String>,
}

impl Needs {
    /// Reads them from `file`, shown as `path` in messages.
    ///
    /// # Errors
    /// If the file is no program or library for this processor.
    pub fn read(file: &File, path: &Path) -> Result<Self> {
        let elf = Elf { file, path };
        let segments = elf.segments()?;
        let mut needs = Self::default();
        if let Some(segment) = segments.iter().find(|s| s.p_type == abi::PT_INTERP) {
            let name = elf.part(segment.p_offset, segment.p_filesz, 4096, "loader name")?;
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            let name = std::str::from_utf8(name).map_err(|_| elf.bad("loader name is not text"))?;
            needs.loader = Some(PathBuf::from(name));
        }
        if let Some(segment) = segments.iter().find(|s| s.p_type == abi::PT_DYNAMIC) {
            elf.dynamic(segment, &segments, &mut needs)?;
        }
        Ok(needs)
    }
}

/// How far what a program loads reaches in its file; None if it is no program. What follows, such as information for
/// debuggers, can be many times as long.
pub(crate) fn loaded_length(file: &File) -> Option<u64> {
    let path = Path::new("");
    let segments = Elf { file, path }.segments().ok()?;
    let loaded = segments.iter().filter(|s| s.p_type == abi::PT_LOAD);
    loaded.map(|s| s.p_offset.saturating_add(s.p_filesz)).max()
}

struct Elf<'a> {
    file: &'a File,
    path: &'a Path,
}

impl Elf<'_> {
    fn bad(&self, problem: impl ToString) -> Error {
        Error::NotElf {
            path: self.path.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// Reads `size` bytes at `offset`, if that is no more than `limit`.
    fn part(&self, offset: u64, size: u64, limit: u64, what: &str) -> Result<Vec<u8>> {
        let size = match usize::try_from(size) {
            Ok(bytes) if size <= limit => bytes,
            _ => return Err(self.bad(format!("{what} is too large"))),
        };
        let mut bytes = vec![0; size];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.bad(format!("it ends before its {what}")))
            }
            // An offset beyond what the file system can address.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(self.bad(format!("{what} lies outside the file")))
            }
            Err(source) => Err(Error::Read {
                path: self.path.to_owned(),
                source,
            }),
        }
    }

    /// Checks the file header and gives the program headers.
    fn segments(&self) -> Result<Vec<ProgramHeader>> {
        let ident = self.part(0, abi::EI_NIDENT as u64, 64, "file header")?;
        if !ident.starts_with(&abi::ELFMAGIC) {
            return Err(self.bad("it does not start with the ELF mark"));
        }
        let wrong = |found: String| Error::WrongArchitecture {
            path: self.path.to_owned(),
            found,
            expected: MACHINE_NAME,
        };
        let Ok(parsed @ (endian, class, ..)) = parse_ident::<LittleEndian>(&ident) else {
            return Err(wrong("another byte order or word size".to_owned()));
        };
        if class != Class::ELF64 {
            return Err(wrong("a 32 bit processor".to_owned()));
        }
        let rest = self.part(
            abi::EI_NIDENT as u64,
            64 - abi::EI_NIDENT as u64,
            64,
            "file header",
        )?;
        let header = FileHeader::parse_tail(parsed, &rest).map_err(|error| self.bad(error))?;
        if header.e_machine != MACHINE {
            let name = elf::to_str::e_machine_to_human_str(header.e_machine);
            return Err(wrong(name.map_or(
                format!("machine type {}", header.e_machine),
                str::to_owned,
            )));
        }
        if !matches!(header.e_type, abi::ET_EXEC | abi::ET_DYN) {
            return Err(self.bad("it is neither a program nor a library"));
        }
        let size = u64::from(header.e_phentsize) * u64::from(header.e_phnum);
        if header.e_phentsize != 56 {
            return Err(self.bad("program headers have the wrong size"));
        }
        let table = self.part(header.e_phoff, size, MAX_SEGMENTS * 56, "program headers")?;
        Ok(SegmentTable::new(endian, class, &table).iter().collect())
    }

    /// Reads the dynamic section: the libraries.
    fn dynamic(
        &self,
        segment: &ProgramHeader,
        all: &[ProgramHeader],
        needs: &mut Needs,
    ) -> Result<()> {
        let table = self.part(
            segment.p_offset,
            segment.p_filesz,
            MAX_DYNAMIC,
            "dynamic section",
        )?;
        let table = DynamicTable::new(LittleEndian, Class::ELF64, &table);
        let entries = || table.iter().take_while(|entry| entry.d_tag != abi::DT_NULL);
        let value = |tag| {
            entries()
                .find(|entry| entry.d_tag == tag)
                .map(|entry| entry.d_val())
        };
        let (Some(address), Some(size)) = (value(abi::DT_STRTAB), value(abi::DT_STRSZ)) else {
            return Ok(());
        };
        let offset = all
            .iter()
            .filter(|s| s.p_type == abi::PT_LOAD && s.p_vaddr <= address)
            .find(|s| address - s.p_vaddr < s.p_filesz)
            .and_then(|s| s.p_offset.checked_add(address - s.p_vaddr))
            .ok_or_else(|| self.bad("its names are not in the file"))?;
        let strings = self.part(offset, size, MAX_STRINGS, "names")?;
        let strings = StringTable::new(&strings);
        let name = |offset: u64| {
            usize::try_from(offset)
                .ok()
                .and_then(|offset| strings.get(offset).ok())
                .ok_or_else(|| self.bad("a name lies outside the names"))
        };
        for entry in entries().filter(|entry| entry.d_tag == abi::DT_NEEDED) {
            let library = name(entry.d_val())?;
            if library.is_empty() || library.len() > MAX_NAME || library.contains('/') {
                return Err(self.bad("a library is not given by its file name"));
            }
            needs.libraries.push(library.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Needs> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Needs::read(&file, Path::new("/kernel"))
    }

    #[test]
    fn reads_this_program() {
        let needs = Needs::read(&File::open("/proc/self/exe").unwrap(), Path::new("/me")).unwrap();
        assert!(needs.loader.unwrap().to_str().unwrap().contains("ld-linux"));
        assert!(
            needs.libraries.iter().any(|library| library == "libc.so.6"),
            "{:?}",
            needs.libraries
        );
    }

    #[test]
    fn tells_what_is_wrong() {
        let good = std::fs::read("/proc/self/exe").unwrap();
        let patched = |at: usize, with: &[u8]| {
            let mut bytes = good[..4096].to_vec();
            bytes[at..at + with.len()].copy_from_slice(with);
            read(&bytes).unwrap_err()
        };
        assert!(matches!(read(b"").unwrap_err(), Error::NotElf { .. }));
        assert!(matches!(
            read(b"#!/bin/sh\necho a shell script\n").unwrap_err(),
            Error::NotElf { .. }
        ));
        assert!(matches!(patched(4, &[1]), Error::WrongArchitecture { .. }));
        assert!(matches!(patched(5, &[2]), Error::WrongArchitecture { .. }));
        let arm = patched(18, &183_u16.to_le_bytes());
        assert!(arm.to_string().contains("AARCH64"), "{arm}");
        assert!(matches!(
            patched(16, &4_u16.to_le_bytes()),
            Error::NotElf { .. }
        ));
        assert!(matches!(
            patched(32, &u64::MAX.to_le_bytes()),
            Error::NotElf { .. }
        ));
    }

    #[test]
    fn survives_any_damage() {
        let good = std::fs::read("/proc/self/exe").unwrap();
        let mut bytes = good[..good.len().min(1 << 16)].to_vec();
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(seed >> 33).unwrap() % 1024;
            let before = bytes[at];
            bytes[at] = seed.to_le_bytes()[7];
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes[..1024]).unwrap();
            let _ = Needs::read(&file, Path::new("/kernel"));
            if seed.is_multiple_of(3) {
                bytes[at] = before;
            }
        }
    }

    #[test]
    fn what_is_loaded_ends_before_what_is_for_debuggers() {
        let program = File::open("/proc/self/exe").unwrap();
        let (loaded, length) = (loaded_length(&program), program.metadata().unwrap().len());
        assert!(loaded.is_some_and(|loaded| loaded > 4096 && loaded < length));
        assert_eq!(loaded_length(&tempfile::tempfile().unwrap()), None);
    }
}
