//! `berth manifest annotate`.

use berth_api::descriptor::Platform;
use clap::Args;

use super::local::LocalLists;
use super::name;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Annotate>(
    "manifest",
    "annotate",
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    "Add additional information to a local image manifest",
    Arity::Exactly(2),
);

/// Says for which platform a manifest of a local list is.
#[derive(Args)]
pub struct Annotate {
    /// Set architecture
    #[arg(long, value_name = "string")]
    arch: Option<String>,
    /// Set operating system
    #[arg(long, value_name = "string")]
    os: Option<String>,
    /// Set operating system feature
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, value_name = "string")]
    os_version: Option<String>,
    /// Set architecture variant
    #[arg(long, value_name = "string")]
    variant: Option<String>,
    names: Vec<String>,
}

/// What an image can be for: what there are programs for in the language that this check comes from.
const KNOWN: [(&str, &[&str]); 9] = [
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

impl Command for Annotate {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let [list, image] = self.names.as_slice() else { unreachable!("the parser has counted them") };
        let wrong = |what: &str, text: &str, error: CliError| {
            CliError::message(format!("annotate: error parsing name for {what} {text}: {error}"))
        };
        let target = name(list).map_err(|error| wrong("manifest list", list, error))?;
        let reference = name(image).map_err(|error| wrong("manifest", image, error))?;
        let lists = LocalLists::of(&cx.globals().config_dir());
        let mut manifest = lists
            .manifest(&target, &reference)?
            .ok_or_else(|| CliError::message(format!("manifest for image {image} does not exist in {list}")))?;
        let platform = manifest.descriptor.platform.get_or_insert_default();
        self.change(platform);
        let is_known =
            KNOWN.iter().any(|(os, all)| *os == platform.os && all.contains(&platform.architecture.as_str()));
        if !is_known {
            let Platform { os, architecture, .. } = platform;
            return Err(CliError::message(format!(
                "manifest entry for image has unsupported os/arch combination: {os}/{architecture}"
            )));
        }
        lists.save(&target, &reference, &manifest)
    }
}

impl Annotate {
    fn change(&self, platform: &mut Platform) {
        for (field, given) in [
            (&mut platform.os, &self.os),
            (&mut platform.architecture, &self.arch),
            (&mut platform.os_version, &self.os_version),
            (&mut platform.variant, &self.variant),
        ] {
            if let Some(text) = given.as_ref().filter(|text| !text.is_empty()) {
                field.clone_from(text);
            }
        }
        for feature in &self.os_features {
            if !platform.os_features.contains(feature) {
                platform.os_features.push(feature.clone());
            }
        }
    }
}
