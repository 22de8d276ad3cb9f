//! A [`Document`] as lines for a terminal, or for a file that is compared with the last one.
//!
//! Called by `vouch evaluate`. Plots are left out, and so are colours: what counts is said in words. Nothing is cut, since a
//! number that lost its end is worse than a line that wraps; a column's width counts characters, so that wide (East Asian) ones
//! make it ragged but never wrong.

use super::{Block, Document, Section, Table, printable};

/// Paragraphs are wrapped here: what a terminal shows that nobody has resized.
const LINE_LENGTH: usize = 80;

/// Between two columns.
const GAP: &str = "  ";

/// The lines, each ending in a line feed.
pub fn render(document: &Document) -> String {
    let mut text = underlined(&document.title, '=');
    text.push_str(&wrapped("", &document.subtitle));
    if !document.headlines.is_empty() {
        let rows: Vec<Vec<String>> = document
            .headlines
            .iter()
            .map(|headline| [&headline.label, &headline.value, &headline.note].map(|words| one_line(words)).into())
            .collect();
        text.push('\n');
        text.push_str(&aligned(&rows, &[false, true, false]));
    }
    for section in &document.sections {
        let section = section_text(section);
        if !section.is_empty() {
            text.push('\n');
            text.push_str(&section);
        }
    }
    text
}

/// Nothing where the section holds plots alone: a heading over nothing would look like a fault.
fn section_text(section: &Section) -> String {
    let blocks = section.blocks.iter().map(|block| match block {
        Block::Paragraph(words) => wrapped("", words),
        Block::Warning(words) => wrapped("warning: ", words),
        Block::Facts(facts) => {
            let rows: Vec<Vec<String>> =
                facts.iter().map(|(name, value)| vec![one_line(name), one_line(value)]).collect();
            aligned(&rows, &[false, false])
        }
        Block::Table(table) => table_text(table),
        Block::Plot(_) => String::new(),
    });
    let mut parts: Vec<String> = blocks.filter(|part| !part.is_empty()).collect();
    if !parts.is_empty() && !section.title.is_empty() {
        parts.insert(0, underlined(&section.title, '-'));
    }
    parts.join("\n")
}

/// The caption, the titles, a line under them, the rows.
fn table_text(table: &Table) -> String {
    let mut rows = vec![table.columns.iter().map(|column| one_line(&column.title)).collect::<Vec<_>>()];
    rows.extend(table.rows.iter().map(|row| {
        (0..table.columns.len()).map(|index| row.get(index).map_or(String::new(), |cell| one_line(cell))).collect()
    }));
    let lines = (0..table.columns.len()).map(|column| "-".repeat(width_of(&rows, column))).collect();
    rows.insert(1, lines);
    let numeric: Vec<bool> = table.columns.iter().map(|column| column.numeric).collect();
    if table.columns.is_empty() {
        return wrapped("", &table.caption);
    }
    wrapped("", &table.caption) + &aligned(&rows, &numeric)
}

/// Rows of equally many cells in columns as wide as their widest cell; numeric ones end on the right.
fn aligned(rows: &[Vec<String>], numeric: &[bool]) -> String {
    let widths: Vec<usize> = (0..numeric.len()).map(|column| width_of(rows, column)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths.iter().zip(numeric))
            .map(
                |(cell, (width, numeric))| if *numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") },
            )
            .collect();
        text.push_str(cells.join(GAP).trim_end());
        text.push('\n');
    }
    text
}

fn width_of(rows: &[Vec<String>], column: usize) -> usize {
    rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
}

/// A title over a line of its own length; nothing for an empty one.
fn underlined(title: &str, stroke: char) -> String {
    let title = one_line(title);
    if title.is_empty() {
        return title;
    }
    format!("{title}\n{}\n", stroke.to_string().repeat(title.chars().count()))
}

/// `words` in lines, the first after `prefix` and the others as far in as its end. A word too long for a line has its own.
fn wrapped(prefix: &str, words: &str) -> String {
    let mut text = String::new();
    let mut line = String::new();
    let indent = " ".repeat(prefix.chars().count());
    for word in one_line(words).split(' ').filter(|word| !word.is_empty()) {
        if line.is_empty() {
            line = format!("{}{word}", if text.is_empty() { prefix } else { &indent });
        } else if line.chars().count() + 1 + word.chars().count() <= LINE_LENGTH {
            line.push(' ');
            line.push_str(word);
        } else {
            text.push_str(&line);
            text.push('\n');
            line = format!("{indent}{word}");
        }
    }
    if !line.is_empty() {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// `text` without line feeds and without what a terminal would obey.
fn one_line(text: &str) -> String {
    text.chars().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, Column, Headline, Plot, Scale};
    use super::*;

    #[test]
    fn everything_has_its_place() {
        let plot = Plot {
            title: "left out".into(),
            description: String::new(),
            x: Axis::new("", Scale::Linear),
            y: Axis::new("", Scale::Linear),
            marks: Vec::new(),
        };
        let table = Table {
            caption: "Attacks".into(),
            columns: vec![Column::text("Species"), Column::number("APCER")],
            rows: vec![vec!["print".into(), "0.5 %".into(), "too much".into()], vec!["Maske größer".into()]],
        };
        let document = Document {
            title: "Passive liveness".into(),
            subtitle: "120 sessions".into(),
            headlines: vec![
                Headline { label: "BPCER".into(), value: "1.2 %".into(), note: "95 %: 0.9 to 1.6".into() },
                Headline { label: "APCER, worst".into(), value: "10.0 %".into(), note: String::new() },
            ],
            sections: vec![
                Section {
                    title: "Data".into(),
                    blocks: vec![
                        Block::Facts(vec![("model".into(), "a1".into()), ("data set".into(), "b2".into())]),
                        Block::Plot(plot.clone()),
                        Block::Table(table),
                    ],
                },
                Section { title: "Plots alone".into(), blocks: vec![Block::Plot(plot.clone())] },
                Section { title: String::new(), blocks: vec![Block::Warning("few errors".into())] },
            ],
        };
        let expected = "\
Passive liveness
================
120 sessions

BPCER          1.2 %  95 %: 0.9 to 1.6
APCER, worst  10.0 %

Data
----

model     a1
data set  b2

Attacks
Species       APCER
------------  -----
print         0.5 %
Maske größer

warning: few errors
";
        assert_eq!(render(&document), expected);
    }

    #[test]
    fn long_words_are_wrapped_but_never_cut() {
        let words = format!("{} {} end", "word ".repeat(20), "x".repeat(100));
        let text = wrapped("warning: ", &words);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= LINE_LENGTH || line.contains("xxx")), "{text}");
        assert_eq!(lines[2], format!("         {}", "x".repeat(100)));
        assert_eq!(text.split_whitespace().count(), 23);
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let document = Document { title: "a\u{1b}[2J\nb".into(), ..Document::default() };
        assert_eq!(render(&document).lines().next(), Some("a\u{fffd}[2J b"));
    }

    #[test]
    fn an_empty_document_is_no_trouble() {
        assert_eq!(render(&Document::default()), "");
        let empty =
            Section { title: String::new(), blocks: vec![Block::Table(Table::default()), Block::Facts(vec![])] };
        let document = Document { sections: vec![empty], ..Document::default() };
        assert_eq!(render(&document).trim(), "");
    }
}
