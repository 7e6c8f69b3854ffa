//! Roots and specifications that try to reach the host.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::stat::{SFlag, makedev};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Container, can_run, make_node};

#[test]
fn a_mount_target_behind_a_link_to_the_host_stays_inside_the_root() {
    if !can_run() {
        return;
    }
    let host = TempDir::new().unwrap();
    let container = Container::new("cat /proc/self/mountinfo | cut -d' ' -f5")
        .mount("/link/below", "tmpfs", "tmpfs", &[])
        .mount("/up/x", "tmpfs", "tmpfs", &[]);
    let root = container.root.path();
    symlink(host.path(), root.join("link")).unwrap();
    // The same place inside the root, where the link leads there.
    let inside = root.join(host.path().strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    symlink("../../../../../../../..", root.join("up")).unwrap();
    let output = container.without_mount("/tmp").run().success();
    let expected = format!("{}/below", host.path().display());
    assert!(output.lines().any(|line| line == expected), "{output}");
    assert!(output.lines().any(|line| line == "/x"), "{output}");
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0);
}

#[test]
fn a_dangling_link_as_mount_point_makes_nothing_on_the_host() {
    if !can_run() {
        return;
    }
    let host = TempDir::new().unwrap();
    let missing = host.path().join("missing");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "nameserver 127.0.0.1\n").unwrap();
    let container = Container::new("cat /etc/resolv.conf; cut -d' ' -f5 /proc/self/mountinfo")
        .mount("/link/..//below", "tmpfs", "tmpfs", &[])
        .mount(
            "/etc/resolv.conf",
            "bind",
            file.path().to_str().unwrap(),
            &["bind", "ro"],
        );
    let root = container.root.path();
    symlink(&missing, root.join("link")).unwrap();
    symlink(
        "../../../run/./resolve/stub.conf",
        root.join("etc/resolv.conf"),
    )
    .unwrap();
    let output = container.run().success();
    assert!(!missing.exists());
    // Both are made where the links point to inside the root.
    let below = format!("{}/below", host.path().display());
    assert!(output.starts_with("nameserver 127.0.0.1\n"), "{output}");
    for mount in [below.as_str(), "/run/resolve/stub.conf"] {
        assert!(output.lines().any(|line| line == mount), "{output}");
    }
}

#[test]
fn a_mount_point_behind_a_loop_of_links_is_an_error() {
    if !can_run() {
        return;
    }
    let container = Container::new("true").mount("/a/x", "tmpfs", "tmpfs", &[]);
    symlink("b", container.root.path().join("a")).unwrap();
    symlink("a", container.root.path().join("b")).unwrap();
    let message = container.run().failure();
    assert!(message.contains("tmpfs on /a/x: "), "{message}");
}

/// CVE-2025-31133: `/dev/null` of an image is something else.
#[test]
fn a_masked_path_is_the_hosts_null_whatever_the_roots_is() {
    if !can_run() {
        return;
    }
    let output = Container::new("stat -c '%t:%T' /proc/keys; cat /proc/keys | wc -c")
        .run()
        .success();
    assert_eq!(output, "1:3\n0\n");
}

/// CVE-2019-16884, CVE-2023-27561: something else in place of `/proc`.
#[test]
fn only_a_proc_file_system_takes_the_place_of_proc() {
    if !can_run() {
        return;
    }
    let host = TempDir::new().unwrap();
    let message = Container::new("true")
        .without_mount("/proc")
        .mount("/./proc/", "bind", host.path().to_str().unwrap(), &["bind"])
        .run()
        .failure();
    assert!(
        message.starts_with("mounting what is not a proc file system"),
        "{message}"
    );
    for target in ["/proc/self", "/proc/sys", "/link"] {
        let source = host.path().to_str().unwrap();
        let container = Container::new("true").mount(target, "bind", source, &["bind"]);
        symlink("/proc/1/../self/attr", container.root.path().join("link")).unwrap();
        let message = container.run().failure();
        assert!(
            message.starts_with("covering a part of /proc with bind mount of"),
            "{message}"
        );
    }
    let output = Container::new("wc -c < /proc/uptime")
        .mount("/proc/uptime", "bind", "/dev/null", &["bind", "ro"])
        .run()
        .success();
    assert_eq!(output, "0\n");
    let output = Container::new("test -d /proc/1 && echo host")
        .without_mount("/proc")
        .mount("/proc", "bind", "/proc", &["rbind", "ro"])
        .set("/linux/maskedPaths", json!([]))
        .run()
        .success();
    assert_eq!(output, "host\n");
}

