//! The command line. The help texts here are the short form of
//! `docs/cli.md`; a test compares the two.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Subcommands that the program also runs when called by their name, through a
/// link.
const SHORT_NAMES: [&str; 3] = ["poweroff", "reboot", "halt"];

/// Manage a Wherry machine.
#[derive(Debug, Parser)]
#[command(name = "wherry", version, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

/// The options of every command.
#[derive(Debug, Args)]
pub struct Place {
    /// Print JSON for machines
    #[arg(long, global = true)]
    pub json: bool,
    /// PID 1's control socket
    #[arg(long, global = true, value_name = "PATH", default_value = control::SOCKET)]
    pub socket: PathBuf,
    /// The directory of the journal
    #[arg(long, global = true, value_name = "DIR", default_value = "/state/log")]
    pub journal: PathBuf,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the machine and its services on one screen
    Status,
    /// Show, start and stop services
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Update the machine, roll back, show the history
    Update(Update),
    /// Read the journal
    Logs(LogSelection),
    /// Draw what the boot spent its time on, as SVG
    BootChart {
        /// Write to this file, `-` for standard output [default: standard
        /// output, or boot-chart.svg where that is a terminal]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Name the machine
    #[command(subcommand)]
    Hostname(HostnameCommand),
    /// Run a command, and inhibit a shutdown for as long as it runs
    Inhibit(Inhibit),
    /// Stop all services and switch the machine off
    Poweroff(Shutdown),
    /// Stop all services and restart the machine
    Reboot(Shutdown),
    /// Stop all services and halt without switching off
    Halt(Shutdown),
    /// Replace the running PID 1 by a fresh copy; no service notices
    Reexec,
    /// Print the versions of this command and of the machine
    Version,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What to do with services.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List all services
    List,
    /// Show everything about one service
    Show {
        /// The service
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Start services and what they require, and wait until they are ready
    Start(Change),
    /// Stop services and what requires them, and wait until they are stopped
    Stop(Stop),
    /// Stop and start services, and wait until they are ready
    Restart(Change),
    /// Show the log of one service
    Logs {
        /// The service
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        selection: Lines,
    },
    /// Check a definition before it is used
    Check {
        /// The definition, a service.toml
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Read the operator's definitions again
    Reload,
    /// Define a service until the next boot, and start it
    Define {
        /// The service
        #[arg(value_name = "NAME")]
        name: String,
        /// Its definition, a service.toml; `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The root of its container on the machine, where the definition names no `image`
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
    /// Stop and forget a service that was defined until the next boot
    Remove {
        /// The service
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// What to do with the machine's name.
#[derive(Debug, Subcommand)]
pub enum HostnameCommand {
    /// Give the machine this name until the next boot
    Set {
        /// 1 to 63 letters, digits and '-'
        #[arg(value_name = "HOSTNAME")]
        hostname: String,
    },
}

/// What to run, and what a shutdown does in the meantime.
#[derive(Debug, Args)]
pub struct Inhibit {
    /// Who inhibits it, shown to those it blocks [default: the command]
    #[arg(long, value_name = "TEXT")]
    pub who: Option<String>,
    /// Why, shown to those it blocks
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    pub why: String,
    /// Refuse a shutdown, or delay it by some seconds
    #[arg(long, value_name = "MODE", default_value = "block")]
    pub mode: InhibitMode,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
}

/// What a shutdown does while it is inhibited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InhibitMode {
    /// It is refused
    Block,
    /// It waits up to 5 s for the command to end
    Delay,
}

/// How to shut down.
#[derive(Debug, Args)]
pub struct Shutdown {
    /// Even while it is inhibited
    #[arg(long)]
    pub force: bool,
}

/// Which services to stop.
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    pub change: Change,
    /// Do not ask, even where only the power key is left afterwards
    #[arg(long)]
    pub yes: bool,
}

/// Which services to change, and how long to wait for the outcome.
#[derive(Debug, Args)]
pub struct Change {
    /// The services
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Return as soon as PID 1 has accepted
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
    /// How long to wait for the outcome
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// The updater's socket and the request.
#[derive(Debug, Args)]
pub struct Update {
    /// The updater's socket
    #[arg(long, global = true, value_name = "PATH", default_value = updater_control::SOCKET)]
    pub updater: PathBuf,
    #[command(subcommand)]
    pub command: UpdateCommand,
}

/// Requests to the updater.
#[derive(Debug, Subcommand)]
pub enum UpdateCommand {
    /// Ask the repositories whether there is a release for this machine
    Check,
    /// Install a release; it runs after a restart
    Apply {
        /// Which release; without it, the one that the policy takes
        #[arg(value_name = "VERSION")]
        version: Option<String>,
        /// When to restart into it
        #[arg(long, value_name = "WHEN", default_value = "policy")]
        reboot: Reboot,
        /// Allow a release that is older than the running one
        #[arg(long)]
        allow_downgrade: bool,
    },
    /// Show what runs, what is in the slots and what is in progress
    Status,
    /// List what was installed, blessed and rolled back, and why
    History {
        /// Only the last LINES
        #[arg(short = 'n', long, value_name = "LINES")]
        lines: Option<usize>,
    },
    /// Boot the release in the other slot next
    Rollback {
        /// When to restart into it
        #[arg(long, value_name = "WHEN", default_value = "policy")]
        reboot: Reboot,
    },
    /// Install only this release from now on
    Pin {
        /// The release
        #[arg(value_name = "VERSION")]
        version: String,
    },
    /// Follow the channel again
    Unpin,
    /// Install nothing automatically for a while
    Hold {
        /// For how long ("2d") or until when ("2026-11-23 06:00:00", UTC); without it, until `resume`
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Why, shown in the status
        #[arg(long, value_name = "TEXT", default_value = "")]
        because: String,
    },
    /// End a hold
    Resume,
}

/// When to restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reboot {
    /// Immediately
    Now,
    /// When maintenance window and locks allow it
    Policy,
    /// Not by the updater
    Never,
}

/// Which entries of the journal.
#[derive(Debug, Args)]
pub struct LogSelection {
    /// Only this service (`kernel` and `init` are services here); repeatable
    #[arg(short, long, value_name = "NAME")]
    pub service: Vec<String>,
    /// List the boots that the journal knows
    #[arg(long, conflicts_with_all = ["service", "follow", "boot", "all_boots", "since", "until", "level", "lines"])]
    pub list_boots: bool,
    #[command(flatten)]
    pub lines: Lines,
}

/// Which entries, whatever the service.
#[derive(Debug, Args)]
pub struct Lines {
    /// Print new entries as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Only this boot: 0 is the newest, -1 the one before, N the one of that number, or a boot id
    #[arg(short, long, value_name = "N|ID", allow_hyphen_values = true)]
    pub boot: Option<journal::BootSelector>,
    /// All boots; without this option and without a time, the newest boot
    #[arg(short, long, conflicts_with = "boot")]
    pub all_boots: bool,
    /// Only since then: "10m" ago, "2026-11-21T09:00:00Z", "today", "yesterday"; all in UTC
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only until then, written as for --since
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only this level and what is more severe: emerg, alert, crit, err, warning, notice, info, debug
    #[arg(short, long, value_name = "LEVEL")]
    pub level: Option<journal::Level>,
    /// Only the last LINES entries
    #[arg(short = 'n', long, value_name = "LINES")]
    pub lines: Option<usize>,
    /// Print the time since the kernel started instead of the wall clock's
    #[arg(short, long)]
    pub monotonic: bool,
}

/// A shell for which there are completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    Bash,
    Fish,
    Zsh,
}

/// Reads the command line, whose first word is the program's own name.
///
/// # Errors
/// The mistake in it, or the help that was asked for.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let called = words
        .first()
        .and_then(|word| std::path::Path::new(word).file_name())
        .and_then(|name| name.to_str());
    if let Some(name) = SHORT_NAMES.iter().find(|name| called == Some(**name)) {
        words.insert(1, name.into());
    }
    Arguments::try_parse_from(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_link_called_reboot_reboots() {
        let arguments = parse(words("/usr/bin/reboot")).unwrap();
        assert!(matches!(arguments.command, Command::Reboot(_)));
        let arguments = parse(words("poweroff --json")).unwrap();
        assert!(matches!(arguments.command, Command::Poweroff(_)));
        assert!(arguments.place.json);
    }

    #[test]
    fn a_boot_before_the_running_one_is_a_value_and_not_an_option() {
        let arguments = parse(words("wherry logs -b -1 -n 5")).unwrap();
        let Command::Logs(selection) = arguments.command else {
            panic!("{:?}", arguments.command)
        };
        assert_eq!(selection.lines.boot, Some(journal::BootSelector::Back(1)));
        assert_eq!(selection.lines.lines, Some(5));
    }

    #[test]
    fn usage_errors_say_what_is_wrong() {
        let cases = [
            "wherry",
            "wherry frobnicate",
            "wherry service start",
            "wherry service start network --no-wait --timeout 3s",
            "wherry service start network --timeout soon",
            "wherry service show",
            "wherry update",
            "wherry update apply 2.0 --reboot later",
            "wherry update pin",
            "wherry logs --level loud",
            "wherry logs --lines many",
            "wherry logs --list-boots --follow",
            "wherry completions powershell",
            "wherry status --colour red",
        ];
        let mut all = String::new();
        for line in cases {
            let error = parse(words(line)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            all += &format!("$ {line}\n{error}\n");
        }
        insta::assert_snapshot!(all);
    }

    /// Every command and option is in the manual page.
    #[test]
    fn the_manual_page_names_every_command_and_option() {
        let manual = include_str!("../../docs/cli.md");
        let mut missing = Vec::new();
        let mut commands = vec![(String::from("wherry"), Arguments::command())];
        while let Some((path, command)) = commands.pop() {
            for child in command.get_subcommands() {
                commands.push((format!("{path} {}", child.get_name()), child.clone()));
            }
            if !command.has_subcommands() && !manual.contains(&format!("`{path}")) {
                missing.push(path.clone());
            }
            for option in command.get_arguments().filter_map(|it| it.get_long()) {
                if !manual.contains(&format!("`--{option}")) {
                    missing.push(format!("{path} --{option}"));
                }
            }
        }
        assert!(missing.is_empty(), "not in docs/cli.md: {missing:?}");
    }
}
