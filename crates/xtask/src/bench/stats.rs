//! Measuring two programs fairly, and what is said of the figures: medians, and ratios round by round (cargo xtask
//! bench).

use anyhow::Context as _;

/// What two programs took in the same rounds; in one unit, whichever that is.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pub(crate) ours: Vec<f64>,
    pub(crate) peer: Vec<f64>,
}

/// Measures ours and the peer alternately, `rounds` times each. A machine that gets slower meanwhile is slower for
/// both, and the order changes with every round, because the second may find files cached by the first.
///
/// # Errors
/// The first one of either.
pub(crate) fn alternate(
    rounds: usize,
    mut ours: impl FnMut() -> anyhow::Result<f64>,
    mut peer: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<Pairs> {
    let mut pairs = Pairs::default();
    for round in 0..rounds {
        if round % 2 == 0 {
            pairs.ours.push(ours()?);
            pairs.peer.push(peer()?);
        } else {
            pairs.peer.push(peer()?);
            pairs.ours.push(ours()?);
        }
    }
    Ok(pairs)
}

impl Pairs {
    /// The median of what ours took as a multiple of what the peer took in the same round.
    pub(crate) fn ratio(&self) -> anyhow::Result<f64> {
        let rounds = self.ours.iter().zip(&self.peer);
        let ratios: Vec<f64> = rounds.map(|(ours, peer)| ours / peer).collect();
        median(&ratios)
    }
}

/// The value in the middle.
pub(crate) fn median(values: &[f64]) -> anyhow::Result<f64> {
    quantile(values, 0.5)
}

/// The value that a share `q`, 0 to 1, of the values does not exceed; between two values, the mean by distance.
pub(crate) fn quantile(values: &[f64], q: f64) -> anyhow::Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted
        .len()
        .checked_sub(1)
        .context("nothing was measured")?;
    #[allow(clippy::cast_precision_loss)] // there are a few hundred values
    let place = q.clamp(0.0, 1.0) * last as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and `last`
    let below = place.floor() as usize;
    let at = |index: usize| {
        sorted
            .get(index.min(last))
            .copied()
            .context("no such value")
    };
    let (low, high) = (at(below)?, at(below + 1)?);
    Ok(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).unwrap(), 2.0);
        assert_eq!(median(&[4.0, 1.0]).unwrap(), 2.5);
        assert_eq!(median(&[7.0]).unwrap(), 7.0);
        assert!(median(&[]).is_err());
        let hundred: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.99).unwrap(), 99.0);
        assert_eq!(quantile(&hundred, 1.0).unwrap(), 100.0);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine gets ten times slower; ours takes twice as long as the peer all the time.
        let (mut slow, mut slower) = ([1.0, 10.0, 100.0].iter(), [1.0, 10.0, 100.0].iter());
        let next = |of: &mut std::slice::Iter<'_, f64>| of.next().copied().context("over");
        let pairs = alternate(3, || Ok(2.0 * next(&mut slow)?), || next(&mut slower)).unwrap();
        assert_eq!(pairs.ratio().unwrap(), 2.0);
        assert_eq!(median(&pairs.ours).unwrap(), 20.0);
    }

    #[test]
    fn who_is_first_changes() {
        let order = std::cell::RefCell::new(String::new());
        let note = |who| {
            order.borrow_mut().push(who);
            Ok(1.0)
        };
        alternate(3, || note('o'), || note('p')).unwrap();
        assert_eq!(*order.borrow(), "oppoop");
    }
}
