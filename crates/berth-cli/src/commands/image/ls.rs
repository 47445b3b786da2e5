//! `berth images`, `berth image ls`.

use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;

use berth_api::image::ImageSummary;
use berth_model::{ImageRef, decimal_size};
use clap::Args;

use crate::filter::{Filter, Filters};
use crate::human::{ago, local_time, short_id};
use crate::table::{self, ONLY_ID, Row};
use crate::template::{Value, quote};
use crate::{Arity, CliError, Command, Context, Entry, Place};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Ls>("image", "ls", "[OPTIONS] [REPOSITORY[:TAG]]", "List images", Arity::AtMost(1))
        .aliases(&["list"])
        .top(&["images"])
        .place(Place::Common(7));

/// Lists images.
#[derive(Args)]
pub struct Ls {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    #[arg(long, value_name = "string", help = table::FORMAT_HELP)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// List multi-platform images as a tree
    #[arg(long)]
    tree: bool,
    repository: Option<String>,
}

impl Command for Ls {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let mut filters = Filters::of(&self.filter);
        if let Some(name) = &self.repository {
            filters.add("reference", name);
        }
        let request = cx.client()?.get("/images/json").flag("all", self.all);
        if self.tree {
            self.check_tree()?;
            let request = request.flag("manifests", true).query_opt("filters", filters.to_query().as_deref());
            let images: Vec<ImageSummary> = request.send()?.json()?;
            let mut out = cx.stdout();
            super::tree::write(&mut out, &images)?;
            return Ok(out.flush()?);
        }
        let images: Vec<ImageSummary> = request.query_opt("filters", filters.to_query().as_deref()).send()?.json()?;
        let none = images.is_empty();
        let format = self.layout(&cx.config().images_format);
        let look = Look { trunc: !self.no_trunc, digests: self.digests, wants_digest: format.contains("{{.Digest}}") };
        let mut out = cx.stdout();
        table::write(&mut out, &format, images.into_iter().flat_map(|image| rows(image, &look)))?;
        out.flush()?;
        if let Some(name) = self.repository.filter(|name| none && SUBCOMMANDS.contains(&name.as_str())) {
            cx.warn(format!("\nNo images found matching {}: did you mean \"berth image {name}\"?", quote(&name)));
        }
        Ok(())
    }
}

/// Names that are more likely meant as a command than as an image.
const SUBCOMMANDS: &[&str] =
    &["build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag"];

impl Ls {
    fn check_tree(&self) -> Result<(), CliError> {
        let refused = [
            (self.quiet, "--quiet"),
            (self.no_trunc, "--no-trunc"),
            (self.digests, "--digests"),
            (self.format.is_some(), "--format"),
        ];
        match refused.into_iter().find(|(given, _)| *given) {
            Some((_, flag)) => Err(CliError::message(format!("{flag} is not yet supported with --tree"))),
            None => Ok(()),
        }
    }

    /// The format: from the flags, or the configuration unless only ids are wanted.
    fn layout(&self, configured: &str) -> String {
        let given = self.format.as_deref().unwrap_or_default();
        let source = match given {
            "" if configured.is_empty() || self.quiet => "table",
            "" => configured,
            given => given,
        };
        let digest = |with: &'static str, without: &'static str| if self.digests { with } else { without };
        match source {
            "table" if self.quiet => ONLY_ID.to_owned(),
            "table" => digest(TABLE_WITH_DIGEST, TABLE).to_owned(),
            "raw" if self.quiet => "image_id: {{.ID}}".to_owned(),
            "raw" => raw_format(self.digests),
            own if table::is_table(own) && self.digests && !own.contains("{{.Digest}}") => {
                format!("{own}\t{{{{.Digest}}}}")
            }
            own => own.to_owned(),
        }
    }
}

const TABLE: &str =
    "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
