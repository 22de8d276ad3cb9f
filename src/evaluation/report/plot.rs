//! A [`Plot`] as inline SVG, with its legend as a list beside it.
//!
//! Called by [`super::html`]. Colours, widths and type sizes are classes of `style.css`, so that one drawing serves light,
//! dark and paper; here is only where things are. Coordinates are user units rounded to a tenth, which bounds the size of the
//! file. Series differ by colour *and* by the shape of their markers, for eyes and printers without colours; `dashed` stays
//! with the caller, who may mean something by it. No identifier but that of the description is used, and no reference, so
//! that any number of plots fit into one page.

use std::collections::HashSet;

use super::html::escape;
use super::scale::{Ruler, Tick, decimal};
use super::{Mark, Plot, Scale};

/// Width of every drawing, in user units. It is shown 350 to 560 pixels wide, so a unit stays near one pixel and type readable
/// on a telephone too.
const WIDTH: f64 = 440.0;

/// Height of the frame of a plot that is not square.
const FRAME_HEIGHT: f64 = 250.0;

/// Labels of the y axis nearer than this would touch.
const LINE_HEIGHT: f64 = 17.0;

/// Points drawn in one plot. 20 000 make a quarter of a megabyte; more would only blacken the plot.
const POINT_LIMIT: usize = 20_000;

/// Vertices of one line. A curve that only rises or falls cannot have more that differ.
const VERTEX_LIMIT: usize = 4_000;

/// Up to this many points get the shape of their series; of more, shapes could not be told apart.
const SHAPED_POINTS: usize = 60;

/// Above this many, points are small and drawn in layers.
const DENSE_POINTS: usize = 600;

/// Lines of up to this many points are measured values, joined: each gets its marker.
const MARKED_POINTS: usize = 12;

/// Markers on lines of more points.
const MARKERS_PER_LINE: usize = 4;

/// A cloud of points is drawn as this many translucent layers, so that crowded places are darker: within one path, points that
/// overlap do not add up.
const CLOUD_LAYERS: usize = 8;

/// Colours in `style.css`, `.s0` and so on. More series begin again, with another shape.
const COLOURS: usize = 6;

/// Longer names are cut: in the frame they would cover the data, in the legend the page.
const RULE_NAME_LENGTH: usize = 28;
const LEGEND_NAME_LENGTH: usize = 120;
const AXIS_NAME_LENGTH: usize = 60;

