//! Lists for people and scripts: rows through `--format`, aligned in columns where it is a table.
//!
//! A command says what its rows offer ([`Row`]) and which format is its default; here `table`, `json` and templates are
//! told apart, headers added and columns aligned (B082, B092). What a field contains is the command's business.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use crate::columns;
use crate::error::CliError;
use crate::template::{Escape, MissingKey, Object, Template, Value, write_joined, write_json_text};

/// What `--format` of a list can ask of one row.
pub trait Row: 'static {
    /// The name error messages give the row.
    const GO_TYPE: &'static str;

    /// The fields with the heads of their columns, ordered by name.
    const COLUMNS: &'static [(&'static str, &'static str)];

    /// One of the fields above.
    fn field(&self, name: &str) -> Option<Value>;

    /// What `{{.Label "key"}}` gives; `None` where rows have no labels.
    fn label(&self, key: &str) -> Option<String> {
        let _ = key;
        None
    }
}

/// What `--format` of a list is.
pub const FORMAT_HELP: &str = "Format output using a custom template:\n\
    'table':            Print output in table format with column headers (default)\n\
    'table TEMPLATE':   Print output in table format using the given Go template\n\
    'json':             Print in JSON format\n\
    'TEMPLATE':         Print output using the given Go template";

/// Shows only ids, for `--quiet`.
pub const ONLY_ID: &str = "{{.ID}}";

/// Whether a format makes a table.
pub fn is_table(format: &str) -> bool {
    format.starts_with("table")
}

/// Writes `rows` in `format`: `json`, `table` and a template, or a template alone.
///
/// # Errors
/// Docker's text where the template is wrong, or asks for what rows do not have; nothing is written then.
pub fn write<R: Row>(out: &mut dyn Write, format: &str, rows: impl IntoIterator<Item = R>) -> Result<(), CliError> {
    write_values(out, format, rows.into_iter().map(row_value), header_value(R::COLUMNS))
}

/// As [`write`], for rows that are still being read and may fail.
///
/// # Errors
/// Also those of the rows; nothing is written then.
pub fn write_read<R: Row>(
    out: &mut dyn Write,
    format: &str,
    rows: impl IntoIterator<Item = Result<R, CliError>>,
) -> Result<(), CliError> {
    write_all(out, format, rows.into_iter().map(|row| row.map(row_value)), header_value(R::COLUMNS))
}

/// As [`write`], for rows of several types under one header.
pub fn write_values(
    out: &mut dyn Write,
    format: &str,
    rows: impl IntoIterator<Item = Value>,
    header: Value,
) -> Result<(), CliError> {
    write_all(out, format, rows.into_iter().map(Ok), header)
}

fn write_all(
    out: &mut dyn Write,
    format: &str,
    rows: impl Iterator<Item = Result<Value, CliError>>,
    header: Value,
) -> Result<(), CliError> {
    let template = Template::parse(&template_text(format)).map_err(parsing_error)?;
    let mut body = String::new();
    for row in rows {
        body.push_str(&template.execute(row?, MissingKey::NoValue).map_err(parsing_error)?);
        body.push('\n');
    }
    if !is_table(format) {
        return Ok(out.write_all(body.as_bytes())?);
    }
    let table = format!("{}\n{body}", template.execute_header(header));
    Ok(columns::write(out, &table, 10, 3)?)
}

/// The template inside a format, with `\t` and `\n` as people type them.
pub fn template_text(format: &str) -> String {
    let text = match format {
        "json" => "{{json .}}",
        format => format.strip_prefix("table").unwrap_or(format),
    };
    text.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n")
}

fn parsing_error(error: impl std::fmt::Display) -> CliError {
    CliError::message(format!("template parsing error: {error}"))
}

/// A row as a value of templates.
pub fn row_value<R: Row>(row: R) -> Value {
    Value::Object(Rc::new(RowObject(row)))
}

struct RowObject<R>(R);

impl<R: Row> Object for RowObject<R> {
    fn go_type(&self) -> &str {
        R::GO_TYPE
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.0.field(name)
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        call_label(name, arguments, |key| self.0.label(key))
    }

    fn write_json(&self, out: &mut String) {
        let fields = R::COLUMNS.iter().filter_map(|(name, _)| Some((name, self.0.field(name)?)));
        write_joined(out, ['{', '}'], fields, |out, (name, value)| {
            write_json_text(out, name, Escape::Html);
            out.push(':');
            value.write_json(out, Escape::Html);
        });
    }

    fn display(&self) -> String {
        format!("{{{}}}", R::GO_TYPE)
    }
}

fn call_label(
    name: &str,
    arguments: &[Value],
    label: impl Fn(&str) -> Option<String>,
) -> Option<Result<Value, String>> {
    if name != "Label" {
        return None;
    }
    match arguments {
        [Value::Text(key)] => label(key).map(|text| Ok(Value::text(text))),
        [other] => Some(Err(format!("wrong type for value; expected string; got {}", other.type_name()))),
        many => Some(Err(format!("wrong number of args for Label: want 1 got {}", many.len()))),
    }
}

