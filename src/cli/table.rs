//! Tables that align.

use anstyle::Style;

/// A cell: its text, and how it is shown on a terminal.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Text with a colour.
    pub(super) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: Style::new() }
    }
}

/// Lays rows out in columns. `right` are the columns that hold numbers.
pub(super) fn render(head: &[&str], rows: &[Vec<Cell>], right: &[usize]) -> String {
    let bold = Style::new().bold();
    let head: Vec<Cell> = head.iter().map(|title| Cell::styled(*title, bold)).collect();
    let lines: Vec<&Vec<Cell>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.text.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut table = String::new();
    for line in lines {
        let last = line.len().saturating_sub(1);
        for (column, Cell { text, style }) in line.iter().enumerate() {
            let padding = " ".repeat(widths.get(column).unwrap_or(&0).saturating_sub(text.chars().count()));
            // Padding stands outside the style, so that nothing underlines or shades blanks.
            let (before, after) =
                if right.contains(&column) { (padding, String::new()) } else { (String::new(), padding) };
            let after = if column == last { "\n" } else { &format!("{after}  ") };
            table.push_str(&format!("{before}{style}{text}{style:#}{after}"));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_the_style() {
        let green = anstyle::AnsiColor::Green.on_default();
        let rows = vec![
            vec![Cell::from("database"), Cell::styled("up", green), Cell::from("1.25")],
            vec![Cell::from("é"), Cell::from("disabled"), Cell::from("12.5")],
        ];
        let plain = anstream::adapter::strip_str(&render(&["NAME", "STATUS", "MS"], &rows, &[2])).to_string();
        assert_eq!(plain, "NAME      STATUS      MS\ndatabase  up        1.25\né         disabled  12.5\n");
    }
}
