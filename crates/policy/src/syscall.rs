//! System calls: their names, and the numbers they have here.
//!
//! Rules name them as x86-64 does, whatever the architecture. A 32-bit program makes them by other
//! numbers, and some under other names: what a rule calls `chown` is `chown32` as well.

use std::fmt;

use karmor_abi::word::Convention;

use crate::names::SYSCALLS;

#[cfg(target_arch = "aarch64")]
use syscalls::{aarch64 as native, arm as compat};
// The numbers of another architecture would be of no use, but checking policies is.
#[cfg(not(target_arch = "aarch64"))]
use syscalls::{x86 as compat, x86_64 as native};

/// One past the highest number of any table.
const NUMBERS: usize = 1024;

/// A system call, as rules name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Syscall(&'static str);

impl fmt::Debug for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What 32-bit programs call what follows, where that is neither the name nor the name with an
/// ending.
const OTHERWISE: [(&str, &[&str]); 13] = [
    ("fadvise64", &["fadvise64_64"]),
    ("fstat", &["oldfstat"]),
    ("getrlimit", &["ugetrlimit"]),
    ("lseek", &["_llseek"]),
    ("lstat", &["oldlstat"]),
    ("mmap", &["mmap2"]),
    ("newfstatat", &["fstatat64"]),
    ("rt_sigaction", &["sigaction", "signal"]),
    ("rt_sigprocmask", &["sigprocmask", "sgetmask", "ssetmask"]),
    ("select", &["_newselect"]),
    ("stat", &["oldstat"]),
    ("umount2", &["umount"]),
    ("uname", &["olduname", "oldolduname"]),
];

/// What 32-bit programs append to a name: for wide users, offsets and times.
const ENDINGS: [&str; 4] = ["", "32", "64", "_time64"];

/// What the tables of the architectures do not have yet. New system calls have one number everywhere.
const NEWER: [(&str, usize); 1] = [("listns", 470)];

/// System calls about a path that the kernel shows while it looks at what is there.
const AT: [&str; 36] = [
    "bind",
    "chmod",
    "chown",
    "creat",
    "execve",
    "execveat",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "ftruncate",
    "lchown",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mount",
    "move_mount",
    "open",
    "open_by_handle_at",
    "openat",
    "openat2",
    "pivot_root",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "symlink",
    "symlinkat",
    "truncate",
    "umount2",
    "unlink",
    "unlinkat",
];

impl Syscall {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut names = SYSCALLS.into_iter();
        names.find(|known| *known == name).map(Self)
    }

    /// What somebody meant who wrote it as a 32-bit program, or the kernel's source, does.
    pub(crate) fn meant(name: &str) -> Option<Self> {
        let lower = name.trim().to_ascii_lowercase();
        let bare = lower.trim_start_matches("__x64_");
        let bare = bare.strip_prefix("sys_").unwrap_or(bare);
        let otherwise = OTHERWISE.iter().find(|(_, names)| names.contains(&bare));
        let otherwise = otherwise.and_then(|(name, _)| Self::named(name));
        let without_ending = || {
            let mut endings = ENDINGS.iter();
            endings.find_map(|ending| Self::named(bare.strip_suffix(ending)?))
        };
        otherwise.or_else(without_ending)
    }

    /// Its name in rules.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// Its number on this architecture; none where it does not exist.
    #[must_use]
    pub fn number(self) -> Option<u32> {
        number(self.0, native_name)
    }

    /// Its numbers on this architecture, with how they are used.
    #[must_use]
    pub fn numbers(self) -> Vec<(Convention, u32)> {
        let otherwise = OTHERWISE.iter().find(|(name, _)| *name == self.0);
        let otherwise = otherwise.map_or(&[][..], |(_, names)| names);
        let with_ending = ENDINGS
            .iter()
            .map(|ending| format!("{}{ending}", self.0))
            // `getdents64` is a name of its own.
            .filter(|name| *name == self.0 || !SYSCALLS.contains(&name.as_str()));
        let mut compat: Vec<u32> = with_ending
            .chain(otherwise.iter().map(|&name| name.to_owned()))
            .filter_map(|name| number(&name, compat_name))
            .collect();
        compat.sort_unstable();
        compat.dedup();
        let native = self.number().map(|number| (Convention::Native, number));
        let compat = compat
            .into_iter()
            .map(|number| (Convention::Compat, number));
        native.into_iter().chain(compat).collect()
    }

    /// Whether it is about a path that the kernel shows.
    #[must_use]
    pub fn shows_path(self) -> bool {
        AT.contains(&self.0)
    }
}

