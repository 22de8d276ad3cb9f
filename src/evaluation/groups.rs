//! Differential performance: one error rate group by group (ISO/IEC 19795-10), with the ratio of the worst to the best.
//!
//! Called by the files of figures for each column of the labels that has no meaning of its own, such as sex, region or camera. A ratio is
//! told only for groups that allow one; of the others it is said that they do not.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::{Block, Column, Table};
use super::statistics::{Estimate, Persons, error_rate};
use super::summary::{interval, percent};
use crate::calibration::Rate;
use crate::calibration::intervals::RULE_OF_30;

/// A column's groups measured by one rate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differential {
    /// Name of the column.
    pub column: String,
    /// Such as `fnmr`.
    pub measure: String,
    pub groups: Vec<Group>,
    /// Worst over best value among the groups that are large enough; absent if fewer than two are, or the best has no error.
    pub ratio: Option<f64>,
    /// The least that the ratio can be by the two intervals; absent where they overlap.
    pub ratio_at_least: Option<f64>,
    /// True if the intervals of any two groups have nothing in common.
    pub differs: bool,
    /// The two that lie furthest apart then, the worse first.
    pub apart: Option<[String; 2]>,
    pub warning: Option<String>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    pub group: String,
    #[serde(flatten)]
    pub rate: Rate,
    /// Fewer trials, or fewer errors, than can be told from chance.
    pub too_small: bool,
}

/// Groups with fewer trials than this say nothing at all.
const MIN_TRIALS: u64 = 30;

/// Measures each column of groups. `trials` yields a trial's groups, its persons, and whether it is an error.
pub fn differential<'a>(
    measure: &str,
    trials: impl IntoIterator<Item = (&'a BTreeMap<String, String>, Persons, bool)>,
) -> Vec<Differential> {
    type ByGroup<'a> = BTreeMap<&'a str, Vec<(Persons, bool)>>;
    let mut columns: BTreeMap<&str, ByGroup<'_>> = BTreeMap::new();
    for (groups, persons, error) in trials {
        for (column, group) in groups {
            columns.entry(column).or_default().entry(group).or_default().push((persons, error));
        }
    }
    columns
        .into_iter()
        .map(|(column, groups)| {
            let rated = groups.into_iter().map(|(group, trials)| {
                let rate = error_rate(&trials);
                // What cannot be an order of magnitude off: enough errors, or enough trials to rule out what the others show.
                let too_small =
                    rate.trials < MIN_TRIALS || rate.errors < RULE_OF_30 && rate.high_95 > 4.0 * rate.value.max(0.01);
                Group { group: group.to_owned(), rate, too_small }
            });
            of_groups(column, measure, rated.collect())
        })
        .collect()
}

fn of_groups(column: &str, measure: &str, groups: Vec<Group>) -> Differential {
    let by_value = |a: &&Group, b: &&Group| a.rate.value.total_cmp(&b.rate.value);
    let large = || groups.iter().filter(|group| !group.too_small);
    let (mut ratio, mut ratio_at_least) = (None, None);
    if let (Some(best), Some(worst)) = (large().min_by(by_value), large().max_by(by_value))
        && best.group != worst.group
    {
        ratio = (best.rate.value > 0.0).then(|| worst.rate.value / best.rate.value);
        ratio_at_least = (best.rate.high_95 > 0.0).then(|| worst.rate.low_95 / best.rate.high_95).filter(|r| *r > 1.0);
    }
    // Small groups too: what lies apart in spite of its wide interval is no chance.
    let lowest = groups.iter().min_by(|a, b| a.rate.high_95.total_cmp(&b.rate.high_95));
    let highest = groups.iter().max_by(|a, b| a.rate.low_95.total_cmp(&b.rate.low_95));
    let apart = lowest.zip(highest).filter(|(low, high)| high.rate.low_95 > low.rate.high_95);
    let apart = apart.map(|(low, high)| [high.group.clone(), low.group.clone()]);
    let small = groups.iter().filter(|group| group.too_small).count();
    let warning = (small > 0).then(|| {
        let total = groups.len();
        format!("{small} of {total} groups are too small to say much: that no difference is seen there means nothing, and only intervals that lie apart do")
    });
    let differs = apart.is_some();
    Differential {
        column: column.into(),
        measure: measure.into(),
        groups,
        ratio,
        ratio_at_least,
        differs,
        apart,
        warning,
    }
}

