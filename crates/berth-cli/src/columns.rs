//! Columns of equal width from cells that end in tabs.

use std::io::{self, Write};

use tabwriter::TabWriter;

/// Aligns cells that end in tabs; every column is at least `min_width` wide, `padding` blanks included.
pub fn aligned<W: Write>(out: W, min_width: usize, padding: usize) -> TabWriter<W> {
    TabWriter::new(out).minwidth(min_width - padding).padding(padding)
}

/// Writes `text` as [`aligned`] does. Long tables are plain nearly always, and need no more than a look for the widths.
pub fn write(out: &mut dyn Write, text: &str, min_width: usize, padding: usize) -> io::Result<()> {
    match widths(text) {
        Some(widths) => {
            let widths: Vec<usize> = widths.iter().map(|width| (*width).max(min_width - padding) + padding).collect();
            out.write_all(padded(text, &widths).as_bytes())
        }
        None => {
            let mut table = aligned(out, min_width, padding);
            table.write_all(text.as_bytes())?;
            table.flush()
        }
    }
}

/// The widest cell of each column; `None` where lines differ in their number of cells, or letters in their width.
fn widths(text: &str) -> Option<Vec<usize>> {
    let mut widths: Option<Vec<usize>> = None;
    for line in text.lines() {
        if !line.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
            return None;
        }
        let known = widths.get_or_insert_with(|| vec![0; line.matches('\t').count()]);
        let mut cells = line.split('\t');
        for width in known.iter_mut() {
            *width = (*width).max(cells.next()?.len());
        }
        // What follows the last tab is no cell; there is always something, if only nothing.
        cells.next()?;
        if cells.next().is_some() {
            return None;
        }
    }
    widths
}

fn padded(text: &str, widths: &[usize]) -> String {
    let lines = text.lines().count();
    let mut out = String::with_capacity(text.len() + lines * widths.iter().sum::<usize>());
    for line in text.lines() {
        let mut cells = line.split('\t');
        for (width, cell) in widths.iter().zip(&mut cells) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width - cell.len()));
        }
        out.extend(cells);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slowly(text: &str) -> String {
        let mut table = aligned(Vec::new(), 10, 3);
        table.write_all(text.as_bytes()).expect("a vector takes everything");
        String::from_utf8(table.into_inner().expect("flushed")).expect("text")
    }

    fn check(text: &str, plain: bool) {
        let mut out = Vec::new();
        write(&mut out, text, 10, 3).expect("a vector takes everything");
        assert_eq!(String::from_utf8(out).expect("text"), slowly(text), "{text:?}");
        assert_eq!(widths(text).is_some(), plain, "{text:?}");
    }

    #[test]
    fn both_ways_give_the_same() {
        check("A\tB\tC\n1\t2\t3\n", true);
        check(
            "CONTAINER ID\tIMAGE\tNAMES\n0123456789ab\tbusybox\tx\n0123456789ab\ta much longer name of an image\tx\n",
            true,
        );
        check("ONE\ntwo\n", true);
        check("A\tB\t\n\t\t\nlonger than ten\t\tc\n", true);
        check("A\tB\n1\n", false);
        check("A\n1\t2\n", false);
        check("NAME\tX\nä ö ü\ty\n", false);
        check("NAME\tX\n\u{1b}[1mbold\ty\n", false);
        check("A\tB\n\n1\t2\n", false);
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_cells_are(rows in proptest::collection::vec(proptest::collection::vec("[ -~ä]{0,12}", 1..5), 1..6)) {
            let text: String = rows.iter().map(|cells| format!("{}\n", cells.join("\t"))).collect();
            let mut out = Vec::new();
            write(&mut out, &text, 10, 3).expect("a vector takes everything");
            proptest::prop_assert_eq!(String::from_utf8(out).expect("text"), slowly(&text));
        }
    }
}