/// The plot as `<figure>`; `identifier` must be unique within the page and need no escaping.
pub fn render(plot: &Plot, identifier: &str) -> String {
    let legend = Legend::of(&plot.marks);
    let drawing = Drawing::of(plot);
    let mut svg = String::new();
    drawing.axes(plot, &mut svg);
    // A nested drawing cuts off what lies outside of the frame; a little room keeps lines along the edge whole.
    let frame = drawing.frame;
    let [left, top, width, height] =
        [frame.left - 1.0, frame.top - 1.0, frame.width + 2.0, frame.height + 2.0].map(shortest);
    svg.push_str(&format!(
        "<svg x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" viewBox=\"{left} {top} {width} {height}\">"
    ));
    let all_points = finite_points(&plot.marks);
    for (mark, series) in plot.marks.iter().zip(&legend.series) {
        match mark {
            Mark::Band { points } => drawing.band(points, *series, &mut svg),
            Mark::Bars { bars, .. } => drawing.bars(bars, *series, &mut svg),
            Mark::Points { points, .. } if points.len() > SHAPED_POINTS => {
                drawing.cloud(&kept_points(points, all_points), *series, &mut svg);
            }
            Mark::Line { .. } | Mark::Points { .. } | Mark::Rule { .. } => {}
        }
    }
    for (mark, series) in plot.marks.iter().zip(&legend.series) {
        if let Mark::Line { points, dashed, .. } = mark {
            drawing.line(points, *dashed, *series, legend.lines > 1, &mut svg);
        }
    }
    svg.push_str("</svg>");
    // Outside of the nested drawing, since a point on the frame is to be seen whole.
    for (mark, series) in plot.marks.iter().zip(&legend.series) {
        if let Mark::Points { points, .. } = mark
            && points.len() <= SHAPED_POINTS
        {
            drawing.few_points(points, *series, &mut svg);
        }
    }
    drawing.rules(&plot.marks, &mut svg);
    if !plot.marks.iter().any(has_data) {
        let [x, y] = [frame.left + frame.width / 2.0, frame.top + frame.height / 2.0].map(shortest);
        svg.push_str(&format!("<text class=\"no-data\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">no data</text>"));
    }

    let title = escape(&plot.title);
    let square = if drawing.square { " square" } else { "" };
    format!(
        "<figure class=\"plot{square}\"><figcaption><strong>{title}</strong>{}</figcaption>\
         <svg class=\"drawing\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{title}\" \
         aria-describedby=\"{identifier}-description\"><desc id=\"{identifier}-description\">{}</desc>{svg}</svg></figure>\n",
        legend.list,
        shortest(WIDTH),
        shortest(drawing.height),
        escape(&plot.description),
    )
}

// ---------------------------------------------------------------- colours and names

/// How one series looks: an index into colours and shapes, or the colour of words for a mark without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Series(Option<usize>);

impl Series {
    fn class(self) -> String {
        self.0.map_or("unnamed".to_owned(), |number| format!("s{}", number % COLOURS))
    }

    /// The outline of this series' marker around (x, y), as path data.
    fn marker(self, [x, y]: [f64; 2]) -> String {
        let outline: &[[f64; 2]] = match self.0.unwrap_or(0) % 5 {
            0 => {
                let [x, y] = [x - 3.2, y].map(shortest);
                return format!("M{x} {y}a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z");
            }
            1 => &[[-2.9, -2.9], [2.9, -2.9], [2.9, 2.9], [-2.9, 2.9]],
            2 => &[[0.0, -3.8], [3.7, 2.7], [-3.7, 2.7]],
            3 => &[[0.0, -4.0], [4.0, 0.0], [0.0, 4.0], [-4.0, 0.0]],
            _ => &[[-3.7, -2.7], [3.7, -2.7], [0.0, 3.8]],
        };
        let corners: Vec<[f64; 2]> = outline.iter().map(|[dx, dy]| [x + dx, y + dy]).collect();
        format!("{}z", path(&corners))
    }
}

/// Which series each mark belongs to, and the list that explains them.
struct Legend {
    /// One for each mark, in the order of the marks.
    series: Vec<Series>,
    /// Lines that have a name.
    lines: usize,
    /// `<ul>`, or nothing where no mark has a name.
    list: String,
}

impl Legend {
    fn of(marks: &[Mark]) -> Self {
        let mut names: Vec<&str> = Vec::new();
        let mut series: Vec<Series> = marks
            .iter()
            .map(|mark| match mark {
                Mark::Line { name, .. } | Mark::Points { name, .. } | Mark::Bars { name, .. } if !name.is_empty() => {
                    let known = names.iter().position(|known| known == name);
                    Series(Some(known.unwrap_or_else(|| {
                        names.push(name);
                        names.len() - 1
                    })))
                }
                _ => Series(None),
            })
            .collect();
        for index in 0..marks.len() {
            if let Some(line) = line_of_band(marks, index) {
                series[index] = series[line];
            }
        }

        let of_name = |number: usize| marks.iter().zip(&series).filter(move |(_, s)| s.0 == Some(number));
        let mut entries: String = names
            .iter()
            .enumerate()
            .map(|(number, name)| {
                let note = of_name(number).find_map(|(mark, _)| thinning_note(mark, finite_points(marks)));
                let swatch = swatch(of_name(number).map(|(mark, _)| mark), Series(Some(number)));
                format!("<li>{swatch}{}{}</li>", escape(&cut(name, LEGEND_NAME_LENGTH)), note.unwrap_or_default())
            })
            .collect();
        // A rule is named in the frame, and here only where it is not by its whole name.
        for mark in marks {
            if let Mark::Rule { name, .. } = mark
                && cut(name, RULE_NAME_LENGTH) != *name
            {
                let name = escape(&cut(name, LEGEND_NAME_LENGTH));
                entries.push_str(&format!(
                    "<li><svg class=\"swatch\" viewBox=\"0 0 26 12\" aria-hidden=\"true\">\
                     <path class=\"rule\" d=\"M0 6H26\"/></svg>{name}</li>"
                ));
            }
        }
        let list = if entries.is_empty() { entries } else { format!("<ul class=\"legend\">{entries}</ul>") };
        let lines = marks.iter().filter(|mark| matches!(mark, Mark::Line { name, .. } if !name.is_empty())).count();
        Self { series, lines, list }
    }
}

/// The index of the line whose colour the band at `index` takes; see [`Mark::Band`].
fn line_of_band(marks: &[Mark], index: usize) -> Option<usize> {
    let is_line = |index: &usize| matches!(marks[*index], Mark::Line { .. });
    let first_band = marks.iter().position(|mark| matches!(mark, Mark::Band { .. }))?;
    matches!(marks[index], Mark::Band { .. }).then_some(())?;
    let before = (0..index).rev().find(is_line);
    let after = (index..marks.len()).find(is_line);
    if (0..first_band).any(|index| is_line(&index)) { before } else { after.or(before) }
}

/// A small drawing of what a series looks like.
fn swatch<'a>(marks: impl Iterator<Item = &'a Mark>, series: Series) -> String {
    let class = series.class();
    let mut inside = String::new();
    for mark in marks {
        match mark {
            Mark::Bars { .. } => inside.push_str(&format!("<path class=\"bars {class}\" d=\"M4 1H22V11H4z\"/>")),
            Mark::Line { dashed, .. } => {
                let dashed = if *dashed { " dashed" } else { "" };
                inside.push_str(&format!("<path class=\"line {class}{dashed}\" d=\"M0 6H26\"/>"));
                inside.push_str(&format!("<path class=\"marker {class}\" d=\"{}\"/>", series.marker([13.0, 6.0])));
            }
            Mark::Points { points, .. } if points.len() <= SHAPED_POINTS => {
                inside.push_str(&format!("<path class=\"point {class}\" d=\"{}\"/>", series.marker([13.0, 6.0])));
            }
            Mark::Points { .. } => {
                inside.push_str(&format!("<path class=\"cloud {class}\" d=\"M6 8h0M13 4h0M19 7h0\"/>"));
            }
            Mark::Band { .. } => inside.push_str(&format!("<path class=\"band {class}\" d=\"M0 1H26V11H0z\"/>")),
            Mark::Rule { .. } => {}
        }
    }
    format!("<svg class=\"swatch\" viewBox=\"0 0 26 12\" aria-hidden=\"true\">{inside}</svg>")
}

/// `text`, or its first `length` characters with an ellipsis as the last.
fn cut(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        text.to_owned()
    } else {
        text.chars().take(length - 1).chain(['…']).collect()
    }
}