#[test]
fn proc_and_sys_are_mounted_on_real_directories_only() {
    if !can_run() {
        return;
    }
    for name in ["proc", "sys"] {
        let container = Container::new("true");
        let place = container.root.path().join(name);
        fs::remove_dir(&place).unwrap();
        symlink("tmp", &place).unwrap();
        let message = container.run().failure();
        assert!(message.contains(&format!("on /{name}: ")), "{message}");
    }
}

#[test]
fn a_link_in_the_place_of_a_device_is_an_error() {
    if !can_run() {
        return;
    }
    let host = tempfile::NamedTempFile::new().unwrap();
    let container = Container::new("true")
        .without_mount("/dev")
        .without_mount("/dev/pts");
    symlink(host.path(), container.root.path().join("dev/null")).unwrap();
    let message = container.run().failure();
    assert_eq!(message, "making the device /dev/null: File exists");
}

#[test]
fn the_working_directory_cannot_be_a_descriptor() {
    if !can_run() {
        return;
    }
    for number in [0, 3, 4, 7] {
        let message = Container::new("true")
            .set("/process/cwd", json!(format!("/proc/self/fd/{number}")))
            .run()
            .failure();
        assert!(
            message.starts_with("entering the working directory"),
            "{message}"
        );
    }
}

#[test]
fn a_working_directory_behind_a_link_is_inside_the_root() {
    if !can_run() {
        return;
    }
    let container = Container::new("pwd -P; ls").set("/process/cwd", json!("/link"));
    symlink("/../../etc", container.root.path().join("link")).unwrap();
    fs::write(container.root.path().join("etc/mine"), "").unwrap();
    assert_eq!(container.run().success(), "/etc\nmine\n");
}

#[test]
fn a_masked_path_behind_a_link_masks_nothing_of_the_host() {
    if !can_run() {
        return;
    }
    let host = tempfile::NamedTempFile::new().unwrap();
    fs::write(host.path(), "host").unwrap();
    let container =
        Container::new("true").set("/linux/maskedPaths", json!(["/link", "/proc/keys"]));
    symlink(host.path(), container.root.path().join("link")).unwrap();
    container.run().success();
    assert_eq!(fs::read_to_string(host.path()).unwrap(), "host");
}

#[test]
fn the_old_root_cannot_be_reached() {
    if !can_run() {
        return;
    }
    let marker = tempfile::Builder::new()
        .prefix("marker")
        .tempfile_in("/tmp")
        .unwrap();
    let script = format!(
        "ls {0} /../../../..{0} /proc/1/root{0} /proc/self/cwd{0} 2>/dev/null | wc -l",
        marker.path().display()
    );
    assert_eq!(Container::new(&script).run().success(), "0\n");
}

/// Hostile: an image has a device in the place of one that is asked for, with another mode and owner. Outcome: the node itself gets the asked ones; a link in its place to a file of the machine is an error and the file keeps its mode.
#[test]
fn a_node_that_is_there_gets_its_mode_by_no_name() {
    if !can_run() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let with = |script: &str| {
        Container::new(script)
            .without_mount("/dev/pts")
            .without_mount("/dev")
            .set(
                "/linux/devices",
                json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8 }]),
            )
    };
    let container = with("stat -c '%a %u %g %t %T' /dev/null");
    make_node(
        &container.root.path().join("dev/null"),
        SFlag::S_IFCHR,
        makedev(1, 3),
    );
    assert_eq!(container.run().success(), "640 7 8 1 3\n");
    let container = with("true");
    symlink(file.path(), container.root.path().join("dev/null")).unwrap();
    let message = container.run().failure();
    assert!(message.contains("/dev/null"), "{message}");
    let mode = fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}
