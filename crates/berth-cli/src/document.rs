//! Documents of the daemon as templates see them: with the fields, and the empty values, of their types.
//!
//! Scripts say `{{if .State.Health}}` of a container that has none, `{{.ID}}` where the JSON key is `Id`, and
//! `{{join .Config.Cmd " "}}` of a list of texts. A plain JSON document knows none of that; the table in
//! `document/types.txt` does.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use berth_model::to_go_duration;
use serde_json::Value as Json;

use crate::human::go_time;
use crate::template::{Escape, List, Map, Object, Value, write_joined, write_json_text};

/// `json` as a document of the type `go_type` of the table.
pub fn typed(go_type: &'static str, json: &Json) -> Value {
    build(go_type, Some(json))
}

/// A document in which nothing is set, of the type that the pointer `go_type` names.
pub fn empty(go_type: &'static str) -> Value {
    let (fields, values) = parts(go_type.trim_start_matches('*'), None);
    Value::Object(Rc::new(Structure { go_type, fields, values }))
}

/// One field of a type.
struct Field {
    name: &'static str,
    key: &'static str,
    /// Whether an empty value is left out of JSON.
    omit_empty: bool,
    go_type: &'static str,
}

fn types() -> &'static HashMap<&'static str, Vec<Field>> {
    static TYPES: OnceLock<HashMap<&'static str, Vec<Field>>> = OnceLock::new();
    TYPES.get_or_init(|| {
        let mut types: HashMap<&'static str, Vec<Field>> = HashMap::new();
        let mut current = "";
        for line in include_str!("document/types.txt").lines().filter(|line| !line.starts_with('#')) {
            match line.strip_prefix("  ").and_then(|field| field.split_once(' ')) {
                Some((names, go_type)) => {
                    let (names, omit_empty) = names.strip_suffix('?').map_or((names, false), |names| (names, true));
                    let (name, key) = names.split_once('=').unwrap_or((names, names));
                    types.entry(current).or_default().push(Field { name, key, omit_empty, go_type });
                }
                None => current = line,
            }
        }
        types
    })
}

/// A value of `go_type` from its JSON, or the empty one.
fn build(go_type: &'static str, json: Option<&Json>) -> Value {
    let json = json.filter(|json| !json.is_null());
    if let Some(target) = go_type.strip_prefix('*') {
        return if json.is_some() { build(target, json) } else { Value::NilPointer(go_type) };
    }
    if let Some(element) = go_type.strip_prefix("[]") {
        let items = json.and_then(Json::as_array);
        return Value::List(Rc::new(List {
            go_type,
            is_nil: items.is_none(),
            items: items.into_iter().flatten().map(|item| build(element, Some(item))).collect(),
        }));
    }
    if let Some(element) = go_type.strip_prefix("map[string]") {
        let entries = json.and_then(Json::as_object);
        return Value::Map(Rc::new(Map {
            go_type,
            is_nil: entries.is_none(),
            zero: build(element, None),
            entries: entries.into_iter().flatten().map(|(k, v)| (k.clone(), build(element, Some(v)))).collect(),
        }));
    }
    let text = || json.and_then(Json::as_str).unwrap_or_default();
    match go_type {
        "string" => {
            json.map_or_else(|| Value::text(""), |json| json.as_str().map_or_else(|| Value::json(json), Value::text))
        }
        "bool" => Value::Bool(json.and_then(Json::as_bool).unwrap_or_default()),
        "time.Time" => Value::Object(Rc::new(Time(text().to_owned()))),
        "time.Duration" => Value::Object(Rc::new(Span(json.and_then(Json::as_i64).unwrap_or_default()))),
        "interface {}" => json.map_or(Value::Null, Value::json),
        "int" | "int32" | "int64" | "uint" | "uint8" | "uint16" | "uint32" | "uint64" => {
            json.map_or(Value::Int(0), Value::json)
        }
        _ => structure(go_type, json),
    }
}

fn structure(go_type: &'static str, json: Option<&Json>) -> Value {
    if go_type.contains('.') && !types().contains_key(go_type) {
        return json.map_or(Value::Null, Value::json);
    }
    let (fields, values) = parts(go_type, json);
    Value::Object(Rc::new(Structure { go_type, fields, values }))
}

