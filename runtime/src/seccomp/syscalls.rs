//! The numbers of the system calls, by name.
//!
//! `syscalls.txt` has a line for each: name, then its numbers on the
//! architectures in the order of [`Abi`] (`-` where there is none), sorted by
//! name as bytes. It comes from the tables of the kernel that Wherry ships, in
//! the folder of its source; the calls of ARM that its table does not have are
//! those of its `asm/unistd.h`, and another name of one in use:
//!
//! ```text
//! x86=arch/x86/entry/syscalls
//! { awk '!/^#/ && NF >= 3 && $2 != "x32" { print "x86_64", $3, $1 }' $x86/syscall_64.tbl
//!   awk '!/^#/ && NF >= 3 && $2 != "64" { print "x32", $3, $1 }' $x86/syscall_64.tbl
//!   awk '!/^#/ && NF >= 3 { print "i386", $3, $1 }' $x86/syscall_32.tbl
//!   awk '!/^#/ && NF >= 3 && $2 ~ /^(common|64|renameat|rlimit|memfd_secret)$/ {
//!        print "aarch64", $3, $1 }' scripts/syscall.tbl
//!   awk '!/^#/ && NF >= 3 && $2 != "oabi" { print "arm", $3, $1 }' arch/arm/tools/syscall.tbl
//!   printf 'arm %s\n' 'breakpoint 983041' 'cacheflush 983042' 'usr26 983043' 'usr32 983044' \
//!     'set_tls 983045' 'get_tls 983046' 'sync_file_range2 341'; } |
//! awk '{ all[$2]; at[$1, $2] = $3 }
//!      function number(a, n) { return (a, n) in at ? at[a, n] : "-" }
//!      END { for (n in all) print n, number("x86_64", n), number("i386", n),
//!            number("x32", n), number("aarch64", n), number("arm", n) }' | LC_ALL=C sort
//! ```
//!
//! It stays text: as an array of strings it would cost the program four times
//! the bytes, and relocations at each start.

pub(super) const TABLE: &str = include_str!("syscalls.txt");

/// How a program calls the kernel: with which numbers, and the kernel's name
/// for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "those of other machines"))]
pub(super) enum Abi {
    X86_64,
    I386,
    /// Shares x86-64's architecture; its numbers have a bit of their own.
    X32,
    Aarch64,
    Arm,
}

/// Set in the number of a call of x32.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    /// The architecture in `struct seccomp_data` (linux/audit.h).
    pub fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::I386 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 64 bits. Those of x32 do in registers, as the
    /// calls that it shares with x86-64 see them.
    pub fn is_wide(self) -> bool {
        match self {
            Abi::X86_64 | Abi::X32 | Abi::Aarch64 => true,
            Abi::I386 | Abi::Arm => false,
        }
    }
}

const COUNT: usize = {
    let (text, mut count, mut at) = (TABLE.as_bytes(), 0, 0);
    while at < text.len() {
        count += (text[at] == b'\n') as usize;
        at += 1;
    }
    count
};

/// Where each line starts and where its first space is: computed at compile
/// time, since a profile has hundreds of names to look up.
const LINES: [(u16, u8); COUNT] = {
    let text = TABLE.as_bytes();
    assert!(text.len() <= u16::MAX as usize);
    let mut lines = [(0, 0); COUNT];
    let (mut line, mut at) = (0, 0);
    while line < COUNT {
        lines[line].0 = at as u16;
        while text[at] != b' ' {
            lines[line].1 += 1;
            at += 1;
        }
        while text[at] != b'\n' {
            at += 1;
        }
        at += 1;
        line += 1;
    }
    lines
};

/// A system call of some architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syscall {
    /// Where its numbers begin in the table.
    numbers: usize,
}

impl Syscall {
    /// Looks a name up; `None` for a name that the kernel does not know.
    pub fn find(name: &str) -> Option<Syscall> {
        let place = LINES.binary_search_by(|&(start, length)| {
            let start = usize::from(start);
            TABLE.as_bytes()[start..start + usize::from(length)].cmp(name.as_bytes())
        });
        let (start, length) = LINES[place.ok()?];
        Some(Syscall {
            numbers: usize::from(start) + usize::from(length) + 1,
        })
    }

