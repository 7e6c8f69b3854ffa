//! The seccomp profile of a container that brings none.
//!
//! It allows what the default profiles of Docker and containerd allow on the
//! same architecture: calls that act on the caller's own processes, files,
//! memory and sockets; others only with the capability that the kernel requires
//! for them. Everything else fails with EPERM.
//!
//! One difference is deliberate: calls of other architectures that the machine
//! runs (i386, x32, ARM) kill. Docker and containerd allow more there (i386's
//! `socketcall` bypasses the socket rules below), and no container needs them
//! without asking.

use oci_spec::runtime::{
    Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

/// Allowed to everybody, by subject.
const ALLOWED: &[&str] = &[
    // Programs, processes and threads.
    "execve execveat exit exit_group fork vfork wait4 waitid getpid getppid gettid getpgid \
     getpgrp getsid setpgid setsid set_tid_address set_robust_list get_robust_list arch_prctl \
     set_thread_area get_thread_area modify_ldt prctl rseq restart_syscall uname sysinfo \
     getrusage times getcpu ptrace process_vm_readv process_vm_writev process_mrelease \
     pidfd_open pidfd_send_signal membarrier uretprobe map_shadow_stack",
    // Users and capabilities: the kernel itself requires the capability.
    "getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid \
     setresuid setresgid setfsuid setfsgid setgroups capget capset",
    // Limits and scheduling.
    "getrlimit setrlimit prlimit64 getpriority setpriority ioprio_get ioprio_set sched_yield \
     sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam \
     sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max \
     sched_get_priority_min sched_rr_get_interval",
    // Signals.
    "kill tkill tgkill pause alarm getitimer setitimer sigaltstack rt_sigaction rt_sigpending \
     rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
     rt_tgsigqueueinfo signalfd signalfd4",
    // Memory.
    "brk mmap munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock \
     munlockall remap_file_pages memfd_create memfd_secret mseal pkey_alloc pkey_free \
     pkey_mprotect cachestat",
    // Files: names.
    "open openat openat2 creat close close_range access faccessat faccessat2 chdir fchdir getcwd \
     chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat link linkat symlink symlinkat \
     unlink unlinkat rename renameat renameat2 readlink readlinkat mkdir mkdirat rmdir mknod \
     mknodat getdents getdents64 umask utime utimes utimensat futimesat name_to_handle_at",
    // Files: their contents and attributes.
    "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek sendfile \
     copy_file_range splice tee vmsplice readahead fadvise64 fallocate truncate ftruncate sync \
     syncfs fsync fdatasync sync_file_range flock fcntl ioctl dup dup2 dup3 pipe pipe2 stat fstat \
     lstat newfstatat statx statfs fstatfs statmount listmount getxattr lgetxattr fgetxattr \
     setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr lremovexattr \
     fremovexattr getxattrat setxattrat listxattrat removexattrat",
    // Waiting for events.
    "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait \
     epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 inotify_init inotify_init1 \
     inotify_add_watch inotify_rm_watch fanotify_mark futex futex_requeue futex_wait futex_waitv \
     futex_wake io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents",
    // Clocks. Setting one needs CAP_SYS_TIME, which the kernel checks.
    "time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep clock_adjtime \
     adjtimex timer_create timer_delete timer_getoverrun timer_gettime timer_settime \
     timerfd_create timerfd_gettime timerfd_settime",
    // Existing sockets; the family decides about creating one, below.
    "socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt \
     shutdown sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg",
    // System V and POSIX inter-process communication.
    "shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl \
     mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
    // Giving up rights, and randomness.
    "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self getrandom",
];

/// Allowed with a capability.
const WITH: &[(Capability, &str)] = &[
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie \
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog \
         umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (
        Capability::SysModule,
        "delete_module init_module finit_module",
    ),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday clock_settime"),
    (Capability::SysTtyConfig, "vhangup"),
    (
        Capability::SysNice,
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// The socket families up to AF_ROSE: local, the internet's and the old networks'.
const FAMILIES_BELOW: u64 = 12;

/// The families above that may be opened.
///
/// Not among them: those that the kernel no longer has, AF_ALG (38; the
/// kernel's cryptography, which programs do not need) and AF_VSOCK (40; it
/// reaches the hypervisor, bypassing the network namespace).
const FAMILIES: &[u64] = &[
    13, 14, 15, 16, 17, 18, // NETBEUI SECURITY KEY NETLINK PACKET ASH
    21, 22, 24, 26, 27, 28, // RDS SNA PPPOX LLC IB MPLS
    29, 30, 31, 32, 33, 35, // CAN TIPC BLUETOOTH IUCV RXRPC PHONET
    36, 39, 41, 42, 43, 44, 45, // IEEE802154 NFC KCM QIPCRTR SMC XDP MCTP
];

/// Execution domains that are irrelevant to security: Linux, 32-bit, the two
/// with a release number of 2.6, and querying the current one.
const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The flags of clone(2) that make namespaces.
const CLONE_NEW: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// The seccomp profile for a container with these capabilities that brings none
/// of its own.
pub fn default_seccomp(capabilities: &Capabilities) -> LinuxSeccomp {
    let mut names: Vec<&str> = ALLOWED.to_vec();
    names.extend(
        WITH.iter()
            .filter(|(capability, _)| capabilities.contains(capability))
            .map(|(_, names)| *names),
    );
    let mut entries = vec![entry(&names.join(" "), LinuxSeccompAction::ScmpActAllow)];
    if !capabilities.contains(&Capability::SysAdmin) {
        // Its flags are in memory, where a filter cannot see them: report that
        // the call does not exist, so that the C library uses clone.
        let mut clone3 = entry("clone3", LinuxSeccompAction::ScmpActErrno);
        clone3.set_errno_ret(Some(libc::ENOSYS as u32));
        entries.push(clone3);
        entries.extend(allow_where(
            "clone",
            LinuxSeccompOperator::ScmpCmpMaskedEq,
            &[CLONE_NEW],
        ));
    }
    let equal = LinuxSeccompOperator::ScmpCmpEq;
    entries.extend(allow_where(
        "socket",
        LinuxSeccompOperator::ScmpCmpLt,
        &[FAMILIES_BELOW],
    ));
    entries.extend(allow_where("socket", equal, FAMILIES));
    entries.extend(allow_where("personality", equal, PERSONALITIES));

    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_architectures(Some(vec![super::NATIVE[0].0]))
        .set_syscalls(Some(entries));
    profile
}

fn entry(names: &str, action: LinuxSeccompAction) -> LinuxSyscall {
    let mut entry = LinuxSyscall::default();
    entry
        .set_names(names.split_ascii_whitespace().map(String::from).collect())
        .set_action(action);
    entry
}

/// Allows a call whose first argument compares like this with one of the
/// values.
fn allow_where(
    name: &str,
    operator: LinuxSeccompOperator,
    values: &[u64],
) -> impl Iterator<Item = LinuxSyscall> {
    values.iter().filter_map(move |value| {
        // What could not be built would be missing here, and so forbidden.
        let argument = LinuxSeccompArgBuilder::default()
            .index(0_usize)
            .value(*value)
            .op(operator)
            .build()
            .ok()?;
        let mut entry = entry(name, LinuxSeccompAction::ScmpActAllow);
        entry.set_args(Some(vec![argument]));
        Some(entry)
    })
}

#[cfg(test)]
mod tests {
    use super::super::syscalls::{Abi, Syscall};
    use super::*;

    fn has_number(name: &str) -> bool {
        Syscall::find(name).is_some_and(|call| call.number(Abi::X86_64).is_some())
    }

    #[test]
    fn every_name_in_the_table_is_a_system_call_and_is_there_once() {
        let mut seen = std::collections::BTreeSet::new();
        // Newer than the kernel's table; allowed as soon as the table has it.
        let newer = ["getxattrat", "setxattrat", "listxattrat", "removexattrat"];
        for name in ALLOWED
            .iter()
            .flat_map(|line| line.split_ascii_whitespace())
        {
            assert!(seen.insert(name), "{name} twice");
            assert!(
                has_number(name) || newer.contains(&name),
                "{name} has no number"
            );
        }
        for (capability, names) in WITH {
            for name in names.split_ascii_whitespace() {
                assert!(has_number(name), "{name} of {capability} has no number");
                assert!(!seen.contains(name), "{name} is allowed anyway");
            }
        }
    }

    /// The calls of x86-64 that neither Docker nor containerd allow by default,
    /// with any capability.
    const DENIED: &[&str] = &[
        // Keys are not separated by namespaces.
        "add_key keyctl request_key",
        // Other ways to make calls, or to hold the kernel at a page; each had its holes.
        "io_uring_enter io_uring_register io_uring_setup userfaultfd",
        // The machine.
        "kexec_file_load kexec_load swapon swapoff migrate_pages move_pages",
        // Changing the root is the runtime's; the new mount calls do the rest.
        "pivot_root",
        // Obsolete.
        "_sysctl afs_syscall create_module get_kernel_syms getpmsg nfsservctl putpmsg \
         query_module security sysfs tuxcall uselib ustat vserver",
    ];
    /// Decided by their arguments.
    const BY_ARGUMENT: &str = "clone clone3 personality socket";

    #[test]
    fn every_call_of_the_kernel_is_allowed_or_denied_on_purpose() {
        let words = |lines: &[&'static str]| {
            let words = lines.iter().flat_map(|line| line.split_ascii_whitespace());
            words.collect::<std::collections::BTreeSet<&str>>()
        };
        let with = WITH.iter().map(|(_, names)| *names).collect::<Vec<_>>();
        let mut known = words(ALLOWED);
        known.extend(words(&with));
        known.extend(words(&[BY_ARGUMENT]));
        for name in words(DENIED) {
            assert!(known.insert(name), "{name} is allowed too");
        }
        for line in super::super::syscalls::TABLE.lines() {
            let name = line.split(' ').next().unwrap();
            assert!(
                !has_number(name) || known.contains(name),
                "nobody has decided on {name}"
            );
        }
    }

    #[test]
    fn only_the_machines_own_architecture_is_listed() {
        let profile = default_seccomp(&Capabilities::new());
        let native = vec![super::super::NATIVE[0].0];
        assert_eq!(profile.architectures(), &Some(native));
    }

    #[test]
    fn mounting_needs_a_capability() {
        let allows = |capabilities: &Capabilities| {
            default_seccomp(capabilities)
                .syscalls()
                .iter()
                .flatten()
                .flat_map(|entry| entry.names())
                .any(|name| name == "mount")
        };
        assert!(!allows(&Capabilities::new()));
        assert!(allows(&Capabilities::from([Capability::SysAdmin])));
    }
}
