//! The page: what was measured, as Markdown.

use std::fmt::Write;

use crate::{
    groups::Group,
    results::{Measure, Report, Row},
    statistics::Summary,
};

/// Ours, in engines and in runtimes; everybody else is compared with it.
const OURS: [&str; 2] = ["berth", "berth-runtime"];

/// The whole page in `docs/`, with the plots beside it.
pub fn page(reports: &[Report]) -> String {
    let mut text = String::from(
        "# Benchmarks\n\n\
        Written by `cargo run --release -p bench -- --write`; the same figures as data are in `benchmarks.json`.\n\n\
        Each engine runs in a network and a mount namespace of its own with an empty data directory. The engines of a group take turns,\n\
        after one turn that does not count. *Wall* is the client's time from start to end. *CPU* is the processor time of\n\
        everything that belongs to the engine (client, daemon, shims, runtimes, containers), counted by the cgroup that holds them all, until\n\
        it has come to rest; what the kernel does on its own threads is in nobody's account. Memory is what is charged to\n\
        cgroups, kernel memory included and file cache not, or the proportional set size (PSS) where it says so. Berth's program is written as\n\
        `scripts/install` does, in pieces of 256 KiB; the others are as Debian's package manager left them.\n\
        The last columns compare with Berth, and with what Berth wants to reach.\n",
    );
    text.push_str(&goals(reports));
    for group in Group::ALL {
        for report in reports.iter().filter(|report| report.group == group.name()) {
            text.push_str(&section(report, true));
        }
    }
    text
}

/// One group; on the page with its plot.
pub fn section(report: &Report, with_plot: bool) -> String {
    let title = Group::named(&report.group).map_or("", Group::title);
    let mut text = format!("\n## {title}, on {}\n\n", report.disk);
    if with_plot {
        let _ = writeln!(text, "![Bars of the medians, whiskers from p10 to p90]({})\n", plot_name(report));
    }
    text.push_str(&table(report));
    text.push_str("\n<details><summary>How it was measured</summary>\n\n");
    let machine = &report.machine;
    let _ = writeln!(text, "- {}: {:.0} s from {}", report.group, report.seconds, report.taken);
    let _ = writeln!(
        text,
        "- machine: {}, {} MiB, Linux {}, {}",
        machine.processor, machine.memory, machine.kernel, machine.system
    );
    let _ = writeln!(text, "- load averages: {} before, {} after; {}", report.load[0], report.load[1], report.others);
    if let Some(reference) = &report.reference {
        let _ =
            writeln!(text, "- to compare: starting and ending `busybox true` took {}", three(Measure::Wall, reference));
    }
    let _ = writeln!(text, "- data on {}; counted by {}", report.disk, report.method);
    for (engine, version) in &report.versions {
        let _ = writeln!(text, "- {engine}: {version}");
    }
    for note in &report.notes {
        let _ = writeln!(text, "- {note}");
    }
    text.push_str("\n</details>\n");
    text
}

