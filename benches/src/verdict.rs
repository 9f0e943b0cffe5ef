//! Ratios, and what they say.

use crate::Rounds;

/// One contestant's figure relative to the best of some others, taken round by round.
#[derive(Debug, Clone)]
pub struct Ratio {
    /// The median over the rounds.
    pub median: f64,
    /// The lower quartile.
    pub low: f64,
    /// The upper quartile.
    pub high: f64,
    /// Who was best in most rounds.
    pub best: String,
}

impl Ratio {
    /// `who`'s figure over the smallest figure of `others` in the same round; nothing where one of them did not run.
    pub fn to_best(rounds: &Rounds, figure: &str, who: &str, others: &[&str]) -> Option<Self> {
        let own = rounds.figures(who, figure);
        let rivals: Vec<_> = others
            .iter()
            .map(|name| (*name, rounds.figures(name, figure)))
            .filter(|(_, figures)| !figures.is_empty())
            .collect();
        let mut ratios = Vec::new();
        let mut wins = vec![0; rivals.len()];
        for (round, own) in own.iter().enumerate() {
            let figures = rivals.iter().map(|(_, figures)| figures[round]).enumerate();
            let (winner, best) = figures.min_by(|a, b| a.1.total_cmp(&b.1))?;
            wins[winner] += 1;
            ratios.push(own / best);
        }
        let most = (0..rivals.len()).max_by_key(|rival| wins[*rival])?;
        ratios.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&ratios, 0.5)?,
            low: quantile(&ratios, 0.25)?,
            high: quantile(&ratios, 0.75)?,
            best: rivals[most].0.to_owned(),
        })
    }
}

/// The middle of some figures, those that are not numbers left out.
pub fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.retain(|figure| !figure.is_nan());
    figures.sort_by(f64::total_cmp);
    quantile(&figures, 0.5)
}

/// The figure below which this part of the sorted figures lies.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// The geometric mean, nothing of nothing.
pub fn geometric_mean(figures: &[f64]) -> Option<f64> {
    let sum: f64 = figures.iter().map(|figure| figure.ln()).sum();
    (!figures.is_empty()).then(|| (sum / figures.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn a_half_and_a_double_cancel_out_in_the_geometric_mean() {
        assert!((geometric_mean(&[0.5, 2.0]).unwrap() - 1.0).abs() < 1e-12);
    }
}
