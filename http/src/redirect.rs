//! Which redirects are followed.

use reqwest::redirect::Policy;
use url::Url;

/// Follows at most so many in a row. With 0 a redirect is an answer.
pub(crate) fn policy(most: usize) -> Policy {
    if most == 0 {
        return Policy::none();
    }
    Policy::custom(
        move |attempt| match may_follow(attempt.previous(), attempt.url(), most) {
            Ok(()) => attempt.follow(),
            Err(why) => attempt.error(why),
        },
    )
}

/// Whether a redirect to `next` is followed. One from HTTPS to HTTP is not.
fn may_follow(previous: &[Url], next: &Url, most: usize) -> Result<(), String> {
    let was_safe = previous.iter().any(|url| url.scheme() == "https");
    match next.scheme() {
        _ if previous.len() > most => Err(format!("more than {most} in a row")),
        "https" => Ok(()),
        "http" if !was_safe => Ok(()),
        "http" => Err(format!("from https to {next}")),
        _ => Err(format!("to {next}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_do_not_go_from_safe_to_unsafe_nor_on_for_ever() {
        let urls = |texts: &[&str]| -> Vec<Url> {
            texts.iter().map(|text| Url::parse(text).unwrap()).collect()
        };
        let follow = |previous: &[&str], next: &str| {
            may_follow(&urls(previous), &Url::parse(next).unwrap(), 5)
        };
        assert_eq!(follow(&["http://a"], "http://b"), Ok(()));
        assert_eq!(follow(&["http://a"], "https://b"), Ok(()));
        assert_eq!(follow(&["https://a"], "https://b"), Ok(()));
        assert!(follow(&["https://a"], "http://b").is_err());
        assert!(follow(&["https://a", "https://b"], "http://c").is_err());
        assert!(follow(&["http://a"], "file:///etc/passwd").is_err());
        assert!(follow(&["http://a"; 6], "http://b").is_err());
    }
}
