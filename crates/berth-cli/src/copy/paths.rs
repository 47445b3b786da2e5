//! Paths as text: cleaned, split and joined, with what stands at their end kept where it means something.

/// A path without `.`, `..` and doubled slashes inside; `.` for nothing.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// The directory of a path that is clean.
pub(crate) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => ".",
    }
}

/// The last part of a path; `/` of the root.
pub(crate) fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

/// Whether a path says that it is a directory's content that is meant.
pub(crate) fn means_content(path: &str) -> bool {
    base(path) == "."
}

/// Whether a path says that it is a directory.
pub(crate) fn means_directory(path: &str) -> bool {
    path.ends_with('/') || means_content(path)
}

/// Directory and last part of a path; the last part of `a/b/.` is `.`.
pub(crate) fn split(path: &str) -> (String, String) {
    let clean = clean(path);
    if means_content(path) {
        return (clean, ".".to_owned());
    }
    (parent(&clean).to_owned(), base(&clean).to_owned())
}

/// A path in a directory.
pub(crate) fn join(directory: &str, path: &str) -> String {
    clean(&format!("{directory}/{path}"))
}

/// An absolute path that ends as it was given.
pub(crate) fn absolute(path: &str, here: &str) -> String {
    let full = if path.starts_with('/') { clean(path) } else { join(here, path) };
    keep_end(&full, path)
}

/// Puts the end of `original` back on a path that was cleaned.
pub(crate) fn keep_end(clean: &str, original: &str) -> String {
    let mut path = clean.to_owned();
    if means_content(original) && !means_content(&path) {
        if !path.ends_with('/') {
            path.push('/');
        }
        path.push('.');
    }
    if original.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_split() {
        for (path, cleaned, directory, last) in [
            ("/a/b", "/a/b", "/a", "b"),
            ("/a/b/", "/a/b", "/a", "b"),
            ("/a/b/.", "/a/b", "/a/b", "."),
            ("/", "/", "/", "/"),
            ("/.", "/", "/", "."),
            ("a", "a", ".", "a"),
            (".", ".", ".", "."),
            ("../a", "../a", "..", "a"),
            ("/a/../../b", "/b", "/", "b"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
            assert_eq!(split(path), (directory.to_owned(), last.to_owned()), "{path}");
        }
    }

    #[test]
    fn the_end_of_a_path_keeps_its_meaning() {
        for (path, expected) in
            [("b", "/a/b"), ("b/", "/a/b/"), ("b/.", "/a/b/."), (".", "/a/."), ("/", "/"), ("/x/..", "/")]
        {
            assert_eq!(absolute(path, "/a"), expected, "{path}");
        }
    }
}