    /// Its number, as `struct seccomp_data` has it.
    pub fn number(self, abi: Abi) -> Option<u32> {
        let mut column = 0;
        let mut number = None;
        for byte in &TABLE.as_bytes()[self.numbers..] {
            match byte {
                b'0'..=b'9' if column == abi as usize => {
                    number = Some(number.unwrap_or(0) * 10 + u32::from(byte - b'0'));
                }
                b' ' if column == abi as usize => break,
                b' ' => column += 1,
                b'\n' => break,
                _ => {}
            }
        }
        match abi {
            Abi::X32 => number.map(|number| number | X32_BIT),
            _ => number,
        }
    }
}

/// i386 has calls that stand for others, selected by the first argument:
/// `socketcall` for sockets, `ipc` for System V's.
pub(super) fn multiplexed(name: &str) -> Option<(&'static str, u64)> {
    // linux/net.h, linux/ipc.h.
    let socket = |number| Some(("socketcall", number));
    let ipc = |number| Some(("ipc", number));
    match name {
        "socket" => socket(1),
        "bind" => socket(2),
        "connect" => socket(3),
        "listen" => socket(4),
        "accept" => socket(5),
        "getsockname" => socket(6),
        "getpeername" => socket(7),
        "socketpair" => socket(8),
        "send" => socket(9),
        "recv" => socket(10),
        "sendto" => socket(11),
        "recvfrom" => socket(12),
        "shutdown" => socket(13),
        "setsockopt" => socket(14),
        "getsockopt" => socket(15),
        "sendmsg" => socket(16),
        "recvmsg" => socket(17),
        "accept4" => socket(18),
        "recvmmsg" => socket(19),
        "sendmmsg" => socket(20),
        "semop" => ipc(1),
        "semget" => ipc(2),
        "semctl" => ipc(3),
        "semtimedop" => ipc(4),
        "msgsnd" => ipc(11),
        "msgrcv" => ipc(12),
        "msgget" => ipc(13),
        "msgctl" => ipc(14),
        "shmat" => ipc(21),
        "shmdt" => ipc(22),
        "shmget" => ipc(23),
        "shmctl" => ipc(24),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Abi; 5] = [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64, Abi::Arm];

    #[test]
    fn every_name_of_the_table_is_found() {
        for line in TABLE.lines() {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(words.len(), 1 + ALL.len(), "{line}");
            let call = Syscall::find(words[0]).unwrap();
            for (abi, word) in ALL.into_iter().zip(&words[1..]) {
                let bit = if abi == Abi::X32 { X32_BIT } else { 0 };
                let number = word.parse::<u32>().ok().map(|number| number | bit);
                assert_eq!(call.number(abi), number, "{line}");
            }
        }
    }

    #[test]
    fn a_name_that_is_not_in_the_table_has_no_number() {
        for name in ["", "a", "zzz", "open_by_handle", "openat3", "read 0"] {
            assert_eq!(Syscall::find(name), None, "{name}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_no_number_is_there_twice() {
        let names: Vec<_> = TABLE.lines().map(|line| line.split(' ').next()).collect();
        assert!(names.is_sorted());
        for abi in ALL {
            let mut seen = std::collections::BTreeSet::new();
            for name in &names {
                let number = Syscall::find(name.unwrap()).unwrap().number(abi);
                // The other name of arm_sync_file_range.
                let alias = *name == Some("sync_file_range2");
                assert!(
                    alias || number.is_none_or(|number| seen.insert(number)),
                    "{name:?}"
                );
            }
        }
    }

    #[test]
    fn the_table_agrees_with_the_c_library() {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("openat2", libc::SYS_openat2),
            ("mseal", libc::SYS_mseal),
        ] {
            let call = Syscall::find(name).unwrap();
            assert_eq!(
                call.number(super::super::NATIVE[0].1),
                Some(number as u32),
                "{name}"
            );
        }
    }

    #[test]
    fn numbers_are_those_of_each_architecture() {
        for (name, expected) in [
            (
                "execve",
                [Some(59), Some(11), Some(520 | X32_BIT), Some(221), Some(11)],
            ),
            (
                "stat",
                [Some(4), Some(106), Some(4 | X32_BIT), None, Some(106)],
            ),
            (
                "newfstatat",
                [Some(262), None, Some(262 | X32_BIT), Some(79), None],
            ),
            ("set_tls", [None, None, None, None, Some(0xf_0005)]),
        ] {
            let call = Syscall::find(name).unwrap();
            assert_eq!(ALL.map(|abi| call.number(abi)), expected, "{name}");
        }
    }
}