// ---------------------------------------------------------------- which points

fn is_finite(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// Whether anything of the mark could be drawn. A threshold alone is no data.
fn has_data(mark: &Mark) -> bool {
    match mark {
        Mark::Line { points, .. } | Mark::Points { points, .. } => points.iter().any(|point| is_finite(point)),
        Mark::Band { points: triples } | Mark::Bars { bars: triples, .. } => {
            triples.iter().any(|triple| is_finite(triple))
        }
        Mark::Rule { .. } => false,
    }
}

/// Points of all marks of the plot together, of which [`POINT_LIMIT`] can be drawn.
fn finite_points(marks: &[Mark]) -> usize {
    marks
        .iter()
        .map(|mark| match mark {
            Mark::Points { points, .. } => points.iter().filter(|point| is_finite(*point)).count(),
            _ => 0,
        })
        .sum()
}

/// The finite ones of `points`, thinned evenly where the plot has `all` and that is too many.
fn kept_points(points: &[[f64; 2]], all: usize) -> Vec<[f64; 2]> {
    let finite: Vec<[f64; 2]> = points.iter().copied().filter(|point| is_finite(point)).collect();
    if all <= POINT_LIMIT {
        return finite;
    }
    let kept = (finite.len() * POINT_LIMIT / all).max(1).min(finite.len());
    (0..kept).map(|index| finite[index * finite.len() / kept]).collect()
}

fn thinning_note(mark: &Mark, all: usize) -> Option<String> {
    let Mark::Points { points, .. } = mark else { return None };
    let kept = kept_points(points, all).len();
    let [kept, given] = [kept, points.len()].map(|count| decimal(count as f64, 0));
    (all > POINT_LIMIT).then(|| format!(" <span class=\"note\">({kept} of {given} points drawn)</span>"))
}

/// All x (`axis` 0) or all y (1) that the range of an axis is to hold.
fn values(marks: &[Mark], axis: usize) -> Vec<f64> {
    let mut values = Vec::new();
    for mark in marks {
        match mark {
            Mark::Line { points, .. } | Mark::Points { points, .. } => {
                values.extend(points.iter().filter(|point| is_finite(*point)).map(|point| point[axis]));
            }
            Mark::Band { points } => {
                for [x, low, high] in points.iter().filter(|point| is_finite(*point)) {
                    values.extend(if axis == 0 { [*x, *x] } else { [*low, *high] });
                }
            }
            Mark::Bars { bars, .. } => {
                // A bar stands on zero, which the axis therefore shows. A logarithmic axis cannot, but half of the lowest bar
                // leaves that bar some height.
                for [from, to, height] in bars.iter().filter(|bar| is_finite(*bar)) {
                    values.extend(if axis == 0 { [*from, *to, *to] } else { [0.0, *height / 2.0, *height] });
                }
            }
            Mark::Rule { at, vertical, .. } if *vertical == (axis == 0) => values.push(*at),
            Mark::Rule { .. } => {}
        }
    }
    values
}

// ---------------------------------------------------------------- drawing

#[derive(Debug, Clone, Copy)]
struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// Where the frame is and what its edges mean.
struct Drawing {
    x: Ruler,
    y: Ruler,
    frame: Frame,
    /// The whole drawing's, labels included.
    height: f64,
    /// Two rates against each other have equal lengths for equal deviates.
    square: bool,
}

impl Drawing {
    fn of(plot: &Plot) -> Self {
        let x = Ruler::new(&plot.x, values(&plot.marks, 0).into_iter());
        let y = Ruler::new(&plot.y, values(&plot.marks, 1).into_iter());
        let square = plot.x.scale == Scale::Probit && plot.y.scale == Scale::Probit;
        let widest = |ticks: &[Tick]| ticks.iter().map(|tick| text_width(&tick.label)).fold(0.0, f64::max);
        // The labels at the ends of the x axis reach over its ends by half their width.
        let x_ticks = x.ticks();
        let first =
            x_ticks.first().filter(|tick| tick.position < 0.05).map_or(0.0, |tick| text_width(&tick.label) / 2.0);
        let last = x_ticks.last().filter(|tick| tick.position > 0.9).map_or(0.0, |tick| text_width(&tick.label) / 2.0);
        let left = (widest(&y.ticks()) + 9.0).max(first);
        let width = WIDTH - left - last.max(8.0);
        // Above the frame stands the name of the y axis, beneath it labels and the name of the x axis.
        let top = if plot.y.label.is_empty() { 10.0 } else { 28.0 };
        let beneath = if plot.x.label.is_empty() { 24.0 } else { 42.0 };
        let height = if square { width } else { FRAME_HEIGHT };
        Self { x, y, frame: Frame { left, top, width, height }, height: top + height + beneath, square }
    }

    fn x_of(&self, value: f64) -> f64 {
        self.frame.left + self.x.position(value) * self.frame.width
    }

    fn y_of(&self, value: f64) -> f64 {
        self.frame.top + (1.0 - self.y.position(value)) * self.frame.height
    }

    fn axes(&self, plot: &Plot, svg: &mut String) {
        let Frame { left, top, width, height } = self.frame;
        let (right, bottom) = (left + width, top + height);
        let mut grid = String::new();
        let mut labels = String::new();

        // Values that count but whose label has no room keep their line across the frame, others only a stroke on the axis.
        let x_ticks = self.x.ticks();
        let places: Vec<f64> = x_ticks.iter().map(|tick| left + tick.position * width).collect();
        let extents: Vec<f64> = x_ticks.iter().map(|tick| text_width(&tick.label) + 8.0).collect();
        let labelled = fitting(&x_ticks, &places, &extents);
        for (index, (tick, place)) in x_ticks.iter().zip(places).enumerate() {
            let [x, y] = [place, bottom + 16.0].map(shortest);
            let from = if labelled.contains(&index) || tick.rank == 0 { top } else { bottom };
            grid.push_str(&format!("M{x} {}V{}", shortest(from), shortest(bottom + 3.0)));
            if labelled.contains(&index) {
                let label = escape(&tick.label);
                labels.push_str(&format!(
                    "<text class=\"tick\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>"
                ));
            }
        }
        let y_ticks = self.y.ticks();
        let places: Vec<f64> = y_ticks.iter().map(|tick| top + (1.0 - tick.position) * height).collect();
        let labelled = fitting(&y_ticks, &places, &vec![LINE_HEIGHT; y_ticks.len()]);
        for (index, (tick, place)) in y_ticks.iter().zip(places).enumerate() {
            let [x, y] = [left - 6.0, place + 4.0].map(shortest);
            let to = if labelled.contains(&index) || tick.rank == 0 { right } else { left };
            grid.push_str(&format!("M{} {}H{}", shortest(left - 3.0), shortest(place), shortest(to)));
            if labelled.contains(&index) {
                let label = escape(&tick.label);
                labels
                    .push_str(&format!("<text class=\"tick\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{label}</text>"));
            }
        }
        let axes = [[left, top], [left, bottom], [right, bottom]];
        svg.push_str(&format!(
            "<path class=\"grid\" d=\"{grid}\"/><path class=\"axes\" d=\"{}\"/>{labels}",
            path(&axes)
        ));
        if !plot.y.label.is_empty() {
            let name = escape(&cut(&plot.y.label, AXIS_NAME_LENGTH));
            svg.push_str(&format!("<text class=\"axis\" x=\"0\" y=\"13\">{name}</text>"));
        }
        if !plot.x.label.is_empty() {
            let [x, y] = [right, bottom + 36.0].map(shortest);
            let name = escape(&cut(&plot.x.label, AXIS_NAME_LENGTH));
            svg.push_str(&format!("<text class=\"axis\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{name}</text>"));
        }
    }

    fn line(&self, points: &[[f64; 2]], dashed: bool, series: Series, many: bool, svg: &mut String) {
        let runs: Vec<Vec<[f64; 2]>> = points
            .split(|point| !is_finite(point))
            .filter(|run| !run.is_empty())
            .map(|run| simplified(run.iter().map(|[x, y]| [self.x_of(*x), self.y_of(*y)])))
            .collect();
        if runs.is_empty() {
            return;
        }
        let class = series.class();
        let dash = if dashed { " dashed" } else { "" };
        // A run of one point is a dot: round caps give it a body.
        let data: String = runs.iter().map(|run| if run.len() == 1 { path(run) + "h0" } else { path(run) }).collect();
        svg.push_str(&format!("<path class=\"line {class}{dash}\" d=\"{data}\"/>"));

        let markers: String = if series.0.is_none() {
            String::new()
        } else if points.len() <= MARKED_POINTS {
            runs.iter().flatten().filter(|point| self.holds(**point)).map(|point| series.marker(*point)).collect()
        } else if many {
            let longest = runs.iter().max_by_key(|run| run.len()).map_or(&[][..], Vec::as_slice);
            self.places_along(longest, series).into_iter().map(|point| series.marker(point)).collect()
        } else {
            String::new()
        };
        if !markers.is_empty() {
            svg.push_str(&format!("<path class=\"marker {class}\" d=\"{markers}\"/>"));
        }
    }

    /// A few places spread over the part of a line that is inside the frame, staggered so that the markers of lines close to
    /// each other do not hide each other.
    fn places_along(&self, line: &[[f64; 2]], series: Series) -> Vec<[f64; 2]> {
        let lengths: Vec<f64> = line
            .windows(2)
            .map(|pair| {
                let middle = [(pair[0][0] + pair[1][0]) / 2.0, (pair[0][1] + pair[1][1]) / 2.0];
                let length = (pair[1][0] - pair[0][0]).hypot(pair[1][1] - pair[0][1]);
                if self.holds(middle) { length } else { 0.0 }
            })
            .collect();
        let whole: f64 = lengths.iter().sum();
        let stagger = [0.5, 0.2, 0.8, 0.35, 0.65][series.0.unwrap_or(0) % 5];
        let mut places = Vec::new();
        let mut passed = 0.0;
        for (pair, length) in line.windows(2).zip(lengths) {
            while places.len() < MARKERS_PER_LINE && length > 0.0 {
                let wanted = (places.len() as f64 + stagger) / MARKERS_PER_LINE as f64 * whole - passed;
                if wanted > length {
                    break;
                }
                let part = wanted / length;
                places.push([0, 1].map(|axis| pair[0][axis] + part * (pair[1][axis] - pair[0][axis])));
            }
            passed += length;
        }
        places.retain(|place| self.holds(*place));
        places
    }

    fn band(&self, points: &[[f64; 3]], series: Series, svg: &mut String) {
        let data: String = points
            .split(|point| !is_finite(point))
            .filter(|run| run.len() > 1)
            .map(|run| {
                let mut outline = simplified(run.iter().map(|[x, _, high]| [self.x_of(*x), self.y_of(*high)]));
                outline.extend(simplified(run.iter().rev().map(|[x, low, _]| [self.x_of(*x), self.y_of(*low)])));
                path(&outline) + "z"
            })
            .collect();
        if !data.is_empty() {
            svg.push_str(&format!("<path class=\"band {}\" d=\"{data}\"/>", series.class()));
        }
    }

    /// Bars that touch become one outline: seams between translucent areas would show.
    fn bars(&self, bars: &[[f64; 3]], series: Series, svg: &mut String) {
        let bottom = match self.y.scale() {
            Scale::Linear => self.y_of(0.0),
            Scale::Log10 | Scale::Probit => self.frame.top + self.frame.height,
        };
        let mut outlines: Vec<Vec<[f64; 2]>> = Vec::new();
        for [from, to, height] in bars.iter().filter(|bar| is_finite(*bar)) {
            let (left, right) = (self.x_of(from.min(*to)), self.x_of(from.max(*to)));
            let top = if *height == 0.0 { bottom } else { self.y_of(*height) };
            match outlines.last_mut() {
                Some(outline) if outline.last().is_some_and(|end| (end[0] - left).abs() < 0.05) => {
                    outline.pop();
                    outline.extend([[left, top], [right, top], [right, bottom]]);
                }
                _ => outlines.push(vec![[left, bottom], [left, top], [right, top], [right, bottom]]),
            }
        }
        if !outlines.is_empty() {
            let data: String = outlines.iter().map(|outline| path(outline) + "z").collect();
            svg.push_str(&format!("<path class=\"bars {}\" d=\"{data}\"/>", series.class()));
        }
    }

    fn few_points(&self, points: &[[f64; 2]], series: Series, svg: &mut String) {
        let data: String = self.places(points).into_iter().map(|place| series.marker(place)).collect();
        if !data.is_empty() {
            svg.push_str(&format!("<path class=\"point {}\" d=\"{data}\"/>", series.class()));
        }
    }

    fn cloud(&self, points: &[[f64; 2]], series: Series, svg: &mut String) {
        let class = series.class();
        let places = self.places(points);
        let (layers, dense) = if points.len() > DENSE_POINTS { (CLOUD_LAYERS, " dense") } else { (1, "") };
        for layer in 0..layers {
            let mut drawn = HashSet::new();
            let data: String = places
                .iter()
                .skip(layer)
                .step_by(layers)
                .map(|[x, y]| format!("M{} {}h0", shortest(*x), shortest(*y)))
                .filter(|dot| drawn.insert(dot.clone()))
                .collect();
            if !data.is_empty() {
                svg.push_str(&format!("<path class=\"cloud {class}{dense}\" d=\"{data}\"/>"));
            }
        }
    }

    /// Where the finite ones of `points` that the axes show are drawn.
    fn places(&self, points: &[[f64; 2]]) -> Vec<[f64; 2]> {
        points
            .iter()
            .filter(|point| is_finite(*point))
            .map(|[x, y]| [self.x_of(kept_on_frame(&self.x, *x)), self.y_of(kept_on_frame(&self.y, *y))])
            .filter(|place| self.holds(*place))
            .collect()
    }

    /// Names of vertical rules stand in rows at the top of the frame, those of horizontal ones on their line.
    fn rules(&self, marks: &[Mark], svg: &mut String) {
        let Frame { left, top, width, height } = self.frame;
        let (right, bottom) = (left + width, top + height);
        let mut labels = String::new();
        let mut taken: Vec<[f64; 3]> = Vec::new();
        for mark in marks {
            let Mark::Rule { name, at, vertical } = mark else { continue };
            if !at.is_finite() {
                continue;
            }
            let place = if *vertical { [self.x_of(*at), top] } else { [left, self.y_of(*at)] };
            if !self.holds(place) {
                continue;
            }
            let name = cut(name, RULE_NAME_LENGTH);
            let extent = text_width(&name);
            let end = if *vertical { [place[0], bottom] } else { [right, place[1]] };
            svg.push_str(&format!("<path class=\"rule\" d=\"{}\"/>", path(&[place, end])));
            // Beside its line: to the right of a vertical one if there is room, above a horizontal one at its right end.
            let (x, anchor) = if !*vertical {
                (right - 4.0, "end")
            } else if place[0] + 5.0 + extent <= right {
                (place[0] + 5.0, "start")
            } else {
                (place[0] - 5.0, "end")
            };
            let start = if anchor == "end" { x - extent } else { x };
            let mut y = if *vertical || place[1] < top + LINE_HEIGHT { place[1] + 13.0 } else { place[1] - 5.0 };
            while taken.iter().any(|[from, to, line]| start < *to && start + extent > *from && (y - line).abs() < 14.0)
            {
                y += 15.0;
            }
            // More names than rows: the legend has them all only if they are long, but nothing is drawn over the axis.
            if name.is_empty() || y > bottom - 4.0 {
                continue;
            }
            taken.push([start - 4.0, start + extent + 4.0, y]);
            let [x, y] = [x, y].map(shortest);
            labels.push_str(&format!(
                "<text class=\"rule-name\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
                escape(&name)
            ));
        }
        svg.push_str(&labels);
    }

    /// Whether a place is inside of the frame or on it.
    fn holds(&self, [x, y]: [f64; 2]) -> bool {
        let Frame { left, top, width, height } = self.frame;
        (left - 0.1..=left + width + 0.1).contains(&x) && (top - 0.1..=top + height + 0.1).contains(&y)
    }
}

/// A rate of 0 or 1 as the nearest one that the axis shows, so that a measured point is not lost; others as they are. Where the
/// axis ends at one half, 1 is too far away to be shown as its end.
fn kept_on_frame(ruler: &Ruler, value: f64) -> f64 {
    match ruler.scale() {
        Scale::Probit if value <= 0.0 => ruler.low(),
        Scale::Probit if value >= 1.0 && ruler.high() > 0.5 => ruler.high(),
        Scale::Probit | Scale::Linear | Scale::Log10 => value,
    }
}

/// The labels that can stand without touching, most important first: indices into `ticks`. `places` are the middles of the
/// labels and `extents` their sizes along the axis.
fn fitting(ticks: &[Tick], places: &[f64], extents: &[f64]) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for rank in 0..=2 {
        for index in (0..ticks.len()).filter(|index| ticks[*index].rank == rank) {
            let free =
                |other: &usize| (places[index] - places[*other]).abs() >= (extents[index] + extents[*other]) / 2.0;
            if kept.iter().all(free) {
                kept.push(index);
            }
        }
    }
    kept
}

