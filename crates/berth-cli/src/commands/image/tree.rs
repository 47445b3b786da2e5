//! `berth images --tree`: every image with the platforms that are here beneath it.

use std::io::{self, Write};

use berth_api::image::{ImageSummary, ManifestSummary};
use berth_model::decimal_size;

use super::ls::is_dangling;
use crate::human::short_id;

/// Blanks between two columns.
const GAP: usize = 3;
const TITLES: [&str; 5] = ["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"];

/// One line: what stands in each column.
type Line = [String; 5];

/// Writes the images as a tree.
pub(super) fn write(out: &mut impl Write, images: &[ImageSummary]) -> io::Result<()> {
    let mut lines: Vec<Line> = vec![TITLES.map(str::to_owned)];
    for image in images {
        add(image, &mut lines);
    }
    let mut widths = [0; 5];
    for line in &lines {
        for (width, text) in widths.iter_mut().zip(line) {
            *width = (*width).max(text.chars().count());
        }
    }
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(text, width)| format!("{text:<0$}", width + GAP));
        writeln!(out, "{}", cells.collect::<String>().trim_end())?;
    }
    Ok(())
}

fn add(image: &ImageSummary, lines: &mut Vec<Line>) {
    let manifests: Vec<&ManifestSummary> = image.manifests.iter().filter(|one| one.kind == "image").collect();
    let content: i64 = image.manifests.iter().map(|one| one.size.content).sum();
    let names: Vec<&str> = match is_dangling(image) {
        true => vec!["<untagged>"],
        false if image.repo_tags.is_empty() => image.repo_digests.iter().map(String::as_str).collect(),
        false => image.repo_tags.iter().map(String::as_str).collect(),
    };
    let used = if image.containers > 0 { "U" } else { "" };
    let (last, others) = names.split_last().unwrap_or((&"", &[]));
    for name in others {
        // Only the last name of an image has its numbers and its platforms.
        lines.push([(*name).to_owned(), short_id(&image.id).to_owned(), String::new(), String::new(), String::new()]);
    }
    lines.push(line(last, &image.id, image.size, content, used));
    for (at, manifest) in manifests.iter().enumerate() {
        let branch = if at + 1 == manifests.len() { "└─" } else { "├─" };
        let platform = manifest.image_data.as_ref().map(|data| &data.platform);
        let platform = platform.map_or_else(String::new, |platform| {
            let variant = if platform.variant.is_empty() { String::new() } else { format!("/{}", platform.variant) };
            format!("{}/{}{variant}", platform.os, platform.architecture)
        });
        let missing = if manifest.available { "" } else { "incomplete" };
        let name = format!("{branch} {platform}");
        lines.push(line(&name, &manifest.id, manifest.size.total, manifest.size.content, missing));
    }
}

fn line(name: &str, id: &str, disk: i64, content: i64, extra: &str) -> Line {
    let size = |bytes: i64| decimal_size(bytes as f64, 3);
    [name.to_owned(), short_id(id).to_owned(), size(disk), size(content), extra.to_owned()]
}
