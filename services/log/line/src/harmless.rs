//! Text from somebody else, as a terminal may show it.

/// `text` without what could steer the terminal or mislead the reader: what
/// containers, definitions and servers say is shown, never obeyed. Tabs become
/// spaces; other control characters `\x1b`; characters that change the direction
/// of text or cannot be seen `\u{202e}`. Line ends are control characters too.
pub fn harmless(text: &str) -> String {
    if !text.chars().any(is_harmful) {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => clean.push_str("    "),
            character if character.is_control() => {
                clean.push_str(&format!("\\x{:02x}", u32::from(character)));
            }
            character if is_hidden(character) => {
                clean.push_str(&character.escape_unicode().to_string());
            }
            character => clean.push(character),
        }
    }
    clean
}

/// The same for a text of several lines.
pub fn harmless_lines(text: &str) -> String {
    text.split('\n')
        .map(harmless)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Whether a character could steer a terminal or mislead the reader.
pub fn is_harmful(character: char) -> bool {
    character.is_control() || is_hidden(character)
}

/// Characters that have no picture of their own and change how the others are
/// read (Unicode's classes Cf, Zl and Zp, as far as they do that).
fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'                      // soft hyphen
        | '\u{61c}'                   // Arabic letter mark
        | '\u{180e}'                  // Mongolian vowel separator
        | '\u{200b}'..='\u{200f}'     // of no width, directional marks
        | '\u{2028}'..='\u{202e}'     // separators, embeddings, overrides
        | '\u{2060}'..='\u{206f}'     // word joiner, isolates, deprecated ones
        | '\u{feff}'                  // byte order mark
        | '\u{fff9}'..='\u{fffb}'     // annotations
        | '\u{e0000}'..='\u{e007f}'   // tags
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hostile: A container writes escape sequences or characters that turn the direction of text into its output, status or description. Outcome: They are shown as text, in tables, messages and on the console.
    #[test]
    fn what_steers_a_terminal_is_shown_and_not_obeyed() {
        assert_eq!(harmless("a\x1b[2Jb\tc\u{9b}1m"), "a\\x1b[2Jb    c\\x9b1m");
        assert_eq!(harmless("web\u{202e}gpj.exe"), "web\\u{202e}gpj.exe");
        assert_eq!(
            harmless("a\u{200b}b\u{2066}c\u{feff}"),
            "a\\u{200b}b\\u{2066}c\\u{feff}"
        );
        assert_eq!(harmless("a\nb\r"), "a\\x0ab\\x0d");
        assert_eq!(harmless_lines("a\r\nb\n"), "a\\x0d\nb\n");
    }

    #[test]
    fn what_is_text_stays_what_it_is() {
        for text in ["Grüße", "日本語", "العربية", "🛶 é", ""] {
            assert_eq!(harmless(text), text);
        }
    }
}
