//! Definition → OCI runtime specification (`config.json`, runtime-spec 1.2).
//!
//! Pure. What a definition does not ask for is not in the container: every
//! namespace is its own, the root is read-only, there is no capability and no
//! network, new privileges are forbidden and the default seccomp profile holds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capabilities, Linux, LinuxCapabilities, LinuxCpu, LinuxDevice, LinuxDeviceCgroup,
    LinuxDeviceType, LinuxMemory, LinuxNamespace, LinuxNamespaceType, LinuxPids, LinuxResources,
    LinuxSeccomp, Mount, PosixRlimitBuilder, PosixRlimitType, Process, Root, Spec, User,
    get_default_maskedpaths, get_default_readonly_paths,
};

use crate::{Definition, STATE_DISK, Share};

/// Where the container finds its notification socket.
pub const NOTIFY_SOCKET: &str = "/run/notify";

/// A device node of the machine that a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its path, the same on the machine and in the container.
    pub path: PathBuf,
    /// Block or character.
    pub block: bool,
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// The period of `cpu.max` in microseconds: the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// What is not in the definition, but found by PID 1 or made for it.
#[derive(Clone, Debug)]
pub struct Provided<'a> {
    /// The folder of the container's root.
    pub root: &'a Path,
    /// The notification socket on the machine.
    pub notify: &'a Path,
    /// The machine's memory in bytes.
    pub memory: u64,
    /// Whether memory is taken from others first.
    pub protected: bool,
    /// The definition's devices.
    pub devices: &'a [Device],
    /// The seccomp profile for the definition's capabilities.
    pub seccomp: LinuxSeccomp,
}

/// Builds the specification of service `name`. The definition's mounts are the last
/// ones of the specification, in their order.
///
/// # Errors
/// What the OCI types refuse.
pub fn build(
    name: &str,
    definition: &Definition,
    provided: Provided<'_>,
) -> Result<Spec, OciSpecError> {
    let mut spec = Spec::default();
    let mut root = Root::default();
    root.set_path(provided.root.to_owned())
        .set_readonly(Some(true));
    spec.set_root(Some(root))
        .set_hostname(Some(name.to_owned()))
        .set_process(Some(process(definition, provided.protected)?))
        .set_mounts(Some(all_mounts(definition, provided.notify)))
        .set_linux(Some(linux(definition, &provided)));
    Ok(spec)
}

/// How much less likely than others a protected service is killed where all
/// services together run out of memory, in thousandths of that memory. Not 1000:
/// then it could never be killed, not even at its own limit.
const PROTECTED: i32 = -900;

fn process(definition: &Definition, protected: bool) -> Result<Process, OciSpecError> {
    let capabilities: &Capabilities = &definition.capabilities;
    let mut sets = LinuxCapabilities::default();
    // A program that does not run as user 0 keeps capabilities over exec only
    // where they are ambient (capabilities(7)).
    let inherited = (definition.user.uid != 0).then(|| capabilities.clone());
    sets.set_bounding(Some(capabilities.clone()))
        .set_effective(Some(capabilities.clone()))
        .set_permitted(Some(capabilities.clone()))
        .set_inheritable(Some(inherited.clone().unwrap_or_default()))
        .set_ambient(Some(inherited.unwrap_or_default()));
    let mut user = User::default();
    user.set_uid(definition.user.uid)
        .set_gid(definition.user.gid)
        .set_umask(Some(0o022));
    let mut environment = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("NOTIFY_SOCKET={NOTIFY_SOCKET}"),
    ];
    if let Some(time) = definition.policy.watchdog {
        environment.push(format!("WATCHDOG_USEC={}", time.as_micros()));
    }
    environment.extend(
        definition
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    let open_files = definition.limits.open_files.unwrap_or(1024);
    let files = PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitNofile)
        .soft(open_files)
        .hard(definition.limits.open_files.unwrap_or(524_288))
        .build()?;
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_user(user)
        .set_args(Some(definition.command.clone()))
        .set_env(Some(environment))
        .set_cwd(PathBuf::from(&definition.working_directory))
        .set_capabilities(Some(sets))
        .set_rlimits(Some(vec![files]))
        .set_oom_score_adj(protected.then_some(PROTECTED))
        .set_no_new_privileges(Some(true));
    Ok(process)
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(target))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(
            options.iter().map(|&option| option.to_owned()).collect(),
        ));
    mount
}

fn all_mounts(definition: &Definition, notify: &Path) -> Vec<Mount> {
    const TEMPORARY: [&str; 4] = ["nosuid", "nodev", "mode=1777", "size=25%"];
    let mut all = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "noexec", "mode=755", "size=64k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=25%"],
        ),
        // A sysfs shows the network namespace of whoever mounts it, so each
        // container has its own.
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        mount(
            "/run",
            "tmpfs",
            "run",
            &["nosuid", "nodev", "mode=755", "size=25%"],
        ),
        mount("/tmp", "tmpfs", "tmp", &TEMPORARY),
    ];
    if definition.ipc == Share::Private {
        all.push(mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ));
    }
    all.push(mount(
        NOTIFY_SOCKET,
        "bind",
        &notify.to_string_lossy(),
        &["bind", "nosuid", "noexec", "nodev"],
    ));
    for asked in &definition.mounts {
        let mut options = vec![
            if asked.recursive { "rbind" } else { "bind" },
            "rprivate",
            "nosuid",
            "nodev",
        ];
        if asked.read_only {
            options.push(if asked.recursive { "rro" } else { "ro" });
        }
        all.push(mount(
            asked.target.as_str(),
            "bind",
            asked.source.as_str(),
            &options,
        ));
    }
    all
}

