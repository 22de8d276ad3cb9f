//! What an evaluation has to say, apart from how it is shown: headline numbers, sections, tables, plots.
//!
//! `vouch evaluate` fills a [`Document`]; [`html::render`] makes of it one self-contained file to keep, [`text::render`] the
//! lines for a terminal. Numbers arrive here as finished words, since only the evaluation knows how many digits its data
//! supports; only plots are given as numbers. Left out on purpose: reading results, computing anything, writing files.
//!
//! Every string may come from a customer's file (names of subjects, of attack species, of paths) and is taken for hostile:
//! both renderers escape what has a meaning in their language and replace characters that steer instead of showing.

pub mod html;
mod plot;
mod scale;
pub mod text;

/// A whole report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    pub title: String,
    /// What was measured, on what and when, in one line. May be empty.
    pub subtitle: String,
    /// The few numbers that a hurried reader takes home. May be empty; more than six crowd each other.
    pub headlines: Vec<Headline>,
    pub sections: Vec<Section>,
}

/// One big number on top of the report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Headline {
    /// "TAR at FMR 1e-3".
    pub label: String,
    /// "98.7 %".
    pub value: String,
    /// How sure it is: "95 %: 98.1 to 99.2". May be empty.
    pub note: String,
}

/// A titled part of the report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// May be empty: the blocks then follow without a heading.
    pub title: String,
    /// In reading order. Plots that follow each other stand side by side where the page is wide enough.
    pub blocks: Vec<Block>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    Paragraph(String),
    /// Something that limits what the numbers mean. Shown with the word "Warning", not by colour alone.
    Warning(String),
    /// Names and values, in order: data set, model hashes, versions.
    Facts(Vec<(String, String)>),
    Table(Table),
    /// Left out of the terminal's text.
    Plot(Plot),
}

/// Rows under column titles. A row that is too short is filled with empty cells; cells beyond the last column are left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// May be empty, but then nobody who hears the page read aloud knows what the table tells.
    pub caption: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Column {
    pub title: String,
    /// Right-aligned, in digits of equal width.
    pub numeric: bool,
}

impl Column {
    /// A column of words.
    pub fn text(title: impl Into<String>) -> Self {
        Self { title: title.into(), numeric: false }
    }

    /// A column of numbers.
    pub fn number(title: impl Into<String>) -> Self {
        Self { title: title.into(), numeric: true }
    }
}

/// A diagram. Values that are not finite are dropped: a line has a gap there.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    pub title: String,
    /// What the plot shows, for somebody who cannot see it (the alternative text).
    pub description: String,
    pub x: Axis,
    pub y: Axis,
    /// Bands, bars and clouds of points are drawn beneath lines, up to 60 points and rules above; within a kind in this order.
    pub marks: Vec<Mark>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
    /// First and last value of the axis. `None`, or a range that the scale cannot show, is chosen from the data. What lies
    /// outside is cut off at the frame.
    pub range: Option<[f64; 2]>,
    /// Whether 0..1 is written as 0 %..100 %.
    pub percent: bool,
}

impl Axis {
    /// An axis over the range of its data, in plain numbers.
    pub fn new(label: impl Into<String>, scale: Scale) -> Self {
        Self { label: label.into(), scale, range: None, percent: false }
    }

    /// The same axis with 0..1 written as 0 %..100 %.
    pub fn in_percent(self) -> Self {
        Self { percent: true, ..self }
    }

    /// The same axis from `low` to `high`.
    pub fn between(self, low: f64, high: f64) -> Self {
        Self { range: Some([low, high]), ..self }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// Values of 0 and below have no place: a line towards one leaves the frame, a point on one is not drawn, and a bar starts
    /// at the bottom of the frame.
    Log10,
    /// The normal deviate of a rate, as on a DET curve (Martin et al., Eurospeech 1997; ISO/IEC 19795-1). Shows 1e-6 to
    /// 1 - 1e-6. Rates of 0 and 1 lie infinitely far out: a line towards one leaves the frame, and a point on one is drawn on
    /// the frame. A range chosen from the data ends at 50 % where any of the data is below: a DET curve says nothing above.
    Probit,
}

/// One thing drawn in a plot. Marks of the same name share a colour and one entry in the legend; a mark without a name is
/// in the colour of the words and has none.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// Joins (x, y) in order.
    Line { name: String, points: Vec<[f64; 2]>, dashed: bool },
    /// The area between (x, low, high), in the colour of its line: the line just before it, or, where the first band of the
    /// plot comes before the first line, the line after it.
    Band { points: Vec<[f64; 3]> },
    /// Unconnected (x, y). Up to 20 000 are drawn; of more, every n-th, and the legend says so.
    Points { name: String, points: Vec<[f64; 2]> },
    /// Rectangles (from, to, height), translucent so that two histograms can lie on each other.
    Bars { name: String, bars: Vec<[f64; 3]> },
    /// A straight line across the plot with its name beside it: a threshold.
    Rule { name: String, at: f64, vertical: bool },
}

/// What is shown for `character`: itself, a space for white space of any kind, and U+FFFD for what steers the reader's eye or
/// the terminal instead of showing: control characters (among them the escape of terminal sequences) and the marks that
/// override the direction of writing (Unicode Technical Report 36, section 2.5). Arabic and Hebrew read rightly without them.
fn printable(character: char) -> char {
    match character {
        '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        // The byte order mark and the two non-characters that XML forbids.
        '\u{feff}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_replaced() {
        let shown: String = "a\u{1b}[31m\u{202e}b\0\n\u{7f}\u{9b}é 名".chars().map(printable).collect();
        assert_eq!(shown, "a\u{fffd}[31m\u{fffd}b\u{fffd} \u{fffd}\u{fffd}é 名");
    }

    #[test]
    fn an_axis_is_built_in_steps() {
        let axis = Axis::new("FMR", Scale::Probit).in_percent().between(1e-4, 0.5);
        assert_eq!(axis, Axis { label: "FMR".into(), scale: Scale::Probit, range: Some([1e-4, 0.5]), percent: true });
    }
}
