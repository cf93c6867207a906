//! A filter of system calls (seccomp(2)) as a binary tree: the verdict on a call takes some seven comparisons, however
//! many calls there are. That matters with `userspace = seccomp`, where each system call of a guest is several of the
//! host; the host's kernel does not remember verdicts for those, since the filter of the guest's kernel looks at more
//! than their numbers.

use std::collections::BTreeMap;
use std::io;

use nix::libc::{self, c_int, c_long};
use seccompiler::sock_filter;

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is made.
    Allow,
    /// It fails with this error.
    Fail(c_int),
    /// It is made if this argument is one of these numbers. The kernel looks at 32 bits of all that are compared here,
    /// so a filter must, too.
    If(u32, Vec<u32>),
    /// It is made if this argument has none of these bits.
    Without(u32, u32),
}

/// Of linux/audit.h: `EM_X86_64`, 64 bits, little endian.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Where `struct seccomp_data` (linux/seccomp.h) has the number of the call, the architecture, and the arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// The program for these calls. All others fail with `rest`; one of another architecture kills.
///
/// # Errors
/// If a verdict, or half of the tree, is too long to jump over.
pub(crate) fn program(
    calls: &BTreeMap<c_long, Verdict>,
    rest: c_int,
) -> io::Result<Vec<sock_filter>> {
    let mut program = vec![
        step(LOAD, ARCHITECTURE),
        jump(libc::BPF_JEQ, AUDIT_ARCH_X86_64, 1)?,
        step(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, NUMBER),
    ];
    program.extend(tree(&ranges(calls, rest), rest)?);
    Ok(program)
}

/// From which number on which verdict holds, beginning with 0.
fn ranges(calls: &BTreeMap<c_long, Verdict>, rest: c_int) -> Vec<(u32, Verdict)> {
    let mut ranges = vec![(0, Verdict::Fail(rest))];
    for (number, verdict) in calls {
        // All numbers of calls are positive, and small.
        let Ok(number) = u32::try_from(*number) else {
            continue;
        };
        ranges.pop_if(|(begin, _)| *begin == number);
        ranges.push((number, verdict.clone()));
        ranges.push((number.saturating_add(1), Verdict::Fail(rest)));
    }
    ranges.dedup_by(|next, last| next.1 == last.1);
    ranges
}

fn tree(ranges: &[(u32, Verdict)], rest: c_int) -> io::Result<Vec<sock_filter>> {
    if let [(_, verdict)] = ranges {
        return leaf(verdict, rest);
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let from = upper.first().map_or(0, |(from, _)| *from);
    let lower = tree(lower, rest)?;
    let mut program = vec![jump(libc::BPF_JGE, from, lower.len())?];
    program.extend(lower);
    program.extend(tree(upper, rest)?);
    Ok(program)
}

fn leaf(verdict: &Verdict, rest: c_int) -> io::Result<Vec<sock_filter>> {
    let (allow, refuse) = (step(RETURN, libc::SECCOMP_RET_ALLOW), failure(rest));
    let argument = |number: u32| step(LOAD, ARGUMENTS + 8 * number);
    Ok(match verdict {
        Verdict::Allow => vec![allow],
        Verdict::Fail(error) => vec![failure(*error)],
        Verdict::If(number, values) => {
            let mut program = vec![argument(*number)];
            for (before, value) in values.iter().enumerate() {
                program.push(jump(libc::BPF_JEQ, *value, values.len() - before)?);
            }
            program.extend([refuse, allow]);
            program
        }
        Verdict::Without(number, bits) => {
            vec![
                argument(*number),
                jump(libc::BPF_JSET, *bits, 1)?,
                allow,
                refuse,
            ]
        }
    })
}

fn failure(error: c_int) -> sock_filter {
    step(RETURN, libc::SECCOMP_RET_ERRNO | error.unsigned_abs())
}

/// Skips so many instructions if the condition holds.
fn jump(condition: u32, value: u32, skip: usize) -> io::Result<sock_filter> {
    Ok(sock_filter {
        jt: u8::try_from(skip).map_err(io::Error::other)?,
        ..step(JUMP | condition, value)
    })
}

#[allow(clippy::cast_possible_truncation)] // codes of instructions have 16 bits
fn step(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What the host's kernel would do: the result, and after how many instructions.
    pub(crate) fn run(program: &[sock_filter], number: u32, argument: u32) -> (u32, usize) {
        let (mut at, mut loaded, mut steps) = (0, 0, 0);
        loop {
            let now = &program[at];
            let condition = match u32::from(now.code) {
                LOAD => {
                    loaded = match now.k {
                        NUMBER => number,
                        ARCHITECTURE => AUDIT_ARCH_X86_64,
                        _ => argument,
                    };
                    false
                }
                RETURN => return (now.k, steps),
                code if code == JUMP | libc::BPF_JEQ => loaded == now.k,
                code if code == JUMP | libc::BPF_JGE => loaded >= now.k,
                code if code == JUMP | libc::BPF_JSET => loaded & now.k != 0,
                code => panic!("{code:#x}"),
            };
            at += 1 + usize::from(if condition { now.jt } else { now.jf });
            steps += 1;
        }
    }

    #[test]
    fn each_call_gets_its_verdict() {
        let calls = BTreeMap::from([
            (0, Verdict::Allow),
            (1, Verdict::Allow),
            (3, Verdict::If(1, vec![7, 9])),
            (4, Verdict::Without(0, 0b110)),
            (9, Verdict::Fail(libc::ENOSYS)),
            (200, Verdict::Allow),
        ]);
        let program = program(&calls, libc::EPERM).unwrap();
        let allowed = |number, argument| {
            let (result, _) = run(&program, number, argument);
            result == libc::SECCOMP_RET_ALLOW
        };
        let numbers = (0..300).chain([0x4000_0000, u32::MAX]);
        let all: Vec<u32> = numbers.filter(|number| allowed(*number, 7)).collect();
        assert_eq!(all, [0, 1, 3, 200]);
        assert!(allowed(3, 9) && !allowed(3, 8));
        assert!(allowed(4, 0b1001) && !allowed(4, 0b100));
        let errno = |number| run(&program, number, 8).0 ^ libc::SECCOMP_RET_ERRNO;
        assert_eq!((errno(9), errno(3)), (38, 1));
    }
}
