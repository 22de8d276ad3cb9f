//! What the frames of a line recogniser say of the characters of the line.
//!
//! Source: connectionist temporal classification (Graves et al., ICML 2006). Each frame has the probabilities of the blank and of the
//! characters; a text stands for all paths through the frames that become it once equal neighbours are counted once and blanks are
//! dropped. [`of_length`] sums over all texts of one length, which tells how probable that length is and what stands at each of its
//! places: a run of fillers that the single frames cannot keep apart is counted right where it must be. Called by
//! [`MrzLine`](super::MrzLine). Pure.

/// Classes of a frame: the blank, then the characters.
pub const CLASSES: usize = 38;
const SYMBOLS: usize = CLASSES - 1;

/// A line read as one of a given length.
#[derive(Debug, Clone, PartialEq)]
pub struct OfLength {
    /// That the line has this length, 0..=1.
    pub probability: f64,
    /// For each place the probabilities of the characters, which add up to 1.
    pub places: Vec<[f64; SYMBOLS]>,
}

/// Probabilities of one frame as one block, so that loops over it have a known length.
type Frame = [f64; CLASSES];

/// Reads frames `[T, 38]` as a text of `length` characters. `None` if they cannot be one: too few frames, or no probability left.
pub fn of_length(frames: &[f32], length: usize) -> Option<OfLength> {
    let frames: Vec<Frame> = frames
        .chunks_exact(CLASSES)
        .map(|frame| std::array::from_fn(|class| f64::from(frame[class]).max(0.0)))
        .collect();
    let count = frames.len();
    if length == 0 || count < length {
        return None;
    }
    let later = Later::new(&frames, length);
    // Forwards: after the frames so far, `length` characters begun, the last of them still seen (`in_symbol`) or ended (`ended`).
    let mut in_symbol = vec![[0.0f64; SYMBOLS]; length + 1];
    let mut ended = vec![0.0f64; length + 1];
    let mut in_symbol_sum = vec![0.0f64; length + 1];
    let mut log_scale = 0.0;
    let mut mass = vec![[0.0f64; SYMBOLS]; length];
    ended[0] = 1.0;
    for (at, frame) in frames.iter().enumerate() {
        let blank = frame[0];
        let weight = (log_scale + later.log_scale[at] - later.log_total).exp();
        // From the last place on, so that the place before is still that of the frame before.
        for place in (0..=length).rev() {
            let all = in_symbol_sum[place];
            let mut sum = 0.0;
            if place > 0 {
                let free = ended[place - 1] + in_symbol_sum[place - 1];
                let rest = &later.in_symbol[at * length + place - 1];
                let (before, after) = in_symbol.split_at_mut(place);
                let (before, now) = (&before[place - 1], &mut after[0]);
                let place_mass = &mut mass[place - 1];
                for symbol in 0..SYMBOLS {
                    let p = frame[symbol + 1];
                    let begun = p * (free - before[symbol]).max(0.0);
                    now[symbol] = p * now[symbol] + begun;
                    sum += now[symbol];
                    place_mass[symbol] += begun * rest[symbol] * weight;
                }
            }
            ended[place] = blank * (ended[place] + all);
            in_symbol_sum[place] = sum;
        }
        let total: f64 = ended.iter().sum::<f64>() + in_symbol_sum.iter().sum::<f64>();
        if total <= 0.0 || !total.is_finite() {
            return None;
        }
        let by = 1.0 / total;
        ended.iter_mut().chain(&mut in_symbol_sum).chain(in_symbol.as_flattened_mut()).for_each(|value| *value *= by);
        log_scale += total.ln();
    }
    let end = ended[length] + in_symbol_sum[length];
    let places: Option<Vec<_>> = mass
        .iter()
        .map(|mass| {
            let total: f64 = mass.iter().sum();
            (total > 0.0 && total.is_finite()).then(|| mass.map(|mass| mass / total))
        })
        .collect();
    Some(OfLength { probability: (log_scale.exp() * end).min(1.0), places: places? })
}

/// What is left to come after each frame, scaled so that the largest of a frame is 1.
struct Later {
    /// `[T, length]`: in the character of a place.
    in_symbol: Vec<[f64; SYMBOLS]>,
    log_scale: Vec<f64>,
    log_total: f64,
}

