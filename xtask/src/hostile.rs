//! The hostile-container matrix of `docs/security.md`, from the tests themselves.
//!
//! A hostile test's doc comment has one line
//! `/// Hostile: WHAT IS DONE. Outcome: WHAT HAPPENS.`; the function below it is the
//! test. [`write`] puts a table of all of them between the page's two markers, and
//! a test compares.

use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write;
use std::fs;
use std::path::Path;

const PAGE: &str = "docs/security.md";
const BEGIN: &str = "<!-- The matrix begins: `cargo xtask hostile-matrix` writes it. -->\n";
const END: &str = "<!-- The matrix ends. -->\n";

/// How the line of a hostile test begins.
const MARK: &str = "/// Hostile: ";

/// Where hostile tests are, in the order of the matrix, and what is attacked there.
const PLACES: [(&str, &str); 9] = [
    ("init/tests/namespaces/", "PID 1"),
    ("init/", "PID 1 and definitions"),
    ("runtime/", "Runtime"),
    ("services/service/", "Sockets of the services"),
    ("services/log/", "Log and journal"),
    ("services/", "Other services"),
    ("updater/", "Updater"),
    ("tests/", "The booted image"),
    ("", "Elsewhere"),
];

/// One test.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    attack: String,
    outcome: String,
    test: String,
}

/// Writes the matrix into `docs/security.md`. Returns the number of its rows.
pub fn write(workspace: &Workspace) -> Result<usize> {
    let path = workspace.root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let rows = rows(&workspace.root, &workspace::files(&workspace.root)?)?;
    let count = rows.iter().map(|(_, rows)| rows.len()).sum();
    fs::write(&path, insert(&page, &table(&rows))?)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(count)
}

/// The rows by what is attacked, in the order of [`PLACES`].
fn rows(root: &Path, files: &[String]) -> Result<Vec<(&'static str, Vec<Row>)>> {
    let mut rows: Vec<(&str, Vec<Row>)> = PLACES.map(|(_, what)| (what, Vec::new())).into();
    for file in files.iter().filter(|file| file.ends_with(".rs")) {
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            // Deleted, and not committed yet.
            continue;
        };
        let place = PLACES
            .iter()
            .position(|(folder, _)| file.starts_with(folder));
        if let Some((_, of_place)) = place.and_then(|place| rows.get_mut(place)) {
            of_place.extend(rows_of(file, &text)?);
        }
    }
    rows.retain(|(_, rows)| !rows.is_empty());
    Ok(rows)
}

/// The rows of a source file.
fn rows_of(file: &str, text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(sentence) = line.strip_prefix(MARK) else {
            continue;
        };
        let Some((attack, outcome)) = sentence.split_once(" Outcome: ") else {
            bail!("{file}: a line with `Hostile:` has no `Outcome:`: {sentence}");
        };
        let name = lines.by_ref().find_map(function);
        let name = name.with_context(|| format!("{file}: no test follows: {sentence}"))?;
        rows.push(Row {
            attack: attack.to_owned(),
            outcome: outcome.to_owned(),
            test: format!("`{file}`: `{name}`"),
        });
    }
    Ok(rows)
}

/// The name of the function that begins in this line.
fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_declaration = !before.starts_with("//") && !before.contains(['(', '"', '=']);
    let end = rest.find(['(', '<'])?;
    is_declaration.then(|| &rest[..end])
}

fn table(rows: &[(&str, Vec<Row>)]) -> String {
    let mut table = String::new();
    for (what, rows) in rows {
        let _ = write!(
            table,
            "\n### {what}\n\n| what is done | what happens | test |\n|---|---|---|\n"
        );
        for row in rows {
            let cell = |text: &str| capitalised(text.trim_end_matches('.')).replace('|', "\\|");
            let (attack, outcome) = (cell(&row.attack), cell(&row.outcome));
            let _ = writeln!(table, "| {attack} | {outcome} | {} |", row.test);
        }
    }
    table.push('\n');
    table
}

/// Some of the sentences begin with what a container does, without a subject.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// The page with `table` between its markers.
fn insert(page: &str, table: &str) -> Result<String> {
    let begin = page.find(BEGIN).map(|at| at + BEGIN.len());
    let (Some(begin), Some(end)) = (begin, page.find(END)) else {
        bail!("{PAGE} lacks the lines between which the matrix is:\n{BEGIN}{END}");
    };
    ensure!(begin <= end, "{PAGE}: the matrix ends before it begins");
    Ok(format!("{}{table}{}", &page[..begin], &page[end..]))
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, MARK, Row, insert, rows, rows_of, table};
    use crate::workspace;
    use std::fs;
    use std::path::Path;

    const TEST: &str = "A service sends a descriptor. Outcome: It is closed|told.
/// More of it.
#[test]
pub fn a_descriptor_is_closed() {
    let text = \"fn other()\";
}
";

    fn row() -> Row {
        Row {
            attack: "A service sends a descriptor.".to_owned(),
            outcome: "It is closed|told.".to_owned(),
            test: "`init/a.rs`: `a_descriptor_is_closed`".to_owned(),
        }
    }

    #[test]
    fn a_test_says_what_is_done_and_what_happens() {
        assert_eq!(
            rows_of("init/a.rs", &format!("{MARK}{TEST}")).unwrap(),
            [row()]
        );
        let without = format!("{MARK}A flood.\nfn a() {{}}");
        let error = rows_of("a.rs", &without).unwrap_err().to_string();
        assert!(error.contains("no `Outcome:`"), "{error}");
        let alone = format!("{MARK}A flood. Outcome: It is counted.");
        let error = rows_of("a.rs", &alone).unwrap_err().to_string();
        assert!(error.contains("no test follows"), "{error}");
    }

    #[test]
    fn the_table_is_put_between_the_markers() {
        let table = table(&[("PID 1", vec![row()])]);
        assert_eq!(
            table,
            "\n### PID 1\n\n| what is done | what happens | test |\n|---|---|---|\n\
             | A service sends a descriptor | It is closed\\|told | \
             `init/a.rs`: `a_descriptor_is_closed` |\n\n"
        );
        let page = format!("# Security\n{BEGIN}old\n{END}after\n");
        let expected = format!("# Security\n{BEGIN}{table}{END}after\n");
        assert_eq!(insert(&page, &table).unwrap(), expected);
        assert!(insert("no markers", &table).is_err());
    }

    #[test]
    fn the_page_has_every_hostile_test() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let page = fs::read_to_string(root.join(super::PAGE)).unwrap();
        let rows = rows(root, &workspace::files(root).unwrap()).unwrap();
        assert!(!rows.is_empty());
        assert!(
            page == insert(&page, &table(&rows)).unwrap(),
            "{} is not what the tests say: cargo xtask hostile-matrix",
            super::PAGE
        );
    }
}
