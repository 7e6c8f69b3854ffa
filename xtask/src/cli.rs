//! What can be typed after `cargo xtask`.
//!
//! The parser is lexopt and the help is text, because this tool has to build in
//! seconds and clap takes as long as half of the rest.

use anyhow::{Context, Result, anyhow, bail, ensure};
use lexopt::Arg::{Long, Value};
use lexopt::{Parser, ValueExt};
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use xtask::workspace::Workspace;
use xtask::{bench, guest, image, programs, release, run, test, tools};

/// Each command, its arguments, what it does, and its options.
const HELP: [(&str, &str, &str, &str); 9] = [
    (
        "run",
        "[OPTIONS] [-- QEMU ARGUMENTS]",
        "Builds what is not up to date and boots it in QEMU, on this terminal",
        "  --direct              boots the kernel without firmware and boot loader
  --fresh               starts over with a new disk
  --memory MIB          memory [default: 512]
  --append ARGUMENTS    adds to the kernel's command line, with --direct",
    ),
    (
        "test",
        "[--changed | --no-run | NAME]",
        "Checks and tests everything, the image in QEMU included",
        "  --changed             only what the changes since main can affect,
                        uncommitted ones included
  --no-run              builds what the tests need, and runs none
  NAME                  only the tests whose name contains this",
    ),
    (
        "image",
        "[OPTIONS]",
        "Makes the disk image and the artifacts of a release",
        "  --format raw|qcow2    the disk image's format [default: raw]
  --output FOLDER       where to put everything [default: build/output]",
    ),
    (
        "release",
        "--version VERSION --channel CHANNEL [OPTIONS]",
        "Builds a release and publishes it in a folder for any web server",
        "  --version VERSION     the release's version
  --channel CHANNEL     the channel on which it is published
  --repository FOLDER   the repository [default: build/repository]
  --keys FOLDER         the keys [default: build/keys, where some are made]
  --trust FILE          the root that machines with this image trust
                        (root.json of the keys' folder)
  --overlay FOLDER      a folder whose files are put over the image's root
  --min-version VERSION the oldest version from which machines can be updated
  --wave PERCENT%@TIME  a part of the fleet and from when on, as in 10%@+6h;
                        several, ascending
  --notes FILE          a text file: what is new
  --mirror URL          a further address of the repository; several
  --json                prints one JSON object",
    ),
    (
        "tools",
        "[[--] PROGRAM [ARGUMENTS]]",
        "Makes the tools tree, or runs one of its programs",
        "",
    ),
    (
        "guest",
        "[COMMAND]",
        "Makes the Debian guest in which the runtime is tested, or runs a shell command in it",
        "",
    ),
    (
        "hostile-matrix",
        "",
        "Writes the table of hostile tests in docs/security.md",
        "",
    ),
    (
        "power-cut",
        "[OPTIONS]",
        "Cuts the power at every moment of an update, as a machine in QEMU wrote it",
        "  --converge N          on how many contents the updater is run again,
                        in each scenario [default: 60]
  --boots N             how many of them are booted [default: 3]
  --json                prints one JSON object instead of a table",
    ),
    (
        "bench",
        "boot|update|runtime [OPTIONS]",
        "Measures what booting, updating or starting a container costs",
        "  boot                  boot time, memory and size, beside the same kernel with
                        a trivial init
  update                what an update fetches and how fast it is, beside RAUC,
                        zchunk, xdelta3 and bsdiff
  runtime               starting containers, beside crun, runc and youki
  --runs N              how often each is measured [default: 5; runtime: 60]
  --burst N             runtime: containers started at once [default: 500]
  --guest               runtime: in the Debian guest, where every limit works
  --json                prints one JSON object instead of a table",
    ),
];

/// What was typed.
#[derive(Debug)]
pub enum Stage {
    /// Help was asked for.
    Help(String),
    /// `tools`: a program of the tree and its arguments.
    Tools(Vec<OsString>),
    /// `image`
    Image {
        /// The disk image's format.
        format: Format,
        /// Where to put everything.
        output: Option<PathBuf>,
    },
    /// `release`
    Release(release::Options),
    /// `guest`: what `sh` is given there.
    Guest(Option<OsString>),
    /// `run`
    Run(run::Options),
    /// `test`
    Test(test::Selection),
    /// `hostile-matrix`
    HostileMatrix,
    /// `power-cut`
    PowerCut(bench::PowerCut),
    /// `bench`
    Bench {
        /// `boot`, `update` or `runtime`.
        what: String,
        /// How often each is measured.
        runs: Option<u32>,
        /// How many containers are started at once.
        burst: u32,
        /// In the Debian guest.
        guest: bool,
        /// As one JSON object.
        json: bool,
    },
}

/// A disk image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Block for block as on a disk.
    Raw,
    /// QEMU's own, small.
    Qcow2,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => Err("it is neither raw nor qcow2"),
        }
    }
}

