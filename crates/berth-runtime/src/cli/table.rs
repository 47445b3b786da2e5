//! Columns as runc prints them: at least twelve wide, three blanks apart.

/// Prints rows of equally many cells.
pub(super) fn print(rows: &[Vec<String>]) {
    const NARROWEST: usize = 12;
    const GAP: usize = 3;
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count() + GAP).max().unwrap_or(0);
        widest.max(NARROWEST)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}"));
        }
        println!("{}", line.trim_end());
    }
}
