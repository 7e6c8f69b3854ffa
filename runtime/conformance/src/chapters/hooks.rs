//! config.md, POSIX-platform Hooks; runtime.md, Lifecycle.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::{Bench, Bundle, End, text};
use crate::clause::{Check, Clause, Try, demand, must, security};
use crate::probe::Step;
use crate::probe::hook::Note;

pub const CLAUSES: &[Clause] = &[
    must(
        "config.md#posix-platform-hooks",
        "all six kinds are called, at create, start and delete, in the order of the lifecycle",
        &[],
        six_kinds,
    ),
    must(
        "config.md#posix-platform-hooks",
        "hooks of a kind are called in the listed order",
        &[],
        listed_order,
    ),
    must(
        "config.md#posix-platform-hooks",
        "the state is on standard input: id, bundle, annotations, ociVersion",
        &[],
        state_on_input,
    ),
    must(
        "config.md#posix-platform-hooks",
        "its status is creating, creating, creating, created, running and stopped",
        &[],
        status_on_input,
    ),
    must(
        "runtime.md#state pid",
        "hooks of the runtime namespace get the pid there, those of the container the pid inside",
        &[],
        pid_on_input,
    ),
    must(
        "config.md#posix-platform-hooks args env",
        "a hook has its arguments and variables, and no others",
        &[],
        arguments,
    ),
    must(
        "config.md#prestart",
        "it is executed in the runtime namespace, when the container's namespaces exist",
        &[],
        |bench| in_runtime_namespace(bench, "prestart"),
    ),
    must(
        "config.md#createruntime-hooks",
        "it is executed in the runtime namespace, when the container's namespaces exist",
        &[],
        |bench| in_runtime_namespace(bench, "createRuntime"),
    ),
    must(
        "config.md#createruntime-hooks",
        "the mounts are made by then, and the root is not changed yet",
        &[],
        create_runtime_before_pivot,
    ),
    must(
        "config.md#createcontainer-hooks",
        "its path is the runtime's, its namespaces are the container's, before the root is changed",
        &[],
        create_container,
    ),
    must(
        "config.md#startcontainer-hooks",
        "its path and its namespaces are the container's, and the program has not run",
        &[],
        start_container,
    ),
    must(
        "config.md#poststart",
        "it is executed in the runtime namespace, after the program",
        &[],
        poststart,
    ),
    must(
        "config.md#poststop",
        "it is executed in the runtime namespace, after the container was deleted",
        &[],
        poststop,
    ),
    must(
        "runtime.md#lifecycle 3",
        "if prestart fails, create fails, and nothing is left",
        &[],
        |bench| fails_at_create(bench, "prestart"),
    ),
    must(
        "runtime.md#lifecycle 4",
        "if createRuntime fails, create fails, and nothing is left",
        &[],
        |bench| fails_at_create(bench, "createRuntime"),
    ),
    must(
        "runtime.md#lifecycle 5",
        "if createContainer fails, create fails, and nothing is left",
        &[],
        |bench| fails_at_create(bench, "createContainer"),
    ),
    must(
        "runtime.md#lifecycle 7",
        "if startContainer fails, start fails, and the program does not run",
        &[],
        start_container_fails,
    ),
    must(
        "runtime.md#lifecycle 9",
        "if poststart fails, the others are called and the container runs",
        &[],
        poststart_fails,
    ),
    must(
        "runtime.md#lifecycle 13",
        "if poststop fails, the others are called and the container is deleted",
        &[],
        poststop_fails,
    ),
    must(
        "runtime.md#lifecycle 13",
        "poststop is called even after a hook of create failed",
        &[],
        poststop_after_failure,
    ),
    must(
        "config.md#posix-platform-hooks timeout",
        "a hook that takes longer is killed and has failed",
        &[],
        timeout,
    ),
    must(
        "config.md#posix-platform-hooks timeout",
        "zero or less is an error",
        &[],
        zero_timeout,
    ),
    must(
        "config.md#posix-platform-hooks path",
        "a path that is not absolute, or does not exist, is an error",
        &[],
        odd_paths,
    ),
    security(
        "hooks",
        "a hook has only its three standard descriptors",
        &[],
        descriptors,
    ),
];

const AT_CREATE: [&str; 3] = ["prestart", "createRuntime", "createContainer"];
const OUTSIDE: [&str; 5] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "poststart",
    "poststop",
];

