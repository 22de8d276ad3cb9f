//! The facts of the visual zone: lines of text and their places to fields.
//!
//! Called by the reader of documents with the lines of an upright page, and with what the MRZ or the barcode already gave. Two ways lead
//! to a field. Captions (`labels`) announce what stands to their right or below them; on driving licences of the European Union it is
//! their numbers. And a fact that the MRZ or a barcode knows is looked for in every form it may be printed in (`dates`), which gives its
//! place where captions are too small to read. A field that neither supports is left out, and one whose text leaves two readings keeps
//! both. Left out: finding and reading the lines, and judging whether sources agree (`agreement`). Source: ICAO Doc 9303 part 3 section 3.

mod dates;
mod labels;
#[cfg(test)]
mod tests;
mod values;

use super::agreement::{Agreement, compare, strip_number};
use super::fields::{DocumentField, Source};
use super::mrz::{Certainty, CheckDigit, Date};
use dates::{Order, PrintedDate, Reading, Tense};
use labels::Label;

/// Lines beyond this are not looked at; the fullest page of a document has about eighty.
pub const MAX_LINES: usize = 500;

/// Of a longer line only so much is looked at.
pub const MAX_LINE_CHARS: usize = 200;

/// At most so many captions, dates and texts of a page are looked at; the time grows with their cube at worst. A full page has about 150.
const MAX_PIECES: usize = 1000;

/// Below this confidence of its line a name is not taken on the word of a caption: what is misread so badly is not rarely the caption
/// of another field. Measured on the small print of document pictures; facts that can be checked (dates, numbers) need no such limit.
const NAME_CONFIDENCE: f64 = 0.8;

/// Lines that run so far from the direction of the page (in radians, 12 degrees) do not belong to it. A page that is not flat bends less.
const MAX_TILT: f64 = 0.21;

/// A line of recognised text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextLine {
    pub text: String,
    /// Mean probability of the characters, 0..1.
    pub confidence: f64,
    /// Pixels of the page, clockwise from the top left of the text. The text runs to the right, give or take a few degrees.
    pub quad: [[f64; 2]; 4],
    /// Probability of every `char` of `text`, 0..1; empty if the recogniser does not tell.
    pub characters: Vec<f64>,
}

/// Reads the visual zone of one side of a document. `known` is what its MRZ or barcode says (claims are ignored), `today` decides
/// the century of years with two digits. Fields come in no particular order, each at most once; without a value where the text
/// stays open, with all its readings as alternatives. Lines of an MRZ may be among `lines` and are left alone.
pub fn read(lines: &[TextLine], known: &[DocumentField], today: Date) -> Vec<DocumentField> {
    let page = Page::new(lines, known, today);
    let labelled = page.by_labels();
    page.with_anchors(labelled)
}

/// Something on the page: a caption, a date, or other text.
struct Piece<'a> {
    line: &'a TextLine,
    text: String,
    quad: [[f64; 2]; 4],
    /// Along and across the text of the page, in pixels; `height` is that of the line.
    left: f64,
    right: f64,
    middle: f64,
    height: f64,
    /// Lowest probability of a character, or what the mean leaves for it.
    confidence: f64,
    kind: PieceKind,
}

enum PieceKind {
    Label { label: Label, is_sexo_alone: bool },
    Date(PrintedDate),
    Text,
}

/// A value that a caption may have.
struct Candidate {
    cost: f64,
    label: usize,
    piece: usize,
    value: Value,
}

/// What a piece says under a caption.
#[derive(Clone, PartialEq)]
enum Value {
    Text(String),
    Dates(Vec<Reading>),
}

struct Page<'a> {
    pieces: Vec<Piece<'a>>,
    known: Vec<&'a DocumentField>,
    today: Date,
}

impl<'a> Page<'a> {
    fn new(lines: &'a [TextLine], known: &'a [DocumentField], today: Date) -> Self {
        let lines: Vec<&TextLine> = lines.iter().take(MAX_LINES).filter(|line| is_usable(line)).collect();
        let known = known.iter().filter(|field| matches!(field.source, Source::Mrz | Source::Barcode)).collect();
        let angle = page_angle(&lines);
        // Stamps and the word SPECIMEN across the page are no values.
        let is_level =
            |line: &&TextLine| line.text.chars().count() < 2 || turn(angle_of(line) - angle).abs() <= MAX_TILT;
        let lines: Vec<&TextLine> = lines.into_iter().filter(is_level).collect();
        let is_licence = is_numbered_licence(&lines);
        let mut starts = labels::MAX_STARTS;
        let pieces = lines.iter().flat_map(|line| cut(line, angle, is_licence, &mut starts)).take(MAX_PIECES).collect();
        Self { pieces, known, today }
    }