/// A line without the vertices that would not be seen, never without its ends.
fn simplified(points: impl ExactSizeIterator<Item = [f64; 2]>) -> Vec<[f64; 2]> {
    let stride = points.len().div_ceil(20 * VERTEX_LIMIT).max(1);
    let last = points.len() - 1;
    let mut kept: Vec<[f64; 2]> = Vec::new();
    for (index, point) in points.enumerate() {
        let far = kept.last().is_none_or(|end| (point[0] - end[0]).hypot(point[1] - end[1]) >= 0.4);
        if index == last || (index % stride == 0 && far) {
            kept.push(point);
        }
    }
    if kept.len() > VERTEX_LIMIT {
        let stride = kept.len().div_ceil(VERTEX_LIMIT);
        let end = kept.last().copied();
        kept = kept.into_iter().step_by(stride).chain(end).collect();
    }
    kept
}

/// Points joined by straight lines, as path data. Horizontal and vertical pieces, of which curves of steps consist, are short.
fn path(points: &[[f64; 2]]) -> String {
    let mut data = String::new();
    let mut before: Option<[String; 2]> = None;
    for point in points {
        let [x, y] = point.map(shortest);
        match &before {
            None => data.push_str(&format!("M{x} {y}")),
            Some(before) if before[0] == x && before[1] == y => {}
            Some(before) if before[0] == x => data.push_str(&format!("V{y}")),
            Some(before) if before[1] == y => data.push_str(&format!("H{x}")),
            Some(_) => data.push_str(&format!("L{x} {y}")),
        }
        before = Some([x, y]);
    }
    data
}