impl Differential {
    /// The table, and what it allows to say.
    pub fn blocks(&self) -> Vec<Block> {
        let rows = self.groups.iter().map(|group| {
            let rate = &group.rate;
            let remark = if group.too_small { "too small" } else { "" };
            vec![
                group.group.clone(),
                percent(rate.value),
                interval(rate.low_95, rate.high_95),
                rate.errors.to_string(),
                rate.trials.to_string(),
                remark.to_owned(),
            ]
        });
        let mut columns = vec![Column::text(self.column.clone())];
        columns.extend(["value", "95 %", "errors", "trials"].map(Column::number));
        columns.push(Column::text(""));
        let caption = format!("{} by {}", self.measure.to_uppercase().replace('_', " "), self.column);
        let mut blocks = vec![Block::Table(Table { caption, columns, rows: rows.collect() })];
        let least = self
            .ratio_at_least
            .map_or_else(String::new, |ratio| format!(", at least {ratio:.1} times by the intervals"));
        match (self.ratio, self.ratio_at_least) {
            (Some(ratio), _) => {
                blocks.push(Block::Paragraph(format!(
                    "Worst to best of the groups that are large enough: {ratio:.1} times{least}."
                )));
            }
            (None, Some(ratio)) => {
                let words = "the best shows no error, the worst";
                blocks.push(Block::Paragraph(format!(
                    "Of the groups that are large enough {words} at least {ratio:.1} times what the best may have."
                )));
            }
            (None, None) => {}
        }
        match &self.apart {
            Some([high, low]) => {
                let words = "do not overlap: they differ by more than chance makes between two groups";
                blocks.push(Block::Warning(format!("the intervals of {high} and {low} {words}")));
            }
            None if self.groups.len() > 1 => {
                blocks.push(Block::Paragraph("All intervals overlap: what differs may be chance.".into()));
            }
            None => {}
        }
        blocks.extend(self.warning.clone().map(Block::Warning));
        blocks
    }
}

/// As [`differential`] for values that are no rates, such as the error of an age in years: their means, with intervals over persons.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeanByGroup {
    pub column: String,
    pub group: String,
    pub trials: usize,
    #[serde(flatten)]
    pub mean: Estimate,
    pub too_small: bool,
}

impl MeanByGroup {
    pub(super) const MIN_TRIALS: usize = MIN_TRIALS as usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials(group: &str, errors: u32, total: u32) -> Vec<(BTreeMap<String, String>, bool)> {
        let groups = BTreeMap::from([("sex".to_owned(), group.to_owned())]);
        (0..total).map(|n| (groups.clone(), n < errors)).collect()
    }

    fn measured(all: &[(BTreeMap<String, String>, bool)]) -> Differential {
        let mut found = differential("fnmr", all.iter().map(|(groups, error)| (groups, None, *error)));
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn the_ratio_is_that_of_worst_to_best() {
        let all = [trials("F", 90, 1_000), trials("M", 30, 1_000)].concat();
        let found = measured(&all);
        assert_eq!((found.ratio, found.differs, &found.warning), (Some(3.0), true, &None));
        assert!(found.ratio_at_least.is_some_and(|ratio| ratio > 1.0 && ratio < 3.0));
        // Without an error in the best group there is no ratio, and still something to say.
        let found = measured(&[trials("F", 100, 1_000), trials("M", 0, 1_000)].concat());
        assert_eq!((found.ratio, found.differs), (None, true));
        assert!(found.ratio_at_least.is_some_and(|ratio| ratio > 20.0));
    }

    #[test]
    fn small_groups_are_left_out_of_the_ratio_and_warned_of() {
        let all = [trials("F", 90, 1_000), trials("M", 30, 1_000), trials("X", 9, 10)].concat();
        let found = measured(&all);
        assert_eq!(found.ratio, Some(3.0));
        assert!(found.warning.as_deref().is_some_and(|warning| warning.starts_with("1 of 3 groups")));
        let alone = measured(&trials("F", 90, 1_000));
        assert_eq!((alone.ratio, alone.differs), (None, false));
    }

    #[test]
    fn alike_groups_do_not_differ() {
        let found = measured(&[trials("F", 33, 1_000), trials("M", 30, 1_000)].concat());
        assert!(!found.differs && found.ratio.is_some_and(|ratio| ratio < 1.2));
    }
}