impl Stage {
    /// Reads the command line, without the program's name.
    pub fn parse(words: Vec<OsString>) -> Result<Self> {
        let mut words = words.into_iter();
        let Some(name) = words.next() else {
            return Ok(Self::Help(overview()));
        };
        let name = name.to_string_lossy().into_owned();
        let words: Vec<OsString> = words.collect();
        if name == "tools" && !words.first().is_some_and(is_help) {
            // Options are the program's own.
            let own = usize::from(words.first().is_some_and(|word| word == "--"));
            return Ok(Self::Tools(words[own..].to_vec()));
        }
        // What follows `--` is no option of ours.
        let ours = words.iter().position(|word| word == "--");
        let (ours, rest) = match ours {
            Some(at) => (&words[..at], &words[at + 1..]),
            None => (&words[..], &[][..]),
        };
        if ours.iter().any(is_help) {
            return Ok(Self::Help(help(&name)?));
        }
        let mut parser = Parser::from_args(ours);
        Self::parse_command(&name, &mut parser, rest.to_vec())
            .map_err(|error| anyhow!("{error:#}\n\ncargo xtask {name} --help tells more"))
    }

    fn parse_command(name: &str, parser: &mut Parser, rest: Vec<OsString>) -> Result<Self> {
        match name {
            "-h" | "--help" | "help" => Ok(Self::Help(overview())),
            "-V" | "--version" => Ok(Self::Help(format!("xtask {}", env!("CARGO_PKG_VERSION")))),
            "run" => {
                let mut options = run::Options {
                    qemu: rest,
                    ..run::Options::default()
                };
                while let Some(argument) = parser.next()? {
                    match argument {
                        Long("direct") => options.direct = true,
                        Long("fresh") => options.fresh = true,
                        Long("memory") => options.memory = parser.value()?.parse()?,
                        Long("append") => options.append = Some(parser.value()?.string()?),
                        other => return Err(other.unexpected().into()),
                    }
                }
                ensure!(
                    options.direct || options.append.is_none(),
                    "--append needs --direct"
                );
                Ok(Self::Run(options))
            }
            "test" => {
                let (mut names, mut changed, mut no_run) = (rest, false, false);
                while let Some(argument) = parser.next()? {
                    match argument {
                        Long("changed") => changed = true,
                        Long("no-run") => no_run = true,
                        Value(name) => names.push(name),
                        other => return Err(other.unexpected().into()),
                    }
                }
                let name = at_most_one(names)?.map(OsString::string).transpose()?;
                Ok(Self::Test(match (changed, no_run, name) {
                    (false, false, None) => test::Selection::All,
                    (false, false, Some(name)) => test::Selection::Named(name),
                    (true, false, None) => test::Selection::Changed,
                    (false, true, None) => test::Selection::Nothing,
                    _ => bail!("--changed, --no-run and a name exclude each other"),
                }))
            }
            "image" => {
                let (mut format, mut output) = (Format::Raw, None);
                while let Some(argument) = parser.next()? {
                    match argument {
                        Long("format") => format = parser.value()?.parse()?,
                        Long("output") => output = Some(parser.value()?.into()),
                        other => return Err(other.unexpected().into()),
                    }
                }
                Ok(Self::Image { format, output })
            }
            "release" => Ok(Self::Release(release_options(parser)?)),
            "guest" => {
                let mut commands = rest;
                while let Some(argument) = parser.next()? {
                    match argument {
                        Value(command) => commands.push(command),
                        other => return Err(other.unexpected().into()),
                    }
                }
                Ok(Self::Guest(at_most_one(commands)?))
            }
            "hostile-matrix" => match parser.next()? {
                None => Ok(Self::HostileMatrix),
                Some(other) => Err(other.unexpected().into()),
            },
            "power-cut" => {
                let mut options = bench::PowerCut::default();
                while let Some(argument) = parser.next()? {
                    match argument {
                        Long("converge") => options.converge = parser.value()?.parse()?,
                        Long("boots") => options.boots = parser.value()?.parse()?,
                        Long("json") => options.json = true,
                        other => return Err(other.unexpected().into()),
                    }
                }
                Ok(Self::PowerCut(options))
            }
            "bench" => bench_options(parser),
            _ => bail!("cargo xtask knows no {name}\n{}", overview()),
        }
    }
}

