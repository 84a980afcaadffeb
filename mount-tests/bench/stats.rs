//! Medians, and the ratio of two medians with its interval.

use serde::Serialize;

/// Resamples behind an interval.
const RESAMPLES: usize = 2000;
/// Of the resampling, so that a report can be made again from its runs.
pub const SEED: u64 = 0x5b1d1e;

/// A ratio of medians and the interval in which it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The ratio of the two medians.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The middle value; the mean of the two middle ones when their number is even.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Median of the first over median of the second of each pair, by bootstrap over the pairs: both
/// of a pair were measured in the same round, so what slowed a round slowed both.
pub fn ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    let value = ratio_of_medians(pairs)?;
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut ratios = (0..RESAMPLES)
        .filter_map(|_| {
            let sample = pairs.iter().map(|_| pairs[rng.usize(..pairs.len())]).collect::<Vec<_>>();
            ratio_of_medians(&sample)
        })
        .collect::<Vec<_>>();
    ratios.sort_by(f64::total_cmp);
    let tail = ratios.len() / 40; // 2.5 % on either side
    Some(Ratio { value, low: *ratios.get(tail)?, high: *ratios.get(ratios.len() - 1 - tail)? })
}

fn ratio_of_medians(pairs: &[(f64, f64)]) -> Option<f64> {
    let (ours, theirs): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
    let below = median(&theirs).filter(|median| *median > 0.0)?;
    Some(median(&ours)? / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_ratio_lies_in_its_interval_and_one_outlier_does_not_move_it() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut pairs = (0..15).map(|_| (90.0 + rng.f64(), 100.0 + rng.f64())).collect::<Vec<_>>();
        pairs[3].0 = 1.0;
        let ratio = ratio(&pairs).unwrap();
        assert!(ratio.low <= ratio.value && ratio.value <= ratio.high);
        assert!(ratio.low > 0.89 && ratio.high < 0.92, "{ratio:?}");
    }

    #[test]
    fn the_interval_is_wider_when_rounds_differ_more() {
        let noisy = |width: f64| {
            let mut rng = fastrand::Rng::with_seed(2);
            let pairs =
                (0..15).map(|_| (100.0 + width * rng.f64(), 100.0)).collect::<Vec<(f64, f64)>>();
            ratio(&pairs).unwrap()
        };
        let (calm, wild) = (noisy(1.0), noisy(50.0));
        assert!(wild.high - wild.low > 10.0 * (calm.high - calm.low));
    }

    #[test]
    fn nothing_to_divide_by_is_no_ratio() {
        assert_eq!(ratio(&[]), None);
        assert_eq!(ratio(&[(1.0, 0.0)]), None);
    }
}
