//! The command line.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::isolation::{self, Verdict};
use crate::report::{Report, Row, Runtime};
use crate::{chapters, clause::Clause};

/// Tests any runtime with runc's command line against the OCI runtime
/// specification 1.2. Needs root.
#[derive(Debug, Parser)]
#[command(name = "runtime-conformance", version)]
struct Options {
    /// The runtime under test: a path, or a name in PATH.
    #[arg(long, value_name = "PATH", required_unless_present = "list")]
    runtime: Option<PathBuf>,

    /// Other runtimes for the table.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    compare: Vec<PathBuf>,

    /// Only clauses whose section or text contains this; may be repeated.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,

    /// List the clauses and check nothing.
    #[arg(long)]
    list: bool,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,

    /// Print the table as Markdown.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,

    /// Seconds that one check may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    limit: u64,
}

/// Parses the arguments and runs the requested action.
pub fn run() -> Result<ExitCode> {
    let options = Options::parse();
    let clauses = chapters::all();
    let chosen: Vec<(usize, &Clause)> = clauses
        .iter()
        .enumerate()
        .map(|(at, clause)| (at, *clause))
        .filter(|(_, clause)| matches(clause, &options.filter))
        .collect();
    if chosen.is_empty() {
        bail!("no clause matches the filter; --list shows them all");
    }
    if options.list {
        for (_, clause) in &chosen {
            println!("{} [{}] {}", clause.section, clause.level, clause.text);
        }
        return Ok(ExitCode::SUCCESS);
    }
    ready()?;
    let runtimes = options
        .runtime
        .iter()
        .chain(&options.compare)
        .map(|path| find(path))
        .collect::<Result<Vec<PathBuf>>>()?;
    let report = check(&runtimes, &chosen, &options)?;
    if options.json {
        println!("{}", report.json()?);
    } else if options.markdown {
        print!("{}", report.markdown());
    } else {
        print!("{}", report.text());
    }
    Ok(if report.first_passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn matches(clause: &Clause, filter: &[String]) -> bool {
    let title = clause.title().to_lowercase();
    filter.is_empty()
        || filter
            .iter()
            .any(|text| title.contains(&text.to_lowercase()))
}

/// Whether checks are possible at all: root, and a static program.
fn ready() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("containers are made with privileges: run it as root");
    }
    let program = fs::read("/proc/self/exe").context("read this program")?;
    if needs_loader(&program) {
        bail!(
            "this program is not static, so it cannot run inside containers: build it with \
             RUSTFLAGS='-C target-feature=+crt-static' and --target x86_64-unknown-linux-gnu"
        );
    }
    Ok(())
}

/// Whether an ELF program names a loader (PT_INTERP).
fn needs_loader(program: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| {
        program.get(at..at + length).map_or(0, |bytes| {
            bytes
                .iter()
                .rev()
                .fold(0_usize, |sum, &byte| sum << 8 | byte as usize)
        })
    };
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|at| number(start + at * size, 4) == PT_INTERP as usize)
}

/// The absolute path of a runtime.
fn find(runtime: &Path) -> Result<PathBuf> {
    if runtime.components().count() > 1 {
        return std::path::absolute(runtime)
            .ok()
            .filter(|path| path.is_file())
            .with_context(|| format!("there is no runtime {}", runtime.display()));
    }
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join(runtime))
        .find(|path| path.is_file())
        .with_context(|| format!("no runtime {} in PATH", runtime.display()))
}

fn check(runtimes: &[PathBuf], chosen: &[(usize, &Clause)], options: &Options) -> Result<Report> {
    let limit = Duration::from_secs(options.limit);
    let mut rows = Vec::new();
    for (at, clause) in chosen {
        let verdicts = runtimes
            .iter()
            .map(|runtime| isolation::check(runtime, *at, limit))
            .collect::<Result<Vec<Verdict>>>()?;
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{}/{}", rows.len() + 1, chosen.len());
        }
        rows.push(Row {
            section: clause.section.to_owned(),
            clause: clause.text.to_owned(),
            level: clause.level.to_string(),
            verdicts,
        });
    }
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    Ok(Report {
        runtimes: runtimes.iter().map(|path| describe(path)).collect(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        rows,
    })
}

fn describe(path: &Path) -> Runtime {
    let version = Command::new(path)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Some(text.lines().next()?.to_owned())
        })
        .unwrap_or_default();
    Runtime {
        name: path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        path: path.to_owned(),
        version,
    }
}

#[cfg(test)]
mod tests {
    use super::needs_loader;

    /// An ELF file with one program header of this type.
    fn program(kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes
    }

    #[test]
    fn a_program_with_an_interpreter_needs_a_loader() {
        assert!(needs_loader(&program(3)));
        assert!(!needs_loader(&program(1)));
        assert!(!needs_loader(b"short"));
    }
}