    fn known(&self, name: &str) -> Option<&'a str> {
        self.known.iter().filter(|field| field.name == name).find_map(|field| field.value.as_deref())
    }

    /// The State whose document this is, if a source says it.
    fn issuer(&self) -> Option<&'a str> {
        self.known("issuing_state")
    }

    /// True for a date that lost its separators, beside the caption of a number: eight digits in groups, or one of the known days.
    fn is_date(&self, text: &str) -> bool {
        let Some(reading) = dates::compact(&text.trim().chars().collect::<Vec<_>>()) else { return false };
        let known = ["birth_date", "expiry_date", "issue_date"].into_iter().filter_map(|name| self.known(name));
        text.trim().contains(' ')
            || reading.day(Tense::Past, self.today).is_some_and(|day| {
                let day = day.to_string();
                known.into_iter().any(|known| known == day)
            })
    }

    /// What the captions of the page say.
    fn by_labels(&self) -> Vec<DocumentField> {
        let labels = self.page_labels();
        let mut candidates = Vec::new();
        for (index, label) in labels.iter().copied() {
            candidates.extend(self.candidates(index, label));
        }
        candidates.sort_by(|a: &Candidate, b: &Candidate| a.cost.total_cmp(&b.cost).then(a.piece.cmp(&b.piece)));
        let mut is_taken = vec![false; self.pieces.len()];
        let mut chosen: Vec<Candidate> = Vec::new();
        for candidate in candidates {
            let is_free = |at: usize| is_taken.get(at) == Some(&false);
            if is_free(candidate.label) && is_free(candidate.piece) {
                // Lines of one caption have one value together.
                let group = labels
                    .iter()
                    .map(|(index, _)| *index)
                    .filter(|other| self.is_one_caption(candidate.label, *other, &labels));
                for at in group.chain([candidate.label, candidate.piece]) {
                    if let Some(taken) = is_taken.get_mut(at) {
                        *taken = true;
                    }
                }
                chosen.push(candidate);
            }
        }
        let label_of = |piece: usize| labels.iter().find(|(index, _)| *index == piece).map(|(_, label)| *label);
        let order = self.order(&chosen);
        let mut fields: Vec<DocumentField> = Vec::new();
        for candidate in &chosen {
            let (Some(label), Some(piece)) = (label_of(candidate.label), self.pieces.get(candidate.piece)) else {
                continue;
            };
            let Some(mut name) = field_name(label) else { continue };
            if name == "family_name" && piece.text.trim_matches([',', ' ']).contains(',') {
                name = "full_name";
            }
            let field = self.field(name, piece, &candidate.value, order);
            match fields.iter_mut().find(|known| known.name == name) {
                None => fields.push(field),
                // The same caption twice with two values: neither is sure.
                Some(known) if known.value != field.value => {
                    known.certainty = Certainty::Uncertain;
                    known.alternatives.extend(field.value);
                }
                Some(_) => {}
            }
        }
        doubt_impossible_order(&mut fields);
        fields
    }

    /// True if two captions mean the same and stand under each other as the lines of one.
    fn is_one_caption(&self, a: usize, b: usize, labels: &[(usize, Label)]) -> bool {
        let meaning = |piece: usize| labels.iter().find(|(index, _)| *index == piece).map(|(_, label)| *label);
        let (Some(first), Some(second)) = (self.pieces.get(a), self.pieces.get(b)) else { return false };
        let unit = (first.height + second.height) / 2.0;
        meaning(a) == meaning(b)
            && (first.middle - second.middle).abs() <= 1.6 * unit
            && first.left < second.right
            && second.left < first.right
    }

    /// The captions with their meaning on this page.
    fn page_labels(&self) -> Vec<(usize, Label)> {
        let all: Vec<(usize, Label)> = self
            .pieces
            .iter()
            .enumerate()
            .filter_map(|(index, piece)| match piece.kind {
                PieceKind::Label { label, .. } => Some((index, label)),
                _ => None,
            })
            .collect();
        let has = |wanted: Label| all.iter().any(|(_, label)| *label == wanted);
        let has_family = has(Label::FamilyName);
        let has_given = has(Label::GivenNames) || has(Label::GivenOrFull);
        // On other documents than passports, the number of the passport is that of another document.
        let is_passport = match self.known("document_type") {
            Some(kind) => kind == "passport",
            None => !self.has_title_of_other_document(),
        };
        let is_visa = self.known("document_type") == Some("visa") || self.has_title(&["VISA", "WIZA", "VISUM"]);
        let meaning = |label| match label {
            Label::FamilyOrFull if has_given => Label::FamilyName,
            // "Surname" and "Name" on one page, as on Thai passports.
            Label::FamilyOrFull if has_family => Label::GivenNames,
            Label::GivenOrFull if has_family || has(Label::FamilyOrFull) => Label::GivenNames,
            Label::FamilyOrFull | Label::GivenOrFull => Label::FullName,
            Label::PassportNumber if is_passport => Label::DocumentNumber,
            // Which of its numbers the MRZ of a visa repeats is the issuer's choice (ICAO Doc 9303 part 7).
            Label::DocumentNumber if is_visa => Label::Other,
            other => other,
        };
        all.iter().map(|(index, label)| (*index, meaning(*label))).collect()
    }

    fn has_title(&self, titles: &[&str]) -> bool {
        self.pieces
            .iter()
            .any(|piece| piece.text.len() < 20 && titles.contains(&super::agreement::fold(&piece.text).as_str()))
    }

    fn has_title_of_other_document(&self) -> bool {
        const OTHERS: &[&str] = &[
            "VISA",
            "WIZA",
            "VISUM",
            "RESIDENCEPERMIT",
            "AUFENTHALTSTITEL",
            "TITREDESEJOUR",
            "IDENTITYCARD",
            "PERMANENTRESIDENT",
            "PERMISODERESIDENCIA",
            "PERMESSODISOGGIORNO",
            "TITULODERESIDENCIA",
            "VERBLIJFSTITEL",
            "KARTAPOBYTU",
            "PERSONALAUSWEIS",
            "CARTENATIONALEDIDENTITE",
            "CARTADIDENTITA",
            "DRIVINGLICENCE",
            "DRIVERLICENSE",
            "PERMISDECONDUIRE",
            "FUHRERSCHEIN",
        ];
        self.pieces.iter().any(|piece| {
            let folded = super::agreement::fold(&piece.text);
            OTHERS.iter().any(|title| if title.len() < 6 { folded == *title } else { folded.contains(title) })
        })
    }

    /// The pieces that may be the value of a caption, with how far they are from where values stand.
    fn candidates(&self, index: usize, label: Label) -> Vec<Candidate> {
        let Some(caption) = self.pieces.get(index) else { return Vec::new() };
        let mut found = Vec::new();
        for (at, piece) in self.pieces.iter().enumerate() {
            if matches!(piece.kind, PieceKind::Label { .. }) {
                continue;
            }
            let Some(cost) = self.cost(caption, piece) else { continue };
            if let Some(value) = self.value(label, caption, piece) {
                found.push(Candidate { cost, label: index, piece: at, value });
            }
        }
        found
    }

    /// How far a piece is from the place of the value, in line heights; `None` if it does not stand there.
    fn cost(&self, caption: &Piece<'_>, piece: &Piece<'_>) -> Option<f64> {
        let unit = (caption.height + piece.height) / 2.0;
        if unit <= 0.0 {
            return None;
        }
        let down = (piece.middle - caption.middle) / unit;
        let shift = (piece.left - caption.left) / unit;
        let gap = (piece.left - caption.right) / unit;
        let is_between = |other: &&Piece<'_>| {
            !std::ptr::eq(*other, caption)
                && !std::ptr::eq(*other, piece)
                && matches!(other.kind, PieceKind::Label { .. })
        };
        let others = || self.pieces.iter().filter(is_between);
        // To the right on the same line, with no other caption between.
        if down.abs() <= 0.6 && (-0.7..=12.0).contains(&gap) {
            let is_blocked = others().any(|other| {
                (other.middle - piece.middle).abs() <= 0.6 * unit
                    && other.left >= caption.left
                    && other.left < piece.left
            });
            return (!is_blocked).then_some(0.1 + gap.max(0.0) * 0.25);
        }
        // Below, beginning where the caption begins or a little to the right.
        let begins_inside = piece.left < caption.right && shift > -1.0;
        if (0.45..=3.2).contains(&down) && ((-1.5..=2.8).contains(&shift) || begins_inside) {
            let is_blocked = others().any(|other| {
                let is_lower = other.middle > caption.middle + 0.35 * unit && other.middle < piece.middle - 0.35 * unit;
                let overlaps =
                    other.left < piece.right.max(caption.left + unit) && other.right > piece.left.min(caption.left);
                is_lower && overlaps && !self.is_continued(caption, other)
            });
            // A caption on the line of the value and left of it owns it.
            let is_owned = others().any(|other| {
                (other.middle - piece.middle).abs() <= 0.4 * unit
                    && other.right <= piece.left + 0.7 * unit
                    && piece.left - other.right < 3.0 * unit
            });
            return (!is_blocked && !is_owned).then_some((down - 1.0).abs() + shift.abs() * 0.15 + 0.2);
        }
        None
    }

    /// True if `other` is a translation of the caption on the next line.
    fn is_continued(&self, caption: &Piece<'_>, other: &Piece<'_>) -> bool {
        match (&caption.kind, &other.kind) {
            (PieceKind::Label { label: a, .. }, PieceKind::Label { label: b, .. }) => labels::same(*a, *b).is_some(),
            _ => false,
        }
    }

    /// What a piece says as the value of a caption; `None` if it does not look like one.
    fn value(&self, label: Label, caption: &Piece<'_>, piece: &Piece<'_>) -> Option<Value> {
        let text = piece.text.as_str();
        match label {
            Label::BirthDate | Label::IssueDate | Label::ExpiryDate => {
                let readings = match &piece.kind {
                    PieceKind::Date(date) => date.readings.clone(),
                    _ => vec![dates::compact(&text.trim().chars().collect::<Vec<_>>())?],
                };
                let tense = tense(label);
                // A birth or an issue lies in the past.
                let fits = |reading: &Reading| {
                    reading.day(tense, self.today).is_some_and(|day| label == Label::ExpiryDate || day <= self.today)
                };
                let readings: Vec<Reading> = readings.into_iter().filter(fits).collect();
                (!readings.is_empty()).then_some(Value::Dates(readings))
            }
            _ if matches!(piece.kind, PieceKind::Date(_)) => None,
            Label::FamilyName | Label::GivenNames | Label::FullName => {
                let name = values::name(text).filter(|_| piece.line.confidence >= NAME_CONFIDENCE)?;
                // A name is printed at least as large as its caption.
                (piece.height >= 0.75 * caption.height).then_some(Value::Text(name))
            }
            Label::DocumentNumber | Label::PassportNumber => {
                values::document_number(text).filter(|_| !self.is_date(text)).map(Value::Text)
            }
            Label::PersonalNumber => values::personal_number(text).map(Value::Text),
            Label::Sex => {
                let is_sexo = matches!(caption.kind, PieceKind::Label { is_sexo_alone: true, .. });
                values::sex(text, self.issuer(), is_sexo).map(|sex| Value::Text(sex.to_owned()))
            }
            Label::Nationality => values::nationality(text).map(|code| Value::Text(code.to_owned())),
            Label::IssuingState => values::state(text).map(|code| Value::Text(code.to_owned())),
            Label::Height => values::height(text).map(Value::Text),
            Label::BirthPlace | Label::Authority | Label::Address => {
                let letters = text.chars().filter(|c| c.is_alphabetic()).count();
                // What ends in a number in brackets is the rest of a caption.
                let is_caption = text.ends_with(')')
                    && text.trim_end_matches(')').ends_with(|c: char| c.is_ascii_digit())
                    && letters < 12;
                let is_sure = piece.line.confidence >= NAME_CONFIDENCE;
                (letters >= 3 && is_sure && !is_caption)
                    .then(|| Value::Text(text.trim_matches([' ', ':', ',', '.']).to_owned()))
            }
            Label::FamilyOrFull | Label::GivenOrFull | Label::Other => None,
        }
    }

    /// Which of day and month the page puts first: what its other dates show, what the known dates show, or the custom of the State.
    /// `None` where nothing decides.
    fn order(&self, chosen: &[Candidate]) -> Option<Order> {
        let mut day_first = 0;
        let mut month_first = 0;
        let mut count = |order| match order {
            Order::DayFirst => day_first += 1,
            Order::MonthFirst => month_first += 1,
            Order::Plain => {}
        };
        let known: Vec<Date> = DATES.iter().filter_map(|name| self.known(name).and_then(parse_day)).collect();
        for piece in &self.pieces {
            let PieceKind::Date(date) = &piece.kind else { continue };
            if let [only] = date.readings.as_slice() {
                // The same number twice has one reading and shows nothing.
                if !only.is_symmetric() {
                    count(only.order);
                }
            } else {
                let mut proved = date.readings.iter().filter(|reading| known.iter().any(|day| reading.may_be(*day)));
                if let (Some(reading), None) = (proved.next(), proved.next()) {
                    count(reading.order);
                }
            }
        }
        let printed_state = || {
            chosen.iter().find_map(|candidate| match (&candidate.value, self.pieces.get(candidate.label)?) {
                (Value::Text(code), Piece { kind: PieceKind::Label { label: Label::IssuingState, .. }, .. }) => {
                    Some(code.clone())
                }
                _ => None,
            })
        };
        match (day_first, month_first) {
            (0, 0) => match self.issuer().map(str::to_owned).or_else(printed_state).as_deref() {
                // The only issuers that put the month first in figures; Canadian and Philippine documents vary.
                Some("USA" | "FSM" | "MHL" | "PLW") => Some(Order::MonthFirst),
                Some("CAN" | "PHL") | None => None,
                Some(_) => Some(Order::DayFirst),
            },
            (_, 0) => Some(Order::DayFirst),
            (0, _) => Some(Order::MonthFirst),
            _ => None,
        }
    }

    fn field(&self, name: &'static str, piece: &Piece<'_>, value: &Value, order: Option<Order>) -> DocumentField {
        let (value, alternatives) = match value {
            Value::Text(text) => (Some(text.clone()), Vec::new()),
            Value::Dates(readings) => self.resolve(name, readings, order),
        };
        DocumentField {
            name,
            certainty: if value.is_some() { Certainty::AsRead } else { Certainty::Uncertain },
            value,
            raw: piece.text.clone(),
            source: Source::Visual,
            check_digit: CheckDigit::NotApplicable,
            alternatives,
            warnings: Vec::new(),
            confidence: Some(piece.confidence),
            quad: Some(piece.quad),
        }
    }

    /// The day that a date stands for, or all of them if the page does not decide.
    fn resolve(&self, name: &str, readings: &[Reading], order: Option<Order>) -> (Option<String>, Vec<String>) {
        let tense = if name == "expiry_date" { Tense::Near } else { Tense::Past };
        // The century that the MRZ or the barcode knows is better than a guess.
        let century = |reading: &Reading| {
            let known = self.known(name).and_then(parse_day).filter(|known| reading.may_be(*known));
            known.or_else(|| reading.day(tense, self.today))
        };
        let days: Vec<(Order, String)> =
            readings.iter().filter_map(|reading| Some((reading.order, century(reading)?.to_string()))).collect();
        match days.as_slice() {
            [(_, only)] => (Some(only.clone()), Vec::new()),
            several => match several.iter().find(|(of, _)| Some(*of) == order) {
                Some((_, day)) => (Some(day.clone()), Vec::new()),
                None => (None, several.iter().map(|(_, day)| day.clone()).collect()),
            },
        }
    }

    /// Adds what is known from other sources and stands on the page though no caption announced it, and doubts captions where another
    /// place of the page says what is known.
    fn with_anchors(&self, mut fields: Vec<DocumentField>) -> Vec<DocumentField> {
        for known in &self.known {
            let Some(value) = known.value.as_deref() else { continue };
            let Some(name) = ANCHORED.iter().copied().find(|name| *name == known.name) else { continue };
            let Some(anchor) = self.anchor(known, name, value, &fields) else { continue };
            match fields.iter_mut().find(|field| field.name == name) {
                None => fields.push(anchor),
                Some(field) => {
                    let agreement = compare(field, known).0;
                    if agreement >= Agreement::NotComparable {
                        // The caption points at one text, and another on the page says what is known: one of the two was
                        // misunderstood, and which of them cannot be told.
                        field.certainty = Certainty::Uncertain;
                        field.alternatives.extend(anchor.value.filter(|value| !field.alternatives.contains(value)));
                        field.alternatives.truncate(8);
                    }
                }
            }
        }
        self.add_issue_date(&mut fields);
        fields
    }

    /// The topmost piece that says a known value, other than those that captions gave to other fields.
    fn anchor(
        &self,
        known: &DocumentField,
        name: &'static str,
        value: &str,
        fields: &[DocumentField],
    ) -> Option<DocumentField> {
        let day = parse_day(value);
        let number = strip_number(value);
        let of_other =
            |piece: &&Piece<'_>| !fields.iter().any(|field| field.name != name && field.quad == Some(piece.quad));
        let says = |piece: &&Piece<'_>| match (name, &piece.kind) {
            (_, PieceKind::Label { .. }) => false,
            ("birth_date" | "expiry_date" | "issue_date", PieceKind::Date(date)) => {
                day.is_some_and(|day| date.readings.iter().any(|reading| reading.may_be(day)))
            }
            ("birth_date" | "expiry_date" | "issue_date", PieceKind::Text) => {
                let read = dates::compact(&piece.text.trim().chars().collect::<Vec<_>>());
                day.is_some_and(|day| read.is_some_and(|reading| reading.may_be(day)))
            }
            ("document_number", PieceKind::Text) => number.len() >= 5 && ends_with_number(&piece.text, &number),
            ("family_name" | "given_names", PieceKind::Text) => values::name(&piece.text).is_some_and(|text| {
                let printed =
                    DocumentField { value: Some(text), ..self.field(name, piece, &Value::Text(String::new()), None) };
                let (agreement, _) = compare(&printed, known);
                agreement == Agreement::Agrees
            }),
            _ => false,
        };
        let mut pieces: Vec<&Piece<'_>> = self.pieces.iter().filter(of_other).filter(says).collect();
        pieces.sort_by(|a, b| a.middle.total_cmp(&b.middle));
        let piece = pieces.first()?;
        let text = match name {
            "family_name" | "given_names" => values::name(&piece.text)?,
            _ => value.to_owned(),
        };
        Some(self.field(name, piece, &Value::Text(text), None))
    }

    /// The one day of the page that is neither birth nor expiry and can be the issue, if a caption named none: presumed.
    fn add_issue_date(&self, fields: &mut Vec<DocumentField>) {
        if fields.iter().any(|field| field.name == "issue_date") || self.known("issue_date").is_some() {
            return;
        }
        let (Some(birth), Some(expiry)) =
            (self.known("birth_date").and_then(parse_day), self.known("expiry_date").and_then(parse_day))
        else {
            return;
        };
        let mut is_there = [false, false];
        let mut others: Vec<(&Piece<'_>, Date)> = Vec::new();
        for piece in &self.pieces {
            let PieceKind::Date(date) = &piece.kind else { continue };
            if date.readings.iter().any(|reading| reading.may_be(birth)) {
                is_there[0] = true;
            } else if date.readings.iter().any(|reading| reading.may_be(expiry)) {
                is_there[1] = true;
            } else if let [only] = date.readings.as_slice()
                && let Some(day) = only.day(Tense::Past, self.today)
            {
                others.push((piece, day));
            } else {
                return;
            }
        }
        let [(piece, day), rest @ ..] = others.as_slice() else { return };
        let is_alone = rest.iter().all(|(_, other)| other == day);
        // Documents are valid for whole years, give or take the day on which they end; that is what tells an issue from another day.
        let is_issue = *day > birth && *day < expiry && is_whole_years(*day, expiry);
        if is_there == [true, true]
            && is_alone
            && is_issue
            && !fields.iter().any(|field| field.quad == Some(piece.quad))
        {
            let field = self.field("issue_date", piece, &Value::Text(day.to_string()), None);
            fields.push(DocumentField { certainty: Certainty::Presumed, ..field });
        }
    }
}

