//! A machine to start from.

use control::{
    Health, Machine, Memory, Phase, Service, ServiceState, Slot, Status, Storage, StorageState,
};

/// A machine that is ready and has no service: Wherry 1.2.3 in slot B on `boat-7`.
pub fn status() -> Status {
    Status {
        machine: Machine {
            system: "Wherry 1.2.3".into(),
            version: "1.2.3".into(),
            slot: Some(Slot::B),
            root_hash: Some("abcd".into()),
            kernel: "6.12".into(),
            hostname: "boat-7".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            boot_id: "fedcba9876543210fedcba9876543210".into(),
            uptime_us: 61_000_000,
            phase: Phase::Ready,
            degraded: vec![],
            reexecuted: 0,
            trial: None,
            watchdog_reset: false,
        },
        memory: Memory::default(),
        storage: Storage {
            state: StorageState::Persistent,
            device: None,
            disk: None,
            notes: vec![],
        },
        inhibitors: vec![],
        services: vec![],
    }
}

/// A service in this state for as long as the machine is up.
pub fn service(name: &str, state: ServiceState) -> Service {
    Service {
        name: name.into(),
        description: String::new(),
        state,
        since_us: 1_000_000,
        detail: String::new(),
        health: Health::Unknown,
        pid: None,
        restarts: 0,
        memory: None,
        essential: false,
        operator: false,
        for_this_boot: false,
    }
}
