//! Binds and volumes in the short form, `source:target:mode`.

use std::collections::BTreeSet;

use berth_engine::spec::{BindOptions, MountKind, MountRequest, Propagation, VolumeOptions};

use crate::http::error::ApiError;
use crate::translate::mounts::{VOLUME_MODE, check_target, clean_absolute, refused, volume_name};

/// One bind in the short form: `target`, `source:target` or `source:target:mode`.
pub fn parse(text: &str) -> Result<MountRequest, ApiError> {
    let malformed = || ApiError::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] if !target.is_empty() => ("", target, ""),
        // `/data:rw` is a target with a mode, which no anonymous volume can have.
        [_, second] if Mode::parse(second, Source::Path).is_some() => return Err(malformed()),
        [source, target] if !source.is_empty() => (source, target, ""),
        [source, target, mode] if !source.is_empty() => (source, target, mode),
        _ => return Err(malformed()),
    };
    let from = if source.starts_with('/') { Source::Path } else { Source::Volume };
    let kind = if from == Source::Path { "bind" } else { "volume" };
    let target = check_target(target)
        .map_err(|reason| refused(kind, &reason).context(format!("invalid volume specification: '{text}'")))?;
    let understood = Mode::parse(mode, from).ok_or_else(|| ApiError::invalid(format!("invalid mode: {mode}")))?;
    let kind = match from {
        Source::Path => MountKind::Bind {
            source: clean_absolute(source).map_err(|reason| refused(kind, &reason))?,
            options: BindOptions { propagation: understood.propagation, create_source: true, ..BindOptions::default() },
        },
        Source::Volume => MountKind::Volume {
            name: volume_name(source)?,
            options: VolumeOptions { no_copy: understood.no_copy, ..VolumeOptions::default() },
        },
    };
    let shown = if from == Source::Volume && mode.is_empty() { VOLUME_MODE } else { mode };
    Ok(MountRequest {
        target,
        kind,
        read_only: understood.read_only,
        mode: shown.to_owned(),
        consistency: understood.consistency,
    })
}

/// Where a bind in the short form comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Path,
    Volume,
}

/// The mode of a bind in the short form.
#[derive(Default)]
struct Mode {
    read_only: bool,
    no_copy: bool,
    propagation: Option<Propagation>,
    consistency: String,
}

impl Mode {
    /// Reads a comma-separated mode; `None` if a word is unknown, comes twice, or does not fit the source.
    fn parse(text: &str, source: Source) -> Option<Mode> {
        let mut mode = Mode::default();
        let mut seen = BTreeSet::new();
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let class = match word {
                "ro" => {
                    mode.read_only = true;
                    "access"
                }
                "rw" => "access",
                "z" | "Z" => "label",
                "nocopy" if source == Source::Volume => {
                    mode.no_copy = true;
                    "copy"
                }
                "consistent" | "cached" | "delegated" | "default" => {
                    word.clone_into(&mut mode.consistency);
                    "consistency"
                }
                other => {
                    let propagation = Propagation::from_word(other).filter(|_| source == Source::Path)?;
                    mode.propagation = Some(propagation);
                    "propagation"
                }
            };
            if !seen.insert(class) {
                return None;
            }
        }
        Some(mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_bind(text: &str) -> String {
        parse(text).expect_err(text).message
    }

    #[test]
    fn binds_are_refused_in_known_words() {
        let name = "includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
                    If you intended to pass a host directory, use absolute path";
        let target = "invalid mount config for type \"bind\"";
        for (text, expected) in [
            ("", "invalid volume specification: ''".to_owned()),
            ("/data:rw", "invalid volume specification: '/data:rw'".to_owned()),
            ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'".to_owned()),
            ("/tmp:/c:bogus", "invalid mode: bogus".to_owned()),
            ("/tmp:/c:ro,rw", "invalid mode: ro,rw".to_owned()),
            ("/tmp:/c:nocopy", "invalid mode: nocopy".to_owned()),
            ("v1:/c:rshared", "invalid mode: rshared".to_owned()),
            ("a/b:/c", format!("create a/b: \"a/b\" {name}")),
            (
                "/a:c",
                format!(
                    "invalid volume specification: '/a:c': {target}: invalid mount path: 'c' mount path must be absolute"
                ),
            ),
            (
                "/tmp:/",
                format!(
                    "invalid volume specification: '/tmp:/': {target}: invalid specification: destination can't be '/'"
                ),
            ),
        ] {
            assert_eq!(refused_bind(text), expected, "{text}");
        }
    }

    #[test]
    fn binds_are_understood() {
        let request = parse("/host//dir/:/in/../to:ro,rslave,z").expect("valid");
        assert_eq!((request.target.as_str(), request.read_only), ("/to", true));
        let MountKind::Bind { source, options } = request.kind else { panic!("a bind") };
        assert_eq!(source, "/host/dir");
        assert_eq!(options.propagation, Some(Propagation::Rslave));
        assert!(options.create_source);
        let volume = parse("g-vol2:/v2:nocopy").expect("valid");
        assert_eq!(volume.mode, "nocopy");
        assert!(
            matches!(volume.kind, MountKind::Volume { name: Some(name), options } if name == "g-vol2" && options.no_copy)
        );
        assert!(matches!(parse("/anon").expect("valid").kind, MountKind::Volume { name: None, .. }));
    }
}