/// Fields that are looked for by their value. Sex, States and types are too short or too common to prove a place.
const ANCHORED: [&str; 6] =
    ["document_number", "family_name", "given_names", "birth_date", "expiry_date", "issue_date"];

const DATES: [&str; 3] = ["birth_date", "expiry_date", "issue_date"];

fn field_name(label: Label) -> Option<&'static str> {
    Some(match label {
        Label::FamilyName => "family_name",
        Label::GivenNames => "given_names",
        Label::FullName => "full_name",
        Label::BirthDate => "birth_date",
        Label::BirthPlace => "birth_place",
        Label::Sex => "sex",
        Label::Nationality => "nationality",
        Label::DocumentNumber => "document_number",
        Label::PassportNumber => "passport_number",
        Label::PersonalNumber => "personal_number",
        Label::IssueDate => "issue_date",
        Label::ExpiryDate => "expiry_date",
        Label::Authority => "authority",
        Label::Address => "address",
        Label::Height => "height",
        Label::IssuingState => "issuing_state",
        Label::FamilyOrFull | Label::GivenOrFull | Label::Other => return None,
    })
}

fn tense(label: Label) -> Tense {
    if label == Label::ExpiryDate { Tense::Near } else { Tense::Past }
}

/// True if a text is a number in any spacing, or a few words and then the number.
fn ends_with_number(text: &str, number: &str) -> bool {
    let begins =
        |at: usize| at == 0 || text.get(..at).is_some_and(|before| before.ends_with([' ', '#', ':', '°', 'º']));
    text.char_indices()
        .map(|(at, _)| at)
        .filter(|at| begins(*at))
        .any(|at| strip_number(text.get(at..).unwrap_or_default()) == number)
}

