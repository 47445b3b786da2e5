//! `--security-opt`: a seccomp profile is a file of the client, and travels as JSON.

use std::fs;

use super::environment::reason;

/// Security options as the daemon takes them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Security {
    pub options: Vec<String>,
    /// `systempaths=unconfined`: nothing in /proc and /sys is masked or read-only.
    pub bare_system_paths: bool,
}

pub(super) fn security(given: &[String]) -> Result<Security, String> {
    let mut security = Security::default();
    for option in given {
        match option.split_once('=').or_else(|| option.split_once(':')) {
            None if option == "no-new-privileges" => security.options.push(option.clone()),
            None => return Err(format!("Invalid --security-opt: {option:?}")),
            Some(("systempaths", "unconfined")) => security.bare_system_paths = true,
            Some(("seccomp", profile)) if !matches!(profile, "unconfined" | "builtin") => {
                security.options.push(format!("seccomp={}", compact_profile(profile)?));
            }
            Some(_) => security.options.push(option.clone()),
        }
    }
    Ok(security)
}

fn compact_profile(path: &str) -> Result<String, String> {
    let opened = |error| format!("opening seccomp profile ({path}) failed: open {path}: {}", reason(&error));
    let text = fs::read(path).map_err(opened)?;
    let document: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| format!("compacting json for seccomp profile ({path}) failed: {error}"))?;
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_and_compacted() {
        let file = tempfile::NamedTempFile::new().expect("file");
        fs::write(file.path(), "{\n \"b\": 1,\n \"a\": [ ]\n}\n").expect("write");
        let given =
            [format!("seccomp={}", file.path().display()), "no-new-privileges".into(), "systempaths=unconfined".into()];
        let security = security(&given).expect("options");
        assert_eq!(security.options, ["seccomp={\"b\":1,\"a\":[]}", "no-new-privileges"]);
        assert!(security.bare_system_paths);
    }
}
