//! Bytes of a service's output → lines
//!
//! Pure. A line ends at its newline. One that is longer than an entry can
//! hold is taken in pieces, all but the last *unfinished*; so is one whose
//! rest does not come.

use journal::{Level, MAX_MESSAGE};
use log_line::split_level;

/// A line, or a piece of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// What it says, without newline and level prefix.
    pub text: &'a [u8],
    /// From its prefix, from the piece before it, or `Info`.
    pub level: Level,
    /// The line goes on in the next piece.
    pub unfinished: bool,
    /// How many bytes of the output it took, prefix and newline included.
    pub length: usize,
}

/// The line that was left unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its level, which its other pieces have too.
    pub level: Level,
    /// Its next byte is surely its own. Otherwise its writer may be gone and
    /// another line follow, which shows where that begins with a level.
    pub certain: bool,
}

/// What to do with bytes at the end that have no newline yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Leave them: more will come.
    Wait,
    /// Take them; more may come.
    Take,
    /// Take them; nothing more can come.
    Last,
}

/// The first line of `bytes`, when it is there.
pub fn first<'a>(bytes: &'a [u8], begun: Option<Begun>, rest: Rest) -> Option<Line<'a>> {
    let within = &bytes[..bytes.len().min(MAX_MESSAGE + 1)];
    let (raw, length, unfinished) = match within.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], end + 1, false),
        None if bytes.len() > MAX_MESSAGE => {
            let end = character_boundary(bytes, MAX_MESSAGE);
            (&bytes[..end], end, true)
        }
        None if bytes.is_empty() || rest == Rest::Wait => return None,
        None => (bytes, bytes.len(), rest == Rest::Take),
    };
    let (level, text) = match begun {
        Some(Begun { certain: true, .. }) => (None, raw),
        Some(Begun { certain: false, .. }) | None => split_level(raw),
    };
    let level = level.unwrap_or_else(|| begun.map_or(Level::Info, |begun| begun.level));
    Some(Line {
        text,
        level,
        unfinished,
        length,
    })
}

/// The last place at `end` or up to three bytes before where no UTF-8
/// character is cut in two. Bytes that are no UTF-8 are cut anywhere.
fn character_boundary(bytes: &[u8], end: usize) -> usize {
    (end - 3..=end)
        .rev()
        .find(|at| bytes[*at] & 0b1100_0000 != 0b1000_0000)
        .unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of `bytes`: text, level, unfinished.
    fn all(mut bytes: &[u8], rest: Rest) -> Vec<(Vec<u8>, Level, bool)> {
        let mut begun = None;
        let mut lines = Vec::new();
        while let Some(line) = first(bytes, begun, rest) {
            bytes = &bytes[line.length..];
            begun = line.unfinished.then_some(Begun {
                level: line.level,
                certain: true,
            });
            lines.push((line.text.to_owned(), line.level, line.unfinished));
        }
        lines
    }

    #[test]
    fn lines_end_at_newlines_and_the_rest_waits() {
        assert_eq!(
            all(b"one\n\n\xff\x00\r\nrest", Rest::Wait),
            [
                (b"one".to_vec(), Level::Info, false),
                (b"".to_vec(), Level::Info, false),
                (b"\xff\x00\r".to_vec(), Level::Info, false),
            ]
        );
        assert_eq!(
            all(b"rest", Rest::Take),
            [(b"rest".to_vec(), Level::Info, true)]
        );
        assert_eq!(
            all(b"rest", Rest::Last),
            [(b"rest".to_vec(), Level::Info, false)]
        );
        assert!(all(b"", Rest::Last).is_empty());
    }

    #[test]
    fn a_level_prefix_is_taken_off() {
        assert_eq!(
            all(b"<3>bad\n<7>x\n<8>y\n< 3>z\n<3\n<3>\n", Rest::Wait),
            [
                (b"bad".to_vec(), Level::Error, false),
                (b"x".to_vec(), Level::Debug, false),
                (b"<8>y".to_vec(), Level::Info, false),
                (b"< 3>z".to_vec(), Level::Info, false),
                (b"<3".to_vec(), Level::Info, false),
                (b"".to_vec(), Level::Error, false),
            ]
        );
    }

    #[test]
    fn a_long_line_is_taken_in_pieces_of_one_level() {
        let mut bytes = b"<4>".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 2 * MAX_MESSAGE));
        bytes.extend(b"<0>end\n<5>next\n");
        let lines = all(&bytes, Rest::Wait);
        let told: Vec<_> = lines
            .iter()
            .map(|(text, level, unfinished)| (text.len(), *level, *unfinished))
            .collect();
        assert_eq!(
            told,
            [
                (MAX_MESSAGE - 3, Level::Warning, true),
                (MAX_MESSAGE, Level::Warning, true),
                (3 + 6, Level::Warning, false),
                (4, Level::Notice, false),
            ]
        );
        assert_eq!(lines[2].0, b"xxx<0>end");
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one() {
        let mut bytes = vec![b'x'; MAX_MESSAGE];
        assert_eq!(first(&bytes, None, Rest::Wait), None);
        bytes.push(b'\n');
        let line = first(&bytes, None, Rest::Wait).unwrap();
        assert_eq!((line.text.len(), line.unfinished), (MAX_MESSAGE, false));
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for offset in 0..4 {
            let mut bytes = vec![b'x'; MAX_MESSAGE - offset];
            bytes.extend("🛶🛶".bytes());
            let line = first(&bytes, None, Rest::Wait).unwrap();
            assert!(line.unfinished);
            assert_eq!(line.length, MAX_MESSAGE - offset);
        }
        let continuation = vec![0x80; MAX_MESSAGE + 1];
        let line = first(&continuation, None, Rest::Wait).unwrap();
        assert_eq!(line.length, MAX_MESSAGE);
    }

    #[test]
    fn a_line_after_one_that_was_given_up_shows_by_its_level() {
        let begun = Some(Begun {
            level: Level::Error,
            certain: false,
        });
        let next = first(b"<5>started\n", begun, Rest::Wait).unwrap();
        assert_eq!((next.text, next.level), (&b"started"[..], Level::Notice));
        let rest = first(b" and so on\n", begun, Rest::Wait).unwrap();
        assert_eq!((rest.text, rest.level), (&b" and so on"[..], Level::Error));
    }
}
