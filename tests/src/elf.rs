//! Program files as somebody makes them who wants something of whoever looks at them (the end-to-end tests).

/// Where the headers end: those of the file and of three segments.
const HEADERS: u64 = 64 + 3 * 56;
/// Tags of the dynamic section (elf(5)).
const NEEDED: u64 = 1;
const STRTAB: u64 = 5;
const STRSZ: u64 = 10;
const RUNPATH: u64 = 29;

/// A program file that cannot do anything, but asks for a loader, for libraries, and for directories to be searched.
pub fn program(loader: &str, libraries: &[&str], runpath: &str) -> Vec<u8> {
    let mut strings = vec![0];
    let mut dynamic = Vec::new();
    let names = libraries.iter().map(|library| (NEEDED, *library));
    for (tag, text) in names.chain([(RUNPATH, runpath)]) {
        dynamic.push((tag, strings.len() as u64));
        strings.extend(text.bytes().chain([0]));
    }
    let loader_at = HEADERS + strings.len() as u64;
    let dynamic_at = loader_at + loader.len() as u64 + 1;
    dynamic.extend([(STRTAB, HEADERS), (STRSZ, strings.len() as u64), (0, 0)]);
    let end = dynamic_at + dynamic.len() as u64 * 16;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // A program for x86-64.
    file.extend([2_u16, 62].iter().flat_map(|n| n.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    file.extend([0_u64, 64, 0].iter().flat_map(|n| n.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    let sizes = [64_u16, 56, 3, 64, 0, 0];
    file.extend(sizes.iter().flat_map(|n| n.to_le_bytes()));
    // What is loaded, the name of the loader, the dynamic section.
    for (kind, from, to) in [
        (1_u32, 0, end),
        (3, loader_at, dynamic_at),
        (2, dynamic_at, end),
    ] {
        file.extend([kind, 5].iter().flat_map(|n| n.to_le_bytes()));
        let numbers = [from, from, from, to - from, to - from, 1];
        file.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    }
    file.extend(strings.iter().copied());
    file.extend(loader.bytes().chain([0]));
    let dynamic = dynamic.iter().flat_map(|(tag, value)| [*tag, *value]);
    file.extend(dynamic.flat_map(u64::to_le_bytes));
    file
}