const TABLE_WITH_DIGEST: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t\
                                 {{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";

/// The format `raw`: a line for each field.
pub(crate) fn raw_format(digests: bool) -> String {
    let digest = if digests { "digest: {{.Digest}}\n" } else { "" };
    format!(
        "repository: {{{{ .Repository }}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\n\
         created_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n"
    )
}

/// What the flags say about the rows.
struct Look {
    trunc: bool,
    digests: bool,
    wants_digest: bool,
}

/// One row for each name of an image, in the order of its names.
fn rows(image: ImageSummary, look: &Look) -> Vec<ImageRow> {
    let image = Rc::new(image);
    let row = |repository: &str, tag: &str, digest: &str| ImageRow {
        image: Rc::clone(&image),
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
        trunc: look.trunc,
    };
    if is_dangling(&image) {
        return vec![row(NONE, NONE, NONE)];
    }
    let parsed = |texts: &[String]| texts.iter().filter_map(|text| text.parse::<ImageRef>().ok()).collect::<Vec<_>>();
    let mut digests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for named in parsed(&image.repo_digests) {
        let digest = named.digest().map(ToString::to_string).unwrap_or_default();
        digests.entry(named.familiar_repository()).or_default().push(digest);
    }
    let mut rows = Vec::new();
    let mut tagged = Vec::new();
    for named in parsed(&image.repo_tags) {
        let repository = named.familiar_repository();
        let tag = named.tag().unwrap_or(NONE);
        match digests.get(&repository).filter(|_| look.digests || look.wants_digest) {
            Some(known) => rows.extend(known.iter().map(|digest| row(&repository, tag, digest))),
            None => rows.push(row(&repository, tag, NONE)),
        }
        tagged.push(repository);
    }
    for (repository, known) in digests.iter().filter(|(repository, _)| !tagged.contains(repository)) {
        match look.digests {
            true => rows.extend(known.iter().map(|digest| row(repository, NONE, digest))),
            false => rows.push(row(repository, NONE, "")),
        }
    }
    rows
}

const NONE: &str = "<none>";

/// Whether an image has no name at all.
pub(crate) fn is_dangling(image: &ImageSummary) -> bool {
    let nothing = |names: &[String], none: &str| names.is_empty() || (names.len() == 1 && names[0] == none);
    nothing(&image.repo_tags, "<none>:<none>") && nothing(&image.repo_digests, "<none>@<none>")
}

/// An image under one of its names.
pub(crate) struct ImageRow {
    image: Rc<ImageSummary>,
    repository: String,
    tag: String,
    digest: String,
    trunc: bool,
}

impl ImageRow {
    /// The image under its first name.
    pub(crate) fn first_name(image: ImageSummary, trunc: bool) -> ImageRow {
        let named =
            image.repo_tags.first().filter(|_| !is_dangling(&image)).and_then(|name| name.parse::<ImageRef>().ok());
        ImageRow {
            repository: named.as_ref().map_or_else(|| NONE.to_owned(), ImageRef::familiar_repository),
            tag: named.as_ref().and_then(ImageRef::tag).unwrap_or(NONE).to_owned(),
            digest: String::new(),
            image: Rc::new(image),
            trunc,
        }
    }
}

impl Row for ImageRow {
    const GO_TYPE: &'static str = "*formatter.imageContext";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Containers", "CONTAINERS"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedSince", "CREATED"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("SharedSize", "SHARED SIZE"),
        ("Size", "SIZE"),
        ("Tag", "TAG"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("VirtualSize", "SIZE"),
    ];

    fn field(&self, name: &str) -> Option<Value> {
        let image = &self.image;
        // Four digits here, three in the columns everybody sees: docker's clients do so (B085).
        let size = |known: bool, bytes: i64| if known { decimal_size(bytes as f64, 4) } else { "N/A".to_owned() };
        Some(Value::text(match name {
            "ID" if self.trunc => short_id(&image.id).to_owned(),
            "ID" => image.id.clone(),
            "Repository" => self.repository.clone(),
            "Tag" => self.tag.clone(),
            "Digest" => self.digest.clone(),
            "CreatedSince" => ago(image.created),
            "CreatedAt" => local_time(image.created),
            "Size" => decimal_size(image.size as f64, 3),
            "VirtualSize" => size(true, image.size),
            "SharedSize" => size(image.shared_size != -1, image.shared_size),
            "UniqueSize" => size(image.size != -1 && image.shared_size != -1, image.size - image.shared_size),
            "Containers" if image.containers == -1 => "N/A".to_owned(),
            "Containers" => image.containers.to_string(),
            _ => return None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tags: &[&str], digests: &[&str], look: &Look, want: &[[&str; 3]]) {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let image = ImageSummary { repo_tags: own(tags), repo_digests: own(digests), ..ImageSummary::default() };
        let rows = rows(image, look);
        let got: Vec<[&str; 3]> = rows.iter().map(|row| [&*row.repository, &*row.tag, &*row.digest]).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn an_image_has_a_row_for_each_of_its_names() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let (here, there) = (format!("app@{digest}"), format!("host:5000/x@{digest}"));
        let plain = Look { trunc: true, digests: false, wants_digest: false };
        let digests = Look { digests: true, ..plain };
        check(&[], &[], &plain, &[[NONE, NONE, NONE]]);
        check(&["docker.io/library/app:1", "app:2"], &[&here], &plain, &[["app", "1", NONE], ["app", "2", NONE]]);
        check(&["app:1"], &[&here], &digests, &[["app", "1", &digest]]);
        check(&["app:1"], &[&there], &digests, &[["app", "1", NONE], ["host:5000/x", NONE, &digest]]);
        check(&[], &[&there], &plain, &[["host:5000/x", NONE, ""]]);
    }
}
