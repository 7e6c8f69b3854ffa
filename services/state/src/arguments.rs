//! The command line.

use std::path::PathBuf;

/// Shown beside a mistake in the arguments.
pub const USAGE: &str = "state prepare --disk DEVICE --partition NUMBER|none \
    [--check quick|full] [--erase-policy keep|erase] [--report FILE]";

/// Where the report goes unless `--report` says otherwise: a directory that the
/// definition mounts from the machine.
const REPORT: &str = "/run/state/report.json";

/// What PID 1 asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The disk's device node.
    pub disk: PathBuf,
    /// The number of the state partition, where PID 1 has found one.
    pub partition: Option<u32>,
    /// Whether the file system is checked even if it says that it is clean.
    pub full_check: bool,
    /// Whether what cannot be used is made anew.
    pub erase: bool,
    /// Where the report is written to.
    pub report: PathBuf,
}

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// A sentence about the first mistake.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Request, String> {
    let mut arguments = arguments.into_iter();
    match arguments.next().as_deref() {
        Some("prepare") => {}
        Some(other) => return Err(format!("there is no command '{other}'")),
        None => return Err("the command is missing".to_owned()),
    }
    let mut disk = None;
    let mut partition = None;
    let mut full_check = false;
    let mut erase = false;
    let mut report = PathBuf::from(REPORT);
    while let Some(option) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| format!("{option} needs a value"))
        };
        match option.as_str() {
            "--disk" => disk = Some(PathBuf::from(value()?)),
            "--partition" => partition = Some(number(&value()?)?),
            "--check" => full_check = either(&option, &value()?, "quick", "full")?,
            "--erase-policy" => erase = either(&option, &value()?, "keep", "erase")?,
            "--report" => report = PathBuf::from(value()?),
            _ => return Err(format!("there is no option '{option}'")),
        }
    }
    Ok(Request {
        disk: disk.ok_or("--disk is missing")?,
        partition: partition.ok_or("--partition is missing")?,
        full_check,
        erase,
        report,
    })
}

fn number(text: &str) -> Result<Option<u32>, String> {
    match (text, text.parse()) {
        ("none", _) => Ok(None),
        (_, Ok(number)) if number > 0 => Ok(Some(number)),
        _ => Err(format!("--partition is a number or none, not '{text}'")),
    }
}

/// Whether `value` is the second of the two words.
fn either(option: &str, value: &str, no: &str, yes: &str) -> Result<bool, String> {
    if value == yes {
        Ok(true)
    } else if value == no {
        Ok(false)
    } else {
        Err(format!("{option} is {no} or {yes}, not '{value}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Request, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn nothing_is_erased_unless_asked_for() {
        let request = parse_line("prepare --disk /dev/vda --partition 6").unwrap();
        assert_eq!(
            request,
            Request {
                disk: "/dev/vda".into(),
                partition: Some(6),
                full_check: false,
                erase: false,
                report: REPORT.into(),
            }
        );
        let request = parse_line(
            "prepare --disk /dev/vda --partition none --check full --erase-policy erase --report /r",
        )
        .unwrap();
        assert!(request.erase && request.full_check && request.partition.is_none());
    }

    #[test]
    fn a_mistake_is_named() {
        for (line, word) in [
            ("", "command"),
            ("mend", "mend"),
            ("prepare --partition 6", "--disk"),
            ("prepare --disk /dev/vda", "--partition"),
            ("prepare --disk", "needs a value"),
            ("prepare --disk /dev/vda --partition 0", "'0'"),
            (
                "prepare --disk /dev/vda --partition 1 --erase-policy yes",
                "'yes'",
            ),
            ("prepare --disk /dev/vda --partition 1 --force", "--force"),
        ] {
            let mistake = parse_line(line).unwrap_err();
            assert!(mistake.contains(word), "{line}: {mistake}");
        }
    }
}
