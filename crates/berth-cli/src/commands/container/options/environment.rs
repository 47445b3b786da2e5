//! Variables and labels, from flags and from files.

use std::collections::BTreeMap;
use std::fs;

/// `--env-file` and `-e`, in this order: the later one of two of the same name wins.
pub(crate) fn variables(files: &[String], given: &[String]) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for file in files {
        all.extend(read(file, |name| std::env::var(name).ok().map(|value| format!("{name}={value}")))?);
    }
    all.extend(last_of_each(given));
    Ok(all)
}

/// One line for each variable: the last value, at the first place.
fn last_of_each(given: &[String]) -> Vec<String> {
    let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    let mut kept: Vec<String> = Vec::new();
    for line in given {
        match kept.iter_mut().find(|earlier| name(earlier) == name(line)) {
            Some(earlier) => earlier.clone_from(line),
            None => kept.push(line.clone()),
        }
    }
    kept
}

/// `--label-file` and `-l`.
pub(super) fn labels(files: &[String], given: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::new();
    for file in files {
        all.extend(read(file, |name| Some(name.to_owned()))?.iter().map(|line| pair(line)));
    }
    all.extend(given.iter().map(|label| pair(label)));
    Ok(all)
}

/// `key=value`; a key alone has an empty value.
pub(super) fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// The lines of a file without comments and blank ones; `alone` says what a name without `=` becomes.
fn read(file: &str, alone: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    let bytes = fs::read(file).map_err(|error| format!("open {file}: {}", reason(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("invalid env file ({file}): invalid utf8 bytes"))?;
    let mut lines = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some(("", _)) => return Err(format!("invalid env file ({file}): no variable name on line '{line}'")),
            Some((name, _)) if name.contains(char::is_whitespace) => {
                return Err(format!("invalid env file ({file}): variable '{name}' contains whitespaces"));
            }
            Some(_) => lines.push(line.to_owned()),
            None => lines.extend(alone(line.trim())),
        }
    }
    Ok(lines)
}

/// The system's words as the reference client prints them: lower case, without the number.
pub(super) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("file");
        fs::write(file.path(), content).expect("write");
        file
    }

    #[test]
    fn a_file_has_comments_blank_lines_and_no_quoting() {
        let file = file("# comment\n\nA=1\n  B=\"x # y\"\nNO_SUCH_VARIABLE_HERE\nC=\n");
        let path = file.path().display().to_string();
        let given = ["A=2".to_owned(), "D".to_owned(), "A=3".to_owned()];
        let all = variables(std::slice::from_ref(&path), &given).expect("read");
        assert_eq!(all, ["A=1", "B=\"x # y\"", "C=", "A=3", "D"]);
        let labels = labels(&[path], &[]).expect("read");
        assert_eq!(labels.get("NO_SUCH_VARIABLE_HERE").map(String::as_str), Some(""));
    }

    #[test]
    fn a_bad_line_names_the_file() {
        let file = file("A B=c\n");
        let path = file.path().display().to_string();
        let error = variables(std::slice::from_ref(&path), &[]).expect_err("refused");
        assert_eq!(error, format!("invalid env file ({path}): variable 'A B' contains whitespaces"));
        assert_eq!(
            variables(&["/nonexistent".into()], &[]),
            Err("open /nonexistent: no such file or directory".into())
        );
    }
}
