//! A definition with the container root that it means.

use std::path::PathBuf;
use std::str::FromStr;

use config::Fault;
use serde::{Deserialize, Serialize};
use supervisor::ServiceName;

use crate::{Definition, parse};

/// The operator's container roots, for more than one service.
pub const IMAGES: &str = "/state/images";

/// A definition as it was found, not yet parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The folder's name.
    pub name: String,
    /// The definition's path.
    pub path: String,
    /// Its text, or why there is none.
    pub text: Result<String, config::Error>,
    /// The root beside it, where there is one.
    pub root: Option<PathBuf>,
    /// The roots it may name by `image`, with their paths.
    pub images: Vec<(String, PathBuf)>,
}

/// A definition that can be run, with its root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: ServiceName,
    /// The definition's path.
    pub path: String,
    /// Its text.
    pub text: String,
    /// What it says.
    pub definition: Definition,
    /// Its container's root.
    pub root: PathBuf,
}

impl Found {
    /// Parses the definition and finds its root.
    ///
    /// # Errors
    /// The first mistake.
    pub fn understand(&self) -> Result<Entry, config::Error> {
        let name = ServiceName::from_str(&self.name).map_err(|_| {
            config::Error::of_file(
                &self.path,
                format!(
                    "the folder's name '{}' is not a service's name: a letter, then letters, digits and '-', all lower case",
                    self.name
                ),
            )
        })?;
        let text = self.text.clone()?;
        let definition = parse(&self.path, &text)?;
        let wrong = |what: String| config::locate(&self.path, &text, Fault::new(what).at("image"));
        let root = match &definition.image {
            None => self.root.clone().ok_or_else(|| {
                config::Error::of_file(
                    &self.path,
                    "there is no folder `root` beside it, and no key `image` names another",
                )
            })?,
            Some(image) if image.contains(['/', ':', '@']) => {
                return Err(wrong(format!(
                    "'{image}' is an OCI reference, and this release has no service that fetches images; \
                     put the unpacked root into {IMAGES}/NAME and write image = \"NAME\""
                )));
            }
            Some(image) => self
                .images
                .iter()
                .find(|(name, _)| name == image)
                .map(|(_, root)| root.clone())
                .ok_or_else(|| {
                    wrong(format!(
                        "there is no image '{image}', neither in the OS image nor in {IMAGES}"
                    ))
                })?,
        };
        Ok(Entry {
            name,
            path: self.path.clone(),
            text,
            definition,
            root,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn found(name: &str, text: &str) -> Found {
        Found {
            name: name.to_owned(),
            path: format!("/state/services/{name}/service.toml"),
            text: Ok(text.to_owned()),
            root: None,
            images: vec![("tools".to_owned(), "/state/images/tools".into())],
        }
    }

    const TEXT: &str = "description = \"x\"\ncommand = [\"/x\"]\n";

    #[test]
    fn an_image_that_is_not_there_is_named_with_file_and_line() {
        let error = found("web", &format!("{TEXT}image = \"nginx\"\n"))
            .understand()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "/state/services/web/service.toml:3:9: key `image`: there is no image 'nginx', \
             neither in the OS image nor in /state/images"
        );
        assert!(found("web", TEXT).understand().is_err(), "no root at all");
    }

    #[test]
    fn an_image_is_found_by_its_name() {
        let entry = found("web", &format!("{TEXT}image = \"tools\"\n"))
            .understand()
            .unwrap();
        assert_eq!(entry.root, Path::new("/state/images/tools"));
    }

    #[test]
    fn an_oci_reference_is_refused_until_something_fetches_it() {
        let error = found("web", &format!("{TEXT}image = \"nginx:1\"\n"))
            .understand()
            .unwrap_err();
        assert!(error.to_string().contains("OCI reference"), "{error}");
    }

    #[test]
    fn a_folder_whose_name_is_no_service_name_is_an_error() {
        let error = found("Web Server", TEXT).understand().unwrap_err();
        assert!(error.to_string().contains("'Web Server'"), "{error}");
    }

    #[test]
    fn an_entry_survives_the_pipe_to_pid_1_and_a_snapshot() {
        let text = format!(
            "{TEXT}image = \"tools\"\nuser = \"1000:100\"\ncapabilities = [\"CAP_NET_RAW\"]\n\
             stop = {{ signal = \"SIGQUIT\" }}\nwatchdog = \"1500ms\"\nrequires = [\"log\"]\n\
             sockets = [\"unix:/run/wherry/x.sock\", \"tcp:0.0.0.0:80\", \"udp:[::]:53\"]\n\
             mounts = [{{ source = \"/a\", target = \"/b\", read-only = true }}]\n\
             limits = {{ memory = \"1G\", cpu = \"150%\" }}\n\
             health = {{ command = [\"/x\"], interval = \"1m\" }}\n"
        );
        let entry = found("web", &text).understand().unwrap();
        let json = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
    }
}
