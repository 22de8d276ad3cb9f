//! From values to places along an axis, and which values are worth a label.
//!
//! Used by [`super::plot`] alone. A [`Ruler`] knows nothing of pixels: it maps onto 0..1, and the plot decides which labels fit.

use super::{Axis, Scale};

/// Rates closer than this to 0 or 1 are beyond every probit axis: a million independent trials without an error are more than
/// any evaluation on a customer's own data has.
const PROBIT_LIMIT: f64 = 1e-6;

/// Values beyond this are cut, so that the difference of two of them is still a number.
const LARGEST: f64 = 1e300;

/// The beginning of a logarithmic axis lies above this, well clear of [`SMALLEST_SPAN`].
const SMALLEST: f64 = 1e-250;

/// Spans below this are no spans: powers of ten near the smallest number have lost their digits.
const SMALLEST_SPAN: f64 = 1e-290;

/// How far outside of the frame, in lengths of the axis, a value without a place on the scale is put: far enough to leave the
/// frame, near enough that a line towards it still looks as if it went on as before.
const OFF_SCALE: f64 = 2.0;

/// Places further out than this many lengths of the axis are moved in, so that a file holds no coordinate of 300 digits.
const FARTHEST: f64 = 1_000.0;

/// As wide as a plus sign; the hyphen is for exponents, written as in the calibration files.
const MINUS: &str = "\u{2212}";

/// Steps of a linear axis aim at this many; between three and seven labels come of it.
const STEPS: f64 = 6.0;

/// One labelled value of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// 0 at the beginning of the axis, 1 at its end.
    pub position: f64,
    pub label: String,
    /// 0 is the most important: where labels crowd, higher ranks give way first.
    pub rank: u8,
}

/// An axis with its range settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ruler {
    scale: Scale,
    percent: bool,
    low: f64,
    high: f64,
}

