//! Events: lines that a program can take apart.

use std::fmt::Display;

/// The text of an event: `event=NAME`, then each field as `name=value`, and last
/// `message="…"` for people. A value that is not one plain word is quoted, with
/// `"` and `\` escaped by `\`; control characters become spaces, so that the event
/// stays one line.
pub fn event(name: &str, fields: &[(&str, &dyn Display)], message: &str) -> String {
    let mut text = format!("event={name}");
    for (field, value) in fields {
        text += &format!(" {field}={}", quoted(&value.to_string()));
    }
    text + &format!(" message=\"{}\"", escaped(message))
}

fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
    if !value.is_empty() && value.bytes().all(plain) {
        value.to_owned()
    } else {
        format!("\"{}\"", escaped(value))
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_a_program_can_take_apart() {
        assert_eq!(
            event(
                "fell-back",
                &[
                    ("version", &"2.0"),
                    ("reason", &"it said \"no\"\nand = died"),
                    ("none", &"")
                ],
                "2.0 gave way"
            ),
            "event=fell-back version=2.0 reason=\"it said \\\"no\\\" and = died\" none=\"\" \
             message=\"2.0 gave way\""
        );
    }
}
