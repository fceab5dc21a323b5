//! What was measured, beside what was wanted: the table on the terminal and in `docs/performance.md`.

use std::fmt;

/// The table stands between these lines of the page; the rest of it is written by hand.
const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// One row: a figure of ours, what it is compared with, and the wanted ratio of the two.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured, with its unit.
    pub what: String,
    /// Our figure.
    pub ours: String,
    /// The figure beside it: a rival's in the same run, or a limit.
    pub beside: String,
    /// Ours through the other.
    pub ratio: f64,
    /// Which ratio is wanted.
    pub target: Target,
}

/// The ratio that is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Target {
    /// Whether a ratio is as wanted. What could not be measured is not.
    pub fn reached(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(bound) => ratio >= bound,
            Self::AtMost(bound) => ratio <= bound,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound:.2}"),
            Self::AtMost(bound) => write!(f, "≤ {bound:.2}"),
        }
    }
}

impl Row {
    /// Whether the target was reached.
    pub fn reached(&self) -> bool {
        self.target.reached(self.ratio)
    }

    fn cells(&self) -> [String; 6] {
        let verdict = if self.reached() { "reached" } else { "**not reached**" };
        [
            self.what.clone(),
            self.ours.clone(),
            self.beside.clone(),
            format!("{:.2}", self.ratio),
            self.target.to_string(),
            verdict.to_owned(),
        ]
    }
}

/// The rows as a Markdown table whose columns are aligned, so that it also reads well on a terminal.
pub fn table(rows: &[Row]) -> String {
    let head = ["what", "Sickbay", "beside it", "ratio", "wanted", ""].map(str::to_owned);
    let cells: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 6]| {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        format!("|{}\n", padded.collect::<String>())
    };
    let rule: String = widths.iter().map(|width| format!(" {} |", "-".repeat((*width).max(3)))).collect();
    let mut table = line(&cells[0]);
    table += &format!("|{rule}\n");
    table.extend(cells[1..].iter().map(line));
    table
}

/// The page with what stands between the markers replaced.
///
/// # Errors
/// Where the page has not both markers, in their order.
pub fn replace(page: &str, measured: &str) -> Result<String, String> {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or(format!("the page has no \"{BEGIN}\" … \"{END}\""))?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", measured.trim()))
}

/// The middle one; of an even number the upper of the two in the middle. NaN where there is none.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this share of the others lies, by nearest rank. NaN where there is none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let rank = (share * sorted.len() as f64) as usize;
    sorted.get(rank.min(last)).copied().unwrap_or(f64::NAN)
}

/// Smallest and largest, as they are told beside a median.
pub fn range(values: &[f64], digits: usize) -> String {
    let (least, most) = (quantile(values, 0.0), quantile(values, 1.0));
    format!("{least:.digits$} to {most:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ratio: f64, target: Target) -> Row {
        Row { what: "µs".into(), ours: "1".into(), beside: "two".into(), ratio, target }
    }

    #[test]
    fn a_target_is_reached_at_its_bound_and_what_was_not_measured_is_missed() {
        assert!(Target::AtLeast(1.0).reached(1.0) && !Target::AtLeast(1.0).reached(0.999));
        assert!(Target::AtMost(2.0).reached(2.0) && !Target::AtMost(2.0).reached(2.001));
        for target in [Target::AtLeast(0.0), Target::AtMost(9.0)] {
            assert!(!target.reached(median(&[])), "{target}");
        }
    }

    #[test]
    fn the_table_is_aligned_and_tells_what_was_missed() {
        let table = table(&[row(0.5, Target::AtLeast(1.0)), row(0.5, Target::AtMost(1.0))]);
        assert_eq!(
            table,
            "| what | Sickbay | beside it | ratio | wanted |                 |\n\
             | ---- | ------- | --------- | ----- | ------ | --------------- |\n\
             | µs   | 1       | two       | 0.50  | ≥ 1.00 | **not reached** |\n\
             | µs   | 1       | two       | 0.50  | ≤ 1.00 | reached         |\n"
        );
    }

    #[test]
    fn the_page_keeps_what_was_written_by_hand() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(replace(&page, "new\n").unwrap(), format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert!(replace(&format!("{END} {BEGIN}"), "new").is_err());
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let values = [3.0, 1.0, 2.0];
        assert_eq!((quantile(&values, 0.0), median(&values), quantile(&values, 1.0)), (1.0, 2.0, 3.0));
        assert_eq!(range(&values, 1), "1.0 to 3.0");
    }
}