fn parse_day(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    Date::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)
}

/// True for one to fifteen years, with the end on the same day of the year, or a few days off.
fn is_whole_years(from: Date, to: Date) -> bool {
    let years = to.year() - from.year();
    let day_of_year = |date: Date| i32::from(date.month()) * 31 + i32::from(date.day());
    (1..=15).contains(&years) && (day_of_year(to) - day_of_year(from)).abs() <= 3
}

/// A birth after the issue, or an issue after the expiry, cannot be: both dates are then in doubt.
fn doubt_impossible_order(fields: &mut [DocumentField]) {
    for (earlier, later) in [("birth_date", "issue_date"), ("birth_date", "expiry_date"), ("issue_date", "expiry_date")]
    {
        let value = |fields: &[DocumentField], name: &str| {
            fields.iter().find(|field| field.name == name).and_then(|field| field.value.clone())
        };
        let (Some(first), Some(second)) = (value(fields, earlier), value(fields, later)) else { continue };
        // The notation sorts by time.
        if first >= second {
            for field in fields.iter_mut().filter(|field| field.name == earlier || field.name == later) {
                field.certainty = Certainty::Uncertain;
                field.warnings.push("VISUAL_DATES_IN_WRONG_ORDER");
            }
        }
    }
}

/// False for lines of an MRZ and for lines without a place.
fn is_usable(line: &TextLine) -> bool {
    let fillers = line.text.chars().take(MAX_LINE_CHARS).filter(|c| matches!(c, '<' | '>' | '«' | '»')).count();
    let is_dense =
        line.text.chars().take(MAX_LINE_CHARS).all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '<');
    let is_finite = line.quad.iter().flatten().all(|coordinate| coordinate.is_finite() && coordinate.abs() < 1e6);
    fillers < 2 && !(is_dense && line.text.len() >= 28) && is_finite && !line.text.trim().is_empty()
}