/// The heads of columns as a value of templates.
pub fn header_value(columns: &'static [(&'static str, &'static str)]) -> Value {
    Value::Object(Rc::new(Header(columns)))
}

struct Header(&'static [(&'static str, &'static str)]);

impl Object for Header {
    fn go_type(&self) -> &str {
        "formatter.SubHeaderContext"
    }

    fn field(&self, name: &str) -> Option<Value> {
        if name == "Label" {
            return None;
        }
        let head = self.0.iter().find(|(field, _)| *field == name);
        Some(head.map_or(Value::Missing, |(_, head)| Value::text(head)))
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        // The column of a label is headed by the last part of its key.
        call_label(name, arguments, |key| Some(key.rsplit('.').next().unwrap_or(key).replace(['-', '_'], " ")))
    }

    fn write_json(&self, out: &mut String) {
        out.push_str("{}");
    }

    fn display(&self) -> String {
        String::new()
    }
}

/// Tells whether `format` asks rows of this kind for `field`, by running it on a row that writes down what it is asked.
///
/// # Errors
/// Docker's text for a format that cannot work on such rows.
pub fn asks_for<R: Row>(format: &str, field: &'static str, empty: R) -> Result<bool, CliError> {
    let failed =
        |what: &str, error: &dyn std::fmt::Display| CliError::message(format!("failed to {what} template: {error}"));
    let template = Template::parse(format).map_err(|error| failed("parse", &error))?;
    let asked = Rc::new(Cell::new(false));
    let probe = Value::Object(Rc::new(Probe { row: RowObject(empty), field, asked: Rc::clone(&asked) }));
    template.execute(probe, MissingKey::NoValue).map_err(|error| failed("execute", &error))?;
    Ok(asked.get())
}

struct Probe<R> {
    row: RowObject<R>,
    field: &'static str,
    asked: Rc<Cell<bool>>,
}

impl<R: Row> Object for Probe<R> {
    fn go_type(&self) -> &str {
        R::GO_TYPE
    }

    fn field(&self, name: &str) -> Option<Value> {
        if name == self.field {
            self.asked.set(true);
        }
        self.row.field(name)
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        self.row.call(name, arguments)
    }

    fn write_json(&self, out: &mut String) {
        self.asked.set(true);
        self.row.write_json(out);
    }

    fn display(&self) -> String {
        self.row.display()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fruit(&'static str, &'static str);

    impl Row for Fruit {
        const GO_TYPE: &'static str = "*test.Fruit";
        const COLUMNS: &'static [(&'static str, &'static str)] = &[("Colour", "COLOUR"), ("Name", "FRUIT NAME")];

        fn field(&self, name: &str) -> Option<Value> {
            match name {
                "Colour" => Some(Value::text(self.1)),
                "Name" => Some(Value::text(self.0)),
                _ => None,
            }
        }

        fn label(&self, key: &str) -> Option<String> {
            Some(format!("<{key}>"))
        }
    }

    fn rendered(format: &str, rows: Vec<Fruit>) -> String {
        let mut out = Vec::new();
        match write(&mut out, format, rows) {
            Ok(()) => String::from_utf8(out).expect("text"),
            Err(error) => error.to_string(),
        }
    }

    fn check(format: &str, want: &str) {
        assert_eq!(
            rendered(format, vec![Fruit("apple", "green & red"), Fruit("a plum as such", "blue")]),
            want,
            "{format}"
        );
    }

    #[test]
    fn formats_make_tables_json_and_free_text() {
        check(
            "table {{.Name}}\t{{.Colour}}",
            "FRUIT NAME       COLOUR\napple            green & red\na plum as such   blue\n",
        );
        check(
            "table {{.Colour}}\\t{{.Name}}",
            "COLOUR        FRUIT NAME\ngreen & red   apple\nblue          a plum as such\n",
        );
        check(
            "json",
            "{\"Colour\":\"green \\u0026 red\",\"Name\":\"apple\"}\n{\"Colour\":\"blue\",\"Name\":\"a plum as such\"}\n",
        );
        check("{{.Name}}", "apple\na plum as such\n");
        check("table {{upper .Name}}", "FRUIT NAME\nAPPLE\nA PLUM AS SUCH\n");
        check("table {{.Label \"a.some-key\"}}", "some key\n<a.some-key>\n<a.some-key>\n");
        check(
            "{{.Weight}}",
            "template parsing error: template: :1:2: executing \"\" at <.Weight>: can't evaluate field Weight in type *test.Fruit",
        );
        check("{{", "template parsing error: template: :1: unclosed action");
    }

    #[test]
    fn the_header_is_there_without_rows() {
        assert_eq!(rendered("table {{.Name}}\t{{.Colour}}", Vec::new()), "FRUIT NAME   COLOUR\n");
        assert_eq!(rendered("table {{.Colour}}\t{{.Name}}", Vec::new()), "COLOUR    FRUIT NAME\n");
        assert_eq!(rendered("json", Vec::new()), "");
    }
}
