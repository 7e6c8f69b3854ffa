//! Names with `*` and `?`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `*` stands for any characters, `?` for one: `"en*s?"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Pattern {
    /// Whether it means one name only.
    pub fn is_exact(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Whether the whole name fits. Takes the product of both lengths at most,
    /// whatever the pattern is.
    pub fn fits(&self, name: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut within) = (0, 0);
        // The last star, and where in the name what follows it is tried.
        let mut star: Option<(usize, usize)> = None;
        while within < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, within));
                    at += 1;
                }
                Some(wanted) if *wanted == '?' || *wanted == name[within] => {
                    at += 1;
                    within += 1;
                }
                _ => match &mut star {
                    Some((star, tried)) => {
                        *tried += 1;
                        at = *star + 1;
                        within = *tried;
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|rest| *rest == '*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        for (pattern, name, fit) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth0", true),
            ("eth*", "eth", true),
            ("en*s?", "enp0s3", true),
            ("en*s?", "enp0s31", false),
            ("*", "anything", true),
            ("?", "", false),
            ("?", "ä", true),
            ("", "", true),
            ("", "a", false),
            ("*a*b", "xaybab", true),
        ] {
            assert_eq!(Pattern::from(pattern).fits(name), fit, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_few() {
        let pattern = Pattern::from(format!("{}b", "a*".repeat(1000)).as_str());
        assert!(!pattern.fits(&"a".repeat(10_000)));
    }

    /// As the definition says, in exponential time.
    fn slowly(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| slowly(rest, &name[skip..])),
            (Some((b'?', pattern)), Some((_, name))) => slowly(pattern, name),
            (Some((wanted, pattern)), Some((is, name))) => wanted == is && slowly(pattern, name),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_fits_as_its_definition_says(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            prop_assert_eq!(
                Pattern::from(pattern.as_str()).fits(&name),
                slowly(pattern.as_bytes(), name.as_bytes())
            );
        }
    }
}
