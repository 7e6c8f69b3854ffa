//! Definitions that an operator puts down: read, refused, changed and removed.

use std::os::unix::fs::symlink;

use control::{Refusal, Request, ServiceState};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::pid1::{Pid1, service, until};

pub fn a_definition_with_a_mistake_is_named_with_its_place_and_the_others_run() {
    let mut pid1 = Pid1::boot(&[("web", service(&["forever"], ""))]);
    let before = pid1.service("web").pid;
    let run = |keys: &str| service(&["forever"], keys);
    pid1.define("good", &run(""));
    pid1.define("malformed", "description = \"x\"\n= what");
    pid1.define(
        "unknown-key",
        "description = \"x\"\nimage = \"program\"\ncommand = [\"/program\"]\npriviledged = true",
    );
    pid1.define(
        "no-image",
        "description = \"x\"\ncommand = [\"/x\"]\nimage = \"nowhere\"",
    );
    pid1.define("one", &run("requires = [\"two\"]"));
    pid1.define("two", &run("requires = [\"one\"]"));
    pid1.define("orphan", &run("requires = [\"nobody\"]"));
    // The image's own cannot be shadowed.
    pid1.define("web", &run(""));
    let told = pid1.reload();
    for words in [
        "/state/services/malformed/service.toml:2:",
        "/state/services/unknown-key/service.toml:4:",
        "priviledged",
        "/state/services/no-image/service.toml:3:",
        "there is no image 'nowhere'",
        "the OS image has a service 'web'",
    ] {
        assert!(
            told.iter().any(|line| line.contains(words)),
            "{words}: {told:#?}"
        );
    }
    assert_eq!(told.len(), 4, "{told:#?}");
    pid1.wait_for_state("good", ServiceState::Ready);
    for (name, state, words) in [
        (
            "malformed",
            ServiceState::Invalid,
            "malformed/service.toml:2",
        ),
        ("unknown-key", ServiceState::Invalid, "priviledged"),
        ("no-image", ServiceState::Invalid, "nowhere"),
        ("one", ServiceState::Failed, "two"),
        ("two", ServiceState::Failed, "one"),
        (
            "orphan",
            ServiceState::Failed,
            "nobody, which it requires, is not defined",
        ),
        ("web", ServiceState::Ready, ""),
    ] {
        let line = pid1.service(name);
        assert_eq!(line.state, state, "{line:#?}");
        assert!(line.detail.contains(words), "{line:#?}");
    }
    assert_eq!(pid1.service("web").pid, before);
    assert!(matches!(
        pid1.refused(&Request::Start {
            service: "malformed".to_owned()
        }),
        Refusal::InvalidDefinition { .. }
    ));
    // Repaired, it starts.
    pid1.define("unknown-key", &run(""));
    pid1.reload();
    pid1.wait_for_state("unknown-key", ServiceState::Ready);
    // Its folder gone, it is forgotten.
    pid1.undefine("one");
    pid1.reload();
    until("one is forgotten", || {
        pid1.status().services.iter().all(|line| line.name != "one")
    });
    assert_eq!(
        pid1.refused(&Request::Start {
            service: "nothing".to_owned()
        }),
        Refusal::UnknownService {
            service: "nothing".to_owned()
        }
    );
}

pub fn a_role_is_for_one_service_of_the_image_alone() {
    let role = |role: &str| service(&["forever"], &format!("role = \"{role}\""));
    let mut pid1 = Pid1::boot(&[("first", role("log")), ("second", role("log"))]);
    assert_eq!(pid1.service("first").state, ServiceState::Ready);
    let second = pid1.service("second");
    assert_eq!(second.state, ServiceState::Invalid);
    assert!(second.detail.contains("first has this role"), "{second:#?}");
    pid1.define("own", &role("state"));
    pid1.define("log", &service(&["forever"], ""));
    let told = pid1.reload();
    assert!(
        told[0].contains("only services of the OS image have one"),
        "{told:#?}"
    );
    assert_eq!(told.len(), 1, "a name alone means nothing: {told:#?}");
    pid1.wait_for_state("log", ServiceState::Ready);
    let after = pid1.show("log").after;
    assert_eq!(after, ["first"]);
    let state = Request::Restart {
        service: "state".to_owned(),
    };
    assert!(matches!(pid1.refused(&state), Refusal::Failed { .. }));
}

pub fn garbage_instead_of_a_definition_is_refused_and_read_again_later() {
    let mut pid1 = Pid1::boot(&[]);
    let zeros = "\0".repeat(1000);
    let long = format!("description = \"{}\"", "x".repeat(70_000));
    let deep = format!("x = {}", "[".repeat(30_000));
    for (name, text) in [("zeros", &zeros), ("long", &long), ("deep", &deep)] {
        pid1.define(name, text);
    }
    let folder = pid1.path("/state/services/binary");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("service.toml"), [0xff, 0xfe, 0x80]).unwrap();
    std::fs::create_dir_all(pid1.path("/state/services/folder/service.toml")).unwrap();
    pid1.define("Not A Name", &service(&["forever"], ""));
    let told = pid1.reload();
    assert_eq!(told.len(), 6, "{told:#?}");
    for name in ["zeros", "long", "deep", "binary", "folder", "Not A Name"] {
        assert_eq!(pid1.service(name).state, ServiceState::Invalid);
        assert!(
            told.iter().any(|line| line.contains(name)),
            "{name}: {told:#?}"
        );
    }
    pid1.define("zeros", &service(&["forever"], ""));
    assert_eq!(pid1.reload().len(), 5);
    pid1.wait_for_state("zeros", ServiceState::Ready);
}

