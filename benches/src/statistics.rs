//! What a series of samples comes to.

use serde::{Deserialize, Serialize};

/// A series of samples in three numbers. The tenth percentile is the better estimate of a quiet machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many samples.
    pub count: usize,
    /// A tenth of them lies below.
    pub p10: f64,
    /// Half of them lies below.
    pub median: f64,
    /// A tenth of them lies above.
    pub p90: f64,
}

impl Summary {
    /// Of at least one sample.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Some(Self { count: sorted.len(), p10: at(0.1)?, median: at(0.5)?, p90: at(0.9)? })
    }
}

/// The value below which a share of the sorted samples lies, between two neighbours in proportion.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let position = share * (sorted.len().checked_sub(1)?) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    Some((above - below).mul_add(position.fract(), below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0, 5.0]).expect("samples");
        assert_eq!((summary.count, summary.median), (5, 3.0));
        assert!((summary.p10 - 1.4).abs() < 1e-9 && (summary.p90 - 4.6).abs() < 1e-9);
    }

    #[test]
    fn one_sample_is_all_of_them_and_none_is_none() {
        let summary = Summary::of(&[7.0]).expect("a sample");
        assert_eq!((summary.p10, summary.median, summary.p90), (7.0, 7.0, 7.0));
        assert_eq!(Summary::of(&[]), None);
    }
}