impl Ruler {
    /// The range of the axis if it has one that its scale can show, or else one around `values`, or else (no value that the
    /// scale can show) a usual one. Values that are not finite do not count.
    pub fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let [low, high] = axis.range.and_then(|range| given_range(axis.scale, range)).unwrap_or_else(|| {
            let extent =
                values.filter(|value| shows(axis.scale, *value)).fold(None, |extent: Option<[f64; 2]>, value| {
                    match extent {
                        None => Some([value, value]),
                        Some([low, high]) => Some([value.min(low), value.max(high)]),
                    }
                });
            match (extent, axis.scale) {
                (Some(extent), Scale::Linear) => linear_range(extent, axis.percent),
                (Some(extent), Scale::Log10) => log_range(extent),
                (Some(extent), Scale::Probit) => probit_range(extent),
                (None, Scale::Linear) => [0.0, 1.0],
                (None, Scale::Log10) => [1e-3, 1.0],
                (None, Scale::Probit) => [1e-3, 0.5],
            }
        });
        Self { scale: axis.scale, percent: axis.percent, low, high }
    }

    pub fn scale(&self) -> Scale {
        self.scale
    }

    pub fn low(&self) -> f64 {
        self.low
    }

    pub fn high(&self) -> f64 {
        self.high
    }

    /// Where `value`, which must be finite, lies: 0 at the beginning of the axis, 1 at its end. Always finite; values without
    /// a place on the scale are well outside.
    pub fn position(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Log10 if value <= 0.0 => -OFF_SCALE,
            Scale::Probit if value <= 0.0 => -OFF_SCALE,
            Scale::Probit if value >= 1.0 => 1.0 + OFF_SCALE,
            scale => {
                let [low, high, value] = [self.low, self.high, value].map(|value| transform(scale, value));
                ((value - low) / (high - low)).clamp(-FARTHEST, FARTHEST)
            }
        }
    }

    /// Values inside the range that are worth a label, ascending.
    pub fn ticks(&self) -> Vec<Tick> {
        let ticks = match self.scale {
            Scale::Linear => self.linear_ticks(),
            // Between 3 and 8, no power of ten and hardly a 5 would be met.
            Scale::Log10 if self.high / self.low < 5.0 => self.linear_ticks(),
            Scale::Log10 => self.log_ticks(),
            Scale::Probit => self.probit_ticks(),
        };
        ticks
            .into_iter()
            .map(|(value, label, rank)| Tick { position: self.position(value), label, rank })
            .filter(|tick| (-1e-6..=1.0 + 1e-6).contains(&tick.position))
            .collect()
    }

    fn linear_ticks(&self) -> Vec<(f64, String, u8)> {
        let step = round_step(self.high - self.low);
        let (first, last) = ((self.low / step - 1e-6).ceil(), (self.high / step + 1e-6).floor());
        // Where the range is far narrower than its distance from zero, numbers have no digits left for the steps.
        let count = (last - first).clamp(0.0, 2.0 * STEPS) as usize;
        let factor = if self.percent { 100.0 } else { 1.0 };
        let largest = self.low.abs().max(self.high.abs()) * factor;
        (0..=count)
            .map(|index| {
                let value = (first + index as f64) * step;
                (value, self.with_unit(number(value * factor, step * factor, largest)), 0)
            })
            .collect()
    }

    fn log_ticks(&self) -> Vec<(f64, String, u8)> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let stride = ((last - first) / 8 + 1) as usize;
        let mut ticks = Vec::new();
        for exponent in (first..=last).step_by(stride) {
            for (digit, rank) in [(1, 0), (2, 2), (5, 1)] {
                if rank == 0 || stride == 1 {
                    let value = f64::from(digit) * 10f64.powi(exponent);
                    ticks.push((value, self.with_unit(self.of_one_digit(value, digit, exponent)), rank));
                }
            }
        }
        ticks
    }

    fn probit_ticks(&self) -> Vec<(f64, String, u8)> {
        probit_values()
            .into_iter()
            .map(|(rate, decimals, rank)| {
                let label = if self.percent {
                    decimal(rate * 100.0, decimals.saturating_sub(2))
                } else if rate < 1e-3 {
                    format!("{rate:.0e}")
                } else {
                    decimal(rate, decimals)
                };
                (rate, self.with_unit(label), rank)
            })
            .collect()
    }

    /// `digit` times ten to the power of `exponent`.
    fn of_one_digit(&self, value: f64, digit: i32, exponent: i32) -> String {
        let (value, exponent) = if self.percent { (value * 100.0, exponent + 2) } else { (value, exponent) };
        // Four decimals are easily miscounted, but nobody reads "1e-4 %".
        let smallest = if self.percent { -4 } else { -3 };
        if (smallest..6).contains(&exponent) {
            decimal(value, usize::try_from(-exponent).unwrap_or(0))
        } else {
            format!("{digit}e{exponent}")
        }
    }

    fn with_unit(&self, label: String) -> String {
        if self.percent { label + "\u{a0}%" } else { label }
    }
}

/// Whether `value` has a place on the scale.
fn shows(scale: Scale, value: f64) -> bool {
    match scale {
        Scale::Linear => value.is_finite(),
        Scale::Log10 => value.is_finite() && value > 0.0,
        Scale::Probit => value > 0.0 && value < 1.0,
    }
}

fn transform(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value.clamp(-LARGEST, LARGEST),
        Scale::Log10 => value.log10(),
        Scale::Probit => probit(value),
    }
}

/// The part of a range that was asked for which the scale can show, if there is any.
fn given_range(scale: Scale, [low, high]: [f64; 2]) -> Option<[f64; 2]> {
    let (least, most) = match scale {
        Scale::Linear => (-LARGEST, LARGEST),
        Scale::Log10 => (SMALLEST, LARGEST),
        Scale::Probit => (PROBIT_LIMIT, 1.0 - PROBIT_LIMIT),
    };
    // An infinite end is no request for 1e300, while 0 and 1 on a probit axis mean "as far as it goes".
    let usable = low.is_finite() && high.is_finite() && (scale != Scale::Log10 || low > 0.0);
    let (low, high) = (low.max(least), high.min(most));
    (usable && high - low > (low.abs().max(high.abs()) * 1e-12).max(SMALLEST_SPAN)).then_some([low, high])
}

