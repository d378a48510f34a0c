//! Tables for people, CSV for spreadsheets; neither is moved by what peers wrote.

use std::fmt::Write;

/// Rows under headings, in columns as wide as they need. A heading that begins with `>`
/// aligns its column to the right.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Nothing but headings.
    pub fn new(headings: &[&'static str]) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// One more row, a cell for each heading.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// In columns.
    pub fn text(&self) -> String {
        let heading = |index: usize| self.headings[index].trim_start_matches('>');
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|index| {
                let cells = self.rows.iter().filter_map(|row| row.get(index));
                let widest = cells.map(|cell| tui::text::width(cell)).max();
                widest.unwrap_or(0).max(heading(index).len())
            })
            .collect();
        let mut text = String::new();
        let headings = (0..self.headings.len()).map(|index| heading(index).to_owned());
        for row in std::iter::once(headings.collect()).chain(self.rows.iter().cloned()) {
            let mut line = String::new();
            for (index, cell) in row.iter().enumerate() {
                let cell = tui::text::clean(cell);
                let pad = " ".repeat(widths[index].saturating_sub(tui::text::width(&cell)));
                let _ = match self.headings[index].starts_with('>') {
                    true => write!(line, "{pad}{cell}  "),
                    false => write!(line, "{cell}{pad}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// As RFC 4180 has it.
    pub fn csv(&self) -> String {
        let mut text = String::new();
        let headings = self.headings.iter();
        let headings = headings.map(|heading| heading.trim_start_matches('>').replace(' ', "_"));
        for row in std::iter::once(headings.collect()).chain(self.rows.iter().cloned()) {
            let cells: Vec<String> = row.iter().map(|cell| field(cell)).collect();
            text.push_str(&cells.join(","));
            text.push_str("\r\n");
        }
        text
    }
}

/// One field. A spreadsheet takes what begins like a formula for one, so a peer's name
/// must not begin like one; a negative number may.
fn field(cell: &str) -> String {
    let formula =
        cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
    let cell = match formula {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    };
    if cell.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", cell.replace('"', "\"\""));
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["name", ">score"]);
        table.row(vec!["calm-wren".into(), "0.5".into()]);
        table.row(vec!["\u{1b}[2Jx".into(), "0.25".into()]);
        assert_eq!(
            table.text(),
            "name       score\ncalm-wren    0.5\n␛[2Jx       0.25\n"
        );
    }

    #[test]
    fn a_name_is_neither_a_column_nor_a_formula() {
        let mut table = Table::new(&["name", ">score ppm"]);
        table.row(vec!["a,\"b\"".into(), "-1".into()]);
        table.row(vec!["=HYPERLINK(1)".into(), "2".into()]);
        assert_eq!(
            table.csv(),
            "name,score_ppm\r\n\"a,\"\"b\"\"\",-1\r\n'=HYPERLINK(1),2\r\n"
        );
    }
}
