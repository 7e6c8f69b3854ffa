//! What the container `state` left in writing. The format is specified in
//! `docs/state.md`.

use std::path::Path;

use serde::Deserialize;

/// Where the container's report lies in PID 1's view. The container has the
/// directory at `/run/state`.
pub const REPORT: &str = "/run/wherry/state/report.json";

/// The part of the report that PID 1 acts upon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Report {
    /// How it ended, in a word.
    pub result: String,
    /// The state partition's device node, where there is a partition. A new
    /// partition has no name in sysfs until the table is read again, so the
    /// report is the only place that tells it in the boot that made it.
    pub device: Option<String>,
    /// What was done or went wrong, a sentence each.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether what is in the partition must not be mounted, however it looks.
    /// After any other failure it is worth a try.
    pub fn forbids_mounting(&self) -> bool {
        matches!(self.result.as_str(), "unrepairable" | "foreign")
    }
}

/// The most bytes that are read of a report.
const LONGEST: usize = 64 * 1024;

/// The report; `None` where the container left none.
///
/// # Errors
/// What is there is not a report, a sentence.
pub fn read(path: &Path) -> Result<Option<Report>, String> {
    let text = config::read(path, LONGEST).map_err(|error| error.to_string())?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_reports_other_fields_do_not_matter_here() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        assert_eq!(read(&path), Ok(None));
        fs::write(&path, "{\"device\":").unwrap();
        assert!(read(&path).is_err());
        fs::write(
            &path,
            r#"{"result":"changed","device":"/dev/vda6","notes":["grown"],"size":1}"#,
        )
        .unwrap();
        assert!(!read(&path).unwrap().unwrap().forbids_mounting());
        assert_eq!(
            read(&path),
            Ok(Some(Report {
                result: "changed".to_owned(),
                device: Some("/dev/vda6".to_owned()),
                notes: vec!["grown".to_owned()],
            }))
        );
    }
}
