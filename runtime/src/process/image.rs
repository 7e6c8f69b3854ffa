//! What is executed: program, arguments, environment. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CString;

use crate::Error;
use crate::text::c_string;

/// Where to search a program without a slash if the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Arguments and environment as execve takes them, and what to try to execute.
#[derive(Debug)]
pub(crate) struct Image {
    pub programs: Vec<CString>,
    pub args: Vec<CString>,
    pub env: Vec<CString>,
    /// The environment has no HOME.
    pub homeless: bool,
}

impl Image {
    /// A later variable replaces an earlier one of the same name, in its place.
    pub fn new<'a>(args: &[String], env: impl Iterator<Item = &'a String>) -> Result<Image, Error> {
        let mut variables: Vec<(&str, &str)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for variable in env {
            let Some((name, value)) = variable
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
            else {
                return Err(Error::invalid(
                    "process.env",
                    format!("\"{variable}\" is not NAME=value"),
                ));
            };
            match places.entry(name) {
                Entry::Occupied(place) => variables[*place.get()].1 = value,
                Entry::Vacant(place) => {
                    place.insert(variables.len());
                    variables.push((name, value));
                }
            }
        }
        let Some(program) = args.first().filter(|program| !program.is_empty()) else {
            return Err(Error::invalid("process.args", "names no program"));
        };
        let programs = if program.contains('/') {
            vec![c_string("process.args", program.as_str())?]
        } else {
            let path = places
                .get("PATH")
                .map_or(DEFAULT_PATH, |place| variables[*place].1);
            path.split(':')
                // An empty part would be the working directory, which is not searched.
                .filter(|directory| directory.starts_with('/'))
                .map(|directory| c_string("process.args", format!("{directory}/{program}")))
                .collect::<Result<_, _>>()?
        };
        Ok(Image {
            programs,
            homeless: !places.contains_key("HOME"),
            args: args
                .iter()
                .map(|argument| c_string("process.args", argument.as_str()))
                .collect::<Result<_, _>>()?,
            env: variables
                .iter()
                .map(|(name, value)| c_string("process.env", format!("{name}={value}")))
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn a_program_without_a_slash_is_looked_for_in_path() {
        let env = strings(&["PATH=/a:relative::/b", "X=1", "X=2"]);
        let image = Image::new(&strings(&["ls", "-l"]), env.iter()).unwrap();
        assert_eq!(image.programs, [c"/a/ls".to_owned(), c"/b/ls".to_owned()]);
        assert_eq!(
            image.env,
            [c"PATH=/a:relative::/b".to_owned(), c"X=2".to_owned()]
        );
    }
}