/// The direction of a line, in radians.
fn angle_of(line: &TextLine) -> f64 {
    let [a, b, c, d] = line.quad;
    (b[1] - a[1] + c[1] - d[1]).atan2(b[0] - a[0] + c[0] - d[0])
}

/// An angle between -π and π.
fn turn(angle: f64) -> f64 {
    angle.sin().atan2(angle.cos())
}

/// The direction of the lines, in radians: the median by length, so that a stamp across the page does not count.
fn page_angle(lines: &[&TextLine]) -> f64 {
    let mut angles: Vec<(f64, f64)> = lines
        .iter()
        .map(|line| {
            let [a, b, _, _] = line.quad;
            (angle_of(line), (b[0] - a[0]).hypot(b[1] - a[1]))
        })
        .collect();
    angles.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = angles.iter().map(|(_, length)| length).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    for (angle, length) in angles {
        sum += length;
        if sum >= half {
            return angle;
        }
    }
    0.0
}

/// True if the lines carry the numbers 4a and 4b of the model driving licence of the European Union.
fn is_numbered_licence(lines: &[&TextLine]) -> bool {
    let has = |number: &str| {
        lines.iter().any(|line| {
            let characters: Vec<char> = line.text.chars().take(MAX_LINE_CHARS).collect();
            numbers_of_licence(&characters).iter().any(|(found, _, _)| found == number)
        })
    };
    has("4a") && has("4b")
}

