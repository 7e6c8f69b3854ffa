//! Names of scopes and slices, and what they mean for paths.

use std::path::PathBuf;

use crate::Error;

/// A scope, and the slice that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    name: String,
    slice: Option<String>,
}

impl Unit {
    /// The unit for a `linux.cgroupsPath` of the form `slice:prefix:name`.
    ///
    /// Without a path, or with an empty slice, the slice is the default one;
    /// without a path the scope is named after the container.
    pub fn new(cgroups_path: Option<&str>, id: &str) -> Result<Unit, Error> {
        let path = cgroups_path.unwrap_or_default();
        let refuse = |why| {
            Err(Error::Path {
                path: path.to_string(),
                why,
            })
        };
        let (slice, prefix, name) = if path.is_empty() {
            ("", "wherry", id)
        } else {
            let words: Vec<_> = path.split(':').collect();
            let [slice, prefix, name] = words.as_slice() else {
                return refuse("does not have three parts");
            };
            (*slice, *prefix, *name)
        };
        if name.is_empty() || name.ends_with(".slice") {
            return refuse("names no scope");
        }
        if path.contains('/') || id.contains('/') {
            return refuse("contains a slash");
        }
        if !slice.is_empty() && expand_slice(slice).is_none() {
            return refuse("names no slice");
        }
        let name = if prefix.is_empty() {
            format!("{name}.scope")
        } else {
            format!("{prefix}-{name}.scope")
        };
        Ok(Unit {
            name,
            slice: (!slice.is_empty()).then(|| slice.to_string()),
        })
    }

    /// Its name, as `docker-1234.scope`: the last part of its cgroup's path too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The slice, if one is asked for.
    pub(crate) fn slice(&self) -> Option<&str> {
        self.slice.as_deref()
    }

    /// Its cgroup's path below that of a systemd, whose slice for units without
    /// one is `default`.
    pub fn path(&self, default: &str) -> Option<PathBuf> {
        let slice = self.slice.as_deref().unwrap_or(default);
        Some(expand_slice(slice)?.join(&self.name))
    }
}

/// Where a slice is: each dash in its name is a level.
fn expand_slice(name: &str) -> Option<PathBuf> {
    let stem = name.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(PathBuf::new());
    }
    let parts: Vec<&str> = stem.split('-').collect();
    if stem.contains('/') || parts.contains(&"") {
        return None;
    }
    Some(
        (1..=parts.len())
            .map(|count| format!("{}.slice", parts[..count].join("-")))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_path_names_slice_and_scope() {
        for (path, name, place) in [
            (
                "system.slice:docker:12",
                "docker-12.scope",
                "system.slice/docker-12.scope",
            ),
            (
                "kubepods-burstable-pod1.slice:cri-containerd:ab",
                "cri-containerd-ab.scope",
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-ab.scope",
            ),
            (
                ":libpod:x-y",
                "libpod-x-y.scope",
                "default.slice/libpod-x-y.scope",
            ),
            ("-.slice:a:b", "a-b.scope", "a-b.scope"),
            ("machine.slice::b", "b.scope", "machine.slice/b.scope"),
        ] {
            let unit = Unit::new(Some(path), "id").unwrap();
            assert_eq!(unit.name(), name);
            assert_eq!(unit.path("default.slice").unwrap(), Path::new(place));
        }
        for absent in [None, Some("")] {
            let unit = Unit::new(absent, "id").unwrap();
            assert_eq!(unit.name(), "wherry-id.scope");
            assert_eq!(unit.slice(), None);
        }
    }

    #[test]
    fn what_is_no_such_path_is_refused_with_the_form() {
        for path in [
            "/docker/12",
            "system.slice",
            "system.slice:docker",
            "a:b:c:d",
            "system:docker:12",
            "a--b.slice:docker:12",
            ".slice:docker:12",
            "-a.slice:docker:12",
            "a/b.slice:docker:12",
            "system.slice:docker:",
            "system.slice:docker:a/b",
            "system.slice:docker:x.slice",
        ] {
            let text = Unit::new(Some(path), "id").unwrap_err().to_string();
            assert!(text.starts_with("linux.cgroupsPath"), "{text}");
            assert!(text.contains("slice:prefix:name"), "{text}");
        }
    }
}
