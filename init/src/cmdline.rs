//! The kernel command line: what of it is meant for PID 1.
//!
//! Options of ours begin with `wherry.`; the others belong to the kernel, but
//! for the parts of `dm-mod.create=` that tell which release was booted.
//! `docs/init.md` is the manual page.

use std::collections::BTreeSet;
use std::time::Duration;

use layout::command_line::{VerityRoot, arguments};
use serde::{Deserialize, Serialize};

/// What PID 1 does after a failure of its own (`wherry.emergency=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Emergency {
    /// Says why on the console and restarts the machine, so that the boot
    /// loader's counting can fall back to the other release.
    #[default]
    Reboot,
    /// Says why and leaves the services running, without a supervisor.
    Stay,
}

/// When a release on trial must be confirmed (`wherry.trial=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrialLimit {
    /// At the usual time.
    #[default]
    Usual,
    /// So long after the start.
    After(Duration),
    /// Never.
    Off,
}

/// PID 1's part of the kernel command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// Services that are not started at boot (`wherry.disable=a,b`;
    /// `wherry.console=off` is `console`).
    pub disabled: BTreeSet<String>,
    /// What to do after a failure of PID 1.
    pub emergency: Emergency,
    /// Whether a state partition that cannot be repaired is erased
    /// (`wherry.state=erase`).
    pub erase_state: bool,
    /// When a release on trial must be confirmed.
    pub trial: TrialLimit,
    /// The verity root hash of the booted root, in hexadecimal.
    pub root_hash: Option<String>,
    /// The PARTUUID of the booted root's data partition.
    pub root_partition: Option<String>,
    /// What could not be understood, a sentence each.
    pub complaints: Vec<String>,
}

/// Parses the text of `/proc/cmdline`. It never fails: a machine whose command
/// line has a mistake still boots, and says so.
pub fn parse(text: &str) -> Cmdline {
    let mut cmdline = Cmdline::default();
    for argument in arguments(text) {
        let (key, value) = argument.split_once('=').unwrap_or((&argument, ""));
        match key {
            "dm-mod.create" => {
                if let Some(root) = VerityRoot::parse(value) {
                    cmdline.root_hash = root.root_hash;
                    cmdline.root_partition = root.data;
                }
            }
            "wherry.console" => match value {
                "on" => {
                    cmdline.disabled.remove("console");
                }
                "off" => {
                    cmdline.disabled.insert("console".to_owned());
                }
                _ => complain(&mut cmdline, key, value, "on or off"),
            },
            "wherry.disable" => cmdline.disabled.extend(
                value
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned),
            ),
            "wherry.emergency" => match value {
                "reboot" => cmdline.emergency = Emergency::Reboot,
                "stay" => cmdline.emergency = Emergency::Stay,
                _ => complain(&mut cmdline, key, value, "reboot or stay"),
            },
            "wherry.state" => match value {
                "keep" => cmdline.erase_state = false,
                "erase" => cmdline.erase_state = true,
                _ => complain(&mut cmdline, key, value, "keep or erase"),
            },
            "wherry.trial" => match (value, humantime::parse_duration(value)) {
                ("off", _) => cmdline.trial = TrialLimit::Off,
                (_, Ok(limit)) if !limit.is_zero() => cmdline.trial = TrialLimit::After(limit),
                _ => complain(&mut cmdline, key, value, "off or a time such as 20m"),
            },
            _ if key.starts_with("wherry.") => cmdline.complaints.push(format!(
                "kernel command line: there is no option '{key}'; known are wherry.console, \
                 wherry.disable, wherry.emergency, wherry.state and wherry.trial"
            )),
            _ => {}
        }
    }
    cmdline
}

fn complain(cmdline: &mut Cmdline, key: &str, value: &str, expected: &str) {
    cmdline.complaints.push(format!(
        "kernel command line: {key}={value} is not understood; expected {expected}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_command_line_means_the_defaults() {
        assert_eq!(parse(""), Cmdline::default());
    }

    #[test]
    fn the_booted_release_is_read_from_the_verity_table() {
        let cmdline = parse(
            "console=ttyS0 dm-mod.create=\"root,,,ro,0 2048 verity 1 PARTUUID=aaaa PARTUUID=bbbb \
             4096 4096 256 1 sha256 c0ffee 5a17 1 panic_on_corruption\" root=/dev/dm-0",
        );
        assert_eq!(cmdline.root_hash.as_deref(), Some("c0ffee"));
        assert_eq!(cmdline.root_partition.as_deref(), Some("aaaa"));
        assert_eq!(cmdline.complaints, Vec::<String>::new());
    }

    #[test]
    fn the_console_and_other_services_can_be_turned_off() {
        let cmdline = parse("wherry.console=off wherry.disable=network,,log");
        assert_eq!(
            cmdline.disabled,
            ["console", "log", "network"].map(String::from).into()
        );
    }

    #[test]
    fn the_last_of_two_contrary_options_holds() {
        let disabled = |line: &str| parse(line).disabled;
        assert_eq!(disabled("wherry.console=off wherry.console=on"), [].into());
        assert_eq!(
            disabled("wherry.console=on wherry.console=off"),
            ["console".to_owned()].into()
        );
    }

    #[test]
    fn a_mistake_is_told_and_the_rest_holds() {
        let cmdline = parse("wherry.emergency=maybe wherry.colour=red wherry.state=erase");
        assert_eq!(cmdline.emergency, Emergency::Reboot);
        assert!(cmdline.erase_state);
        assert_eq!(cmdline.complaints.len(), 2);
        assert!(cmdline.complaints[0].contains("wherry.emergency=maybe"));
        assert!(cmdline.complaints[1].contains("wherry.colour"));
    }

    #[test]
    fn the_limit_of_a_trial_is_a_time_or_off() {
        let limit = |text: &str| parse(text).trial;
        assert_eq!(
            limit("wherry.trial=90s"),
            TrialLimit::After(Duration::from_secs(90))
        );
        assert_eq!(limit("wherry.trial=off"), TrialLimit::Off);
        let wrong = parse("wherry.trial=0s wherry.trial=soon wherry.trial");
        assert_eq!(wrong.trial, TrialLimit::Usual);
        assert_eq!(wrong.complaints.len(), 3);
    }

    #[test]
    fn options_of_the_kernel_are_not_ours_to_judge() {
        assert_eq!(
            parse("quiet panic=-1 foo bar=\"a b\"").complaints,
            Vec::<String>::new()
        );
    }
}
