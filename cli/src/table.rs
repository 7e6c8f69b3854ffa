//! Tables of aligned columns; the last one takes the rest of the line.

use crate::terminal::{Reader, Tone, harmless};

/// A cell: what it says, in which tone.
#[derive(Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub fn new(tone: Tone, text: impl AsRef<str>) -> Self {
        Self {
            text: harmless(text.as_ref()),
            tone,
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Tone::Plain, text)
    }
}

/// A column's alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows below a heading.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

/// Between two columns.
const GAP: usize = 2;
/// The least width of the last column, on any terminal.
const LAST_COLUMN: usize = 16;

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Appends a row, which has as many cells as the table has columns.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into());
    }

    /// The table as text, a line feed after each line.
    pub fn render(&self, reader: Reader) -> String {
        let heading: Vec<Cell> = self
            .columns
            .iter()
            .map(|(name, _)| Cell::new(Tone::Quiet, name))
            .collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                std::iter::once(&heading)
                    .chain(&self.rows)
                    .map(|row| length(&row[column].text))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            text += &self.line(row, &widths, reader);
            text.push('\n');
        }
        text
    }

    fn line(&self, row: &[Cell], widths: &[usize], reader: Reader) -> String {
        let mut pieces: Vec<(Tone, String)> = Vec::new();
        let mut used = 0;
        for (column, cell) in row.iter().enumerate() {
            let is_last = column + 1 == row.len();
            let content = match reader.width {
                Some(width) if is_last => {
                    shortened(&cell.text, width.saturating_sub(used).max(LAST_COLUMN))
                }
                _ => cell.text.clone(),
            };
            let padding = " ".repeat(widths[column].saturating_sub(length(&content)));
            let gap = (Tone::Plain, " ".repeat(GAP));
            let padding = (Tone::Plain, padding);
            let content = (cell.tone, content);
            match self.columns[column].1 {
                Align::Right if is_last => pieces.extend([padding, content]),
                Align::Right => pieces.extend([padding, content, gap]),
                Align::Left if is_last => pieces.push(content),
                Align::Left => pieces.extend([content, padding, gap]),
            }
            used += widths[column] + GAP;
        }
        while pieces
            .last()
            .is_some_and(|(_, text)| text.trim_end().is_empty())
        {
            pieces.pop();
        }
        painted(&pieces, reader)
    }
}

/// A line of pieces, cut at the terminal's width: a line that goes on in the next
/// one makes a table unreadable.
fn painted(pieces: &[(Tone, String)], reader: Reader) -> String {
    let total: usize = pieces.iter().map(|(_, text)| length(text)).sum();
    let mut left = match reader.width {
        Some(width) if total > width => width.saturating_sub(CUT.len()),
        _ => total,
    };
    let is_cut = left < total;
    let mut line = String::new();
    for (tone, text) in pieces {
        let kept: String = text.chars().take(left).collect();
        left -= length(&kept);
        if !kept.is_empty() {
            line += &reader.paint(*tone, &kept);
        }
    }
    if is_cut {
        line += CUT;
    }
    line.truncate(line.trim_end().len());
    line
}

/// What stands for the rest.
const CUT: &str = "...";

/// `text` cut to `width` columns.
pub fn shortened(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(CUT.len())).collect();
    kept + CUT
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("SIZE", Align::Right),
            ("DETAIL", Align::Left),
        ]);
        table.row([
            "a".into(),
            "1 KiB".into(),
            Cell::new(Tone::Bad, "short and bad"),
        ]);
        table.row([
            "longer".into(),
            "100 MiB".into(),
            "a detail that is too long for a narrow terminal".into(),
        ]);
        table.row(["b".into(), "".into(), "".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_nothing_is_cut_in_a_pipe() {
        insta::assert_snapshot!(table().render(Reader::PLAIN));
    }

    #[test]
    fn no_line_is_longer_than_a_narrow_terminal() {
        for width in 10..60 {
            let reader = Reader {
                colour: false,
                width: Some(width),
            };
            for line in table().render(reader).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        let reader = Reader {
            colour: true,
            width: Some(22),
        };
        insta::assert_snapshot!(table().render(reader).replace('\x1b', "^"));
    }

    #[test]
    fn the_last_column_is_cut_at_the_terminals_width_and_coloured() {
        let reader = Reader {
            colour: true,
            width: Some(40),
        };
        insta::assert_snapshot!(table().render(reader).replace('\x1b', "^"));
    }
}