/// A coordinate in tenths, with as few characters as they need.
fn shortest(coordinate: f64) -> String {
    let tenths = (coordinate * 10.0).round() as i64;
    let sign = if tenths < 0 { "-" } else { "" };
    match (tenths.abs() / 10, tenths.abs() % 10) {
        (whole, 0) => format!("{sign}{whole}"),
        (whole, tenth) => format!("{sign}{whole}.{tenth}"),
    }
}

/// An upper estimate for a line of text, in user units: characters of a usual sans serif in the largest type that `style.css` uses
/// in drawings, 13 units.
fn text_width(text: &str) -> f64 {
    text.chars()
        .map(|character| match character {
            '.' | ',' | ' ' | '\u{a0}' | '\u{202f}' | 'i' | 'l' => 3.8,
            '%' | 'm' | 'w' | 'M' | 'W' | '…' => 11.5,
            '\u{2e80}'.. => 13.0,
            _ => 7.5,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::super::Axis;
    use super::*;

    fn plot(x: Scale, y: Scale, marks: Vec<Mark>) -> Plot {
        let (title, description) = ("T".into(), "D".into());
        Plot { title, description, x: Axis::new("x", x), y: Axis::new("y", y), marks }
    }

    fn line(name: &str, points: &[[f64; 2]]) -> Mark {
        Mark::Line { name: name.into(), points: points.to_vec(), dashed: false }
    }

    fn points(name: &str, points: &[[f64; 2]]) -> Mark {
        Mark::Points { name: name.into(), points: points.to_vec() }
    }

    /// The path data of all elements with this class.
    fn data_of<'a>(svg: &'a str, class: &str) -> Vec<&'a str> {
        let opening = format!("<path class=\"{class}\" d=\"");
        svg.split(&opening).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn nothing_odd_breaks_a_plot() {
        let odd: [&[[f64; 2]]; 9] = [
            &[],
            &[[0.5, 0.5]],
            &[[0.0, 1.0]],
            &[[f64::NAN, 0.1], [0.1, f64::INFINITY], [f64::NEG_INFINITY, 1.0]],
            &[[0.2, 0.2], [0.2, 0.2], [0.2, 0.2]],
            &[[1e-300, 1e300], [1.0, 1.0]],
            &[[f64::MIN, f64::MAX], [f64::MAX, f64::MIN]],
            &[[-5.0, -5.0], [0.0, 0.0]],
            &[[0.1, 0.2], [f64::NAN, 0.2], [0.3, 0.4]],
        ];
        let scales = [Scale::Linear, Scale::Log10, Scale::Probit];
        for (x, y) in scales.into_iter().flat_map(|x| scales.map(|y| (x, y))) {
            for odd in odd {
                let triples: Vec<[f64; 3]> = odd.iter().map(|[x, y]| [*x, *y, *x]).collect();
                let marks = vec![
                    line("l", odd),
                    points("p", odd),
                    Mark::Band { points: triples.clone() },
                    Mark::Bars { name: "b".into(), bars: triples },
                    Mark::Rule { name: "r".into(), at: odd.first().map_or(f64::NAN, |point| point[0]), vertical: true },
                    Mark::Rule { name: "r".into(), at: odd.last().map_or(f64::NAN, |point| point[1]), vertical: false },
                ];
                let svg = render(&plot(x, y, marks), "p");
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{x:?} {y:?} {odd:?} {svg}");
                let digits = svg.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
                assert!(digits <= Some(6), "{x:?} {y:?} {odd:?} {svg}");
                let empty = !odd.iter().any(|point| is_finite(point));
                assert_eq!(svg.contains(">no data</text>"), empty, "{x:?} {y:?} {odd:?}");
            }
        }
    }

    #[test]
    fn a_plot_has_words_for_who_cannot_see_it() {
        let svg = render(&plot(Scale::Linear, Scale::Linear, vec![]), "plot-7");
        assert!(svg.contains("role=\"img\" aria-label=\"T\" aria-describedby=\"plot-7-description\""));
        assert!(svg.contains("<desc id=\"plot-7-description\">D</desc>"));
    }

    #[test]
    fn a_line_has_a_gap_where_a_value_is_missing() {
        let marks = vec![line("", &[[0.0, 0.0], [1.0, 1.0], [f64::NAN, 2.0], [3.0, 3.0], [4.0, 4.0]])];
        let svg = render(&plot(Scale::Linear, Scale::Linear, marks), "p");
        assert_eq!(data_of(&svg, "line unnamed")[0].matches('M').count(), 2);
    }

    #[test]
    fn twenty_thousand_points_stay_small_and_more_are_thinned() {
        let spread = |n: usize| -> Vec<[f64; 2]> {
            (0..n).map(|i| [(i as f64 * 0.618_033_988).fract(), (i as f64 * 0.414_213_562).fract()]).collect()
        };
        let svg = render(&plot(Scale::Linear, Scale::Linear, vec![points("p", &spread(20_000))]), "p");
        assert!(svg.len() < 400_000 && !svg.contains("points drawn"), "{}", svg.len());
        let marks = vec![points("p", &spread(90_000)), points("q", &spread(10_000))];
        let svg = render(&plot(Scale::Linear, Scale::Linear, marks), "p");
        assert!(svg.len() < 400_000, "{}", svg.len());
        assert!(svg.contains("(18\u{202f}000 of 90\u{202f}000 points drawn)"));
        assert!(svg.contains("(2000 of 10\u{202f}000 points drawn)"));
        let walk: Vec<[f64; 2]> = spread(500_000).iter().enumerate().map(|(i, p)| [i as f64, p[1]]).collect();
        let svg = render(&plot(Scale::Linear, Scale::Linear, vec![line("w", &walk)]), "p");
        assert!(svg.len() < 100_000, "{}", svg.len());
    }

    #[test]
    fn marks_of_one_name_are_one_series() {
        let marks = [line("a", &[]), points("b", &[]), points("a", &[]), line("", &[])];
        let legend = Legend::of(&marks);
        assert_eq!(legend.series, [Some(0), Some(1), Some(0), None].map(Series));
        assert_eq!(legend.list.matches("<li>").count(), 2);
    }

    #[test]
    fn a_band_takes_the_colour_of_its_line() {
        let band = || Mark::Band { points: vec![] };
        let after = Legend::of(&[line("a", &[]), band(), line("b", &[]), band()]);
        assert_eq!(after.series, [0, 0, 1, 1].map(|number| Series(Some(number))));
        let before = Legend::of(&[band(), line("a", &[]), band(), line("b", &[])]);
        assert_eq!(before.series, [0, 0, 1, 1].map(|number| Series(Some(number))));
        assert_eq!(Legend::of(&[band()]).series, [Series(None)]);
    }

    #[test]
    fn a_measured_rate_of_zero_is_drawn_on_the_frame() {
        let marks = vec![points("p", &[[0.0, 0.1]]), line("l", &[[0.001, 0.2], [0.4, 0.002]])];
        let drawing = Drawing::of(&plot(Scale::Probit, Scale::Probit, marks));
        assert!(drawing.square);
        let place = drawing.places(&[[0.0, 0.1], [1.0, 0.1], [f64::NAN, 0.1]]);
        assert_eq!(place.len(), 1, "1 is beyond an axis that ends at 40 %");
        assert!((place[0][0] - drawing.frame.left).abs() < 1e-6);
    }

    #[test]
    fn touching_bars_are_one_outline() {
        let bars = vec![[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [4.0, 5.0, 1.0]];
        let svg = render(&plot(Scale::Linear, Scale::Linear, vec![Mark::Bars { name: String::new(), bars }]), "p");
        assert_eq!(data_of(&svg, "bars unnamed")[0].matches('M').count(), 2);
    }

    #[test]
    fn rule_names_do_not_cover_each_other() {
        let rule = |at| Mark::Rule { name: "threshold".into(), at, vertical: true };
        let marks = vec![line("", &[[0.0, 0.0], [1.0, 1.0]]), rule(0.5), rule(0.51), rule(0.99), rule(7.0)];
        let mut plot = plot(Scale::Linear, Scale::Linear, marks);
        plot.x.range = Some([0.0, 1.0]);
        let svg = render(&plot, "p");
        let places: HashSet<&str> =
            svg.split("class=\"rule-name\" ").skip(1).filter_map(|s| s.split('>').next()).collect();
        assert_eq!(places.len(), 3, "{places:?}");
        assert!(svg.contains("text-anchor=\"end\">threshold"));
    }

    #[test]
    fn long_names_are_cut_in_the_frame_and_told_in_the_legend() {
        let name = "名".repeat(60);
        let marks = vec![Mark::Rule { name: name.clone(), at: 1.0, vertical: true }];
        let svg = render(&plot(Scale::Linear, Scale::Linear, marks), "p");
        assert!(svg.contains(&format!("{}…</text>", "名".repeat(27))) && svg.contains(&format!("{name}</li>")));
    }

    #[test]
    fn coordinates_are_short() {
        let cases = [(0.0, "0"), (-0.04, "0"), (0.06, "0.1"), (-0.3, "-0.3"), (12.0, "12"), (99.96, "100")];
        assert!(cases.iter().all(|(value, text)| shortest(*value) == *text));
        assert_eq!(path(&[[0.0, 0.0], [0.0, 5.0], [3.0, 5.0], [3.0, 5.01], [4.0, 6.0]]), "M0 0V5H3L4 6");
    }
}
