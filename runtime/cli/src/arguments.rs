//! The command line, as runc has it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::id::Id;
use crate::signal;

/// What `--version` prints after the name: runc's callers parse these lines.
const VERSION: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    "\ncommit: v",
    env!("CARGO_PKG_VERSION"),
    "\nspec: 1.2.1"
);

/// Runs containers as the Open Container Initiative specifies.
#[derive(Debug, Parser)]
#[command(name = "wherry-runtime", version = VERSION, disable_version_flag = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// Also log what is done.
    #[arg(long)]
    pub debug: bool,
    /// Log to this file; default: standard error.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Format of log lines.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Directory of the containers' states; default: /run/wherry-runtime, or
    /// $XDG_RUNTIME_DIR/wherry-runtime for users other than root.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Path to criu; ignored, since checkpoints are not supported.
    #[arg(long, value_name = "PATH", hide = true)]
    pub criu: Option<PathBuf>,
    /// Have systemd create the cgroups; linux.cgroupsPath is then
    /// SLICE:PREFIX:NAME.
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Continue without a cgroup if there is no permission for one: true,
    /// false, or auto (for users other than root).
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub rootless: Rootless,
    /// Print the version.
    #[arg(short, long, action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rootless {
    #[value(alias = "1")]
    True,
    #[value(alias = "0")]
    False,
    Auto,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a container, whose program waits for `start`.
    Create(Create),
    /// Starts the program of a created container.
    Start { id: Id },
    /// Creates and starts a container, waits for its end and deletes it.
    Run(Run),
    /// Runs another process in a container.
    Exec(Box<Exec>),
    /// Sends a signal to a container's first process.
    Kill(Kill),
    /// Deletes a container that has stopped.
    Delete(Delete),
    /// Prints the state of a container.
    State { id: Id },
    /// Lists the containers.
    List(List),
    /// Lists the processes of a container.
    Ps(Ps),
    /// Freezes all processes of a container.
    Pause { id: Id },
    /// Lets all processes of a paused container continue.
    Resume { id: Id },
    /// Changes the limits of a container.
    Update(Box<Update>),
    /// Prints a container's statistics and events.
    Events(Events),
    /// Prints what this runtime supports.
    Features,
    /// Writes a `config.json` to start from.
    Spec(Spec),
    /// Not supported.
    #[command(hide = true)]
    Checkpoint(Unsupported),
    /// Not supported.
    #[command(hide = true)]
    Restore(Unsupported),
}