fn namespace(kind: LinuxNamespaceType) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespace
}

fn linux(definition: &Definition, provided: &Provided<'_>) -> Linux {
    let devices = provided.devices;
    let mut seccomp = provided.seccomp.clone();
    let mut namespaces = vec![
        namespace(LinuxNamespaceType::Mount),
        namespace(LinuxNamespaceType::Uts),
        namespace(LinuxNamespaceType::Cgroup),
    ];
    for (share, kind) in [
        (definition.network, LinuxNamespaceType::Network),
        (definition.pid, LinuxNamespaceType::Pid),
        (definition.ipc, LinuxNamespaceType::Ipc),
    ] {
        if share == Share::Private {
            namespaces.push(namespace(kind));
        }
    }
    if seccomp.architectures().is_none() {
        seccomp.set_architectures(Some(vec![Arch::ScmpArchX86_64]));
    }
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces))
        .set_resources(Some(resources(definition, devices, provided.memory)))
        .set_devices(Some(devices.iter().map(node).collect()))
        .set_seccomp(Some(seccomp))
        .set_masked_paths(Some(get_default_maskedpaths()))
        .set_readonly_paths(Some(get_default_readonly_paths()));
    linux
}

fn node(device: &Device) -> LinuxDevice {
    let mut node = LinuxDevice::default();
    node.set_path(device.path.clone())
        .set_typ(if device.block {
            LinuxDeviceType::B
        } else {
            LinuxDeviceType::C
        })
        .set_major(i64::from(device.major))
        .set_minor(i64::from(device.minor))
        .set_file_mode(Some(device.mode))
        .set_uid(Some(0))
        .set_gid(Some(0));
    node
}

fn resources(definition: &Definition, devices: &[Device], memory: u64) -> LinuxResources {
    let mut resources = LinuxResources::default();
    let mut deny = LinuxDeviceCgroup::default();
    deny.set_allow(false).set_access(Some("rwm".to_owned()));
    let mut rules = vec![deny];
    rules.extend(devices.iter().map(|device| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(if device.block {
                LinuxDeviceType::B
            } else {
                LinuxDeviceType::C
            }))
            .set_major(Some(i64::from(device.major)))
            .set_minor(Some(i64::from(device.minor)))
            .set_access(Some("rwm".to_owned()));
        rule
    }));
    if definition.devices.iter().any(|asked| asked == STATE_DISK) {
        rules.extend(later_partitions(devices));
    }
    resources.set_devices(Some(rules));
    let limits = &definition.limits;
    if let Some(limit) = limits.memory.bytes(memory) {
        let bytes = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(bytes(limit)));
        // The specification's `swap` is memory and swap together.
        memory.set_swap(Some(bytes(limit.saturating_add(limits.swap.unwrap_or(0)))));
        resources.set_memory(Some(memory));
    }
    if let Some(count) = limits.pids {
        let mut pids = LinuxPids::default();
        pids.set_limit(i64::try_from(count).unwrap_or(i64::MAX));
        resources.set_pids(Some(pids));
    }
    if let Some(share) = limits.cpu {
        let mut cpu = LinuxCpu::default();
        let quota = u64::from(share.percent) * CPU_PERIOD / 100;
        cpu.set_period(Some(CPU_PERIOD))
            .set_quota(Some(i64::try_from(quota).unwrap_or(i64::MAX)));
        resources.set_cpu(Some(cpu));
    }
    resources
}