/// What a call of this number is called, by this architecture or by its 32-bit programs.
#[must_use]
pub fn name_of(convention: Convention, number: u32) -> Option<&'static str> {
    let number = usize::try_from(number).ok()?;
    match convention {
        Convention::Native => native_name(number),
        Convention::Compat => compat_name(number),
    }
}

fn native_name(number: usize) -> Option<&'static str> {
    let known = native::Sysno::new(number).map(|call| call.name());
    known.or_else(|| newer(number))
}

fn compat_name(number: usize) -> Option<&'static str> {
    let known = compat::Sysno::new(number).map(|call| call.name());
    known.or_else(|| newer(number))
}

fn newer(number: usize) -> Option<&'static str> {
    let mut newer = NEWER.iter();
    newer
        .find(|(_, known)| *known == number)
        .map(|&(name, _)| name)
}

fn number(name: &str, name_of: impl Fn(usize) -> Option<&'static str>) -> Option<u32> {
    let number = (0..NUMBERS).find(|&number| name_of(number) == Some(name))?;
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use karmor_abi::word;

    use super::*;

    fn numbers(name: &str) -> Vec<(Convention, u32)> {
        Syscall::named(name).unwrap().numbers()
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn every_name_has_a_number() {
        let mut before = None;
        for name in SYSCALLS {
            let number = Syscall::named(name).unwrap().number();
            assert!(number > before, "{name}: {number:?}");
            assert!(number < Some(word::SYSCALLS), "{name}");
            before = number;
        }
    }

    #[test]
    fn every_number_has_a_name_that_rules_may_write() {
        use syscalls::x86_64::Sysno;
        for call in (0..NUMBERS).filter_map(Sysno::new) {
            assert!(SYSCALLS.contains(&call.name()), "{call}");
        }
    }

    #[test]
    fn what_the_tables_lack_is_known_all_the_same() {
        use Convention::{Compat, Native};
        assert_eq!(numbers("listns"), [(Native, 470), (Compat, 470)]);
        assert_eq!(name_of(Compat, 470), Some("listns"));
        for (name, number) in NEWER {
            assert_eq!(
                native::Sysno::new(number),
                None,
                "{name} is in the table now"
            );
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_came_last_has_the_numbers_of_the_kernel() {
        use Convention::{Compat, Native};
        assert_eq!(numbers("uretprobe"), [(Native, 335)]);
        assert_eq!(numbers("uprobe"), [(Native, 336)]);
        assert_eq!(numbers("file_getattr"), [(Native, 468), (Compat, 468)]);
        assert_eq!(numbers("file_setattr"), [(Native, 469), (Compat, 469)]);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn programs_of_32_bits_have_other_numbers() {
        use Convention::{Compat, Native};
        assert_eq!(numbers("getppid"), [(Native, 110), (Compat, 64)]);
        assert_eq!(
            numbers("chown"),
            [(Native, 92), (Compat, 182), (Compat, 212)]
        );
        assert_eq!(numbers("getdents"), [(Native, 78), (Compat, 141)]);
        assert_eq!(
            numbers("umount2"),
            [(Native, 166), (Compat, 22), (Compat, 52)]
        );
        assert_eq!(name_of(Compat, 212), Some("chown32"));
        assert_eq!(name_of(Native, 84), Some("rmdir"));
        assert_eq!(name_of(Native, 1_000_000), None);
    }

    #[test]
    fn other_names_exist() {
        for (name, others) in OTHERWISE {
            assert!(SYSCALLS.contains(&name), "{name}");
            for other in others {
                assert!(!SYSCALLS.contains(other));
            }
        }
        for name in AT {
            assert!(Syscall::named(name).is_some(), "{name}");
        }
    }
}