/// A bundle and the file that its hooks write to.
struct Hooked<'bench> {
    bench: &'bench Bench,
    bundle: Bundle,
    log: PathBuf,
}

impl<'bench> Hooked<'bench> {
    fn new(bench: &'bench Bench) -> Try<Hooked<'bench>> {
        let mut bundle = bench.bundle()?;
        bundle.set("/annotations", json!({ "org.example.key": "value" }));
        bundle.steps(&[Step::Create("/user-program-ran".to_owned())]);
        Ok(Hooked {
            bench,
            bundle,
            log: bench.path("hooks"),
        })
    }

    /// Adds a hook with a name for its notes and how it ends.
    fn add(&mut self, kind: &str, name: &str, then: &[&str]) {
        let inside = kind == "startContainer";
        let program = self.bench.program();
        let path = if inside { "/probe".into() } else { program };
        let log = if inside {
            "/hooks".into()
        } else {
            self.log.clone()
        };
        let mut args = vec!["hook".to_owned(), "hook".to_owned()];
        args.push(log.to_string_lossy().into_owned());
        args.push(name.to_owned());
        args.extend(then.iter().map(|&word| word.to_owned()));
        self.bundle.push(
            &format!("/hooks/{kind}"),
            json!({ "path": path, "args": args, "env": ["A=1", "B=two words"] }),
        );
    }

    fn all(&mut self) {
        for kind in OUTSIDE {
            self.add(kind, kind, &[]);
        }
        self.add("startContainer", "startContainer", &[]);
    }

    /// What the hooks noted: those on the machine, then those in the container.
    fn notes(&self) -> Try<Vec<Note>> {
        let mut notes = Vec::new();
        for path in [&self.log, &self.bundle.root().join("hooks")] {
            let Ok(text) = fs::read_to_string(path) else {
                continue;
            };
            for line in text.lines() {
                notes.push(serde_json::from_str(line)?);
            }
        }
        Ok(notes)
    }

    fn note(&self, name: &str) -> Try<Note> {
        let found = self.notes()?.into_iter().find(|note| note.name == name);
        found.ok_or_else(|| crate::clause::Problem::Failed(format!("{name} was not called")))
    }

    fn names(&self) -> Try<Vec<String>> {
        Ok(self.notes()?.into_iter().map(|note| note.name).collect())
    }

    /// From create to delete.
    fn run(&self) -> Try<End> {
        let container = self.bench.start(&self.bundle)?;
        let end = container.wait()?;
        container.delete()?;
        Ok(end)
    }
}

fn six_kinds(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.all();
    let container = bench.create(&hooked.bundle)?;
    let names = hooked.names()?;
    demand!(names == AT_CREATE, "create called {names:?}");
    container.start()?;
    let names = hooked.names()?;
    demand!(
        names
            == [
                "prestart",
                "createRuntime",
                "createContainer",
                "poststart",
                "startContainer"
            ],
        "start called {:?}",
        &names[3.min(names.len())..]
    );
    container.wait()?;
    container.delete()?;
    let names = hooked.names()?;
    demand!(
        names.contains(&"poststop".to_owned()),
        "delete called no poststop"
    );
    demand!(names.len() == 6, "called were {names:?}");
    Ok(())
}

fn listed_order(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    for kind in OUTSIDE {
        for at in 0..3 {
            hooked.add(kind, &format!("{kind}-{at}"), &[]);
        }
    }
    for at in 0..3 {
        hooked.add("startContainer", &format!("startContainer-{at}"), &[]);
    }
    hooked.run()?;
    let wanted: Vec<String> = OUTSIDE
        .iter()
        .chain(&["startContainer"])
        .flat_map(|kind| (0..3).map(move |at| format!("{kind}-{at}")))
        .collect();
    let names = hooked.names()?;
    demand!(names == wanted, "called were {names:?}");
    Ok(())
}

fn state_on_input(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.all();
    let container = bench.start(&hooked.bundle)?;
    container.wait()?;
    container.delete()?;
    let notes = hooked.notes()?;
    demand!(notes.len() == 6, "{} hooks were called", notes.len());
    for note in notes {
        let state = &note.state;
        demand!(
            text(state, "id") == container.id
                && text(state, "bundle") == hooked.bundle.folder().to_string_lossy()
                && !text(state, "ociVersion").is_empty()
                && state["annotations"]["org.example.key"] == "value",
            "{} got {state}",
            note.name
        );
    }
    Ok(())
}

fn status_on_input(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.all();
    hooked.bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&hooked.bundle)?;
    container.kill("KILL")?;
    container.wait()?;
    container.delete()?;
    for (name, status) in [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let note = hooked.note(name)?;
        demand!(
            text(&note.state, "status") == status,
            "{name} got {}",
            note.state["status"]
        );
    }
    Ok(())
}

