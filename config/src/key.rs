//! The path of a key in a file, as in `mounts[1].source`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One step from a table or list into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// The item of a list, from 0.
    Item(usize),
    /// The key of a table.
    Name(String),
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Item(index)
    }
}

impl From<&str> for Step {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

/// The steps from the file's root to a key; empty for the file as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Vec<Step>);

impl Key {
    /// The file as a whole.
    pub fn root() -> Self {
        Self::default()
    }

    /// The steps, from the root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The key that `step` leads to from here.
    pub fn child(&self, step: impl Into<Step>) -> Self {
        let mut steps = self.0.clone();
        steps.push(step.into());
        Self(steps)
    }

    /// The same key seen from one table or list further out.
    pub(crate) fn below(mut self, step: Step) -> Self {
        self.0.insert(0, step);
        self
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(item) => write!(f, "[{item}]")?,
                Step::Name(name) => {
                    if index > 0 {
                        f.write_str(".")?;
                    }
                    let is_bare = !name.is_empty()
                        && name
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
                    if is_bare {
                        f.write_str(name)?;
                    } else {
                        write!(f, "\"{}\"", name.escape_debug())?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_as_a_person_finds_it_in_the_file() {
        let key = Key::root().child("mounts").child(1).child("source");
        assert_eq!(key.to_string(), "mounts[1].source");
        let key = Key::root().child("environment").child("a.b\n");
        assert_eq!(key.to_string(), "environment.\"a.b\\n\"");
    }

    #[test]
    fn a_key_survives_json() {
        let key = Key::root().child("mounts").child(1).child("1");
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, r#"["mounts",1,"1"]"#);
        assert_eq!(serde_json::from_str::<Key>(&json).unwrap(), key);
    }
}