/// The numbers that a partition can get which is made while the container runs:
/// those of its disk's driver, or the kernel's own for the rest of partitions
/// (`BLOCK_EXT_MAJOR`).
fn later_partitions(devices: &[Device]) -> impl Iterator<Item = LinuxDeviceCgroup> {
    const BLOCK_EXT_MAJOR: u32 = 259;
    devices
        .iter()
        .filter(|device| device.block)
        .map(|device| device.major)
        .chain([BLOCK_EXT_MAJOR])
        .collect::<BTreeSet<u32>>()
        .into_iter()
        .map(|major| {
            let mut rule = LinuxDeviceCgroup::default();
            rule.set_allow(true)
                .set_typ(Some(LinuxDeviceType::B))
                .set_major(Some(i64::from(major)))
                .set_access(Some("rwm".to_owned()));
            rule
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> serde_json::Value {
        let definition = crate::parse(
            "x",
            &format!("description = \"x\"\ncommand = [\"/x\", \"y\"]\n{text}"),
        )
        .unwrap();
        let devices = [Device {
            path: "/dev/kmsg".into(),
            block: false,
            major: 1,
            minor: 11,
            mode: 0o600,
        }];
        serde_json::to_value(built(&definition, &devices)).unwrap()
    }

    fn built(definition: &Definition, devices: &[Device]) -> Spec {
        build(
            "x",
            definition,
            Provided {
                root: Path::new("/root"),
                notify: Path::new("/run/wherry/notify/x"),
                memory: 256 << 20,
                protected: false,
                devices,
                seccomp: runtime::default_seccomp(&definition.capabilities),
            },
        )
        .unwrap()
    }

    fn namespaces(spec: &serde_json::Value) -> Vec<&str> {
        let mut kinds: Vec<&str> = spec["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|namespace| namespace["type"].as_str().unwrap())
            .collect();
        kinds.sort_unstable();
        kinds
    }

    #[test]
    fn a_container_shares_nothing_by_default() {
        let spec = spec("");
        assert_eq!(
            namespaces(&spec),
            ["cgroup", "ipc", "mount", "network", "pid", "uts"]
        );
        assert_eq!(spec["root"]["readonly"], true);
        assert_eq!(spec["process"]["noNewPrivileges"], true);
        for set in [
            "bounding",
            "effective",
            "permitted",
            "inheritable",
            "ambient",
        ] {
            assert_eq!(
                spec["process"]["capabilities"][set],
                serde_json::json!([]),
                "{set}"
            );
        }
        assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], false);
        assert_eq!(spec["process"]["args"], serde_json::json!(["/x", "y"]));
    }

    #[test]
    fn what_is_shared_with_the_machine_has_no_namespace_of_its_own() {
        let spec = spec("namespaces = { network = \"host\", pid = \"host\" }\n");
        assert_eq!(namespaces(&spec), ["cgroup", "ipc", "mount", "uts"]);
    }

    #[test]
    fn capabilities_are_ambient_only_for_another_user() {
        let root = spec("capabilities = [\"CAP_KILL\"]\n");
        assert_eq!(
            root["process"]["capabilities"]["permitted"],
            serde_json::json!(["CAP_KILL"])
        );
        assert_eq!(
            root["process"]["capabilities"]["ambient"],
            serde_json::json!([])
        );
        let user = spec("capabilities = [\"CAP_KILL\"]\nuser = \"1000:100\"\n");
        assert_eq!(
            user["process"]["capabilities"]["ambient"],
            serde_json::json!(["CAP_KILL"])
        );
        assert_eq!(user["process"]["user"]["gid"], 100);
    }

    #[test]
    fn limits_become_the_units_of_the_specification() {
        let spec = spec("limits = { memory = \"32M\", pids = 9, cpu = \"50%\", open-files = 7 }\n");
        let resources = &spec["linux"]["resources"];
        assert_eq!(resources["memory"]["limit"], 32 << 20);
        assert_eq!(
            resources["memory"]["swap"],
            32 << 20,
            "no swap beside the memory"
        );
        assert_eq!(resources["pids"]["limit"], 9);
        assert_eq!(resources["cpu"]["quota"], 50_000);
        assert_eq!(spec["process"]["rlimits"][0]["hard"], 7);
    }

    /// Hostile: takes memory without end where its definition names no limit. Outcome: it has half of the machine's memory, and no swap.
    #[test]
    fn who_names_no_limit_of_memory_has_half_of_the_machines() {
        let memory = |text: &str| spec(text)["linux"]["resources"]["memory"].clone();
        assert_eq!(memory("")["limit"], 128 << 20);
        assert_eq!(memory("")["swap"], 128 << 20);
        assert_eq!(
            memory("limits = { memory = \"300M\" }\n")["limit"],
            300 << 20
        );
        assert!(memory("limits = { memory = \"none\" }\n").is_null());
    }

    #[test]
    fn only_the_state_disks_service_may_use_partitions_made_later() {
        let majors = |spec: serde_json::Value| -> Vec<i64> {
            spec["linux"]["resources"]["devices"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|rule| rule["type"] == "b" && rule["minor"].is_null())
                .map(|rule| rule["major"].as_i64().unwrap())
                .collect()
        };
        assert_eq!(majors(spec("")), [0_i64; 0]);
        assert_eq!(majors(spec("devices = [\"state-disk\"]\n")), [259]);
    }

    #[test]
    fn a_mount_is_without_devices_and_setuid_programs() {
        let spec = spec("mounts = [{ source = \"/a\", target = \"/b\", read-only = true }]\n");
        let mount = spec["mounts"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(mount["destination"], "/b");
        assert_eq!(
            mount["options"],
            serde_json::json!(["bind", "rprivate", "nosuid", "nodev", "ro"])
        );
    }

    #[test]
    fn the_runtime_takes_what_is_built_here() {
        let definition = crate::parse(
            "x",
            "description = \"x\"\ncommand = [\"/x\"]\nlimits = { memory = \"1G\", swap = \"1G\" }\n\
             mounts = [{ source = \"/a\", target = \"/b\", recursive = true, read-only = true }]\n",
        )
        .unwrap();
        if let Err(error) = runtime::prepare(&built(&definition, &[])) {
            panic!("{error}");
        }
    }
}