fn pid_on_input(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.all();
    hooked.bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&hooked.bundle)?;
    for name in ["prestart", "createRuntime", "poststart"] {
        let pid = hooked.note(name)?.state["pid"].clone();
        demand!(pid == container.pid.as_raw(), "{name} got {pid}");
    }
    for name in ["createContainer", "startContainer"] {
        let pid = hooked.note(name)?.state["pid"].clone();
        demand!(pid == 1, "{name} got {pid}");
    }
    Ok(())
}

fn arguments(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.all();
    hooked.run()?;
    for note in hooked.notes()? {
        demand!(
            note.args.first().is_some_and(|name| name == "hook") && note.args.len() == 4,
            "{} got {:?}",
            note.name,
            note.args
        );
        let mut env = note.env.clone();
        env.sort();
        demand!(env == ["A=1", "B=two words"], "{} got {env:?}", note.name);
    }
    Ok(())
}

const NAMESPACES: [&str; 5] = ["mnt", "pid", "net", "uts", "ipc"];

fn own_namespace(name: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

fn is_of_the_runtime(note: &Note) -> Check {
    for name in NAMESPACES {
        demand!(
            note.namespaces.get(name) == own_namespace(name).as_ref(),
            "{} is in another {name} namespace",
            note.name
        );
    }
    Ok(())
}

fn in_runtime_namespace(bench: &Bench, kind: &str) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.add(kind, kind, &[]);
    let _container = bench.create(&hooked.bundle)?;
    let note = hooked.note(kind)?;
    is_of_the_runtime(&note)?;
    for name in NAMESPACES {
        let of_container = note.container.get(name);
        demand!(
            of_container.is_some() && of_container != own_namespace(name).as_ref(),
            "the container's {name} namespace does not exist: {:?}",
            note.container
        );
    }
    Ok(())
}

fn create_runtime_before_pivot(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.bundle.mount("/srv/marked", "tmpfs", "the-mark", &[]);
    hooked.add("createRuntime", "createRuntime", &[]);
    let _container = bench.create(&hooked.bundle)?;
    let note = hooked.note("createRuntime")?;
    let mark = note
        .container_mounts
        .iter()
        .find(|mount| mount.source == "the-mark");
    demand!(mark.is_some(), "the container's mounts are not made");
    demand!(
        mark.is_some_and(|mount| mount.point != "/srv/marked"),
        "the root is changed already"
    );
    Ok(())
}

fn create_container(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.bundle.mount("/srv/marked", "tmpfs", "the-mark", &[]);
    hooked.add("createContainer", "createContainer", &[]);
    let container = bench.create(&hooked.bundle)?;
    let note = hooked.note("createContainer")?;
    for name in ["mnt", "net", "uts", "ipc"] {
        let link = fs::read_link(format!("/proc/{}/ns/{name}", container.pid))?;
        demand!(
            note.namespaces.get(name).map(String::as_str) == link.to_str(),
            "its {name} namespace is not the container's"
        );
    }
    demand!(!note.in_root, "the root is changed already");
    demand!(
        note.mounts.iter().any(|mount| mount.source == "the-mark"),
        "the mounts are not made"
    );
    Ok(())
}

fn start_container(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.add("startContainer", "startContainer", &[]);
    hooked.bundle.steps(&[
        Step::Create("/user-program-ran".to_owned()),
        Step::Sleep(60_000),
    ]);
    let container = bench.start(&hooked.bundle)?;
    let note = hooked.note("startContainer")?;
    for name in NAMESPACES {
        let link = fs::read_link(format!("/proc/{}/ns/{name}", container.pid))?;
        demand!(
            note.namespaces.get(name).map(String::as_str) == link.to_str(),
            "its {name} namespace is not the container's"
        );
    }
    demand!(note.in_root, "the root is not the container's");
    demand!(!note.user_program_ran, "the program ran before");
    Ok(())
}

