//! The numbers of the system calls, by name.
//!
//! `syscalls.txt` has a line for each: name, number on x86-64, number on i386
//! (`-` where there is none), sorted by name as bytes. It comes from the tables
//! of the kernel that Wherry ships, in its `arch/x86/entry/syscalls`:
//!
//! ```text
//! { awk '!/^#/ && NF >= 3 && $2 != "x32" { print 64, $3, $1 }' syscall_64.tbl
//!   awk '!/^#/ && NF >= 3 { print 32, $3, $1 }' syscall_32.tbl; } |
//! awk '{ all[$2]; at[$1, $2] = $3 }
//!      function number(a, n) { return (a, n) in at ? at[a, n] : "-" }
//!      END { for (n in all) print n, number(64, n), number(32, n) }' | LC_ALL=C sort
//! ```
//!
//! It stays text: as an array of strings it would cost the program four times
//! the bytes, and relocations at each start.

pub(super) const TABLE: &str = include_str!("syscalls.txt");

/// The highest number in the table, on either architecture.
pub(super) const LAST: u32 = 462;

/// The numbers of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub x86_64: Option<u32>,
    pub i386: Option<u32>,
}

/// Looks a name up; no numbers for a name that the kernel does not know.
pub(super) fn numbers(name: &str) -> Numbers {
    // Binary search on bytes; `low` and `high` are always starts of lines.
    let (mut low, mut high) = (0, TABLE.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let start = TABLE[..middle].rfind('\n').map_or(0, |at| at + 1).max(low);
        let end = TABLE[start..].find('\n').map_or(high, |at| start + at + 1);
        let mut words = TABLE[start..end].split_ascii_whitespace();
        match words.next().unwrap_or_default().cmp(name) {
            std::cmp::Ordering::Less => low = end,
            std::cmp::Ordering::Greater => high = start,
            std::cmp::Ordering::Equal => {
                let mut number = || words.next().and_then(|word| word.parse().ok());
                return Numbers {
                    x86_64: number(),
                    i386: number(),
                };
            }
        }
    }
    Numbers {
        x86_64: None,
        i386: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> impl Iterator<Item = (&'static str, Option<u32>, Option<u32>)> {
        TABLE.lines().map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(words.len(), 3, "{line}");
            (words[0], words[1].parse().ok(), words[2].parse().ok())
        })
    }

    #[test]
    fn every_name_of_the_table_is_found() {
        for (name, x86_64, i386) in lines() {
            assert_eq!(numbers(name), Numbers { x86_64, i386 }, "{name}");
        }
    }

    #[test]
    fn a_name_that_is_not_in_the_table_has_no_number() {
        for name in [
            "",
            "a",
            "zzz",
            "open_by_handle",
            "openat3",
            "arm_fadvise64_64",
        ] {
            let none = Numbers {
                x86_64: None,
                i386: None,
            };
            assert_eq!(numbers(name), none, "{name}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_its_last_number_is_known() {
        let names: Vec<_> = lines().map(|(name, _, _)| name).collect();
        assert!(names.is_sorted());
        let last = lines()
            .flat_map(|(_, x86_64, i386)| [x86_64, i386])
            .flatten()
            .max();
        assert_eq!(last, Some(LAST));
    }

    #[test]
    fn the_table_agrees_with_the_c_library() {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("openat2", libc::SYS_openat2),
            ("mseal", libc::SYS_mseal),
        ] {
            assert_eq!(numbers(name).x86_64, Some(number as u32), "{name}");
        }
    }
}
