//! One line of comma separated values, as the long forms of `--mount`, `--network` and `--gpus` are written.

/// The fields of `line`. A field may stand in quotes, and then hold commas; two quotes inside mean one.
pub(super) fn fields(line: &str) -> Result<Vec<String>, String> {
    if line.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("parse error: extraneous or missing \" in quoted-field".to_owned()),
        }
    }
}

fn take_quoted(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("parse error: extraneous or missing \" in quoted-field")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_protect_commas() {
        for (line, want) in [
            ("a=1,b=2", vec!["a=1", "b=2"]),
            ("\"device=0,1\",x=y", vec!["device=0,1", "x=y"]),
            ("\"a\"\"b\",", vec!["a\"b", ""]),
        ] {
            assert_eq!(fields(line).expect(line), want, "{line}");
        }
        assert!(fields("\"open").is_err());
        assert_eq!(fields(""), Err("EOF".to_owned()));
    }
}
