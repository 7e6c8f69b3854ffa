//! `machine`: boots what a build made, on this terminal or for one command.
//! `cargo xtask run`, `guest` and `tools` become this program, so that the tool
//! that builds needs nothing of what runs machines.

mod kept;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use kept::Kept;
use machine::{Boot, Build, Console, Guest, Qemu};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long a command in the Debian guest may take.
const GUEST: Duration = Duration::from_secs(600);

/// Boots what a build made.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
struct Arguments {
    /// The folder that the build made
    #[arg(long, value_name = "FOLDER")]
    build: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boots the image in QEMU, on this terminal
    Run(Run),
    /// Boots the Debian guest and runs a command of its shell
    Guest {
        /// What `sh` is given
        script: String,
    },
    /// Runs a program of the tools tree
    Tool {
        /// The program
        program: String,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// Boots the kernel without firmware and boot loader
    #[arg(long)]
    direct: bool,
    /// Starts over with a new disk
    #[arg(long)]
    fresh: bool,
    /// Memory in MiB
    #[arg(long)]
    memory: u32,
    /// Adds to the kernel's command line, with --direct
    #[arg(long, requires = "direct", allow_hyphen_values = true)]
    append: Option<String>,
    /// More arguments for QEMU
    #[arg(last = true)]
    qemu: Vec<OsString>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let build = Build::at(arguments.build);
    let done = match arguments.command {
        Command::Run(options) => run(&build, options),
        Command::Guest { script } => guest(&build, &script),
        Command::Tool { program, arguments } => tool(&build, &program, arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes QEMU.
fn run(build: &Build, options: Run) -> Result<()> {
    let kept = Kept::at(build.directory().join("run"));
    kept.prepare(build, options.fresh)?;
    let boot = if options.direct {
        Boot::Direct {
            kernel: build.vmlinux()?,
            command_line: [build.command_line()?, options.append.unwrap_or_default()].join(" "),
        }
    } else {
        Boot::Firmware {
            variables: kept.variables(),
        }
    };
    let mut qemu = Qemu::new(&build.tools()?, boot);
    qemu.memory = options.memory;
    qemu.disk = Some(kept.disk());
    qemu.reboots = true;
    qemu.arguments = options.qemu;
    if std::io::stdin().is_terminal() {
        qemu.console = Console::Terminal;
        eprintln!("run: Ctrl-A X ends the machine, Ctrl-A H helps");
    }
    Err(qemu.command()?.exec()).context("start QEMU")
}

fn guest(build: &Build, script: &str) -> Result<()> {
    let mut guest = Guest::boot(build, "guest", GUEST)?;
    let output = guest.run(script, GUEST)?;
    print!("{}", output.text);
    ensure!(output.exit == 0, "it ended with status {}", output.exit);
    Ok(())
}

/// Becomes the program.
fn tool(build: &Build, program: &str, arguments: Vec<OsString>) -> Result<()> {
    let mut command = build.tools()?.command(program)?;
    command.args(arguments);
    Err(command.exec()).with_context(|| format!("run {program}"))
}