/// The file of a group's plot.
pub fn plot_name(report: &Report) -> String {
    let word = |text: &str| {
        text.split(|letter: char| !letter.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("-")
    };
    format!("benchmarks-{}-{}.svg", report.group, word(&report.disk).to_lowercase())
}

/// Every bar, and whether it was reached.
fn goals(reports: &[Report]) -> String {
    let mut text = String::from(
        "\n## What Berth wants to reach\n\n| what | measured | at most | reached | on |\n|---|--:|--:|---|---|\n",
    );
    let before = text.len();
    for report in reports {
        for row in &report.rows {
            for (what, measured, most, reached) in bars(report, row) {
                let _ = writeln!(
                    text,
                    "| {}: {}, {what} | {measured} | {most} | {} | {} |",
                    report.group,
                    row.case,
                    yes(reached),
                    report.disk
                );
            }
        }
    }
    if text.len() == before { String::new() } else { text }
}

fn bars(report: &Report, row: &Row) -> Vec<(String, String, String, bool)> {
    let mut bars = Vec::new();
    for bar in &row.bars {
        if let Some(figure) = row.figures.get(&bar.measure) {
            let reached = figure.median <= bar.most;
            bars.push((
                heading(bar.measure).to_lowercase(),
                value(bar.measure, figure.median),
                value(bar.measure, bar.most),
                reached,
            ));
        }
    }
    // The runtime's bar is not a number but its peer.
    if row.engine == OURS[1]
        && let (Some(ours), Some(theirs)) = (wall(row), report.peer(&row.case, "crun").and_then(wall))
    {
        bars.push((
            "wall, against crun".to_owned(),
            value(Measure::Wall, ours),
            value(Measure::Wall, theirs),
            ours <= theirs,
        ));
    }
    let peers: Vec<&Row> =
        ["docker", "docker-noproxy"].into_iter().filter_map(|name| report.peer(&row.case, name)).collect();
    for (measure, times) in [(Measure::Wall, row.times), (Measure::Cpu, row.cpu_times)] {
        let best = peers.iter().filter_map(|peer| median(peer, measure)).min_by(f64::total_cmp);
        if let (Some(times), Some(ours), Some(theirs)) = (times, median(row, measure), best) {
            bars.push((heading(measure).to_lowercase(), share(theirs / ours), share(times), theirs / ours >= times));
        }
    }
    bars
}

/// One part of so many, exactly where they are few. Where it is about being as fast, the speed says more.
fn share(times: f64) -> String {
    match times {
        few if few < 2.0 => format!("{few:.2} of docker's speed"),
        some if some < 10.0 => format!("1/{some:.1} of docker"),
        many => format!("1/{many:.0} of docker"),
    }
}

fn median(row: &Row, measure: Measure) -> Option<f64> {
    row.figures.get(&measure).map(|figure| figure.median)
}

fn wall(row: &Row) -> Option<f64> {
    median(row, Measure::Wall)
}

fn table(report: &Report) -> String {
    let measures: Vec<Measure> = [Measure::Wall, Measure::Cpu, Measure::Memory, Measure::Bytes]
        .into_iter()
        .filter(|&measure| report.has(measure))
        .collect();
    let mut text = String::from("| case | engine | samples |");
    let mut rule = String::from("|---|---|--:|");
    for &measure in &measures {
        let _ = write!(text, " {}: p10 / **median** / p90 | to Berth |", heading(measure));
        rule.push_str("--:|--:|");
    }
    text.push_str(" bar |\n");
    text.push_str(&rule);
    text.push_str("---|\n");
    for case in report.cases() {
        for row in report.rows.iter().filter(|row| row.case == case) {
            text.push_str(&line(report, row, &measures));
        }
    }
    text
}

fn line(report: &Report, row: &Row, measures: &[Measure]) -> String {
    let count = row.figures.values().map(|figure| figure.count).max();
    let mut text =
        format!("| {} | {} | {} |", row.case, row.engine, count.map(|count| count.to_string()).unwrap_or_default());
    if let Some(failure) = &row.failure {
        let _ = write!(text, " failed: {} |", failure.replace('|', " "));
        text.push_str(&" |".repeat((measures.len() * 2).saturating_sub(1)));
        return text + " |\n";
    }
    for measure in measures {
        let figure = row.figures.get(measure);
        let ours = OURS.iter().find_map(|name| report.peer(&row.case, name)).and_then(|ours| ours.figures.get(measure));
        let ratio = match (figure, ours) {
            (Some(figure), Some(ours)) if !OURS.contains(&row.engine.as_str()) && ours.median > 0.0 => {
                ratio(figure.median / ours.median)
            }
            _ => String::new(),
        };
        let _ = write!(text, " {} | {ratio} |", figure.map(|figure| three(*measure, figure)).unwrap_or_default());
    }
    let verdicts =
        bars(report, row).into_iter().map(|(what, _, most, reached)| format!("{what} {most}: {}", yes(reached)));
    let _ = writeln!(text, " {} |", verdicts.collect::<Vec<_>>().join("; "));
    text
}

fn three(measure: Measure, figure: &Summary) -> String {
    if figure.count == 1 {
        return format!("**{}**", value(measure, figure.median));
    }
    format!("{} / **{}** / {}", value(measure, figure.p10), value(measure, figure.median), value(measure, figure.p90))
}

fn heading(measure: Measure) -> &'static str {
    match measure {
        Measure::Wall => "Wall",
        Measure::Cpu => "CPU",
        Measure::Memory => "Memory",
        Measure::Bytes => "Received",
    }
}

/// A figure with its unit, in three digits or so.
pub fn value(measure: Measure, number: f64) -> String {
    let (number, unit) = match measure {
        Measure::Wall | Measure::Cpu if number.abs() >= 10_000.0 => (number / 1e3, "s"),
        Measure::Wall | Measure::Cpu => (number, "ms"),
        Measure::Memory | Measure::Bytes if number.abs() >= 10_240.0 => (number / 1024.0, "MiB"),
        Measure::Memory | Measure::Bytes => (number, "KiB"),
    };
    let digits = if number.abs() >= 100.0 {
        0
    } else if number.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{number:.digits$} {unit}")
}

fn ratio(times: f64) -> String {
    if times >= 10.0 { format!("{times:.0} x") } else { format!("{times:.1} x") }
}

fn yes(reached: bool) -> &'static str {
    if reached { "yes" } else { "**no**" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn a_section_has_ratios_bars_and_failures() {
        let text = section(&sample("run", "ext4 (/)"), false);
        assert!(text.contains("| run | berth | 3 | 1.20 ms / **2.00 ms** / 2.80 ms |  | **1.00 ms** |  | wall 8.00 ms: yes; wall 1/30 of docker: **no** |"), "{text}");
        assert!(text.contains("| run | docker | 1 | **50.0 ms** | 25 x |  |  |  |"), "{text}");
        assert!(text.contains("| run | podman |  | failed: it <fails> | | | | |"), "{text}");
    }

    #[test]
    fn the_page_begins_with_the_goals() {
        let text = page(&[sample("run", "ext4 (/)")]);
        assert!(text.contains("| run: run, wall | 2.00 ms | 8.00 ms | yes | ext4 (/) |"), "{text}");
        assert!(text.contains("(benchmarks-run-ext4.svg)"), "{text}");
    }

    #[test]
    fn figures_have_units_that_fit() {
        assert_eq!(value(Measure::Wall, 12_345.0), "12.3 s");
        assert_eq!(value(Measure::Memory, 250.4), "250 KiB");
        assert_eq!(value(Measure::Memory, 20.0 * 1024.0), "20.0 MiB");
    }
}
