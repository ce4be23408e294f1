//! Tables without lines: columns, two spaces between them.

use comfy_table::{Cell, ContentArrangement, Table, presets};

use super::text::printable;

/// Renders rows under their headings. A cell keeps its line breaks and nothing else that is not
/// text.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headings.iter().map(Cell::new));
    for row in rows {
        table.add_row(row.iter().map(|cell| {
            let lines: Vec<_> = cell.split('\n').map(printable).collect();
            Cell::new(lines.join("\n"))
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_safe() {
        let rows = [
            vec!["a".to_owned(), "one\ntwo".to_owned()],
            vec!["longer".to_owned(), "\u{1b}".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "WORKLOADS"], &rows),
            "NAME    WORKLOADS\na       one\n        two\nlonger  \\u{1b}\n"
        );
    }
}