#[derive(Debug, Args)]
pub struct Create {
    pub id: Id,
    /// The bundle: a directory with config.json.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Unix socket to which the terminal's master is sent.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// File to write the number of the container's first process to.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Refused: the root is always changed by pivot_root, the only safe way.
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    #[arg(long)]
    pub no_new_keyring: bool,
    /// How many descriptors to pass to the container, from 3 and those of
    /// $LISTEN_FDS on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub create: Create,
    /// Do not wait for the container's end.
    #[arg(short, long)]
    pub detach: bool,
    /// Do not delete the container when it has ended.
    #[arg(long)]
    pub keep: bool,
    /// No effect: no process becomes a subreaper.
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

#[derive(Debug, Args)]
pub struct Exec {
    /// Unix socket to which the terminal's master is sent.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// The working directory.
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// An environment variable; may be given more than once.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give the process a terminal of its own.
    #[arg(short, long)]
    pub tty: bool,
    /// The user: UID[:GID].
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// A supplementary group; may be given more than once.
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// A file with the process as in config.json.
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Do not wait for the process's end.
    #[arg(short, long)]
    pub detach: bool,
    /// File to write the process's number to.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// The SELinux label.
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// The AppArmor profile.
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Forbid new privileges.
    #[arg(long)]
    pub no_new_privs: bool,
    /// A capability to add; may be given more than once.
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// How many descriptors to pass to the process, from 3 on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// A cgroup below the container's own.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,
    /// Also in a paused container; the process runs when it is resumed.
    #[arg(long)]
    pub ignore_paused: bool,
    /// No effect.
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    pub id: Id,
    /// Program and arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Kill {
    /// Send it to all processes of the container.
    #[arg(short, long)]
    pub all: bool,
    pub id: Id,
    /// Name, with SIG or without, or number.
    #[arg(default_value = "SIGTERM", value_parser = signal::parse)]
    pub signal: i32,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// Kill a running container first; a container that does not exist is not
    /// an error.
    #[arg(short, long)]
    pub force: bool,
    pub id: Id,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub struct List {
    /// Format of the list.
    #[arg(short, long, default_value = "table")]
    pub format: Format,
    /// Print only the ids.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Ps {
    /// A table by ps(1), or the processes' numbers.
    #[arg(short, long, default_value = "table")]
    pub format: Format,
    pub id: Id,
    /// Options of ps(1); default: -ef.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Update {
    pub id: Id,
    /// A file with limits as in linux.resources, - for standard input; the
    /// other options then have no effect.
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000.
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Microseconds of a CPU time period.
    #[arg(long, value_name = "USEC")]
    pub cpu_period: Option<u64>,
    /// Microseconds of CPU time in a period; -1 for no limit.
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Microseconds of CPU time that may be saved for bursts.
    #[arg(long, value_name = "USEC")]
    pub cpu_burst: Option<u64>,
    /// Realtime period; cgroup v2 has none.
    #[arg(long, value_name = "USEC")]
    pub cpu_rt_period: Option<u64>,
    /// Realtime limit; cgroup v2 has none.
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// Weight of CPU time, 2 to 262144.
    #[arg(long, alias = "cpu-shares", value_name = "SHARES")]
    pub cpu_share: Option<u64>,
    /// The CPUs to run on.
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// The memory nodes to use.
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// 1 to run only when nothing else does, 0 not to.
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<i64>,
    /// Kernel memory; cgroup v2 has no limit for it.
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory: Option<String>,
    /// TCP buffers; cgroup v2 has no limit for them.
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory_tcp: Option<String>,
    /// Bytes of memory (32m, 1g …); -1 for no limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Bytes of memory reserved for the container.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Bytes of memory and swap together; -1 for no limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Maximum number of processes and threads; -1 for no limit.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// The schema of the L3 cache (Intel RDT).
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// The schema of the memory bandwidth (Intel RDT).
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
}

#[derive(Debug, Args)]
pub struct Events {
    /// Time between two statistics: 5s, 500ms, 1m30s.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub interval: Duration,
    /// Print the statistics once.
    #[arg(long)]
    pub stats: bool,
    pub id: Id,
}

#[derive(Debug, Args)]
pub struct Spec {
    /// Where to write config.json.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// For a container that a user other than root starts.
    #[arg(long)]
    pub rootless: bool,
}

/// A command that exists only to be refused.
#[derive(Debug, Args)]
pub struct Unsupported {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub arguments: Vec<OsString>,
}

/// As Go writes a duration: numbers, each with its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a duration: write 5s, 500ms, 1m30s");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let end = tail
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        rest = next;
    }
    if total.is_zero() {
        return Err(wrong());
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["wherry-runtime"], arguments].concat())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_after_the_id() {
        for arguments in [
            ["create", "--bundle", "/b", "box"],
            ["create", "box", "--bundle", "/b"],
        ] {
            let Command::Create(create) = parsed(&arguments).unwrap().command else {
                panic!("another command");
            };
            assert_eq!(create.id.as_str(), "box");
            assert_eq!(create.bundle, PathBuf::from("/b"));
        }
    }

    #[test]
    fn what_follows_the_program_of_exec_is_its_own() {
        for separator in [&[][..], &["--"]] {
            let line = [
                &["exec", "-t", "box"],
                separator,
                &["ls", "-d", "--cwd", "/"],
            ]
            .concat();
            let Command::Exec(exec) = parsed(&line).unwrap().command else {
                panic!("another command");
            };
            assert_eq!(exec.command, ["ls", "-d", "--cwd", "/"]);
            assert!(exec.tty && !exec.detach && exec.cwd.is_none());
        }
    }

    #[test]
    fn limits_may_be_negative() {
        let Command::Update(update) = parsed(&["update", "--memory-swap", "-1", "box"])
            .unwrap()
            .command
        else {
            panic!("another command");
        };
        assert_eq!(update.memory_swap.as_deref(), Some("-1"));
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5s", 1500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for wrong in ["", "5", "s", "5x", "0s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_id_that_is_a_path_is_refused() {
        for id in ["", ".", "..", "a/b", "../a", "a\nb", "ä"] {
            assert!(parsed(&["state", id]).is_err(), "{id}");
        }
    }
}