/// Hostile: puts a FIFO, a device or a link to nowhere where PID 1 reads a definition. Outcome: each is named at once, and every other service starts.
pub fn a_definition_that_is_no_file_is_named_and_everything_else_comes_up() {
    let mut pid1 = Pid1::boot(&[]);
    let place = |name: &str| {
        let folder = pid1.path("/state/services").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("service.toml")
    };
    mkfifo(&place("fifo"), Mode::S_IRWXU).unwrap();
    symlink("/dev/zero", place("device")).unwrap();
    symlink("nowhere", place("link")).unwrap();
    symlink("loop", pid1.path("/state/services/loop")).unwrap();
    pid1.define("web", &service(&["forever"], ""));
    let told = pid1.reload();
    for words in [
        "fifo/service.toml: is a FIFO, expected a regular file",
        "device/service.toml: is a device, expected a regular file",
        "link/service.toml: is a link to 'nowhere', which does not exist",
        "services/loop: the folder is a link that leads nowhere",
    ] {
        let is_told = told.iter().any(|line| line.contains(words));
        assert!(is_told, "{words}: {told:#?}");
    }
    assert_eq!(told.len(), 4, "{told:#?}");
    pid1.wait_for_state("web", ServiceState::Ready);
    for name in ["fifo", "device", "link", "loop"] {
        assert_eq!(pid1.service(name).state, ServiceState::Invalid, "{name}");
    }
}

/// Hostile: puts a link to PID 1's control socket in the place of another container's mount source. Outcome: the other container does not start, and its state names the mount and the link.
pub fn no_link_is_followed_in_the_source_of_a_mount() {
    let mut pid1 = Pid1::boot(&[]);
    std::fs::create_dir(pid1.path("/state/data")).unwrap();
    for (name, target) in [("b", "/run/wherry"), ("c", "/state/config")] {
        symlink(target, pid1.path("/state/data").join(name)).unwrap();
    }
    let mounting = |source: &str, keys: &str| {
        let mount = format!("mounts = [{{ source = \"{source}\", target = \"/tmp/x\"{keys} }}]");
        let keys = format!("restart = {{ policy = \"never\" }}\n{mount}");
        service(&["exit-if /tmp/x/init.sock 3", "forever"], &keys)
    };
    pid1.define("last", &mounting("/state/data/b", ""));
    pid1.define("optional", &mounting("/state/data/b", ", optional = true"));
    pid1.define("between", &mounting("/state/data/c/x", ""));
    pid1.define("made", &mounting("/state/data/new/folder", ""));
    pid1.define("left-out", &mounting("/nowhere", ", optional = true"));
    pid1.reload();
    for (name, source) in [
        ("last", "/state/data/b"),
        ("optional", "/state/data/b"),
        ("between", "/state/data/c/x"),
    ] {
        let line = pid1.wait_for_state(name, ServiceState::Failed);
        let words =
            format!("a container can have put there, in the source of bind mount of {source}");
        assert!(line.detail.contains(&words), "{line:#?}");
    }
    for name in ["made", "left-out"] {
        pid1.wait_for_state(name, ServiceState::Ready);
    }
    assert!(pid1.path("/state/data/new/folder").is_dir());
    assert!(!pid1.path("/state/config/x").exists());
}

pub fn a_working_directory_that_is_missing_is_an_error_and_is_not_made() {
    let mut pid1 = Pid1::boot(&[]);
    let image = pid1.path("/state/images/own");
    std::fs::create_dir_all(&image).unwrap();
    for folder in ["dev", "proc", "run", "sys", "tmp"] {
        std::fs::create_dir(image.join(folder)).unwrap();
    }
    let keys = "restart = { policy = \"never\" }\nworking-directory = \"/not/here\"";
    pid1.define(
        "web",
        &service(&["forever"], keys).replace("image = \"program\"", "image = \"own\""),
    );
    pid1.reload();
    let line = pid1.wait_for_state("web", ServiceState::Failed);
    assert!(
        line.detail
            .contains("entering the working directory /not/here"),
        "{line:#?}"
    );
    assert!(!image.join("not").exists());
}

pub fn a_changed_definition_takes_effect_at_the_next_start() {
    let mut pid1 = Pid1::boot(&[]);
    pid1.define("web", &service(&["notify STATUS=first", "forever"], ""));
    pid1.reload();
    pid1.wait_for_state("web", ServiceState::Ready);
    until("the first status", || pid1.service("web").detail == "first");
    let pid = pid1.service("web").pid;
    pid1.define("web", &service(&["notify STATUS=second", "forever"], ""));
    assert_eq!(pid1.reload(), Vec::<String>::new());
    let line = pid1.service("web");
    assert_eq!((line.pid, line.detail.as_str()), (pid, "first"));
    assert!(line.operator);
    // One that has become wrong runs on under the older one.
    pid1.define("web", "nonsense");
    assert_eq!(pid1.reload().len(), 1);
    let line = pid1.service("web");
    assert_eq!(line.pid, pid);
    assert!(
        line.detail.contains("runs under an older definition"),
        "{line:#?}"
    );
    pid1.define("web", &service(&["notify STATUS=third", "forever"], ""));
    pid1.reload();
    pid1.order(|service| Request::Restart { service }, "web");
    until("the third status", || pid1.service("web").detail == "third");
    assert_ne!(pid1.service("web").pid, pid);
}
