//! Standard output.

use std::io::{IsTerminal, Write};

use log_line::is_harmful;

use crate::failure::Failure;

/// Writes to standard output. A closed pipe (`| head`) ends the command
/// quietly.
pub fn print(text: &str) -> Result<(), Failure> {
    match write_stdout(text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(|error| Failure::io("standard output", &error)),
    }
}

fn write_stdout(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes one JSON value to standard output: indented for a person at a
/// terminal, on one line otherwise.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let json = if std::io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    let json = json.map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?;
    print(&(escaped(&json) + "\n"))
}

/// JSON without characters that could steer a terminal. They are only in strings:
/// JSON's own line ends and spaces are none of them. JSON itself asks for ASCII's
/// control characters to be escaped only, and those are already.
pub fn escaped(json: &str) -> String {
    let is_harmful = |character: char| !character.is_ascii_whitespace() && is_harmful(character);
    if !json.chars().any(is_harmful) {
        return json.to_owned();
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_harmful(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped += &format!("\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_steers_no_terminal_and_means_the_same() {
        let value = vec!["a\u{202e}b\u{9b}c\u{e0041}\u{7f}é\n\x1b"];
        for json in [
            serde_json::to_string(&value).unwrap(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let escaped = escaped(&json);
            assert!(
                escaped.contains("\\u202eb\\u009bc\\udb40\\udc41\\u007fé"),
                "{escaped}"
            );
            let read: Vec<String> = serde_json::from_str(&escaped).unwrap();
            assert_eq!(read, value);
            assert_eq!(escaped.lines().count(), json.lines().count());
        }
    }
}
