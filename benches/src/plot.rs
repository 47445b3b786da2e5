//! The plots: bars of medians with whiskers from p10 to p90, as SVG that reads well on light and on dark pages.

use std::fmt::Write;

use crate::{
    report::value,
    results::{Measure, Report, Row},
    statistics::Summary,
};

const WIDTH: f64 = 820.0;
/// Names of engines end here, and bars begin.
const LEFT: f64 = 120.0;
/// The longest bar ends here; its label follows.
const RIGHT: f64 = 690.0;
const LINE: f64 = 20.0;
const GAP: f64 = 14.0;

/// Colours follow the reader's preference; each engine has its own, and processor time a paler shade of it.
const STYLE: &str = "\
:root{--paper:#ffffff;--ink:#1f2328;--faint:#59636e;--line:#d1d9e0;--berth:#0969da;--docker:#bc4c00;--podman:#8250df;--crun:#1a7f37;--runc:#bf3989}\
@media(prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#f0f6fc;--faint:#9198a1;--line:#3d444d;--berth:#4493f8;--docker:#db8a4a;--podman:#ab7df8;--crun:#3fb950;--runc:#db61a2}}\
.paper{fill:var(--paper);stroke:var(--line)}text{fill:var(--ink);font:12px system-ui,sans-serif}.case{font-weight:600}.small{fill:var(--faint);font-size:11px}\
.berth,.berth-runtime{fill:var(--berth)}.docker{fill:var(--docker)}.podman{fill:var(--podman)}.crun{fill:var(--crun)}.runc{fill:var(--runc)}.cpu{opacity:.5}\
.axis{stroke:var(--line)}.whisker{stroke:var(--ink);stroke-width:1.2;opacity:.75}.bar{stroke:var(--ink);stroke-dasharray:3 3}";

/// The plot of one group. Every case has a scale of its own.
pub fn svg(report: &Report) -> String {
    let mut body = String::new();
    let mut y = 58.0;
    for case in report.cases() {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.case == case && !row.figures.is_empty()).collect();
        if !rows.is_empty() {
            y = block(&mut body, case, &rows, y);
        }
    }
    let title = crate::groups::Group::named(&report.group).map_or("", crate::groups::Group::title).replace('`', "");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" role=\"img\">\n\
        <title>{title}</title>\n<style>{STYLE}</style>\n\
        <rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
        <text class=\"case\" x=\"16\" y=\"24\" style=\"font-size:14px\">{}</text>\n\
        <text class=\"small\" x=\"16\" y=\"42\">{}</text>\n{body}</svg>\n",
        WIDTH - 1.0,
        y - 1.0,
        escape(&title),
        escape(&format!("full: wall clock or memory, pale: CPU, whiskers: p10 to p90; {}", report.disk)),
        title = escape(&title),
    )
}

/// One case: a line for each engine and figure. Gives the place below.
fn block(body: &mut String, case: &str, rows: &[&Row], top: f64) -> f64 {
    let mut y = top;
    let _ = writeln!(body, "<text class=\"case\" x=\"16\" y=\"{}\">{}</text>", y + 12.0, escape(case));
    y += LINE;
    let figures = |row: &Row| row.figures.clone();
    let most = rows
        .iter()
        .flat_map(|row| figures(row).into_values())
        .map(|figure| figure.p90.max(figure.median))
        .fold(f64::MIN_POSITIVE, f64::max);
    let axis = y;
    let at = |number: f64| LEFT + (RIGHT - LEFT) * number.max(0.0) / most;
    for row in rows {
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 13.0,
            escape(&row.engine)
        );
        for (&measure, figure) in &row.figures {
            bar(body, row, measure, figure, y, at);
            y += if measure == Measure::Cpu { LINE - 6.0 } else { LINE };
        }
    }
    let _ = writeln!(body, "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"{axis}\" y2=\"{y}\"/>");
    y + GAP
}

fn bar(body: &mut String, row: &Row, measure: Measure, figure: &Summary, y: f64, at: impl Fn(f64) -> f64) {
    let (height, pale) = if measure == Measure::Cpu { (8.0, " cpu") } else { (14.0, "") };
    let end = at(figure.median);
    let middle = y + 2.0 + height / 2.0;
    let _ = writeln!(
        body,
        "<rect class=\"{}{pale}\" x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"{height}\" rx=\"1.5\"/>",
        row.engine,
        y + 2.0,
        (end - LEFT).max(1.0)
    );
    let (low, high) = (at(figure.p10), at(figure.p90));
    if figure.count > 1 {
        let (up, down) = (middle - 3.0, middle + 3.0);
        let _ = writeln!(
            body,
            "<path class=\"whisker\" fill=\"none\" d=\"M{low:.1} {up}V{down}M{low:.1} {middle}H{high:.1}M{high:.1} {up}V{down}\"/>"
        );
    }
    let label = value(measure, figure.median);
    let x = end.max(high) + 6.0;
    let _ = writeln!(body, "<text class=\"small\" x=\"{x:.1}\" y=\"{}\">{label}</text>", middle + 4.0);
    if let Some(most) =
        row.bars.iter().find(|bar| bar.measure == measure).map(|bar| at(bar.most)).filter(|&x| x <= RIGHT)
    {
        let _ = writeln!(
            body,
            "<line class=\"bar\" x1=\"{most:.1}\" x2=\"{most:.1}\" y1=\"{y}\" y2=\"{}\"/>",
            y + height + 4.0
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn every_figure_has_a_bar_inside_the_paper() {
        let text = svg(&sample("run", "a <disk>"));
        assert_eq!(text.matches("<rect class=\"berth").count(), 2);
        assert_eq!(text.matches("<rect class=\"docker").count(), 1);
        assert_eq!(text.matches("class=\"whisker\"").count(), 1);
        assert!(
            text.contains("width=\"570.0\"") && text.contains("a &lt;disk&gt;") && !text.contains("podman\""),
            "{text}"
        );
    }
}
