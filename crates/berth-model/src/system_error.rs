//! The operating system's reasons inside a line for the user: Rust's words for them, made those that everybody knows.

use std::borrow::Cow;

const NUMBER: &str = " (os error ";

/// The line without the error numbers that Rust adds, and with the reasons before them in small letters: `no such file or directory`.
pub fn plain_reasons(line: &str) -> Cow<'_, str> {
    if !line.contains(NUMBER) {
        return Cow::Borrowed(line);
    }
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once(NUMBER) {
        let Some((_, after)) = after.split_once(')') else { break };
        // The reason is what follows the last colon, or the whole line.
        let reason = before.rfind(": ").map_or(0, |colon| colon + 2);
        let (told, reason) = before.split_at(reason);
        let mut letters = reason.chars();
        plain.push_str(told);
        plain.extend(letters.next().map(|first| first.to_ascii_lowercase()));
        plain.push_str(letters.as_str());
        rest = after;
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_and_reasons_are_in_small_letters() {
        let cases = [
            ("nothing to change", "nothing to change"),
            ("No such file or directory (os error 2)", "no such file or directory"),
            ("open /a: Permission denied (os error 13)", "open /a: permission denied"),
            ("a: Is A (os error 1); b: Is B (os error 2), both", "a: is A; b: is B, both"),
            ("cut off (os error 2", "cut off (os error 2"),
        ];
        for (line, expected) in cases {
            assert_eq!(plain_reasons(line), expected);
        }
    }
}
