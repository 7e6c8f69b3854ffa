//! Kernel fragments: what `kernel-config/*.config` ask for, and whether the
//! kernel's configuration tool granted it.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

/// One asked-for option.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    /// `n` stands for "is not set".
    value: String,
    fragment: String,
    line: usize,
}

/// All that the fragments of a folder ask for.
#[derive(Debug, Default)]
pub struct Fragments {
    wishes: BTreeMap<String, Wish>,
    merged: String,
}

/// Options whose final value is not the asked-for one.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(Vec<String>);

impl Fragments {
    /// Reads every `*.config` of `folder`, in name order.
    pub fn load(folder: &Path) -> Result<Self> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .with_context(|| format!("read {}", folder.display()))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "config"))
            .collect();
        files.sort();
        let mut fragments = Self::default();
        for file in files {
            let text =
                fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            fragments.add(&name, &text)?;
        }
        Ok(fragments)
    }

    /// Adds a fragment. An option that is asked for twice is an error, even with
    /// one value: each has one place and one reason.
    pub fn add(&mut self, fragment: &str, text: &str) -> Result<()> {
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let Some((option, value)) =
                parse(line).with_context(|| format!("{fragment}:{line_number}"))?
            else {
                continue;
            };
            let wish = Wish {
                value: value.to_owned(),
                fragment: fragment.to_owned(),
                line: line_number,
            };
            if let Some(other) = self.wishes.insert(option.to_owned(), wish) {
                bail!(
                    "{fragment}:{line_number}: {option} is already asked for in {}:{}",
                    other.fragment,
                    other.line
                );
            }
        }
        self.merged += text;
        self.merged += "\n";
        Ok(())
    }

    /// The fragments as one, for KCONFIG_ALLCONFIG.
    pub fn merged(&self) -> &str {
        &self.merged
    }

    /// What is asked for, an option a line, without the reasons: two texts that differ
    /// in comments only ask for the same kernel.
    pub fn options(&self) -> String {
        let line = |(option, wish): (&String, &Wish)| format!("{option}={}\n", wish.value);
        self.wishes.iter().map(line).collect()
    }

    /// How many options are asked for.
    pub fn len(&self) -> usize {
        self.wishes.len()
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.wishes.is_empty()
    }

    /// Compares the final configuration with what was asked for. An option that
    /// the kernel does not know, or whose dependencies are not met, disappears
    /// without a word; only this comparison shows it.
    pub fn check(&self, config: &str) -> Result<Result<(), Refused>> {
        let mut last = BTreeMap::new();
        for line in config.lines() {
            if let Some((option, value)) = parse(line)? {
                last.insert(option, value);
            }
        }
        let refused: Vec<String> = self
            .wishes
            .iter()
            .filter_map(|(option, wish)| {
                let got = last.get(option.as_str()).copied().unwrap_or("n");
                (got != wish.value).then(|| {
                    format!(
                        "{}:{}: {option}={} was asked for, the kernel has {got}",
                        wish.fragment, wish.line, wish.value
                    )
                })
            })
            .collect();
        Ok(if refused.is_empty() {
            Ok(())
        } else {
            Err(Refused(refused))
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the kernel did not take {} of the options of kernel-config/ (a missing \
             dependency or menu, or a name that this version does not know):\n  {}",
            self.0.len(),
            self.0.join("\n  ")
        )
    }
}

impl std::error::Error for Refused {}

/// `CONFIG_X=value` or `# CONFIG_X is not set`; nothing for a comment.
fn parse(line: &str) -> Result<Option<(&str, &str)>> {
    let line = line.trim_end();
    if let Some(option) = line
        .strip_prefix("# CONFIG_")
        .and_then(|rest| rest.strip_suffix(" is not set"))
    {
        let option = &line[2..2 + "CONFIG_".len() + option.len()];
        return Ok(Some((option, "n")));
    }
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    match line.split_once('=') {
        Some((option, value)) if option.starts_with("CONFIG_") => Ok(Some((option, value))),
        _ => bail!("neither CONFIG_X=value, `# CONFIG_X is not set` nor a comment: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Fragments;

    const FRAGMENT: &str = "# why\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"text\"\n";

    fn fragments() -> Fragments {
        let mut fragments = Fragments::default();
        fragments.add("10-a.config", FRAGMENT).unwrap();
        fragments
    }

    #[test]
    fn reasons_ask_for_nothing() {
        let mut others = Fragments::default();
        let text = "\nCONFIG_C=\"text\"\nCONFIG_A=y\n# another reason\n# CONFIG_B is not set\n";
        others.add("20-b.config", text).unwrap();
        assert_eq!(others.options(), fragments().options());
        assert_eq!(
            others.options(),
            "CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=\"text\"\n"
        );
    }

    #[test]
    fn an_option_that_is_absent_is_not_set() {
        let granted = "CONFIG_A=y\nCONFIG_C=\"text\"\nCONFIG_OTHER=y\n";
        assert_eq!(fragments().check(granted).unwrap(), Ok(()));
    }

    #[test]
    fn every_option_that_vanished_is_named_with_its_place() {
        let refused = fragments().check("CONFIG_B=y\nCONFIG_C=\"text\"\n");
        let message = refused.unwrap().unwrap_err().to_string();
        assert!(message.contains("10-a.config:2: CONFIG_A=y was asked for, the kernel has n"));
        assert!(message.contains("10-a.config:3: CONFIG_B=n was asked for, the kernel has y"));
        assert!(!message.contains("CONFIG_C"));
    }

    #[test]
    fn an_option_is_asked_for_once() {
        let error = fragments()
            .add("20-b.config", "\nCONFIG_A=y\n")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "20-b.config:2: CONFIG_A is already asked for in 10-a.config:2"
        );
    }

    #[test]
    fn a_line_that_is_no_option_is_an_error_with_its_place() {
        let error = Fragments::default()
            .add("x.config", "CONFIG_A y")
            .unwrap_err();
        assert!(format!("{error:#}").starts_with("x.config:1: "));
    }
}
