//! The version of systemd-boot, from its own binary.

use crate::{Version, VersionError};

/// The PE section in which systemd-boot says what it is; `bootctl` reads it too.
pub const LOADER_SECTION: &str = ".sdmagic";

/// The version in the text of [`LOADER_SECTION`], such as
/// `#### LoaderInfo: systemd-boot 257.9-1~deb13u1 ####`. `None`: it is not
/// systemd-boot.
///
/// Characters that a version cannot have, such as the `+` of Debian's rebuilds,
/// become dots. Publisher and machine must read it alike, or the machine would
/// keep replacing an up-to-date loader.
///
/// # Errors
/// Its text is not a version.
pub fn loader_version(text: &str) -> Option<Result<Version, VersionError>> {
    let (_, rest) = text.split_once("#### LoaderInfo: systemd-boot ")?;
    let (version, _) = rest.split_once(" ####")?;
    let version: String = version
        .chars()
        .map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() || ".~-".contains(letter) => letter,
            _ => '.',
        })
        .collect();
    Some(version.parse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_says_its_version() {
        let says = |text: &str| loader_version(text).map(|version| version.unwrap().to_string());
        assert_eq!(
            says("#### LoaderInfo: systemd-boot 257.9-1~deb13u1+b2 ####\0\0"),
            Some("257.9-1~deb13u1.b2".to_owned())
        );
        assert_eq!(says("#### LoaderInfo: another 1 ####"), None);
        assert_eq!(says("systemd-boot 257"), None);
        assert_eq!(says(""), None);
        assert!(
            loader_version("#### LoaderInfo: systemd-boot v? ####").is_some_and(|it| it.is_err())
        );
    }
}
