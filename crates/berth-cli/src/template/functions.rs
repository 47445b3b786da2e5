//! The functions a template can call: Go's own and docker's.
//!
//! Arguments arrive checked against [`Function::parameters`]; what a function itself refuses it says in Go's words.

use super::print::{display, print, printf, println};
use super::value::Value;

/// What a parameter takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    Any,
    Text,
    Int,
    Texts,
}

impl Parameter {
    pub fn go_type(self) -> &'static str {
        match self {
            Parameter::Any => "interface {}",
            Parameter::Text => "string",
            Parameter::Int => "int",
            Parameter::Texts => "[]string",
        }
    }
}

/// What a function does with its arguments.
type Run = fn(&[Value]) -> Result<Value, String>;

/// A function with its signature.
pub(super) struct Function {
    pub parameters: &'static [Parameter],
    /// Whether the last parameter takes any number of arguments.
    pub variadic: bool,
    pub run: Run,
}

/// Which functions a template sees besides Go's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    /// Docker's functions, working on values.
    Values,
    /// Docker's functions for the header of a table, which let column names pass unchanged.
    Header,
}

/// Finds a function; `and` and `or` are there by name only, since the executor evaluates them itself.
pub(super) fn find(name: &str, library: Library) -> Option<Function> {
    use Parameter::{Any, Int, Text, Texts};
    let (parameters, variadic, run): (&'static [Parameter], bool, Run) = match name {
        "and" | "or" => (&[Any, Any], true, |_| Err("not a plain function".to_owned())),
        "not" => (&[Any], false, |a| Ok(Value::Bool(!a[0].is_true()))),
        "len" => (&[Any], false, |a| len(&a[0])),
        "index" => (&[Any, Any], true, index),
        "slice" => (&[Any, Any], true, slice),
        "print" => (&[Any], true, |a| Ok(Value::text(print(a)))),
        "println" => (&[Any], true, |a| Ok(Value::text(println(a)))),
        "printf" => (&[Text, Any], true, |a| Ok(Value::text(printf(&text(&a[0]), &a[1..])))),
        "html" => (&[Any], true, |a| Ok(Value::text(html(&joined(a))))),
        "js" => (&[Any], true, |a| Ok(Value::text(js(&joined(a))))),
        "urlquery" => (&[Any], true, |a| Ok(Value::text(urlquery(&joined(a))))),
        "eq" => (&[Any, Any], true, |a| any_equal(a).map(Value::Bool)),
        "ne" => (&[Any, Any], false, |a| equal(&a[0], &a[1]).map(|b| Value::Bool(!b))),
        "lt" => (&[Any, Any], false, |a| order(a, std::cmp::Ordering::is_lt)),
        "le" => (&[Any, Any], false, |a| order(a, std::cmp::Ordering::is_le)),
        "gt" => (&[Any, Any], false, |a| order(a, std::cmp::Ordering::is_gt)),
        "ge" => (&[Any, Any], false, |a| order(a, std::cmp::Ordering::is_ge)),
        // No value of ours can be called; the executor knows the words to refuse it with.
        "call" => (&[Any, Any], true, |_| Err("non-function".to_owned())),
        "pad" => (&[Text, Int, Int], false, |a| pad(&text(&a[0]), int(&a[1]), int(&a[2]))),
        "json" | "title" | "lower" | "upper" if library == Library::Header => (&[Text], false, |a| Ok(a[0].clone())),
        "split" | "join" if library == Library::Header => (&[Text, Text], false, |a| Ok(a[0].clone())),
        "truncate" if library == Library::Header => (&[Text, Int], false, |a| Ok(a[0].clone())),
        "json" => (&[Any], false, |a| Ok(Value::text(a[0].to_json()))),
        "split" => (&[Text, Text], false, |a| Ok(split(&text(&a[0]), &text(&a[1])))),
        "join" => (&[Texts, Text], false, |a| Ok(join(&a[0], &text(&a[1])))),
        "title" => (&[Text], false, |a| Ok(Value::text(title(&text(&a[0]))))),
        "lower" => (&[Text], false, |a| Ok(Value::text(text(&a[0]).to_lowercase()))),
        "upper" => (&[Text], false, |a| Ok(Value::text(text(&a[0]).to_uppercase()))),
        "truncate" => (&[Text, Int], false, |a| truncate(&text(&a[0]), int(&a[1]))),
        _ => return None,
    };
    Some(Function { parameters, variadic, run })
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(s) => s.as_ref().to_owned(),
        other => display(other),
    }
}

fn int(value: &Value) -> i128 {
    if let Value::Int(i) = value { *i } else { 0 }
}

fn joined(values: &[Value]) -> String {
    print(values)
}