fn poststart(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.add("poststart", "poststart", &[]);
    hooked.bundle.steps(&[Step::Sleep(60_000)]);
    let _container = bench.start(&hooked.bundle)?;
    let note = hooked.note("poststart")?;
    is_of_the_runtime(&note)?;
    demand!(
        note.container_program.starts_with("/probe"),
        "the container's process is {:?}",
        note.container_program
    );
    Ok(())
}

fn poststop(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.add("poststop", "poststop", &[]);
    let container = bench.start(&hooked.bundle)?;
    container.wait()?;
    demand!(hooked.notes()?.is_empty(), "it was called before delete");
    container.delete()?;
    is_of_the_runtime(&hooked.note("poststop")?)
}

fn fails_at_create(bench: &Bench, kind: &str) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.add(kind, "first", &["exit", "3"]);
    hooked.add(kind, "second", &[]);
    let message = bench.refuses(&hooked.bundle)?;
    demand!(!message.is_empty(), "no message");
    let names = hooked.names()?;
    demand!(names == ["first"], "called were {names:?}");
    let list = bench.must(&["list", "--quiet"])?;
    demand!(
        list.stdout.trim().is_empty(),
        "a container is left: {}",
        list.stdout
    );
    Ok(())
}

fn start_container_fails(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.add("startContainer", "first", &["exit", "3"]);
    hooked.add("startContainer", "second", &[]);
    let container = bench.create(&hooked.bundle)?;
    let started = container.command("start")?;
    demand!(!started.worked(), "start did not fail");
    container.wait()?;
    demand!(
        !hooked.bundle.root().join("user-program-ran").exists(),
        "the program ran"
    );
    let names = hooked.names()?;
    demand!(names == ["first"], "called were {names:?}");
    Ok(())
}

fn poststart_fails(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.add("poststart", "first", &["exit", "3"]);
    hooked.add("poststart", "second", &[]);
    hooked.bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.create(&hooked.bundle)?;
    let started = container.command("start")?;
    demand!(started.worked(), "start failed: {}", started.stderr);
    demand!(container.is_alive(), "the container was ended");
    let names = hooked.names()?;
    demand!(names == ["first", "second"], "called were {names:?}");
    Ok(())
}

fn poststop_fails(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.add("poststop", "first", &["exit", "3"]);
    hooked.add("poststop", "second", &[]);
    hooked.run()?;
    let names = hooked.names()?;
    demand!(names == ["first", "second"], "called were {names:?}");
    Ok(())
}

fn poststop_after_failure(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.add("createRuntime", "createRuntime", &["exit", "3"]);
    hooked.add("poststop", "poststop", &[]);
    bench.refuses(&hooked.bundle)?;
    hooked.note("poststop").map(drop)
}

fn timeout(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.add("createRuntime", "slow", &["sleep", "30"]);
    hooked.bundle.config["hooks"]["createRuntime"][0]["timeout"] = json!(1);
    let before = Instant::now();
    bench.refuses(&hooked.bundle)?;
    let took = before.elapsed();
    demand!(
        (Duration::from_millis(900)..Duration::from_secs(10)).contains(&took),
        "it took {took:?}"
    );
    Ok(())
}

fn zero_timeout(bench: &Bench) -> Check {
    for value in [0, -1] {
        let mut hooked = Hooked::new(bench)?;
        hooked.add("createRuntime", "hook", &[]);
        hooked.bundle.config["hooks"]["createRuntime"][0]["timeout"] = json!(value);
        let taken = bench.try_create(&hooked.bundle)?.is_ok();
        demand!(!taken, "{value} is taken");
    }
    Ok(())
}

fn odd_paths(bench: &Bench) -> Check {
    for path in ["probe", "/no/such/hook"] {
        let mut bundle = bench.bundle()?;
        bundle.set("/hooks", json!({ "createRuntime": [{ "path": path }] }));
        let taken = bench.try_create(&bundle)?.is_ok();
        demand!(!taken, "{path} is taken");
    }
    Ok(())
}

fn descriptors(bench: &Bench) -> Check {
    let mut hooked = Hooked::new(bench)?;
    hooked.all();
    hooked.run()?;
    for note in hooked.notes()? {
        let further: Vec<_> = note.descriptors.iter().filter(|(fd, _)| **fd > 2).collect();
        demand!(further.is_empty(), "{} has {further:?}", note.name);
    }
    Ok(())
}
