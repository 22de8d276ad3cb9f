//! What the daemon has counted since its start, kept in the process.
//!
//! A recorder of the crate `metrics` that `vouchd` installs by way of `ops::metrics`, and whose contents `api::get_status` tells, so that an operator sees what goes on without a reader of metrics.
//! Unlike the exporter it never forgets and needs no upkeep: a histogram is a row of counters of fixed number. Left out: what a count means, which its name says (`ops::metrics`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::registry::{Registry, Storage};

/// Upper bound of the first bucket, in seconds: what is faster is of no interest.
pub const FIRST_BOUND: f64 = 1e-4;

/// Buckets for each doubling: two values of one bucket differ by at most 19 %. A median taken from them is as exact.
pub const PER_DOUBLING: f64 = 4.0;

/// The last bucket has no upper bound; that before ends at 52 s, beyond the time that a request may take by default.
pub const BUCKETS: usize = 78;

/// The counters, gauges and histograms of the process. A copy is another handle on the same.
#[derive(Clone)]
pub struct Counts(Arc<Registry<Key, Cells>>);

impl Default for Counts {
    fn default() -> Self {
        Self(Arc::new(Registry::new(Cells)))
    }
}

/// The value of a label; empty if there is none of that name.
pub fn label<'a>(key: &'a Key, name: &str) -> &'a str {
    key.labels().find(|label| label.key() == name).map_or("", |label| label.value())
}

impl Counts {
    /// The counters of a name, sorted by their labels.
    pub fn counters(&self, name: &str) -> Vec<(Key, u64)> {
        let mut found = Vec::new();
        self.0.visit_counters(|key, value| {
            if key.name() == name {
                found.push((key.clone(), value.load(Ordering::Relaxed)));
            }
        });
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found
    }

    /// The gauge of a name without labels; `None` if it was never set.
    pub fn gauge(&self, name: &'static str) -> Option<f64> {
        self.0.get_gauge(&Key::from_static_name(name)).map(|value| f64::from_bits(value.load(Ordering::Relaxed)))
    }

    /// The histograms of a name, sorted by their labels.
    pub fn histograms(&self, name: &str) -> Vec<(Key, Times)> {
        let mut found = Vec::new();
        self.0.visit_histograms(|key, row| {
            if key.name() == name {
                found.push((key.clone(), row.read()));
            }
        });
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found
    }
}

/// What a histogram holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times {
    /// Sum of all values.
    pub total: f64,
    /// Values of each bucket, without the zeros at the end; see [`FIRST_BOUND`].
    pub buckets: Vec<u64>,
}

impl Times {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.get_or_create_counter(key, |counter| Counter::from_arc(Arc::clone(counter)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.get_or_create_gauge(key, |gauge| Gauge::from_arc(Arc::clone(gauge)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.get_or_create_histogram(key, |row| Histogram::from_arc(Arc::clone(row)))
    }
}

/// Where values are kept.
struct Cells;

impl Storage<Key> for Cells {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Row>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, _: &Key) -> Self::Histogram {
        Arc::new(Row { total: AtomicU64::new(0), buckets: std::array::from_fn(|_| AtomicU64::new(0)) })
    }
}

/// A histogram of fixed size.
struct Row {
    /// The bits of an `f64`.
    total: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Row {
    fn read(&self) -> Times {
        let mut buckets: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let used = buckets.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        buckets.truncate(used);
        Times { total: f64::from_bits(self.total.load(Ordering::Relaxed)), buckets }
    }
}

impl HistogramFn for Row {
    fn record(&self, value: f64) {
        self.buckets[bucket_of(value)].fetch_add(1, Ordering::Relaxed);
        let add = |total| Some((f64::from_bits(total) + value).to_bits());
        // It always adds, so there is no failure.
        let _ = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// The first bucket whose upper bound is not below the value.
fn bucket_of(value: f64) -> usize {
    // What is not a number, or below zero, becomes the first.
    let steps = ((value / FIRST_BOUND).log2() * PER_DOUBLING).ceil();
    (steps as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_below_their_bound_and_above_the_one_before() {
        for (value, bucket) in [(0.0, 0), (-1.0, 0), (1e-4, 0), (1.01e-4, 1), (2e-4, 4), (51.0, 76), (1e9, 77)] {
            assert_eq!(bucket_of(value), bucket, "{value}");
        }
        for value in [0.000_15, 0.0123, 0.5, 3.0, 29.0] {
            let bucket = bucket_of(value) as f64;
            let bound = |bucket: f64| FIRST_BOUND * (bucket / PER_DOUBLING).exp2();
            assert!(value <= bound(bucket) && value > bound(bucket - 1.0), "{value}");
        }
        assert_eq!(bucket_of(f64::NAN), 0);
    }

    #[test]
    fn what_is_counted_is_found_by_its_name_and_labels() {
        let counts = Counts::default();
        metrics::with_local_recorder(&counts, || {
            metrics::counter!("a_total", "rpc" => "Verify", "code" => "OK").increment(2);
            metrics::counter!("a_total", "rpc" => "Verify", "code" => "INTERNAL").increment(1);
            metrics::counter!("b_total").increment(7);
            metrics::gauge!("open").increment(3.0);
            metrics::gauge!("open").decrement(1.0);
            metrics::histogram!("a_seconds", "stage" => "decode").record(0.0002);
            metrics::histogram!("a_seconds", "stage" => "decode").record(0.0004);
        });
        let counters: Vec<_> =
            counts.counters("a_total").iter().map(|(key, n)| (label(key, "code").to_owned(), *n)).collect();
        assert_eq!(counters, [("INTERNAL".to_owned(), 1), ("OK".to_owned(), 2)]);
        assert_eq!((counts.gauge("open"), counts.gauge("shut")), (Some(2.0), None));
        let histograms = counts.histograms("a_seconds");
        let (key, times) = &histograms[0];
        assert_eq!((label(key, "stage"), label(key, "check"), times.count()), ("decode", "", 2));
        assert!((times.total - 0.0006).abs() < 1e-9);
        assert_eq!(times.buckets, [0, 0, 0, 0, 1, 0, 0, 0, 1]);
    }
}
