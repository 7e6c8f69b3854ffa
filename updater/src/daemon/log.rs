//! What the lifecycle reports, as lines of the log.

use lifecycle::Notice;

use crate::say::{Level, event};

/// Writes one line. Its fields are for programs.
pub(super) fn write(notice: &Notice) {
    match notice {
        Notice::Panicked(words) => {
            let message = format!("the kernel panicked before this boot: {words}");
            event(Level::Warning, "panic", &[], &message);
        }
        Notice::FellBack {
            version,
            running,
            reason,
        } => event(
            Level::Error,
            "fell-back",
            &[
                ("version", version),
                ("running", running),
                ("reason", reason),
            ],
            &format!("{version} gave way to {running}: {reason}"),
        ),
        Notice::OnTrial { version, limit } => event(
            Level::Notice,
            "trial",
            &[("version", version)],
            &format!(
                "{version} is on trial until {} s after the start",
                limit.as_secs()
            ),
        ),
        Notice::Unhealthy { version, reason } => event(
            Level::Error,
            "unhealthy",
            &[("version", version), ("reason", reason)],
            &format!("{version} has not proven itself: {reason}; the machine restarts"),
        ),
        Notice::Blessed(version) => event(
            Level::Notice,
            "blessed",
            &[("version", version)],
            &format!("{version} has proven itself"),
        ),
        Notice::Credited(version) => event(
            Level::Notice,
            "credited",
            &[("version", version)],
            &format!("{version} is given a try back: the previous boot ended without its fault"),
        ),
        Notice::Checked(found) => event(Level::Info, "checked", &[], found),
        Notice::CheckFailed(why) => event(Level::Warning, "check-failed", &[], why),
        Notice::Installing(version) => event(
            Level::Notice,
            "installing",
            &[("version", version)],
            &format!("installing {version}"),
        ),
        Notice::InstallFailed { version, reason } => event(
            Level::Error,
            "install-failed",
            &[("version", version), ("reason", reason)],
            &format!("{version} is not installed: {reason}"),
        ),
        Notice::MirrorDropped(why) => event(Level::Warning, "mirror-dropped", &[], why),
        Notice::Installed {
            version,
            from,
            fetched,
            reused,
        } => event(
            Level::Notice,
            "installed",
            &[
                ("version", version),
                ("from", from),
                ("fetched", fetched),
                ("reused", reused),
            ],
            &format!("{version} is installed"),
        ),
        Notice::RolledBack { version, from } => event(
            Level::Notice,
            "rolled-back",
            &[("version", version), ("from", from)],
            &format!("{version} boots next instead of {from}"),
        ),
        Notice::RollBackFailed(why) => event(Level::Warning, "rollback-failed", &[], why),
        Notice::SlotDamaged(version) => event(
            Level::Error,
            "slot-damaged",
            &[("version", version)],
            &format!(
                "the slot of {version} is damaged; it is rewritten as soon as a repository \
                 answers"
            ),
        ),
        Notice::DiskFailed(why) => event(Level::Error, "disk", &[], why),
        Notice::PublishFailed(why) => event(Level::Error, "publish-failed", &[], why),
        Notice::BlessFailed(why) => event(Level::Error, "bless-failed", &[], why),
        Notice::Withdrawn { version, why } => event(
            Level::Warning,
            "withdrawn",
            &[("version", version)],
            &format!("{version} is not booted: {why}"),
        ),
        Notice::Restarting { into } => {
            let into = into.as_ref().map(ToString::to_string).unwrap_or_default();
            let message = "the machine restarts";
            event(Level::Notice, "reboot", &[("into", &into)], message);
        }
        Notice::RestartFailed(why) => event(Level::Error, "reboot-failed", &[], why),
        Notice::ConfirmFailed(why) => event(Level::Error, "confirm-boot", &[], why),
        Notice::Pinned(version) => {
            event(
                Level::Notice,
                "pinned",
                &[],
                &format!("only {version} is taken"),
            );
        }
        Notice::Unpinned => {
            event(
                Level::Notice,
                "unpinned",
                &[],
                "releases from the channel are installed",
            );
        }
        Notice::Held(hold) => event(Level::Notice, "held", &[], &hold.to_string()),
        Notice::Resumed => event(Level::Notice, "resumed", &[], "the hold is over"),
    }
}
