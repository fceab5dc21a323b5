//! Whether two name servers say the same.

use std::collections::{BTreeSet, VecDeque};

/// Answers of a server remembered.
const ANSWERS: usize = 10;

/// Records compared of one answer: the first ones in the alphabet, so that two answers that are the same are so to
/// this extent, too.
const COMPARED: usize = 100;

/// Records named in one message.
const NAMED: usize = 5;

/// Characters compared and named of one record; a text can have thousands.
const CHARACTERS: usize = 255;

/// What one server answered lately, each answer as a set: the order of records means nothing.
#[derive(Debug, Default)]
pub(super) struct Lately(VecDeque<BTreeSet<String>>);

impl Lately {
    /// It answered this.
    pub(super) fn note(&mut self, records: &[String]) {
        if self.0.len() == ANSWERS {
            self.0.pop_front();
        }
        let mut records: Vec<&String> = records.iter().collect();
        records.sort_unstable();
        self.0.push_back(records.into_iter().take(COMPARED).map(|record| shortened(record)).collect());
    }

    /// The newest answer, sorted.
    pub(super) fn newest(&self) -> Vec<String> {
        self.0.back().into_iter().flatten().cloned().collect()
    }

    /// Whether each of the two has given lately all that the other gives now. So servers that give one of several
    /// addresses in turns agree as soon as each has given all of them.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.has_given(other) && other.has_given(self)
    }

    fn has_given(&self, other: &Self) -> bool {
        let mut now = other.0.back().into_iter().flatten();
        now.all(|record| self.0.iter().any(|answer| answer.contains(record)))
    }
}

/// The records in one line.
pub(super) fn listed(records: &[String]) -> String {
    let named: Vec<String> = records.iter().take(NAMED).map(|record| shortened(record)).collect();
    match records.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// The beginning of a text.
pub(super) fn shortened(record: &str) -> String {
    match record.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", &record[..end]),
        None => record.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(records: &[&str]) -> Vec<String> {
        records.iter().map(|record| (*record).to_owned()).collect()
    }

    fn after(answers: &[&[&str]]) -> Lately {
        let mut lately = Lately::default();
        for answer in answers {
            lately.note(&records(answer));
        }
        lately
    }

    #[test]
    fn order_does_not_matter_and_a_record_more_does() {
        assert!(after(&[&["a", "b"]]).agrees_with(&after(&[&["b", "a"]])));
        assert!(!after(&[&["a", "b"]]).agrees_with(&after(&[&["a"]])));
        assert!(!after(&[&["a"]]).agrees_with(&after(&[&["b"]])));
    }

    #[test]
    fn servers_that_take_turns_agree_once_each_has_given_all() {
        let (one, other) = (after(&[&["a"], &["b"]]), after(&[&["b"], &["a"]]));
        assert!(one.agrees_with(&other));
        assert!(!after(&[&["a"], &["b"]]).agrees_with(&after(&[&["c"], &["a"]])), "nobody else gave c");
    }

    #[test]
    fn what_was_given_long_ago_is_forgotten() {
        let mut old: Vec<&[&str]> = vec![&["a"]];
        old.extend([&["b"][..]; ANSWERS]);
        assert!(!after(&old).agrees_with(&after(&[&["b"], &["a"]])));
    }

    #[test]
    fn of_long_answers_the_beginning_is_compared_and_named() {
        let many: Vec<String> = (0..4_000).map(|n| n.to_string()).collect();
        let mut other_order = many.clone();
        other_order.reverse();
        let [mut one, mut other] = [Lately::default(), Lately::default()];
        one.note(&many);
        other.note(&other_order);
        assert!(one.agrees_with(&other) && one.newest().len() == COMPARED);
        assert_eq!(listed(&many), "0, 1, 2, 3, 4 and 3995 more");
        assert_eq!(listed(&many[..2]), "0, 1");
        let long = vec!["ü".repeat(5_000)];
        assert_eq!(listed(&long).chars().count(), CHARACTERS + 1);
    }
}