fn len(value: &Value) -> Result<Value, String> {
    let count = match value {
        Value::Text(s) => s.len(),
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.entries.len(),
        Value::Missing | Value::Null => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(count as i128))
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let mut item = arguments[0].clone();
    if matches!(item, Value::Missing | Value::Null) {
        return Err("index of untyped nil".to_owned());
    }
    for key in &arguments[1..] {
        item = match &item {
            Value::List(list) => list.items[position(key, list.items.len(), false)?].clone(),
            Value::Text(s) => Value::Int(s.as_bytes()[position(key, s.len(), false)?].into()),
            Value::Map(map) => match key {
                Value::Text(name) => map.entries.get(name.as_ref()).unwrap_or(&map.zero).clone(),
                Value::Missing | Value::Null => return Err("value is nil; should be of type string".to_owned()),
                other => return Err(format!("value has type {}; should be string", other.type_name())),
            },
            Value::Missing | Value::Null | Value::NilPointer(_) => return Err("index of nil pointer".to_owned()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

/// A position within `len` elements, or behind the last one where that makes sense.
fn position(key: &Value, len: usize, end: bool) -> Result<usize, String> {
    match key {
        Value::Int(i) => usize::try_from(*i)
            .ok()
            .filter(|i| *i < len || (end && *i == len))
            .ok_or_else(|| format!("index out of range: {i}")),
        Value::Missing | Value::Null => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let (item, bounds) = (&arguments[0], &arguments[1..]);
    let len = match item {
        Value::Missing | Value::Null => return Err("slice of untyped nil".to_owned()),
        Value::Text(_) if bounds.len() == 3 => return Err("cannot 3-index slice a string".to_owned()),
        Value::Text(s) => s.len(),
        Value::List(list) => list.items.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let mut range = [0, len];
    for (at, bound) in bounds.iter().take(2).enumerate() {
        range[at] = position(bound, len, true)?;
    }
    let [from, to] = range;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match item {
        Value::Text(s) => Value::text(String::from_utf8_lossy(&s.as_bytes()[from..to])),
        Value::List(list) => {
            let items = list.items[from..to].to_vec();
            Value::List(std::rc::Rc::new(super::value::List { go_type: list.go_type, is_nil: false, items }))
        }
        other => other.clone(),
    })
}

/// The kinds of values that Go's comparisons know.
fn kind(value: &Value) -> Result<&'static str, String> {
    match value {
        Value::Bool(_) => Ok("bool"),
        Value::Int(_) => Ok("int"),
        Value::Float(_) => Ok("float"),
        Value::Text(_) => Ok("string"),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn any_equal(arguments: &[Value]) -> Result<bool, String> {
    let (first, others) = arguments.split_first().ok_or("missing argument for comparison")?;
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    let is_nil = |v: &Value| matches!(v, Value::Missing | Value::Null | Value::NilPointer(_));
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        (a, b) if is_nil(a) || is_nil(b) => Ok(is_nil(a) && is_nil(b)),
        (_, Value::List(_) | Value::Map(_)) => Err(format!("non-comparable type {}: {}", display(b), b.type_name())),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn order(arguments: &[Value], accept: fn(std::cmp::Ordering) -> bool) -> Result<Value, String> {
    let [a, b] = arguments else { return Err("missing argument for comparison".to_owned()) };
    let (kind_a, kind_b) = (kind(a)?, kind(b)?);
    let ordering = match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        _ if kind_a != kind_b => return Err("incompatible types for comparison".to_owned()),
        _ => return Err("invalid type for comparison".to_owned()),
    };
    Ok(Value::Bool(accept(ordering)))
}

/// The widest blank that `pad` may add: a template is no place for megabytes of it.
const MAX_PAD: i128 = 1 << 20;

fn pad(text: &str, before: i128, after: i128) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::text(""));
    }
    let blanks = |count: i128| match usize::try_from(count) {
        Ok(n) if count <= MAX_PAD => Ok(" ".repeat(n)),
        Ok(_) => Err(format!("pad of more than {MAX_PAD} blanks")),
        Err(_) => Err("strings: negative Repeat count".to_owned()),
    };
    Ok(Value::text(format!("{}{text}{}", blanks(before)?, blanks(after)?)))
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return Value::texts(text.chars().map(String::from));
    }
    Value::texts(text.split(separator))
}

fn join(list: &Value, separator: &str) -> Value {
    let Value::List(list) = list else { return Value::text("") };
    let words: Vec<String> = list.items.iter().map(text).collect();
    Value::text(words.join(separator))
}

fn title(text: &str) -> String {
    let mut previous = ' ';
    text.chars()
        .map(|c| {
            let starts = !(previous.is_alphanumeric() || previous == '_');
            previous = c;
            if starts { c.to_uppercase().next().unwrap_or(c) } else { c }
        })
        .collect()
}

fn truncate(text: &str, length: i128) -> Result<Value, String> {
    if (text.len() as i128) < length {
        return Ok(Value::text(text));
    }
    let length = usize::try_from(length).map_err(|_| format!("slice bounds out of range [:{length}]"))?;
    Ok(Value::text(String::from_utf8_lossy(&text.as_bytes()[..length])))
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(b.into()),
            b' ' => out.push('+'),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