/// The field numbers of a driving licence in a line, with their places. Only those of field 4 may stand inside a line.
fn numbers_of_licence(characters: &[char]) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for start in 0..characters.len() {
        let is_begin = start == 0;
        if !is_begin && characters.get(start - 1).is_none_or(|c| !c.is_whitespace()) {
            continue;
        }
        let word: String =
            characters.get(start..).unwrap_or_default().iter().take_while(|c| !c.is_whitespace()).take(4).collect();
        let word = word.to_lowercase();
        for number in ["4a", "4b", "4c", "4d", "1", "2", "3", "5", "8"] {
            let Some(rest) = word.strip_prefix(number) else { continue };
            let is_end = rest.is_empty()
                || rest.starts_with('.')
                || (number.len() == 2 && rest.starts_with(|c: char| c.is_ascii_digit()));
            if is_end && (is_begin || number.starts_with('4')) {
                let length = number.len() + usize::from(rest.starts_with('.'));
                found.push((number.to_owned(), start, start + length));
                break;
            }
        }
    }
    found
}

/// What the numbers of annex I of Directive 2006/126/EC stand for.
fn label_of_number(number: &str) -> Label {
    match number {
        "1" => Label::FamilyName,
        "2" => Label::GivenNames,
        "3" => Label::BirthDate,
        "4a" => Label::IssueDate,
        "4b" => Label::ExpiryDate,
        "4c" => Label::Authority,
        "4d" => Label::PersonalNumber,
        "5" => Label::DocumentNumber,
        "8" => Label::Address,
        _ => Label::Other,
    }
}

