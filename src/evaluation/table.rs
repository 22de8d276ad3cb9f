//! Labelled tables: CSV files with a header line.
//!
//! Called by [`data_set`](super::data_set). Every problem is told with its line, all of them at once, since a table of thousands of
//! rows is mended in one go or not at all. Columns are found by name; those that nobody asked for are groups.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::DataError;

/// A table as read; every row has a value for every column.
#[derive(Debug, Clone)]
pub struct Table {
    path: PathBuf,
    columns: Vec<String>,
    rows: Vec<Row>,
}

/// One line below the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Line in the file, counted from 1.
    pub line: u64,
    values: Vec<String>,
}

impl Table {
    /// Reads a file that has at least the `needed` columns, in any order.
    ///
    /// # Errors
    /// [`DataError::Missing`] if it cannot be read, [`DataError::Bad`] with every malformed line.
    pub fn read(path: &Path, needed: &[&str]) -> Result<Self, DataError> {
        let name = path.display();
        let bytes = std::fs::read(path).map_err(|error| DataError::Missing(vec![format!("{name}: {error}")]))?;
        // Tables that spreadsheets write begin with a byte order mark.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        // After a carriage return the reader counts a line too few.
        let bytes: Vec<u8> = bytes
            .iter()
            .enumerate()
            .filter(|(at, b)| **b != b'\r' || bytes.get(at + 1) != Some(&b'\n'))
            .map(|(_, b)| *b)
            .collect();
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes.as_slice());
        let headers = reader.headers().map_err(|error| DataError::bad(format!("{name}: {error}")))?;
        let columns: Vec<String> = headers.iter().map(str::to_lowercase).collect();
        let absent: Vec<&str> = needed.iter().copied().filter(|need| !columns.iter().any(|c| c == need)).collect();
        if !absent.is_empty() {
            let reason = format!(
                "{name}:1: the header has no column {}; it needs {}, and has {}",
                absent.join(", "),
                needed.join(", "),
                columns.join(", ")
            );
            return Err(DataError::Bad(vec![reason]));
        }
        if let Some(twice) = columns.iter().enumerate().find(|(i, c)| columns[..*i].contains(c)) {
            return Err(DataError::bad(format!("{name}:1: the column {} stands twice", twice.1)));
        }
        let (mut rows, mut problems) = (Vec::new(), Vec::new());
        for record in reader.records() {
            match record {
                Ok(record) => {
                    let line = record.position().map_or(0, csv::Position::line);
                    rows.push(Row { line, values: record.iter().map(str::to_owned).collect() });
                }
                Err(error) => problems.push(format!("{name}: {error}")),
            }
        }
        if rows.is_empty() && problems.is_empty() {
            problems.push(format!("{name}: has a header and no rows"));
        }
        if problems.is_empty() {
            Ok(Self { path: path.to_owned(), columns, rows })
        } else {
            Err(DataError::Bad(problems))
        }
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|name| name == column)
    }

    /// The value of a column; empty if there is no such column.
    pub fn value<'a>(&self, row: &'a Row, column: &str) -> &'a str {
        let index = self.columns.iter().position(|name| name == column);
        index.and_then(|index| row.values.get(index)).map_or("", String::as_str)
    }

    /// The values of all columns but these: the groups that the row belongs to. Empty values are none.
    pub fn groups(&self, row: &Row, known: &[&str]) -> BTreeMap<String, String> {
        let named = self.columns.iter().zip(&row.values);
        let groups = named.filter(|(column, value)| !known.contains(&column.as_str()) && !value.is_empty());
        groups.map(|(column, value)| (column.clone(), value.clone())).collect()
    }

    /// A problem of a row, with file and line.
    pub fn problem(&self, row: &Row, reason: impl std::fmt::Display) -> String {
        format!("{}:{}: {reason}", self.path.display(), row.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Table, DataError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Table::read(file.path(), &["a", "b"])
    }

    #[test]
    fn columns_are_found_by_name_and_the_rest_are_groups() {
        let table = read("\u{feff}B, camera ,a\r\n2,\"x, y\",1\r\n4,,3\r\n").unwrap();
        let [first, second] = table.rows() else { panic!("{table:?}") };
        assert_eq!((table.value(first, "a"), table.value(first, "b"), first.line), ("1", "2", 2));
        assert_eq!(table.groups(first, &["a", "b"]), BTreeMap::from([("camera".into(), "x, y".into())]));
        assert_eq!(table.groups(second, &["a", "b"]), BTreeMap::new());
        assert_eq!(table.value(first, "none"), "");
    }

    #[test]
    fn problems_name_file_and_line() {
        let told = |text: &str| read(text).unwrap_err().to_string();
        assert!(told("a,c\n1,2\n").contains(":1: the header has no column b; it needs a, b, and has a, c"));
        assert!(told("a,b,a\n1,2,3\n").contains("stands twice"));
        assert!(told("a,b\n").contains("no rows"));
        let short = told("a,b\n1,2\n3\n4,5,6\n");
        assert!(short.contains("line: 3") && short.contains("line: 4"), "{short}");
        assert!(matches!(Table::read(Path::new("/nonexistent.csv"), &[]), Err(DataError::Missing(_))));
    }
}
