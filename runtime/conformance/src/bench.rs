//! One check's private world: a folder, a runtime, and the containers that it
//! creates there.

mod bundle;
mod container;

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use bundle::Bundle;
pub use container::{Container, End, left_zombies};

use crate::clause::{Problem, Try, demand};
use crate::probe::{Done, Step, world::World};

/// The result of a command of the runtime.
#[derive(Debug, Clone)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Whether it succeeded.
    pub fn worked(&self) -> bool {
        self.code == Some(0)
    }
}

/// The result of a container that ran to its end.
#[derive(Debug)]
pub struct Ran {
    pub end: End,
    pub results: Vec<Done>,
    pub stderr: String,
}

impl Ran {
    /// The result of the step with this number.
    pub fn result(&self, at: usize) -> Try<&Done> {
        self.results.get(at).ok_or_else(|| {
            Problem::Failed(format!(
                "the program in the container stopped before step {at}: {} {}",
                self.end,
                self.stderr.trim()
            ))
        })
    }

    /// The world that the step with this number saw.
    pub fn world(&self, at: usize) -> Try<World> {
        Ok(serde_json::from_value(self.result(at)?.value().clone())?)
    }
}

/// A folder and a runtime.
pub struct Bench {
    runtime: PathBuf,
    folder: PathBuf,
    name: String,
    count: Cell<u32>,
}

impl Bench {
    /// A bench in a folder of its own, whose name marks everything that is made
    /// on the machine.
    pub fn new(runtime: &Path, folder: &Path) -> Try<Bench> {
        let name = folder
            .file_name()
            .map(|name| name.to_string_lossy().trim_start_matches('.').to_owned())
            .unwrap_or_default();
        let bench = Bench {
            runtime: runtime.to_owned(),
            folder: folder.to_owned(),
            name,
            count: Cell::new(0),
        };
        fs::copy("/proc/self/exe", bench.program())?;
        Ok(bench)
    }

    /// The folder of this check, open to all users.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The suite's binary, at a path on the machine.
    pub fn program(&self) -> PathBuf {
        self.folder.join("probe")
    }

    /// The runtime under test.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The folder of the runtime's state.
    pub fn root(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn next(&self) -> u32 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    /// A new id.
    pub fn id(&self) -> String {
        format!("{}-{}", self.name, self.next())
    }

    /// A new name in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-{}", self.next()))
    }

    /// A new directory in the folder.
    pub fn directory(&self, name: &str) -> Try<PathBuf> {
        let path = self.path(name);
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// A bundle with everything that a usual container has.
    pub fn bundle(&self) -> Try<Bundle> {
        Bundle::new(self)
    }

    /// The runtime's command, with its state folder.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.runtime);
        command
            .arg("--root")
            .arg(self.root())
            .args(arguments)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the runtime to its end. Its output goes to files,
    /// because a container may keep it open.
    pub fn output(&self, command: &mut Command) -> Try<Output> {
        let out = self.path("stdout");
        let err = self.path("stderr");
        let status = command
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .status()
            .map_err(|error| {
                Problem::Failed(format!("{} does not run: {error}", self.runtime.display()))
            })?;
        Ok(Output {
            code: status.code(),
            stdout: String::from_utf8_lossy(&fs::read(out)?).into_owned(),
            stderr: String::from_utf8_lossy(&fs::read(err)?).into_owned(),
        })
    }

    /// The same from its arguments.
    pub fn call<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Try<Output> {
        self.output(&mut self.command(arguments))
    }

    /// A command that must succeed.
    pub fn must<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Try<Output> {
        let output = self.call(arguments)?;
        let words: Vec<_> = arguments
            .iter()
            .map(|word| word.as_ref().to_string_lossy())
            .collect();
        demand!(
            output.worked(),
            "`{}` failed: {}",
            words.join(" "),
            output.stderr.trim()
        );
        Ok(output)
    }

    /// A command that must be refused: returns its message.
    pub fn refused<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Try<String> {
        let output = self.call(arguments)?;
        let words: Vec<_> = arguments
            .iter()
            .map(|word| word.as_ref().to_string_lossy())
            .collect();
        demand!(!output.worked(), "`{}` was not refused", words.join(" "));
        Ok(output.stderr)
    }

    /// Creates a container, or returns the runtime's message.
    pub fn try_create(&self, bundle: &Bundle) -> Try<Result<Container<'_>, String>> {
        Container::create(self, bundle, &self.id(), &[])
    }

    /// Creates a container; this must succeed.
    pub fn create(&self, bundle: &Bundle) -> Try<Container<'_>> {
        self.try_create(bundle)?
            .map_err(|message| Problem::Failed(format!("create failed: {}", message.trim())))
    }

    /// Creates and starts a container.
    pub fn start(&self, bundle: &Bundle) -> Try<Container<'_>> {
        let container = self.create(bundle)?;
        container.start()?;
        Ok(container)
    }

    /// Runs a container that does these steps to its end.
    pub fn run(&self, bundle: &mut Bundle, steps: &[Step]) -> Try<Ran> {
        bundle.steps(steps);
        let container = self.start(bundle)?;
        let end = container.wait()?;
        container.ran(end)
    }

    /// Runs a container that only reports its world.
    pub fn world(&self, bundle: &mut Bundle) -> Try<World> {
        self.run(bundle, &[Step::World])?.world(0)
    }

    /// A specification that `create` must refuse, leaving nothing. Returns the
    /// runtime's message.
    pub fn refuses(&self, bundle: &Bundle) -> Try<String> {
        match self.try_create(bundle)? {
            Err(message) => {
                demand!(
                    !message.trim().is_empty(),
                    "it was refused, but without a message"
                );
                Ok(message)
            }
            Ok(_) => Err(Problem::Failed("create did not fail".to_owned())),
        }
    }

    /// A specification that `start` must refuse at the latest, and whose
    /// program must not have run.
    pub fn refuses_to_run(&self, bundle: &mut Bundle) -> Try<String> {
        bundle.steps(&[Step::Create("/user-program-ran".to_owned())]);
        let message = match self.try_create(bundle)? {
            Err(message) => message,
            Ok(container) => {
                let started = container.command("start")?;
                if started.worked() {
                    container.wait()?;
                }
                demand!(!started.worked(), "neither create nor start failed");
                started.stderr
            }
        };
        demand!(
            !bundle.root().join("user-program-ran").exists(),
            "the program ran although the configuration was refused"
        );
        Ok(message)
    }
}

/// Waits until a condition holds, at most ten seconds.
pub fn until(what: &str, mut condition: impl FnMut() -> Try<bool>) -> Try<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition()? {
        demand!(Instant::now() < end, "{what}: not after ten seconds");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The text of a JSON value, or nothing.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