/// The range that holds both values and ends on a whole or a half step.
fn linear_range([low, high]: [f64; 2], percent: bool) -> [f64; 2] {
    let (least, most) = (low, high);
    let (mut low, mut high) = (low.clamp(-LARGEST, LARGEST), high.clamp(-LARGEST, LARGEST));
    let size = low.abs().max(high.abs());
    if high - low <= (size * 1e-9).max(SMALLEST_SPAN) {
        let margin = if size > SMALLEST_SPAN { size * 0.1 } else { 0.5 };
        (low, high) = (low - margin, high + margin);
    }
    let half_step = round_step(high - low) / 2.0;
    (low, high) = ((low / half_step + 1e-9).floor() * half_step, (high / half_step - 1e-9).ceil() * half_step);
    // No rate is above 100 %, so the axis of rates has no room there.
    if percent && least >= 0.0 && most <= 1.0 { [low.max(0.0), high.min(1.0)] } else { [low, high] }
}

/// The range that holds both values and ends on 1, 2 or 5 times a power of ten.
fn log_range([low, high]: [f64; 2]) -> [f64; 2] {
    let (low, high) = (low.clamp(SMALLEST, LARGEST), high.clamp(SMALLEST, LARGEST));
    let margin = if high / low < 1.0 + 1e-9 { 1.5 } else { 1.0 };
    let (low, high) = (low / margin * (1.0 + 1e-9), high * margin * (1.0 - 1e-9));
    let (low_power, high_power) = (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().floor()));
    let low_digit = [5.0, 2.0].into_iter().find(|digit| digit * low_power <= low).unwrap_or(1.0);
    let high_digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * high_power >= high).unwrap_or(10.0);
    [low_digit * low_power, high_digit * high_power]
}

/// The range that holds both rates and ends on labelled ones, cut at 50 % where any of the data is below.
fn probit_range([low, high]: [f64; 2]) -> [f64; 2] {
    let values: Vec<f64> = probit_values().into_iter().map(|(rate, ..)| rate).collect();
    let high = if low < 0.5 { high.min(0.5) } else { high };
    let below = values.iter().rposition(|rate| *rate <= low * (1.0 + 1e-9)).unwrap_or(0);
    let above = values.iter().position(|rate| *rate >= high * (1.0 - 1e-9)).unwrap_or(values.len() - 1);
    if below < above {
        [values[below], values[above]]
    } else {
        [values[below.saturating_sub(1)], values[(above + 1).min(values.len() - 1)]]
    }
}

/// The rates that a probit axis labels, ascending, with the decimals each is written with and its rank.
fn probit_values() -> Vec<(f64, usize, u8)> {
    let mut lower = Vec::new();
    for exponent in 2..=6 {
        let power = 10f64.powi(exponent);
        for (digit, rank) in [(5.0, 1), (2.0, 2), (1.0, 0)] {
            lower.push((digit / power, exponent as usize, rank));
        }
    }
    let near_half = [(0.4, 1, 1), (0.2, 1, 2), (0.1, 1, 0)];
    let lower: Vec<_> = near_half.into_iter().chain(lower).collect();
    let upper = lower.iter().map(|(rate, decimals, rank)| (1.0 - rate, *decimals, *rank));
    lower.iter().rev().copied().chain([(0.5, 1, 2)]).chain(upper).collect()
}

/// 1, 2 or 5 times a power of ten, so that about [`STEPS`] of them make `span`.
fn round_step(span: f64) -> f64 {
    let step = (span / STEPS).max(SMALLEST_SPAN);
    let power = 10f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= step * (1.0 - 1e-9));
    digit.unwrap_or(10.0) * power
}

/// `value` with as many digits as steps of `step` need; `largest` is the size of the largest value on the same axis.
fn number(value: f64, step: f64, largest: f64) -> String {
    let step_exponent = (step.log10() + 1e-9).floor() as i32;
    if value.abs() < step / 2.0 {
        "0".to_owned()
    } else if largest >= 1e6 || step_exponent < -4 {
        let exponent = (value.abs().log10() + 1e-9).floor() as i32;
        let digits = usize::try_from(exponent - step_exponent).unwrap_or(0).min(15);
        let sign = if value < 0.0 { MINUS } else { "" };
        format!("{sign}{:.digits$e}", value.abs())
    } else {
        decimal(value, usize::try_from(-step_exponent).unwrap_or(0))
    }
}

