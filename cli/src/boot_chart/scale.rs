//! Maps time to positions.

/// Maps a time range to a range of the picture.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    from: u64,
    to: u64,
    left: f64,
    right: f64,
}

impl Scale {
    /// `from` microseconds is at `left`, `to` at `right`.
    pub fn new(from: u64, to: u64, left: f64, right: f64) -> Self {
        Self {
            from,
            to: to.max(from + 1),
            left,
            right,
        }
    }

    /// The position of `time`, to a tenth of a unit; times outside are at the edge.
    pub fn x(&self, time: u64) -> f64 {
        let time = time.clamp(self.from, self.to);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a picture has a thousand points"
        )]
        let share = (time - self.from) as f64 / (self.to - self.from) as f64;
        ((self.left + share * (self.right - self.left)) * 10.0).round() / 10.0
    }

    /// Round times within the scale, at most `count` of them, and their step.
    pub fn ticks(&self, count: u64) -> (Vec<u64>, u64) {
        let length = self.to - self.from;
        let step = std::iter::successors(Some(1_u64), |unit| unit.checked_mul(10))
            .flat_map(|unit| [unit, 2 * unit, 5 * unit])
            .find(|step| length / step < count)
            .unwrap_or(length);
        let first = self.from.div_ceil(step);
        let ticks = (first..=self.to / step).map(|tick| tick * step).collect();
        (ticks, step)
    }
}

/// A tick's label with as many digits as its step needs: `1.25 s`.
pub fn label(time: u64, step: u64) -> String {
    let digits = match step {
        0..1_000 => 4,
        1_000..10_000 => 3,
        10_000..100_000 => 2,
        100_000..1_000_000 => 1,
        _ => 0,
    };
    let unit = 10_u64.pow(6 - digits);
    let shown = (time + unit / 2) / unit;
    let whole = shown / 10_u64.pow(digits);
    let rest = shown % 10_u64.pow(digits);
    match digits {
        0 => format!("{whole} s"),
        _ => format!("{whole}.{rest:0width$} s", width = digits as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_are_at_the_edges() {
        let scale = Scale::new(1000, 3000, 100.0, 200.0);
        let places: Vec<f64> = [0, 1000, 2000, 3000, 9000].map(|time| scale.x(time)).into();
        assert_eq!(places, [100.0, 100.0, 150.0, 200.0, 200.0]);
    }

    #[test]
    fn ticks_are_round_and_few() {
        let (ticks, step) = Scale::new(941_300, 1_234_000, 0.0, 1.0).ticks(8);
        assert_eq!(step, 50_000);
        assert_eq!(
            ticks,
            [
                950_000, 1_000_000, 1_050_000, 1_100_000, 1_150_000, 1_200_000
            ]
        );
        let (ticks, step) = Scale::new(5, 6, 0.0, 1.0).ticks(8);
        assert_eq!((ticks, step), (vec![5, 6], 1));
    }

    #[test]
    fn labels_have_the_digits_of_their_step() {
        assert_eq!(label(950_000, 50_000), "0.95 s");
        assert_eq!(label(1_000_000, 500_000), "1.0 s");
        assert_eq!(label(4_000_000, 2_000_000), "4 s");
        assert_eq!(label(1_005_000, 5_000), "1.005 s");
    }
}
