//! A curve over rounds or steps, of bounded size.
//!
//! Past [`SERIES_POINTS`] the older half loses every second point: the curve
//! still begins where the run began, and the newest points are all there.

/// Points kept: twice what a braille chart of 120 columns can tell apart.
pub const SERIES_POINTS: usize = 480;

/// One point: the mean of what was reported for one `x`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    x: u64,
    sum: f64,
    count: u32,
}

/// A curve: `y` over rounds or steps, ordered by `x`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    points: Vec<Point>,
}

impl Series {
    /// Sets the value at `x`. What is not a number is left out.
    pub fn set(&mut self, x: u64, y: f64) {
        self.insert(x, y, false);
    }

    /// Averages `y` into the value at `x`: several local peers report one round.
    pub fn add(&mut self, x: u64, y: f64) {
        self.insert(x, y, true);
    }

    fn insert(&mut self, x: u64, y: f64, average: bool) {
        if !y.is_finite() {
            return;
        }
        match self.points.binary_search_by_key(&x, |point| point.x) {
            Ok(index) if average => {
                let point = &mut self.points[index];
                point.sum += y;
                point.count = point.count.saturating_add(1);
            }
            Ok(index) => {
                self.points[index] = Point {
                    x,
                    sum: y,
                    count: 1,
                }
            }
            Err(index) => {
                let point = Point {
                    x,
                    sum: y,
                    count: 1,
                };
                self.points.insert(index, point);
                self.thin();
            }
        }
    }

    fn thin(&mut self) {
        if self.points.len() <= SERIES_POINTS {
            return;
        }
        let half = self.points.len() / 2;
        let mut index = 0;
        self.points.retain(|_| {
            let keep = index >= half || index % 2 == 0;
            index += 1;
            keep
        });
    }

    /// All points, in order.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = (u64, f64)> + '_ {
        self.points
            .iter()
            .map(|point| (point.x, point.sum / f64::from(point.count)))
    }

    /// The first point.
    pub fn first(&self) -> Option<(u64, f64)> {
        self.points().next()
    }

    /// The newest point.
    pub fn last(&self) -> Option<(u64, f64)> {
        self.points().next_back()
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The newest `count` values, oldest first.
    pub fn tail(&self, count: usize) -> Vec<f64> {
        let skip = self.points.len().saturating_sub(count);
        self.points().skip(skip).map(|(_, y)| y).collect()
    }

    /// The whole curve in at most `count` values, each the mean of its share.
    pub fn squeezed(&self, count: usize) -> Vec<f64> {
        if count == 0 {
            return Vec::new();
        }
        let values: Vec<f64> = self.points().map(|(_, y)| y).collect();
        if values.len() <= count {
            return values;
        }
        (0..count)
            .map(|index| {
                let from = index * values.len() / count;
                let to = (index + 1) * values.len() / count;
                let share = &values[from..to];
                share.iter().sum::<f64>() / share.len() as f64
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_ordered_whatever_the_order_of_arrival() {
        let mut series = Series::default();
        for x in [3, 1, 2] {
            series.set(x, x as f64);
        }
        assert_eq!(
            series.points().collect::<Vec<_>>(),
            [(1, 1.), (2, 2.), (3, 3.)]
        );
    }

    #[test]
    fn several_reports_of_one_round_are_averaged() {
        let mut series = Series::default();
        series.add(1, 0.2);
        series.add(1, 0.4);
        let (x, y) = series.last().unwrap();
        assert_eq!(x, 1);
        assert!((y - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_long_series_keeps_its_ends_and_its_bound() {
        let mut series = Series::default();
        for x in 0..100_000 {
            series.set(x, x as f64);
            assert!(series.len() <= SERIES_POINTS);
        }
        assert_eq!(series.first(), Some((0, 0.)));
        assert_eq!(series.last(), Some((99_999, 99_999.)));
        assert_eq!(series.squeezed(10).len(), 10);
        assert_eq!(series.tail(2), [99_998., 99_999.]);
    }

    #[test]
    fn what_is_not_a_number_is_left_out() {
        let mut series = Series::default();
        series.set(1, f64::NAN);
        series.set(2, f64::INFINITY);
        assert!(series.is_empty());
    }
}