/// `value` in plain digits, thousands set apart from 10 000 on.
pub fn decimal(value: f64, decimals: usize) -> String {
    let plain = format!("{:.decimals$}", value.abs());
    let whole = plain.split('.').next().unwrap_or_default().len();
    let mut text = if value < 0.0 { MINUS.to_owned() } else { String::new() };
    for (index, character) in plain.chars().enumerate() {
        if whole > 4 && index > 0 && index < whole && (whole - index) % 3 == 0 {
            text.push('\u{202f}');
        }
        text.push(character);
    }
    text
}

/// The value below which a standard normal variable falls with probability `rate`, for a rate strictly between 0 and 1.
///
/// Peter J. Acklam's rational approximation (2003), relative error below 1.15e-9: a thousandth of a pixel would be enough.
fn probit(rate: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416, 1.0];
    /// Below this rate, and above its mirror, the approximation of the tails takes over.
    const TAIL: f64 = 0.024_25;

    let polynomial = |factors: &[f64], x: f64| factors.iter().fold(0.0, |sum, factor| sum * x + factor);
    let tail = |rate: f64| {
        let q = (-2.0 * rate.ln()).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    if rate < TAIL {
        tail(rate)
    } else if rate > 1.0 - TAIL {
        -tail(1.0 - rate)
    } else {
        let q = rate - 0.5;
        q * polynomial(&A, q * q) / polynomial(&B, q * q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruler(scale: Scale, values: &[f64]) -> Ruler {
        Ruler::new(&Axis::new("", scale), values.iter().copied())
    }

    fn labels(ruler: &Ruler) -> Vec<String> {
        ruler.ticks().into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn probit_agrees_with_the_tables() {
        // Quantiles of the normal distribution, from tables of 15 digits.
        let known = [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.025, -1.959_963_984_540_054),
            (0.9, 1.281_551_565_544_6),
            (0.01, -2.326_347_874_040_841),
            (0.001, -3.090_232_306_167_813),
            (1e-6, -4.753_424_308_822_899),
            (0.841_344_746_068_543, 1.0),
        ];
        for (rate, deviate) in known {
            assert!((probit(rate) - deviate).abs() < 1e-8, "{rate}: {}", probit(rate));
        }
    }

    #[test]
    fn a_det_axis_has_the_customary_labels() {
        let axis = Axis::new("", Scale::Probit).in_percent().between(1e-3, 0.4);
        let expected = ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "40"].map(|label| format!("{label}\u{a0}%"));
        assert_eq!(labels(&Ruler::new(&axis, std::iter::empty())), expected);
        let axis = Axis::new("", Scale::Probit).between(0.0, 1.0);
        let all = labels(&Ruler::new(&axis, std::iter::empty()));
        assert_eq!(all[..4], ["1e-6", "2e-6", "5e-6", "1e-5"]);
        assert_eq!(all.last().map(String::as_str), Some("0.999999"));
    }

    #[test]
    fn probit_ranges_end_on_labels_and_at_one_half() {
        let of = |values: &[f64]| {
            let ruler = ruler(Scale::Probit, values);
            [ruler.low, ruler.high].map(|rate| (rate * 1e7).round() / 1e7)
        };
        assert_eq!(of(&[0.0, 0.0034, 0.21, 1.0]), [0.002, 0.4]);
        assert_eq!(of(&[0.0034, 0.93]), [0.002, 0.5]);
        assert_eq!(of(&[0.93, 0.97]), [0.9, 0.98]);
        assert_eq!(of(&[1e-9, 0.1]), [1e-6, 0.1]);
        assert_eq!(of(&[0.01]), [0.005, 0.02]);
        assert_eq!(of(&[0.0, 1.0, f64::NAN]), [1e-3, 0.5]);
    }

    #[test]
    fn rates_without_a_place_leave_the_frame() {
        let ruler = ruler(Scale::Probit, &[0.001, 0.4]);
        assert!(ruler.position(0.0) < -1.0 && ruler.position(1.0) > 2.0);
        assert!(ruler.position(0.001).abs() < 1e-9 && (ruler.position(0.4) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn linear_axes_end_on_half_steps() {
        let ages = ruler(Scale::Linear, &[3.0, 83.0]);
        assert_eq!(labels(&ages), ["0", "20", "40", "60", "80"]);
        assert_eq!((ages.low, ages.high), (0.0, 90.0));
        let axis = Axis::new("", Scale::Linear).in_percent();
        assert_eq!(labels(&Ruler::new(&axis, [0.02, 1.0].into_iter())).last().map(String::as_str), Some("100\u{a0}%"));
        assert_eq!(Ruler::new(&axis, [1.0].into_iter()).high, 1.0);
        assert_eq!(labels(&ruler(Scale::Linear, &[-0.3, 0.3])), ["−0.3", "−0.2", "−0.1", "0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(&ruler(Scale::Linear, &[0.0, 60_000.0]))[1], "10\u{202f}000");
    }

    #[test]
    fn logarithmic_axes_label_powers_of_ten_first() {
        let rates = ruler(Scale::Log10, &[0.0, 3e-6, 0.7]);
        assert_eq!((rates.ticks()[0].label.as_str(), rates.ticks()[0].rank), ("2e-6", 2));
        let powers: Vec<String> =
            rates.ticks().into_iter().filter(|tick| tick.rank == 0).map(|tick| tick.label).collect();
        assert_eq!(powers, ["1e-5", "1e-4", "0.001", "0.01", "0.1", "1"]);
        assert!(labels(&ruler(Scale::Log10, &[3.0, 4.5])).len() >= 3);
        assert!(labels(&ruler(Scale::Log10, &[1e-300, 1e300])).len() < 12);
    }

    #[test]
    fn odd_values_give_a_range_and_finite_places() {
        let odd: [&[f64]; 12] = [
            &[],
            &[f64::NAN, f64::INFINITY],
            &[0.0],
            &[-7.5],
            &[1e15, 1e15 + 0.25],
            &[f64::MIN, f64::MAX],
            &[0.0, f64::MIN_POSITIVE],
            &[0.0, 5e-324],
            &[1e-300, 1e300],
            &[1.0, 1.0, 1.0],
            &[1e-12, 2e-12],
            &[-1e9, 1e9],
        ];
        for scale in [Scale::Linear, Scale::Log10, Scale::Probit] {
            for values in odd {
                for percent in [false, true] {
                    let axis = Axis { percent, ..Axis::new("", scale) };
                    let ruler = Ruler::new(&axis, values.iter().copied());
                    assert!(ruler.low.is_finite() && ruler.high.is_finite() && ruler.low < ruler.high, "{ruler:?}");
                    let places = values.iter().filter(|value| value.is_finite()).map(|value| ruler.position(*value));
                    assert!(places.chain([ruler.position(0.5)]).all(f64::is_finite), "{ruler:?}");
                    let ticks = ruler.ticks();
                    assert!((2..60).contains(&ticks.len()), "{ruler:?} {ticks:?}");
                    assert!(ticks.iter().all(|tick| tick.label.chars().count() < 16), "{ticks:?}");
                    assert!(ticks.is_sorted_by(|a, b| a.position <= b.position), "{ticks:?}");
                }
            }
        }
    }

    #[test]
    fn an_unusable_range_is_chosen_from_the_data() {
        let unusable = [[1.0, 1.0], [2.0, 1.0], [f64::NAN, 1.0], [0.0, f64::INFINITY]];
        for range in unusable {
            let axis = Axis { range: Some(range), ..Axis::new("", Scale::Linear) };
            assert_eq!(Ruler::new(&axis, [0.0, 10.0].into_iter()).high, 10.0);
        }
        let axis = Axis::new("", Scale::Log10).between(0.0, 1.0);
        assert_eq!(Ruler::new(&axis, [0.1, 10.0].into_iter()).high, 10.0);
    }
}
