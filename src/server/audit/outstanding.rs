//! Parts of statements that were let through and have no outcome yet. Drivers send thousands of the same, so
//! runs of statements are kept rather than each.

use std::collections::BTreeMap;
use std::ops::Range;

/// In the order of numbers, and of the parts of one number.
#[derive(Default)]
pub(super) struct Outstanding {
    /// By number and part of the first: how many statements, numbered one behind the other, are open at that part.
    /// Parts behind the first are never joined.
    runs: BTreeMap<(u64, u64), u64>,
}

impl Outstanding {
    pub fn insert(&mut self, number: u64, part: u64) {
        match part {
            0 => self.insert_run(number..number + 1),
            _ => drop(self.runs.insert((number, part), 1)),
        }
    }

    /// Statements that were let through one behind the other.
    pub fn insert_run(&mut self, numbers: Range<u64>) {
        let times = numbers.end.saturating_sub(numbers.start);
        match self.runs.last_entry() {
            Some(mut last) if (last.key().0 + last.get(), last.key().1) == (numbers.start, 0) => {
                *last.get_mut() += times
            }
            _ => drop(self.runs.insert((numbers.start, 0), times)),
        }
    }

    /// A part has its outcome.
    pub fn remove(&mut self, number: u64, part: u64) {
        match part {
            0 => self.remove_run(number..number + 1),
            _ => drop(self.runs.remove(&(number, part))),
        }
    }

    /// The first parts of all these have.
    pub fn remove_run(&mut self, numbers: Range<u64>) {
        loop {
            let before_end = self.runs.range(..(numbers.end, 0)).rev().find(|((_, part), _)| *part == 0);
            let Some((first, end)) = before_end.map(|((first, _), times)| (*first, first + times)) else { return };
            if end <= numbers.start {
                return;
            }
            self.runs.remove(&(first, 0));
            for left in [first..numbers.start.min(end), numbers.end.max(first)..end] {
                if !left.is_empty() {
                    self.runs.insert((left.start, 0), left.end - left.start);
                }
            }
        }
    }

    /// The first of them, by number and part, and how many statements of one part stand there one behind the
    /// other.
    pub fn first_run(&self) -> Option<(u64, u64, u64)> {
        self.runs.first_key_value().map(|((number, part), times)| (*number, *part, *times))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Takes them all out again, from the front.
    fn all(mut outstanding: Outstanding) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        while let Some((number, part, times)) = outstanding.first_run() {
            all.extend((number..number + times).map(|number| (number, part)));
            (0..times).for_each(|at| outstanding.remove(number + at, part));
        }
        all
    }

    #[test]
    fn what_is_left_is_what_was_not_taken_out() {
        for seed in 0..2_000_u64 {
            let (mut outstanding, mut each) = (Outstanding::default(), BTreeSet::new());
            let (mut next, mut state) = (1, seed);
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            for _ in 0..30 {
                let (times, from) = (random(5), random(next));
                match random(4) {
                    0 => (0..=times).for_each(|part| {
                        outstanding.insert(next, part);
                        each.insert((next, part));
                    }),
                    1 => {
                        outstanding.insert_run(next..next + times + 1);
                        each.extend((next..=next + times).map(|number| (number, 0)));
                        next += times;
                    }
                    2 => {
                        outstanding.remove_run(from..from + times);
                        each.retain(|(number, part)| *part > 0 || !(from..from + times).contains(number));
                    }
                    _ => {
                        outstanding.remove(from, times);
                        each.remove(&(from, times));
                    }
                }
                next += 1;
            }
            assert_eq!(all(outstanding), each.into_iter().collect::<Vec<_>>(), "seed {seed}");
        }
    }

    #[test]
    fn a_thousand_of_the_same_are_one_run() {
        let mut outstanding = Outstanding::default();
        (1..=1000).for_each(|number| outstanding.insert(number, 0));
        assert_eq!(outstanding.first_run(), Some((1, 0, 1000)));
        outstanding.remove_run(1..65);
        assert_eq!(outstanding.first_run(), Some((65, 0, 936)));
        outstanding.remove(500, 0);
        assert_eq!(outstanding.first_run(), Some((65, 0, 435)));
    }
}