/// Cuts a line into captions, dates and the text between them.
fn cut<'a>(line: &'a TextLine, angle: f64, is_licence: bool, starts: &mut usize) -> Vec<Piece<'a>> {
    let characters: Vec<char> = line.text.chars().take(MAX_LINE_CHARS).collect();
    let mut spans: Vec<(usize, usize, PieceKind)> = Vec::new();
    let is_free = |spans: &[(usize, usize, PieceKind)], start: usize, end: usize| {
        spans.iter().all(|(from, to, _)| end <= *from || start >= *to)
    };
    if is_licence {
        for (number, start, end) in numbers_of_licence(&characters) {
            spans.push((start, end, PieceKind::Label { label: label_of_number(&number), is_sexo_alone: false }));
        }
    }
    for date in dates::find(&characters) {
        if is_free(&spans, date.start, date.end) {
            spans.push((date.start, date.end, PieceKind::Date(date)));
        }
    }
    for found in labels::find(&characters, starts) {
        if is_free(&spans, found.start, found.end) {
            spans.push((
                found.start,
                found.end,
                PieceKind::Label { label: found.label, is_sexo_alone: found.is_sexo_alone },
            ));
        }
    }
    spans.sort_by_key(|(start, _, _)| *start);
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut add = |start: usize, end: usize, kind: PieceKind| {
        let part = characters.get(start..end).unwrap_or_default();
        let blank = part.iter().take_while(|c| !c.is_alphanumeric()).count();
        let is_text = matches!(kind, PieceKind::Text);
        if is_text && blank == part.len() {
            return;
        }
        // Brackets and the like before a text are not its own; a number sign is the end of a caption.
        let start = if is_text { start + blank } else { start };
        pieces.push(Piece::new(line, &characters, (start, end), angle, kind));
    };
    for (start, end, kind) in spans {
        if start > at {
            add(at, start, PieceKind::Text);
        }
        add(start, end, kind);
        at = end;
    }
    if at < characters.len() {
        add(at, characters.len(), PieceKind::Text);
    }
    pieces
}

