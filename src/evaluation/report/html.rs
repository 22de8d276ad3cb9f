//! A [`Document`] as one HTML file that needs nothing else: no script, no font, no picture from anywhere.
//!
//! Called by `vouch evaluate`. The file is opened by people who keep their data on their own hosts, so its own content security
//! policy forbids it to load anything, whatever a customer's file may have smuggled into a name. Looks are in `style.css`; the
//! drawings are made by `plot`.

use super::{Block, Document, Headline, Section, Table, plot, printable};

/// Inserted into the page; must not contain `</style`.
const STYLE: &str = include_str!("style.css");

/// Nothing but the style sheet inside the file itself. `base-uri` and `form-action` do not fall back on `default-src`.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Fewer sections need no list of contents.
const SECTIONS_FOR_CONTENTS: usize = 4;

/// Hexadecimal digits from which on a word is a hash: those of MD5, the shortest in use.
const HASH_LENGTH: usize = 32;

/// The whole file, UTF-8.
pub fn render(document: &Document) -> String {
    let title = escape(&document.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
    );
    if !document.subtitle.is_empty() {
        page.push_str(&format!("<p class=\"subtitle\">{}</p>\n", inline(&document.subtitle)));
    }
    page.push_str("</header>\n<main>\n");
    if !document.headlines.is_empty() {
        let entries: String = document.headlines.iter().map(headline).collect();
        page.push_str(&format!("<dl class=\"headlines\">\n{entries}</dl>\n"));
    }
    page.push_str(&contents(&document.sections));
    let mut plots = 0;
    for (index, part) in document.sections.iter().enumerate() {
        page.push_str(&section(part, index + 1, &mut plots));
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// `text` with every character that HTML gives a meaning written as a reference, fit for content and for quoted attributes, and
/// with characters that steer replaced (see `printable`).
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match printable(character) {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            shown => escaped.push(shown),
        }
    }
    escaped
}

/// Escaped text in which hashes are set in digits of equal width and may break anywhere.
fn inline(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(length);
        if length >= HASH_LENGTH {
            html.push_str(&format!("<code>{digits}</code>"));
        } else {
            html.push_str(digits);
        }
        let length = after.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(after.len());
        let (other, after) = after.split_at(length);
        html.push_str(&escape(other));
        rest = after;
    }
    html
}

fn headline(headline: &Headline) -> String {
    let mut html = format!(
        "<div><dt>{}</dt><dd><span class=\"value\">{}</span>",
        escape(&headline.label),
        escape(&headline.value)
    );
    if !headline.note.is_empty() {
        html.push_str(&format!(" <span class=\"note\">{}</span>", escape(&headline.note)));
    }
    html + "</dd></div>\n"
}

fn contents(sections: &[Section]) -> String {
    if sections.len() < SECTIONS_FOR_CONTENTS {
        return String::new();
    }
    let mut html = "<nav aria-label=\"Contents\"><ol>".to_owned();
    for (index, section) in sections.iter().enumerate().filter(|(_, section)| !section.title.is_empty()) {
        html.push_str(&format!("<li><a href=\"#section-{}\">{}</a></li>", index + 1, escape(&section.title)));
    }
    html + "</ol></nav>\n"
}

/// `plots` counts those of the document so far.
fn section(section: &Section, number: usize, plots: &mut usize) -> String {
    let mut html = format!("<section id=\"section-{number}\">\n");
    if !section.title.is_empty() {
        html.push_str(&format!("<h2>{}</h2>\n", escape(&section.title)));
    }
    html.push_str("<div class=\"blocks\">\n");
    let is_plot = |block: &Block| matches!(block, Block::Plot(_));
    for group in section.blocks.chunk_by(|a, b| is_plot(a) && is_plot(b)) {
        let beside = group.iter().all(is_plot);
        if beside {
            html.push_str("<div class=\"plots\">\n");
        }
        for block in group {
            match block {
                Block::Paragraph(text) => html.push_str(&format!("<p>{}</p>\n", inline(text))),
                Block::Warning(text) => {
                    html.push_str(&format!("<p class=\"warning\"><strong>Warning</strong> {}</p>\n", inline(text)));
                }
                Block::Facts(facts) => html.push_str(&facts_list(facts)),
                Block::Table(table) => html.push_str(&table_in_box(table)),
                Block::Plot(plot) => {
                    *plots += 1;
                    html.push_str(&plot::render(plot, &format!("plot-{plots}")));
                }
            }
        }
        if beside {
            html.push_str("</div>\n");
        }
    }
    html + "</div>\n</section>\n"
}

fn facts_list(facts: &[(String, String)]) -> String {
    let entries: String = facts
        .iter()
        .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>\n", inline(name), inline(value)))
        .collect();
    format!("<dl class=\"facts\">\n{entries}</dl>\n")
}

/// Characters from which a cell is a sentence.
const LONG_CELL: usize = 24;

