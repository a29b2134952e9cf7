//! Bands of rows that Wan's decoder makes one after the other behind its first resolution. Pure.
//!
//! A convolution sees one row above and one below, so a band computes its rows and, by resolution, as many more on both sides as
//! the convolutions up to the picture see. What is wrong at a cut never reaches the band's own rows: bands are exact, and are put
//! together without blending. Only attention sees the whole frame, and it is done before the first cut.
//! Source: SELF-FORCING 7.5, cut anew at each resolution.

use std::ops::Range;

/// Rows of one band.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Band {
    /// Latent rows whose picture it makes.
    pub(super) own: Range<usize>,
    /// By resolution, the rows that it computes; all of them at the first.
    pub(super) rows: Vec<Range<usize>>,
}

impl Band {
    /// Where the rows at a resolution begin among those of the resolution before, doubled.
    pub(super) fn first(&self, stage: usize) -> usize {
        self.rows[stage].start - 2 * self.rows[stage - 1].start
    }

    /// The band's own rows at a resolution, counted from the first that it computes there.
    pub(super) fn own_at(&self, stage: usize) -> Range<usize> {
        let from = self.rows[stage].start;
        (self.own.start << stage) - from..(self.own.end << stage) - from
    }
}

/// Cuts `latent_rows` into about even bands, at most one a latent row. `reach` says by resolution how many rows its convolutions
/// see to one side, without the one behind a doubling.
pub(super) fn bands(latent_rows: usize, n: usize, reach: &[usize]) -> Vec<Band> {
    let n = n.clamp(1, latent_rows.max(1));
    let cut = |i: usize| i * latent_rows / n;
    (0..n)
        .map(|i| band(latent_rows, cut(i)..cut(i + 1), reach))
        .collect()
}

fn band(latent_rows: usize, own: Range<usize>, reach: &[usize]) -> Band {
    let last = reach.len() - 1;
    let mut needed = own.start << last..own.end << last;
    let mut rows = vec![0..latent_rows; reach.len()];
    for stage in (1..=last).rev() {
        let reach = reach[stage];
        let all = latent_rows << stage;
        rows[stage] = needed.start.saturating_sub(reach)..(needed.end + reach).min(all);
        // The convolution behind the doubling sees a row more on both sides.
        let (start, end) = (rows[stage].start, rows[stage].end);
        needed = start.saturating_sub(1) / 2..(end + 1).min(all).div_ceil(2);
    }
    Band { own, rows }
}

/// Bands that are tried where memory is short, fewest first. Beyond the last, edges are most of the work.
pub(super) fn ladder(latent_rows: usize) -> impl Iterator<Item = usize> {
    [2, 4, 8, 16].into_iter().filter(move |n| *n <= latent_rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REACH: [usize; 4] = [6, 6, 6, 7];

    #[test]
    fn one_band_is_all_rows() {
        let [only] = &bands(5, 1, &REACH)[..] else {
            panic!("one band")
        };
        assert_eq!(only.rows, [0..5, 0..10, 0..20, 0..40]);
        assert_eq!((only.own_at(3), only.first(2)), (0..40, 0));
    }

    /// SELF-FORCING 7.5 at 480 rows: of four bands the second.
    #[test]
    fn a_band_in_the_middle_reaches_to_both_sides() {
        let all = bands(60, 4, &REACH);
        let band = &all[1];
        assert_eq!(band.own, 15..30);
        assert_eq!(band.rows[3], 113..247);
        assert_eq!(band.rows[2], 50..130);
        assert_eq!(band.rows[1], 18..72);
        assert_eq!(band.rows[0], 0..60);
        assert_eq!([1, 2, 3].map(|i| band.first(i)), [18, 14, 13]);
        assert_eq!(band.own_at(3), 7..127);
    }

    /// A row of ones, everything else unknown: convolutions spread what is unknown by a row, and none of it reaches a band's own
    /// rows. With a row less of reach it would.
    #[test]
    fn what_is_wrong_at_a_cut_stays_outside() {
        let wrong_inside = |rows: usize, n: usize, planned: &[usize]| {
            bands(rows, n, planned).iter().any(|band| {
                let mut good: Vec<bool> = vec![true; rows];
                for (stage, reach) in REACH.iter().enumerate().skip(1) {
                    let (all, now) = (rows << stage, &band.rows[stage]);
                    let before = band.rows[stage - 1].start;
                    let doubled = |row: usize| good.get((row / 2).wrapping_sub(before)).copied();
                    let near = |row: usize| row.saturating_sub(1)..(row + 2).min(all);
                    let up = |row: usize| near(row).all(|r| doubled(r).unwrap_or(false));
                    let mut here: Vec<bool> = now.clone().map(up).collect();
                    for _ in 0..*reach {
                        let at = |row: usize| here.get(row.wrapping_sub(now.start)).copied();
                        let conv = |row: usize| near(row).all(|r| at(r).unwrap_or(false));
                        here = now.clone().map(conv).collect();
                    }
                    good = here;
                }
                let own = band.own_at(REACH.len() - 1);
                own.end > good.len() || !good[own].iter().all(|g| *g)
            })
        };
        for rows in [1, 2, 5, 9, 60] {
            for n in [1, 2, 3, 4, rows] {
                assert!(!wrong_inside(rows, n, &REACH), "{rows} rows, {n} bands");
                let own = bands(rows, n, &REACH).into_iter().flat_map(|b| b.own);
                assert!(own.eq(0..rows), "{rows} rows, {n} bands");
            }
        }
        assert!(wrong_inside(60, 4, &[6, 6, 6, 6]));
        assert!(wrong_inside(60, 4, &[6, 5, 6, 7]));
    }
}