impl<'a> Piece<'a> {
    fn new(line: &'a TextLine, characters: &[char], (start, end): (usize, usize), angle: f64, kind: PieceKind) -> Self {
        let part = characters.get(start..end).unwrap_or_default();
        let text: String = part.iter().collect::<String>().trim().to_owned();
        let quad = part_of_quad(&line.quad, start, end, characters.len());
        let turned = quad.map(|[x, y]| {
            let (sin, cos) = angle.sin_cos();
            [x * cos + y * sin, y * cos - x * sin]
        });
        let [a, b, c, d] = turned;
        let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        // Without single probabilities: what the mean leaves for the worst character, if all others were certain.
        let mean = line.confidence.clamp(0.0, 1.0);
        let worst = (1.0 - count(characters.len().max(1)) * (1.0 - mean)).max(0.0);
        let lowest = line
            .characters
            .get(start..end)
            .filter(|part| !part.is_empty() && line.characters.len() >= characters.len());
        let confidence = lowest.map_or(worst, |part| part.iter().copied().fold(1.0, f64::min));
        Self {
            line,
            text,
            quad,
            left: (a[0] + d[0]) / 2.0,
            right: (b[0] + c[0]) / 2.0,
            middle: (a[1] + b[1] + c[1] + d[1]) / 4.0,
            height: ((d[0] - a[0]).hypot(d[1] - a[1]) + (c[0] - b[0]).hypot(c[1] - b[1])) / 2.0,
            confidence: if confidence.is_finite() { confidence.clamp(0.0, 1.0) } else { 0.0 },
            kind,
        }
    }
}

/// The part of a line's quadrilateral where some of its characters stand, as if all were equally wide.
fn part_of_quad(quad: &[[f64; 2]; 4], start: usize, end: usize, length: usize) -> [[f64; 2]; 4] {
    if start == 0 && end >= length {
        return *quad;
    }
    let share = |at: usize| {
        f64::from(u32::try_from(at).unwrap_or(u32::MAX)) / f64::from(u32::try_from(length.max(1)).unwrap_or(u32::MAX))
    };
    let along =
        |from: [f64; 2], to: [f64; 2], at: f64| [from[0] + (to[0] - from[0]) * at, from[1] + (to[1] - from[1]) * at];
    let [a, b, c, d] = *quad;
    let (from, to) = (share(start), share(end));
    [along(a, b, from), along(a, b, to), along(d, c, to), along(d, c, from)]
}