fn release_options(parser: &mut Parser) -> Result<release::Options> {
    let mut options = release::Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("version") => options.version = parser.value()?.string()?,
            Long("channel") => options.channel = parser.value()?.string()?,
            Long("repository") => options.repository = Some(parser.value()?.into()),
            Long("keys") => options.keys = Some(parser.value()?.into()),
            Long("trust") => options.trust = Some(parser.value()?.into()),
            Long("overlay") => options.overlay = Some(parser.value()?.into()),
            Long("min-version") => options.min_version = Some(parser.value()?.string()?),
            Long("wave") => options.waves.push(parser.value()?.string()?),
            Long("notes") => options.notes = Some(parser.value()?.into()),
            Long("mirror") => options.mirrors.push(parser.value()?.string()?),
            Long("json") => options.json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    ensure!(!options.version.is_empty(), "--version is missing");
    ensure!(!options.channel.is_empty(), "--channel is missing");
    Ok(options)
}

fn bench_options(parser: &mut Parser) -> Result<Stage> {
    let (mut what, mut runs, mut burst) = (None, None, None);
    let (mut guest, mut json) = (false, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("runs") => runs = Some(parser.value()?.parse()?),
            Long("burst") => burst = Some(parser.value()?.parse()?),
            Long("guest") => guest = true,
            Long("json") => json = true,
            Value(name) if what.is_none() => what = Some(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let what = what.context("what to measure is missing: boot, update or runtime")?;
    let is_runtime = what == "runtime";
    ensure!(
        is_runtime || what == "boot" || what == "update",
        "there is no benchmark {what}: boot, update and runtime are"
    );
    ensure!(
        is_runtime || (burst.is_none() && !guest),
        "--burst and --guest are for bench runtime"
    );
    Ok(Stage::Bench {
        what,
        runs,
        burst: burst.unwrap_or(500),
        guest,
        json,
    })
}

fn at_most_one(words: Vec<OsString>) -> Result<Option<OsString>> {
    ensure!(words.len() < 2, "one argument is expected, not {words:?}");
    Ok(words.into_iter().next())
}

fn is_help(word: &OsString) -> bool {
    word == "-h" || word == "--help"
}

fn overview() -> String {
    let mut text = "Builds, boots and tests Wherry\n\nUsage: cargo xtask COMMAND\n\n".to_owned();
    for (name, _, what, _) in HELP {
        text += &format!("  {name:10} {what}\n");
    }
    text + "\ncargo xtask COMMAND --help tells more of one."
}

fn help(name: &str) -> Result<String> {
    let (name, arguments, what, options) = HELP
        .into_iter()
        .find(|(command, ..)| *command == name)
        .with_context(|| format!("cargo xtask knows no {name}\n{}", overview()))?;
    Ok(format!(
        "{what}\n\nUsage: cargo xtask {name} {arguments}\n\n{options}"
    ))
}

/// `cargo xtask tools`
pub fn tools(workspace: &Workspace, command: &[OsString]) -> Result<()> {
    let mut machine = {
        let _lock = workspace.lock()?;
        let tools = tools::make(workspace)?;
        if command.is_empty() {
            println!("{}", tools.tree().display());
            return Ok(());
        }
        programs::command(workspace, "machine")?
    };
    machine.arg("--build").arg(&workspace.build);
    machine.arg("tool").args(command);
    Err(machine.exec()).context("start a program of the tools tree")
}

/// `cargo xtask image`
pub fn image(workspace: &Workspace, format: Format, output: Option<PathBuf>) -> Result<()> {
    workspace.progress.plan(image::to_come(workspace)?);
    let _lock = workspace.lock()?;
    let image = image::make(workspace)?;
    let output = output.unwrap_or_else(|| workspace.build.join("output"));
    fs::create_dir_all(&output).with_context(|| format!("create {}", output.display()))?;
    let version = workspace.version();
    let disk = match format {
        Format::Raw => {
            let disk = output.join(format!("wherry_{version}.raw"));
            let mut copy = Command::new("cp");
            copy.arg("--sparse=always").arg(image.disk()).arg(&disk);
            let copied = copy.status().context("start cp")?;
            ensure!(copied.success(), "cannot write {}", disk.display());
            disk
        }
        Format::Qcow2 => {
            let disk = output.join(format!("wherry_{version}.qcow2"));
            image::to_qcow2(workspace, &image.disk(), &disk)?;
            disk
        }
    };
    println!("{}", disk.display());
    for (from, name) in image.artifacts(version) {
        let to = output.join(name);
        fs::copy(&from, &to).with_context(|| format!("write {}", to.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}

/// `cargo xtask guest`
pub fn guest(workspace: &Workspace, script: Option<OsString>) -> Result<()> {
    let mut machine = {
        let _lock = workspace.lock()?;
        let disk = guest::make(workspace)?;
        if script.is_none() {
            println!("{}", disk.display());
            return Ok(());
        }
        programs::command(workspace, "machine")?
    };
    machine.arg("--build").arg(&workspace.build).arg("guest");
    machine.arg("--").args(script);
    Err(machine.exec()).context("start the guest")
}

#[cfg(test)]
mod tests {
    use super::{Format, HELP, Stage, help};
    use std::ffi::OsString;
    use xtask::test::Selection;

    fn parse(line: &str) -> Result<Stage, String> {
        let words = line.split_whitespace().map(OsString::from).collect();
        Stage::parse(words).map_err(|error| error.to_string())
    }

    #[test]
    fn options_of_qemu_follow_two_dashes() {
        let Stage::Run(options) = parse("run --direct --append -x --fresh -- -nic user").unwrap()
        else {
            panic!("not run");
        };
        assert!(options.direct && options.fresh);
        assert_eq!(options.append.as_deref(), Some("-x"));
        assert_eq!(options.memory, 512);
        assert_eq!(options.qemu, ["-nic", "user"]);
        assert!(parse("run stray").unwrap_err().contains("stray"));
        assert!(parse("run --append x").unwrap_err().contains("--direct"));
    }

    #[test]
    fn a_program_of_the_tools_tree_keeps_its_options() {
        for line in ["tools qemu-img --help", "tools -- qemu-img --help"] {
            let Stage::Tools(command) = parse(line).unwrap() else {
                panic!("not tools");
            };
            assert_eq!(command, ["qemu-img", "--help"]);
        }
    }

    #[test]
    fn tests_are_all_or_named_or_what_changed() {
        let selection = |line| match parse(line) {
            Ok(Stage::Test(selection)) => Ok(selection),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(selection("test"), Ok(Selection::All));
        assert_eq!(
            selection("test guest::docker"),
            Ok(Selection::Named("guest::docker".to_owned()))
        );
        assert_eq!(selection("test --changed"), Ok(Selection::Changed));
        assert!(selection("test --changed name").is_err());
        assert!(selection("test one two").is_err());
    }

    #[test]
    fn a_format_and_a_benchmark_that_do_not_exist_are_refused() {
        assert!(matches!(
            parse("image --format=qcow2"),
            Ok(Stage::Image {
                format: Format::Qcow2,
                output: None
            })
        ));
        assert!(parse("image --format vdi").unwrap_err().contains("vdi"));
        assert!(parse("bench").is_err());
        assert!(parse("bench disk").unwrap_err().contains("disk"));
        assert!(parse("bench boot --guest").is_err());
        assert!(parse("bench runtime --guest --runs 3").is_ok());
        assert!(parse("nothing").unwrap_err().contains("power-cut"));
    }

    #[test]
    fn each_command_has_help_and_each_option_in_it_is_known() {
        for (name, _, _, options) in HELP {
            assert!(help(name).is_ok());
            for option in options.lines().filter_map(|line| {
                let word = line.strip_prefix("  --")?;
                word.split_whitespace().next()
            }) {
                let error = parse(&format!("{name} --{option}=1"))
                    .err()
                    .unwrap_or_default();
                let unknown = format!("invalid option '--{option}'");
                assert!(!error.contains(&unknown), "{name}: {error}");
            }
        }
    }
}
