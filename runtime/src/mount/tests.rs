use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMappingBuilder, MountBuilder};

use super::*;
use crate::sys::{MOUNT_ATTR_NOSUID, MOUNT_ATTR_STRICTATIME};

fn spec(kind: &str, source: &str, target: &str, options: &[&str]) -> Mount {
    let mut builder = MountBuilder::default()
        .destination(PathBuf::from(target))
        .source(PathBuf::from(source))
        .options(options.iter().map(|o| o.to_string()).collect::<Vec<_>>());
    if !kind.is_empty() {
        builder = builder.typ(kind.to_string());
    }
    builder.build().unwrap()
}

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Result<Plan, Error> {
    let surroundings = Surroundings {
        cgroup_namespace: true,
        ..Surroundings::default()
    };
    plan(
        3,
        &spec(kind, source, target, options),
        &surroundings,
        &mut Vec::new(),
    )
}

fn new(plan: Result<Plan, Error>) -> New {
    match plan.unwrap().source {
        Source::New(new) => new,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_file_system_has_attributes_and_options() {
    let new = new(mount(
        "tmpfs",
        "tmpfs",
        "/dev",
        &["nosuid", "mode=755", "strictatime"],
    ));
    assert_eq!(new.kind.as_c_str(), c"tmpfs");
    assert_eq!(new.attributes, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
    assert!(!new.plain_target && !new.mode_of_target && !new.copy_up);
    assert_eq!(new.options[0].key.as_c_str(), c"source");
    assert_eq!(new.options[1].key.as_c_str(), c"mode");
    assert_eq!(new.options[1].value.as_deref(), Some(c"755"));
    assert_eq!(
        new.options[1].label.as_c_str(),
        c"mode=755 of tmpfs on /dev"
    );
}

#[test]
fn a_read_only_tmpfs_becomes_so_in_the_end_and_a_disk_is_so_from_the_start() {
    let tmpfs = new(mount("tmpfs", "t", "/t", &["ro"]));
    assert!(tmpfs.read_only_last && tmpfs.mode_of_target);
    assert_eq!(tmpfs.attributes, 0);
    let disk = new(mount("ext4", "/dev/vda", "/t", &["ro"]));
    assert_eq!(disk.attributes, MOUNT_ATTR_RDONLY);
    assert!(
        disk.options
            .iter()
            .any(|option| option.key.as_c_str() == c"ro")
    );
}

#[test]
fn attributes_and_propagation_may_be_recursive() {
    let plan = mount("bind", "/a", "/b", &["rbind", "rro", "rslave", "rnosuid"]).unwrap();
    assert_eq!(plan.changes.len(), 2);
    assert!(plan.changes[0].recursive);
    assert_eq!(
        plan.changes[0].attributes.set,
        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID
    );
    assert!(plan.changes[1].recursive);
    assert_eq!(plan.changes[1].attributes.propagation, libc::MS_SLAVE);
}

#[test]
fn only_what_names_no_propagation_follows_the_roots() {
    for (options, expected) in [
        (["rbind", "ro"], None),
        (["rbind", "private"], None),
        (["rbind", "rslave"], Some(libc::MS_SLAVE)),
        (["bind", "shared"], Some(0)),
    ] {
        let Source::Bind(bind) = mount("", "/a", "/b", &options).unwrap().source else {
            panic!("no bind mount");
        };
        assert_eq!(bind.cut_off, expected, "{options:?}");
    }
}

#[test]
fn a_relative_destination_is_below_the_root() {
    let plan = mount("tmpfs", "t", "a/b", &[]).unwrap();
    assert_eq!(plan.target.as_c_str(), c"/a/b");
}

#[test]
fn an_option_too_long_for_fsconfig_goes_to_mount() {
    let lower = format!("lowerdir={}", "/a".repeat(200));
    let new = new(mount(
        "overlay",
        "overlay",
        "/b",
        &[&lower, "userxattr", "ro", "sync"],
    ));
    let classic = new.classic.unwrap();
    assert_eq!(classic.data.to_str().unwrap(), format!("{lower},userxattr"));
    assert_eq!(classic.flags, libc::MS_RDONLY | libc::MS_SYNCHRONOUS);
}

#[test]
fn without_a_cgroup_namespace_the_cgroups_are_the_hosts() {
    let mount = spec("cgroup", "cgroup", "/sys/fs/cgroup", &["ro"]);
    let plan = plan(0, &mount, &Surroundings::default(), &mut Vec::new()).unwrap();
    assert_eq!(plan.source, Source::HostCgroup);
    assert_eq!(plan.changes[0].attributes.set, MOUNT_ATTR_RDONLY);
}

#[test]
fn equal_mappings_need_one_user_namespace() {
    let mut maps = Vec::new();
    for (outside, option, expected) in [
        (1000_u32, "idmap", (0, false)),
        (2000, "ridmap", (1, true)),
        (1000, "nosuid", (0, false)),
    ] {
        let mut mount = spec("", "/a", "/b", &["rbind", option]);
        let id = LinuxIdMappingBuilder::default()
            .container_id(0_u32)
            .host_id(outside)
            .size(1_u32)
            .build()
            .unwrap();
        mount.set_uid_mappings(Some(vec![id]));
        mount.set_gid_mappings(Some(vec![id]));
        let plan = plan(0, &mount, &Surroundings::default(), &mut maps).unwrap();
        let Source::Bind(bind) = plan.source else {
            panic!("no bind mount");
        };
        assert_eq!(bind.id_map, Some(expected));
    }
    assert_eq!(maps.len(), 2);
}

#[test]
fn what_is_not_enforced_is_refused_by_name() {
    for (result, needle) in [
        (
            mount("", "/a", "/b", &["bind", "idmap"]),
            "mounts[3].options: \"idmap\"",
        ),
        (mount("", "/a", "/b", &["bind", "size=1"]), "\"size=1\""),
        (mount("", "/a", "/b", &["bind", "sync"]), "\"sync\""),
        (
            mount("", "/a", "/b", &["bind", "tmpcopyup"]),
            "\"tmpcopyup\"",
        ),
        (
            mount("tmpfs", "t", "/b", &["copy-symlink"]),
            "\"copy-symlink\"",
        ),
        (mount("tmpfs", "t", "/proc", &[]), "mounts[3].destination"),
        (mount("tmpfs", "t", "/proc/.", &[]), "mounts[3].destination"),
        (mount("bind", "/a", "/b", &[]), "mounts[3].options"),
        (mount("", "/a", "/b", &[]), "mounts[3].type"),
        (mount("", "a", "/b", &["bind"]), "mounts[3].source"),
        (mount("tmpfs", "t", "/", &[]), "mounts[3].destination"),
        (mount("tmpfs", "t", "a/../..", &[]), "mounts[3].destination"),
    ] {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(needle), "{text}");
    }
}
