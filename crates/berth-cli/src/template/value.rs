//! The values a template works on: JSON as Go sees it, and objects with computed fields.
//!
//! Go's templates can tell a missing key from a null, a nil pointer from an absent value, and a map of strings from a
//! map of anything. Those differences are visible in what a user prints, so the value type keeps them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;

/// A value inside a template.
#[derive(Clone)]
pub enum Value {
    /// No value at all, as of a missing key; prints as `<no value>`.
    Missing,
    /// A null without a type; prints as `<no value>`, in a list as `<nil>`.
    Null,
    /// A nil pointer of the named Go type; prints as `<nil>`.
    NilPointer(&'static str),
    /// True or false.
    Bool(bool),
    /// Any whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(Rc<str>),
    /// A list of values.
    List(Rc<List>),
    /// Values by name, in the order of the names.
    Map(Rc<Map>),
    /// Something with fields of its own.
    Object(Rc<dyn Object>),
}

/// A list with the Go type it stands for, which error messages name.
pub struct List {
    /// For example `[]string`.
    pub go_type: &'static str,
    /// Whether it was never made: JSON `null` instead of `[]`.
    pub is_nil: bool,
    /// The elements.
    pub items: Vec<Value>,
}

/// A map with the Go type it stands for.
pub struct Map {
    /// For example `map[string]string`.
    pub go_type: &'static str,
    /// Whether it was never made: JSON `null` instead of `{}`.
    pub is_nil: bool,
    /// What `index` gives for a key that is not there.
    pub zero: Value,
    /// The elements.
    pub entries: BTreeMap<String, Value>,
}

/// Something whose fields are computed: a row of a list, or a document with a Go type.
pub trait Object {
    /// The Go type that error messages name.
    fn go_type(&self) -> &str;

    /// The field or method without arguments of that name, if there is one.
    fn field(&self, name: &str) -> Option<Value>;

    /// Calls the method `name` with arguments; `None` when there is no such method.
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let _ = (name, arguments);
        None
    }

    /// Whether JSON documents leave it out where they leave out what is empty.
    fn is_empty(&self) -> bool {
        false
    }

    /// Appends the object as JSON.
    fn write_json(&self, out: &mut String);

    /// The object as Go's `%v` prints it.
    fn display(&self) -> String;
}

/// The type of a JSON object that nothing is known about.
pub(super) const UNTYPED_MAP: &str = "map[string]interface {}";

impl Value {
    /// Text.
    pub fn text(text: impl AsRef<str>) -> Value {
        Value::Text(Rc::from(text.as_ref()))
    }

    /// A list of texts.
    pub fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Value {
        let items = items.into_iter().map(Value::text).collect();
        Value::List(Rc::new(List { go_type: "[]string", is_nil: false, items }))
    }

    /// A JSON document of no particular type.
    pub fn json(document: &serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match document {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => Value::number(n),
            Json::String(s) => Value::text(s),
            Json::Array(items) => Value::List(Rc::new(List {
                go_type: "[]interface {}",
                is_nil: false,
                items: items.iter().map(Value::json).collect(),
            })),
            Json::Object(entries) => Value::Map(Rc::new(Map {
                go_type: UNTYPED_MAP,
                is_nil: false,
                zero: Value::Null,
                entries: entries.iter().map(|(k, v)| (k.clone(), Value::json(v))).collect(),
            })),
        }
    }

    /// A JSON number: whole if it is written so.
    pub fn number(number: &serde_json::Number) -> Value {
        match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Value::Int(int.into()),
            (None, Some(int)) => Value::Int(int.into()),
            (None, None) => Value::Float(number.as_f64().unwrap_or_default()),
        }
    }

    /// Whether `if` takes it as true: not empty, not zero, there.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Value::Missing | Value::Null | Value::NilPointer(_) => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Text(s) => !s.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            Value::Object(_) => true,
        }
    }

    /// The name of the Go type, for messages.
    pub(crate) fn type_name(&self) -> &str {
        match self {
            Value::Missing | Value::Null => "<nil>",
            Value::NilPointer(name) => name,
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::List(list) => list.go_type,
            Value::Map(map) => map.go_type,
            Value::Object(object) => object.go_type(),
        }
    }

    /// The value as JSON text, keys in order and nothing escaped for HTML.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out, Escape::Plain);
        out
    }

    pub(crate) fn write_json(&self, out: &mut String, escape: Escape) {
        match self {
            Value::Missing | Value::Null | Value::NilPointer(_) => out.push_str("null"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            // Writing to a string cannot fail, here and below.
            Value::Int(i) => {
                let _ = write!(out, "{i}");
            }
            Value::Float(f) => out.push_str(&json_float(*f)),
            Value::Text(s) => write_json_text(out, s, escape),
            Value::List(list) if list.is_nil => out.push_str("null"),
            Value::Map(map) if map.is_nil => out.push_str("null"),
            Value::List(list) => {
                write_joined(out, ['[', ']'], list.items.iter(), |out, item| item.write_json(out, escape));
            }
            Value::Map(map) => write_joined(out, ['{', '}'], map.entries.iter(), |out, (key, item)| {
                write_json_text(out, key, escape);
                out.push(':');
                item.write_json(out, escape);
            }),
            Value::Object(object) => object.write_json(out),
        }
    }
}

impl std::fmt::Display for Value {
    /// The value as `%v` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&super::print::display(self))
    }
}

/// Whether `<`, `>` and `&` are escaped in JSON text, as Go's encoder does unless told otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    Html,
    Plain,
}

pub(crate) fn write_joined<T>(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    out.push(open);
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(close);
}

pub(crate) fn write_json_text(out: &mut String, text: &str, escape: Escape) {
    out.push('"');
    for c in text.chars() {
        let _ = match c {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\u{8}' => out.write_str("\\b"),
            '\u{c}' => out.write_str("\\f"),
            '<' | '>' | '&' if escape == Escape::Html => write!(out, "\\u{:04x}", u32::from(c)),
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => write!(out, "\\u{:04x}", u32::from(c)),
            c => out.write_char(c),
        };
    }
    out.push('"');
}

/// A float as Go's JSON encoder writes it.
fn json_float(f: f64) -> String {
    let exponent = f != 0.0 && !(1e-6..1e21).contains(&f.abs());
    if exponent { format!("{f:e}").replace('e', if f.abs() >= 1.0 { "e+" } else { "e" }) } else { format!("{f}") }
}