/// The box can be scrolled, by keyboard too: hence `tabindex`, and the name that whoever arrives there hears.
fn table_in_box(table: &Table) -> String {
    let caption = escape(&table.caption);
    let mut html = format!("<div class=\"table\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table>\n");
    if !table.caption.is_empty() {
        html.push_str(&format!("<caption><span>{}</span></caption>\n", inline(&table.caption)));
    }
    html.push_str("<thead><tr>");
    for column in &table.columns {
        let class = if column.numeric { " class=\"number\"" } else { "" };
        html.push_str(&format!("<th scope=\"col\"{class}>{}</th>", inline(&column.title)));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for (index, column) in table.columns.iter().enumerate() {
            let text = row.get(index).map_or("", String::as_str);
            let cell = inline(text);
            html.push_str(&match (index, column.numeric) {
                (_, true) => format!("<td class=\"number\">{cell}</td>"),
                // The first words of a row say what the row is about.
                (0, false) => format!("<th scope=\"row\">{cell}</th>"),
                // A sentence keeps its width on a phone, where the table scrolls, instead of standing one word to a line.
                (_, false) if text.chars().count() > LONG_CELL => format!("<td class=\"long\">{cell}</td>"),
                (_, false) => format!("<td>{cell}</td>"),
            });
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody>\n</table></div>\n"
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, Column, Mark, Plot, Scale};
    use super::*;

    /// Short enough to be cut nowhere.
    const HOSTILE: &str = "\"><script src='http:'>\u{202e}\0&";

    /// A document in which every string is hostile.
    fn hostile() -> Document {
        let name = || HOSTILE.to_owned();
        let marks = vec![
            Mark::Line { name: name(), points: vec![[0.0, 0.1], [1.0, 0.5]], dashed: true },
            Mark::Band { points: vec![[0.0, 0.1, 0.2], [1.0, 0.3, 0.4]] },
            Mark::Points { name: name() + "2", points: vec![[0.5, 0.5]] },
            Mark::Bars { name: name() + "3", bars: vec![[0.0, 0.5, 0.5]] },
            Mark::Rule { name: name(), at: 0.5, vertical: true },
        ];
        let axis = || Axis::new(HOSTILE, Scale::Linear);
        let plot = Plot { title: name(), description: name(), x: axis(), y: axis(), marks };
        let table = Table {
            caption: name(),
            columns: vec![Column::text(HOSTILE), Column::number(HOSTILE)],
            rows: vec![vec![name(), name(), name()], vec![]],
        };
        let blocks = vec![
            Block::Paragraph(name()),
            Block::Warning(name()),
            Block::Facts(vec![(name(), name())]),
            Block::Table(table),
            Block::Plot(plot.clone()),
            Block::Plot(plot),
        ];
        Document {
            title: name(),
            subtitle: name(),
            headlines: vec![Headline { label: name(), value: name(), note: name() }],
            sections: vec![Section { title: name(), blocks }; 4],
        }
    }

    #[test]
    fn what_html_gives_a_meaning_is_escaped() {
        assert_eq!(escape("a<b>&\"'\u{1b}é"), "a&lt;b&gt;&amp;&quot;&#39;\u{fffd}é");
    }

    #[test]
    fn no_string_leaves_its_place() {
        let page = render(&hostile());
        let escaped = escape(HOSTILE);
        assert!(page.matches(&escaped).count() > 40);
        assert!(!page.contains('\0') && !page.contains('\u{202e}'));
        // Without the escaped strings, only our own page is left, and nothing in it refers to anything outside.
        let own = page.replace(&escaped, "").to_lowercase();
        for outside in
            ["<script", "src=", "http:", "https:", "@import", "url(", "<link", "<img", "<iframe", "javascript:"]
        {
            assert!(!own.contains(outside), "{outside}");
        }
        assert!(!STYLE.contains("</style"));
    }

    #[test]
    fn every_element_is_closed() {
        let page = render(&hostile());
        for element in [
            "section",
            "div",
            "dl",
            "dt",
            "dd",
            "table",
            "tr",
            "th",
            "td",
            "figure",
            "figcaption",
            "svg",
            "text",
            "ul",
            "li",
        ] {
            let opened = page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
    }

    #[test]
    fn the_page_forbids_itself_to_load() {
        let page = render(&Document::default());
        assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"));
        assert!(page.contains(
            "content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\""
        ));
    }

    #[test]
    fn hashes_are_set_apart_and_other_words_are_not() {
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert_eq!(inline(&format!("sha256:{hash}, <fed>")), format!("sha256:<code>{hash}</code>, &lt;fed&gt;"));
        assert_eq!(inline("decade 2026 é cafe"), "decade 2026 é cafe");
    }

    #[test]
    fn tables_tell_what_their_cells_are() {
        let table = Table {
            caption: "Rates".into(),
            columns: vec![Column::text("Point"), Column::number("FMR")],
            rows: vec![vec!["a".into(), "1".into()], vec!["b".into()]],
        };
        let html = table_in_box(&table);
        assert!(html.contains("<caption><span>Rates</span></caption>"));
        assert!(html.contains("<th scope=\"col\">Point</th><th scope=\"col\" class=\"number\">FMR</th>"));
        assert!(html.contains("<tr><th scope=\"row\">b</th><td class=\"number\"></td></tr>"));
    }

    #[test]
    fn plots_that_follow_each_other_stand_side_by_side() {
        let page = render(&hostile());
        assert_eq!(page.matches("<div class=\"plots\">").count(), 4);
        assert!(page.contains("id=\"plot-8-description\"") && !page.contains("id=\"plot-9-description\""));
    }
}
