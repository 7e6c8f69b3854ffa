//! From the kernel's hand-over to a machine that has settled.

use std::fs;

use control::{Request, ServiceState};
use nix::sys::signal::Signal;

use crate::pid1::{End, Pid1, service, until};

pub fn every_service_of_the_image_starts_and_the_machine_settles() {
    let ready = "ready = \"notify\"";
    let mut pid1 = Pid1::boot(&[
        ("web", service(&["notify READY=1", "forever"], ready)),
        ("late", service(&["forever"], "requires = [\"web\"]")),
        ("once", service(&["say done"], "ready = \"exit\"")),
    ]);
    for (name, state) in [
        ("web", ServiceState::Ready),
        ("late", ServiceState::Ready),
        ("once", ServiceState::Ended),
        ("state", ServiceState::Ended),
    ] {
        let line = pid1.service(name);
        assert_eq!(line.state, state, "{line:#?}\n{}", pid1.log());
        assert_eq!(
            line.pid.is_some(),
            state == ServiceState::Ready,
            "{line:#?}"
        );
        assert!(!line.operator, "{line:#?}");
    }
    let status = pid1.status();
    assert_eq!(status.machine.system, "Wherry in namespaces");
    assert_eq!(status.machine.machine_id.len(), 32);
    // There is no disk here, and nothing else is wrong.
    let degraded = &status.machine.degraded;
    assert_eq!(degraded.len(), 1, "{degraded:#?}");
    assert!(
        degraded[0].contains("the state is volatile"),
        "{degraded:#?}"
    );
    let log = pid1.log();
    assert!(
        log.find("web: ready").unwrap() < log.find("late: starting").unwrap(),
        "{log}"
    );
    assert!(pid1.try_ask(&Request::Boot).is_ok());
}

pub fn a_service_that_the_command_line_disables_waits_to_be_started() {
    let services = [("web", service(&["forever"], ""))];
    let mut pid1 = Pid1::start("quiet wherry.disable=web wherry.nonsense", &services);
    pid1.wait_for_console(" s (kernel ");
    assert_eq!(pid1.service("web").state, ServiceState::Stopped);
    assert!(pid1.log().contains("there is no option 'wherry.nonsense'"));
    pid1.order(|service| Request::Start { service }, "web");
    pid1.wait_for_state("web", ServiceState::Ready);
}

pub fn what_is_mounted_already_stays_as_it_is() {
    let setting = "/proc/sys/kernel/printk_devkmsg";
    let before = fs::read_to_string(setting).unwrap();
    let mut pid1 = Pid1::boot(&[]);
    // A second /proc would hide that the first one's settings are read-only.
    let refused = format!("cannot write {setting}: Read-only file system");
    pid1.wait_for_log(&refused);
    assert_eq!(fs::read_to_string(setting).unwrap(), before);
    let mounts = pid1.read("/proc/1/mounts");
    for target in ["/proc", "/sys", "/dev"] {
        let count = mounts
            .lines()
            .filter(|line| line.split(' ').nth(1) == Some(target));
        assert_eq!(count.count(), 1, "{target}: {mounts}");
    }
}

pub fn a_container_shares_nothing_that_its_definition_does_not_ask_for() {
    let pid1 = Pid1::boot(&[("web", service(&["forever"], ""))]);
    let pid = pid1.service("web").pid.unwrap();
    let status = pid1.read(&format!("/proc/{pid}/status"));
    for line in [
        "CapBnd:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        &format!("NSpid:\t{pid}\t1"),
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    for namespace in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let of =
            |pid: u32| fs::read_link(pid1.path(&format!("/proc/{pid}/ns/{namespace}"))).unwrap();
        assert_ne!(of(pid), of(1), "{namespace}");
    }
    let cgroup = pid1.read(&format!("/proc/{pid}/cgroup"));
    assert!(cgroup.ends_with("/services/web\n"), "{cgroup}");
    let root = format!("/proc/{pid}/root");
    assert!(fs::write(pid1.path(&format!("{root}/x")), "").is_err());
    assert!(pid1.path(&format!("{root}/program")).exists());
    assert!(!pid1.path(&format!("{root}/run/wherry")).exists());
}

pub fn a_signal_in_the_middle_of_the_boot_ends_it_in_order() {
    let services = [("slow", service(&["forever"], "ready = \"notify\""))];
    let mut pid1 = Pid1::start("", &services);
    pid1.signal(Signal::SIGTERM);
    assert_eq!(pid1.end(), End::Restart);
    assert!(pid1.console().contains("wherry: restarting"));
    assert!(pid1.log().contains("the services are stopped"));
}

/// Hostile: Somebody defines hundreds of services. Outcome: All of them start; PID 1 has descriptors for as many services as it allows.
pub fn hundreds_of_services_start() {
    const COUNT: usize = 240;
    let pid1 = Pid1::boot(&[]);
    for number in 0..COUNT {
        pid1.define(&format!("s{number}"), &service(&["forever"], ""));
    }
    pid1.reload();
    until("all are ready", || {
        let status = pid1.status();
        let is_ready = |service: &&control::Service| service.state == ServiceState::Ready;
        status.services.iter().filter(is_ready).count() >= COUNT
    });
    // More than the kernel's limit, which is that of the containers.
    assert!(pid1.descriptors() > 1024, "{}", pid1.descriptors());
}