impl Later {
    fn new(frames: &[Frame], length: usize) -> Self {
        let count = frames.len();
        let mut all = vec![[0.0f64; SYMBOLS]; count * length];
        let mut log_scales = vec![0.0f64; count];
        let mut ended = vec![0.0f64; length + 1];
        ended[length] = 1.0;
        if let Some(last) = all.last_mut() {
            *last = [1.0; SYMBOLS];
        }
        let mut log_scale = 0.0;
        // Over the characters of a place, what entering it at the next frame leads to.
        let mut entered = vec![0.0f64; length + 1];
        for at in (0..count.saturating_sub(1)).rev() {
            let frame = &frames[at + 1];
            let (now, next) = all[at * length..].split_at_mut(length);
            let next = &next[..length];
            for (place, entered) in entered.iter_mut().take(length).enumerate() {
                *entered = (0..SYMBOLS).map(|symbol| frame[symbol + 1] * next[place][symbol]).sum();
            }
            let mut most: f64 = 0.0;
            for place in (0..=length).rev() {
                let stays = frame[0] * ended[place];
                if place > 0 {
                    let onward = if place < length { entered[place] } else { 0.0 };
                    let following = if place < length { Some(&next[place]) } else { None };
                    let row = &mut now[place - 1];
                    for symbol in 0..SYMBOLS {
                        let p = frame[symbol + 1];
                        let same = following.map_or(0.0, |following| p * following[symbol]);
                        row[symbol] = stays + p * next[place - 1][symbol] + (onward - same).max(0.0);
                        most = most.max(row[symbol]);
                    }
                }
                ended[place] = stays + if place < length { entered[place] } else { 0.0 };
                most = most.max(ended[place]);
            }
            if most > 0.0 {
                let by = 1.0 / most;
                ended.iter_mut().chain(now.as_flattened_mut()).for_each(|value| *value *= by);
                log_scale += most.ln();
            }
            log_scales[at] = log_scale;
        }
        // Over the first frame, from nothing.
        let first = frames.first().map_or(0.0, |frame| {
            let entered: f64 = (0..SYMBOLS).map(|symbol| frame[symbol + 1] * all[0][symbol]).sum();
            frame[0] * ended[0] + entered
        });
        Self { in_symbol: all, log_scale: log_scales, log_total: log_scale + first.ln() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames over few classes; the others are impossible.
    fn frames(rows: &[&[(usize, f32)]]) -> Vec<f32> {
        let mut data = vec![0.0; rows.len() * CLASSES];
        for (frame, row) in data.chunks_exact_mut(CLASSES).zip(rows) {
            for &(class, probability) in *row {
                frame[class] = probability;
            }
        }
        data
    }

    /// Every path through the frames, one by one: probability by text.
    fn by_hand(frames: &[f32]) -> std::collections::BTreeMap<Vec<usize>, f64> {
        let rows: Vec<&[f32]> = frames.chunks_exact(CLASSES).collect();
        let mut paths = vec![(Vec::new(), 0usize, 1.0f64)];
        for row in rows {
            let mut next = Vec::new();
            for (text, last, probability) in paths {
                for (class, &p) in row.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                    let mut text: Vec<usize> = text.clone();
                    if class != 0 && class != last {
                        text.push(class);
                    }
                    next.push((text, class, probability * f64::from(p)));
                }
            }
            paths = next;
        }
        let mut texts = std::collections::BTreeMap::new();
        for (text, _, probability) in paths {
            *texts.entry(text).or_insert(0.0) += probability;
        }
        texts
    }

    #[test]
    fn agrees_with_the_sum_over_all_paths() {
        let frames = frames(&[
            &[(0, 0.5), (1, 0.3), (2, 0.2)],
            &[(0, 0.1), (1, 0.6), (3, 0.3)],
            &[(0, 0.4), (1, 0.6)],
            &[(0, 0.2), (1, 0.3), (2, 0.5)],
            &[(0, 0.7), (2, 0.3)],
            &[(0, 0.3), (37, 0.7)],
        ]);
        let texts = by_hand(&frames);
        for length in 1..=4 {
            let of_this_length: Vec<_> = texts.iter().filter(|(text, _)| text.len() == length).collect();
            let total: f64 = of_this_length.iter().map(|(_, p)| **p).sum();
            let read = of_length(&frames, length).unwrap();
            assert!((read.probability - total).abs() < 1e-12, "{length}: {} for {total}", read.probability);
            for (place, probabilities) in read.places.iter().enumerate() {
                for (symbol, probability) in probabilities.iter().enumerate() {
                    let with = of_this_length.iter().filter(|(text, _)| text[place] == symbol + 1);
                    let expected = with.map(|(_, p)| **p).sum::<f64>() / total;
                    assert!((probability - expected).abs() < 1e-12, "{length} {place} {symbol}");
                }
            }
        }
    }

    #[test]
    fn a_run_is_counted_where_the_length_is_known() {
        // Three fillers of which the frames show two, the second of them long, with a weak gap.
        let frames =
            frames(&[&[(37, 1.0)], &[(0, 1.0)], &[(37, 1.0)], &[(37, 0.9), (0, 0.1)], &[(37, 1.0)], &[(0, 1.0)]]);
        let two = of_length(&frames, 2).unwrap();
        let three = of_length(&frames, 3).unwrap();
        assert!((two.probability - 0.9).abs() < 1e-6 && (three.probability - 0.1).abs() < 1e-6);
        assert!(three.places.iter().all(|place| place[36] > 0.999));
    }

    #[test]
    fn what_cannot_be_is_none() {
        let one = frames(&[&[(1, 1.0)]]);
        assert_eq!(of_length(&one, 0), None);
        assert_eq!(of_length(&one, 2), None);
        assert_eq!(of_length(&[], 1), None);
        assert_eq!(of_length(&[f32::NAN; CLASSES], 1), None);
        assert_eq!(of_length(&frames(&[&[(0, 1.0)]]), 1), None, "nothing but blank");
    }
}
