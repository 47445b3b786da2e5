//! What all `inspect` commands share: several names, one array, JSON or a template, failures at the end (B093).
//!
//! Which objects there are and where the daemon keeps them is the business of the commands.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::context::Context;
use crate::document::typed;
use crate::error::CliError;
use crate::template::{MissingKey, Template, Value};

/// What `--format` of an inspect command is.
pub const FORMAT_HELP: &str = "Format output using a custom template:\n\
    'json':             Print in JSON format\n\
    'TEMPLATE':         Print output using the given Go template";

/// Exit code of a template that cannot be parsed.
pub const TEMPLATE_CODE: u8 = 64;

/// One document as the daemon sent it.
pub struct Found {
    /// The type that templates see it as, see [`crate::document`].
    pub go_type: &'static str,
    /// The JSON text.
    pub json: Vec<u8>,
}

/// Fetches each of `names` and prints them all; what failed is told at the end.
pub fn inspect(
    cx: &Context,
    names: &[String],
    format: &str,
    mut fetch: impl FnMut(&str) -> Result<Found, CliError>,
) -> Result<(), CliError> {
    let mut printer = Printer::new(format)?;
    let mut failures = Vec::new();
    for name in names {
        if let Err(error) = fetch(name).and_then(|found| printer.add(&found)) {
            failures.push(error.to_string());
        }
    }
    let mut out = cx.stdout();
    out.write_all(printer.finish().as_bytes())?;
    out.flush()?;
    if failures.is_empty() { Ok(()) } else { Err(CliError::message(failures.join("\n"))) }
}

/// Collects documents in the form that was asked for.
enum Printer {
    Array { pretty: bool, documents: Vec<Vec<u8>> },
    Text { template: Template, text: String },
}

impl Printer {
    fn new(format: &str) -> Result<Printer, CliError> {
        match format {
            "" => Ok(Printer::Array { pretty: true, documents: Vec::new() }),
            "json" => Ok(Printer::Array { pretty: false, documents: Vec::new() }),
            text => {
                let template = Template::parse(text)
                    .map_err(|error| CliError::with_code(format!("template parsing error: {error}"), TEMPLATE_CODE))?;
                Ok(Printer::Text { template, text: String::new() })
            }
        }
    }

    fn add(&mut self, found: &Found) -> Result<(), CliError> {
        match self {
            Printer::Array { documents, .. } => documents.push(found.json.clone()),
            Printer::Text { template, text } => {
                text.push_str(&fill(template, found)?);
                text.push('\n');
            }
        }
        Ok(())
    }

    fn finish(self) -> String {
        match self {
            Printer::Text { text, .. } if text.is_empty() => "\n".to_owned(),
            Printer::Text { text, .. } => text,
            Printer::Array { documents, .. } if documents.is_empty() => "[]\n".to_owned(),
            Printer::Array { pretty, documents } => {
                let array = [b"[", documents.join(&b","[..]).as_slice(), b"]"].concat();
                let array = String::from_utf8_lossy(&array);
                reflow(&array, pretty.then_some("    ")) + "\n"
            }
        }
    }
}

/// Fields by the names and types of the table first; what it does not know is looked for among the JSON keys.
fn fill(template: &Template, found: &Found) -> Result<String, CliError> {
    let json: serde_json::Value = serde_json::from_slice(&found.json)
        .map_err(|error| CliError::message(format!("unable to read inspect data: {error}")))?;
    if let Ok(text) = template.execute(typed(found.go_type, &json), MissingKey::NoValue) {
        return Ok(text);
    }
    template
        .execute(Value::json(&json), MissingKey::Error)
        .map_err(|error| CliError::message(format!("template parsing error: {error}")))
}

/// Lays JSON text out with an indent, or without any blanks; numbers, escapes and the order of keys stay as they are.
pub fn reflow(json: &str, indent: Option<&str>) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut escaped = false;
    let mut opened = false;
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = indent {
            let _ = write!(out, "\n{}", indent.repeat(depth));
        }
    };
    for c in json.chars() {
        if in_text {
            out.push(c);
            (in_text, escaped) = (escaped || c != '"', c == '\\' && !escaped);
            continue;
        }
        if matches!(c, ' ' | '\t' | '\r' | '\n') {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if opened && !closes {
            depth += 1;
            line(&mut out, depth);
        }
        match c {
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(if indent.is_some() { ": " } else { ":" }),
            _ if closes => {
                if !opened {
                    depth = depth.saturating_sub(1);
                    line(&mut out, depth);
                }
                out.push(c);
            }
            _ => {
                in_text = c == '"';
                out.push(c);
            }
        }
        opened = matches!(c, '{' | '[');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_without_touching_its_words() {
        let text = "{\"a\":[1,2.50,{}],\"b\":[ ],\"c\":\"x, \\\" {y}: \\u003c\\\\\",\"d\":{\"e\":null}}\n";
        let want = "{\n    \"a\": [\n        1,\n        2.50,\n        {}\n    ],\n    \"b\": [],\n    \
                    \"c\": \"x, \\\" {y}: \\u003c\\\\\",\n    \"d\": {\n        \"e\": null\n    }\n}";
        assert_eq!(reflow(text, Some("    ")), want);
        assert_eq!(reflow(want, None), text.trim_end().replace("[ ]", "[]"));
    }

    fn printed(format: &str, documents: &[&str]) -> String {
        let mut printer = Printer::new(format).unwrap_or_else(|error| panic!("{error}"));
        for json in documents {
            let found = Found { go_type: "volume.Volume", json: json.as_bytes().to_vec() };
            if let Err(error) = printer.add(&found) {
                return error.to_string();
            }
        }
        printer.finish()
    }

    #[test]
    fn documents_come_as_one_array_or_one_line_each() {
        let documents = ["{\"Name\":\"a\"}\n", "{\"Name\":\"b\"}\n"];
        assert_eq!(
            printed("", &documents),
            "[\n    {\n        \"Name\": \"a\"\n    },\n    {\n        \"Name\": \"b\"\n    }\n]\n"
        );
        assert_eq!(printed("json", &documents), "[{\"Name\":\"a\"},{\"Name\":\"b\"}]\n");
        assert_eq!(printed("{{.Name}}", &documents), "a\nb\n");
        assert_eq!(printed("", &[]), "[]\n");
        assert_eq!(printed("{{.Name}}", &[]), "\n");
    }

    #[test]
    fn keys_without_a_field_are_found_and_missing_ones_are_an_error() {
        assert_eq!(printed("{{.New}}", &["{\"New\":5}"]), "5\n");
        assert_eq!(
            printed("{{.Bogus}}", &["{}"]),
            "template parsing error: template: :1:2: executing \"\" at <.Bogus>: map has no entry for key \"Bogus\""
        );
    }
}