/// The fields of a type, and their values in a document.
fn parts(go_type: &str, json: Option<&Json>) -> (&'static [Field], Vec<Value>) {
    let fields = types().get(go_type).map_or(&[][..], Vec::as_slice);
    // The decoder takes keys in any case, as long as one fits exactly or alone.
    let find = |key: &str| {
        let object = json.and_then(Json::as_object)?;
        object.get(key).or_else(|| object.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, value)| value))
    };
    (fields, fields.iter().map(|field| build(field.go_type, find(field.key))).collect())
}

/// A document, or a part of one, with the fields of its type.
struct Structure {
    go_type: &'static str,
    fields: &'static [Field],
    values: Vec<Value>,
}

impl Object for Structure {
    fn go_type(&self) -> &str {
        self.go_type
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.fields.iter().position(|field| field.name == name).map(|at| self.values[at].clone())
    }

    fn write_json(&self, out: &mut String) {
        let shown = self.fields.iter().zip(&self.values).filter(|(field, value)| !field.omit_empty || !is_empty(value));
        write_joined(out, ['{', '}'], shown, |out, (field, value)| {
            write_json_text(out, field.key, Escape::Plain);
            out.push(':');
            value.write_json(out, Escape::Plain);
        });
    }

    fn display(&self) -> String {
        let values: Vec<String> = self.values.iter().map(Value::to_string).collect();
        format!("{{{}}}", values.join(" "))
    }
}

/// What the encoder leaves out: structures it never does.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty(),
        other => !other.is_true(),
    }
}

/// A point in time as the daemon wrote it.
struct Time(String);

impl Object for Time {
    fn go_type(&self) -> &str {
        "time.Time"
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "String" => Some(Value::text(self.display())),
            "IsZero" => Some(Value::Bool(self.0.is_empty() || self.0.starts_with("0001-01-01T00:00:00"))),
            "Unix" => Some(Value::Int(self.0.parse::<jiff::Timestamp>().map_or(0, |time| time.as_second().into()))),
            _ => None,
        }
    }

    fn write_json(&self, out: &mut String) {
        write_json_text(out, if self.0.is_empty() { "0001-01-01T00:00:00Z" } else { &self.0 }, Escape::Plain);
    }

    fn display(&self) -> String {
        go_time(&self.0)
    }
}

/// A length of time in nanoseconds.
struct Span(i64);

impl Object for Span {
    fn go_type(&self) -> &str {
        "time.Duration"
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "String" => Some(Value::text(self.display())),
            "Seconds" => Some(Value::Float(self.0 as f64 / 1e9)),
            "Nanoseconds" => Some(Value::Int(self.0.into())),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn write_json(&self, out: &mut String) {
        out.push_str(&self.0.to_string());
    }

    fn display(&self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        format!("{sign}{}", to_go_duration(Duration::from_nanos(self.0.unsigned_abs())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::{MissingKey, Template};

    fn check(template: &str, want: &str) {
        let document = json!({
            "Id": "abc", "Created": "2024-05-01T10:00:00Z", "Args": [], "State": {"Status": "running", "Pid": 4_294_967_296_u64},
            "Config": {"Cmd": ["sh", "-c", "x"], "Labels": {"a": "b"}, "Healthcheck": {"Interval": 90_000_000_000_u64}},
            "HostConfig": {"PidsLimit": null, "PortBindings": {"80/tcp": null}},
        });
        let template = Template::parse(template).expect(template);
        let result = template.execute(typed("container.InspectResponse", &document), MissingKey::NoValue);
        assert_eq!(result.unwrap_or_else(|error| error.to_string()), want);
    }

    #[test]
    fn fields_have_the_names_and_empty_values_of_their_type() {
        check("{{.ID}} {{.State.Pid}}", "abc 4294967296");
        check("{{if .State.Health}}yes{{else}}no{{end}} {{.State.Health}}", "no <nil>");
        check("{{join .Config.Cmd \" \"}} {{json .Config.Entrypoint}} {{json .Args}}", "sh -c x null []");
        check("{{index .Config.Labels \"a\"}}{{index .Config.Labels \"b\"}}|{{.Config.Labels.b}}", "b|<no value>");
        check("{{.Config.Healthcheck.Interval}} {{json .Config.Healthcheck}}", "1m30s {\"Interval\":90000000000}");
        check("{{json .HostConfig.PortBindings}} {{.HostConfig.PortBindings}}", "{\"80/tcp\":null} map[80/tcp:[]]");
        check("{{.HostConfig.PidsLimit}} {{.HostConfig.Memory}}", "<nil> 0");
        check(
            "{{.Bogus}}",
            "template: :1:2: executing \"\" at <.Bogus>: can't evaluate field Bogus in type container.InspectResponse",
        );
    }
}
