//! Go's formatting of values: `%v` and the other verbs of `printf`.
//!
//! Only what templates can reach: no `%p`, no `%#v` of structures.

use std::fmt::Write;

use super::quote::quote;
use super::value::Value;

/// The widest padding and the longest precision Go accepts.
const MAX_WIDTH: usize = 1_000_000;

/// The value as `%v` prints it.
pub(super) fn display(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

fn write_value(out: &mut String, value: &Value) {
    // Writing to a string cannot fail, here and below.
    let _ = match value {
        Value::Missing | Value::Null | Value::NilPointer(_) => out.write_str("<nil>"),
        Value::Bool(b) => write!(out, "{b}"),
        Value::Int(i) => write!(out, "{i}"),
        Value::Float(f) => out.write_str(&float_g(*f, None, false)),
        Value::Text(s) => out.write_str(s),
        Value::List(list) => {
            out.push('[');
            for (i, item) in list.items.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                write_value(out, item);
            }
            out.write_str("]")
        }
        Value::Map(map) => {
            out.push_str("map[");
            for (i, (key, item)) in map.entries.iter().enumerate() {
                let _ = write!(out, "{}{key}:", if i > 0 { " " } else { "" });
                write_value(out, item);
            }
            out.write_str("]")
        }
        Value::Object(object) => out.write_str(&object.display()),
    };
}

/// Go's `print`: a blank between operands that are both no text.
pub(super) fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in values.iter().enumerate() {
        let text = |v: &Value| matches!(v, Value::Text(_));
        if i > 0 && !text(value) && !text(&values[i - 1]) {
            out.push(' ');
        }
        write_value(&mut out, value);
    }
    out
}

/// Go's `println`: blanks between all operands and a line end.
pub(super) fn println(values: &[Value]) -> String {
    let words: Vec<String> = values.iter().map(display).collect();
    words.join(" ") + "\n"
}

/// The flags, width and precision of one verb.
#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's `printf`.
pub(super) fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut rest = format;
    let mut arguments = Arguments { values: arguments, next: 0, reordered: false, bad_index: false };
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = verb(&mut out, &rest[at + 1..], &mut arguments);
    }
    out.push_str(rest);
    if !arguments.reordered && arguments.next < arguments.values.len() {
        let extra: Vec<String> =
            arguments.values[arguments.next..].iter().map(|v| format!("{}={}", v.type_name(), display(v))).collect();
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

struct Arguments<'a> {
    values: &'a [Value],
    next: usize,
    reordered: bool,
    bad_index: bool,
}

impl<'a> Arguments<'a> {
    fn take(&mut self) -> Option<&'a Value> {
        let value = self.values.get(self.next)?;
        self.next += 1;
        Some(value)
    }

    /// Takes an explicit index such as `[2]`.
    fn index<'f>(&mut self, rest: &'f str) -> &'f str {
        let Some(inner) = rest.strip_prefix('[') else { return rest };
        self.reordered = true;
        let (number, after) = inner.split_once(']').unwrap_or((inner, ""));
        let index = number.parse::<usize>().ok().filter(|n| (1..=self.values.len()).contains(n));
        self.bad_index |= index.is_none();
        self.next = index.map_or(self.next, |n| n - 1);
        after
    }
}

/// Formats one verb whose text, without the `%`, is at the head of `rest`; returns what follows it.
fn verb<'f>(out: &mut String, rest: &'f str, arguments: &mut Arguments<'_>) -> &'f str {
    let (mut spec, mut rest) = flags(rest);
    arguments.bad_index = false;
    for part in [Part::Width, Part::Precision] {
        if part == Part::Precision {
            match rest.strip_prefix('.') {
                Some(after) => (rest, spec.precision) = (after, Some(0)),
                None => continue,
            }
        }
        rest = arguments.index(rest);
        let (number, after) = number(rest, arguments);
        rest = after;
        match (part, number) {
            (_, Size::None) => {}
            (_, Size::TooBig) => out.push_str(if part == Part::Width { "%!(BADWIDTH)" } else { "%!(BADPREC)" }),
            (Part::Width, Size::Given(n)) => {
                spec.minus |= n < 0;
                spec.width = Some(n.unsigned_abs());
            }
            (Part::Precision, Size::Given(n)) => spec.precision = usize::try_from(n).ok(),
        }
    }
    rest = arguments.index(rest);
    let mut chars = rest.chars();
    let Some(verb) = chars.next() else {
        out.push_str("%!(NOVERB)");
        return "";
    };
    if verb == '%' {
        out.push('%');
    } else if arguments.bad_index {
        let _ = write!(out, "%!{verb}(BADINDEX)");
    } else if let Some(value) = arguments.take() {
        format_value(out, value, verb, &spec);
    } else {
        let _ = write!(out, "%!{verb}(MISSING)");
    }
    chars.as_str()
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Width,
    Precision,
}

enum Size {
    None,
    TooBig,
    Given(isize),
}

fn flags(rest: &str) -> (Spec, &str) {
    let mut spec = Spec::default();
    let end = rest.find(|c| !"-+# 0".contains(c)).unwrap_or(rest.len());
    for c in rest[..end].chars() {
        match c {
            '-' => spec.minus = true,
            '+' => spec.plus = true,
            '#' => spec.sharp = true,
            ' ' => spec.space = true,
            _ => spec.zero = true,
        }
    }
    (spec, &rest[end..])
}

/// A width or precision: digits, or `*` for an argument.
fn number<'f>(rest: &'f str, arguments: &mut Arguments<'_>) -> (Size, &'f str) {
    if let Some(after) = rest.strip_prefix('*') {
        let size = match arguments.take() {
            Some(Value::Int(n)) if n.unsigned_abs() <= MAX_WIDTH as u128 => Size::Given(*n as isize),
            _ => Size::TooBig,
        };
        return (size, after);
    }
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let size = match rest[..end].parse::<usize>() {
        Ok(n) if n <= MAX_WIDTH => Size::Given(n as isize),
        Ok(_) => Size::TooBig,
        Err(_) if end == 0 => Size::None,
        Err(_) => Size::TooBig,
    };
    (size, &rest[end..])
}

fn format_value(out: &mut String, value: &Value, verb: char, spec: &Spec) {
    match (verb, value) {
        ('T', _) => pad(out, value.type_name(), spec, false),
        ('v', Value::Text(s)) if spec.sharp => pad(out, &quote(s), spec, false),
        ('v', Value::List(_) | Value::Map(_) | Value::Object(_)) => pad(out, &display(value), spec, false),
        (_, Value::List(list)) => {
            out.push('[');
            for (i, item) in list.items.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                format_value(out, item, verb, spec);
            }
            out.push(']');
        }
        (_, Value::Map(map)) => {
            out.push_str("map[");
            for (i, (key, item)) in map.entries.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                format_value(out, &Value::text(key), verb, spec);
                out.push(':');
                format_value(out, item, verb, spec);
            }
            out.push(']');
        }
        ('v', Value::Missing | Value::Null | Value::NilPointer(_)) => pad(out, "<nil>", spec, false),
        ('v' | 't', Value::Bool(b)) => pad(out, if *b { "true" } else { "false" }, spec, false),
        (_, Value::Text(s)) => format_text(out, s, verb, spec),
        (_, Value::Int(i)) => format_int(out, *i, verb, spec),
        (_, Value::Float(f)) => format_float(out, *f, verb, spec),
        ('s', Value::Object(object)) => pad(out, &object.display(), spec, false),
        ('s' | 'd' | 'q' | 'x', Value::Missing | Value::Null) => {
            let _ = write!(out, "%!{verb}(<nil>)");
        }
        _ => bad_verb(out, value, verb),
    }
}

fn bad_verb(out: &mut String, value: &Value, verb: char) {
    let _ = write!(out, "%!{verb}({}={})", value.type_name(), display(value));
}

fn format_text(out: &mut String, text: &str, verb: char, spec: &Spec) {
    let cut: String = match spec.precision {
        Some(precision) if matches!(verb, 's' | 'v' | 'q') => text.chars().take(precision).collect(),
        _ => text.to_owned(),
    };
    match verb {
        's' | 'v' => pad(out, &cut, spec, spec.zero),
        'q' if spec.sharp && !cut.contains('`') && !cut.contains(|c: char| c.is_control() && c != '\t') => {
            pad(out, &format!("`{cut}`"), spec, spec.zero);
        }
        'q' => pad(out, &quote(&cut), spec, spec.zero),
        'x' => pad(out, &cut.bytes().map(|b| format!("{b:02x}")).collect::<String>(), spec, spec.zero),
        'X' => pad(out, &cut.bytes().map(|b| format!("{b:02X}")).collect::<String>(), spec, spec.zero),
        _ => bad_verb(out, &Value::text(text), verb),
    }
}

fn format_int(out: &mut String, int: i128, verb: char, spec: &Spec) {
    let magnitude = int.unsigned_abs();
    let digits = match verb {
        'd' | 'v' => magnitude.to_string(),
        'b' => format!("{magnitude:b}"),
        'o' => format!("{}{magnitude:o}", if spec.sharp { "0" } else { "" }),
        'O' => format!("0o{magnitude:o}"),
        'x' => format!("{}{magnitude:x}", if spec.sharp { "0x" } else { "" }),
        'X' => format!("{}{magnitude:X}", if spec.sharp { "0X" } else { "" }),
        'c' | 'q' | 'U' => {
            let c = u32::try_from(int).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            let text = match verb {
                'c' => c.to_string(),
                'q' => format!("'{}'", quote(&c.to_string()).trim_matches('"')),
                _ => format!("U+{magnitude:04X}"),
            };
            return pad(out, &text, spec, spec.zero);
        }
        _ => return bad_verb(out, &Value::Int(int), verb),
    };
    let sign = sign(int < 0, spec);
    if let Some(precision) = spec.precision {
        let digits = if precision == 0 && int == 0 { String::new() } else { format!("{digits:0>precision$}") };
        return pad(out, &format!("{sign}{digits}"), spec, false);
    }
    pad_number(out, sign, &digits, spec);
}

fn sign(negative: bool, spec: &Spec) -> &'static str {
    match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (.., true) => " ",
        _ => "",
    }
}

fn format_float(out: &mut String, float: f64, verb: char, spec: &Spec) {
    let magnitude = float.abs();
    let precision = spec.precision.unwrap_or(6).min(1000);
    let digits = match verb {
        'f' | 'F' => format!("{magnitude:.precision$}"),
        'e' => exponent(&format!("{magnitude:.precision$e}")),
        'E' => exponent(&format!("{magnitude:.precision$E}")),
        'g' | 'v' => float_g(magnitude, spec.precision, false),
        'G' => float_g(magnitude, spec.precision, true),
        _ => return bad_verb(out, &Value::Float(float), verb),
    };
    pad_number(out, sign(float.is_sign_negative(), spec), &digits, spec);
}

/// The shortest form, or `precision` digits; an exponent where the number is very large or small.
fn float_g(float: f64, precision: Option<usize>, upper: bool) -> String {
    if float == 0.0 {
        return "0".to_owned();
    }
    if !float.is_finite() {
        return if float.is_nan() {
            "NaN"
        } else if float > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .to_owned();
    }
    let scientific = match precision {
        Some(digits) => format!("{float:.*e}", digits.clamp(1, 1000) - 1),
        None => format!("{float:e}"),
    };
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or_default();
    let limit = precision.map_or(6, |p| p.max(1) as i32);
    let trim =
        |s: &str| if s.contains('.') { s.trim_end_matches('0').trim_end_matches('.').to_owned() } else { s.to_owned() };
    if power < -4 || power >= limit {
        let text = exponent(&format!("{}e{power}", trim(mantissa)));
        return if upper { text.to_uppercase() } else { text };
    }
    match precision {
        Some(digits) => trim(&format!("{float:.*}", (digits.max(1) as i32 - 1 - power).max(0) as usize)),
        None => format!("{float}"),
    }
}

/// Go writes exponents with a sign and at least two digits.
fn exponent(text: &str) -> String {
    let Some(at) = text.find(['e', 'E']) else { return text.to_owned() };
    let (mantissa, power) = text.split_at(at);
    let (mark, power) = power.split_at(1);
    let (sign, digits) = power.strip_prefix('-').map_or(("+", power), |digits| ("-", digits));
    format!("{mantissa}{mark}{sign}{digits:0>2}")
}

fn pad_number(out: &mut String, sign: &str, digits: &str, spec: &Spec) {
    match spec.width {
        Some(width) if spec.zero && !spec.minus => {
            let zeros = width.saturating_sub(sign.len() + digits.len());
            let _ = write!(out, "{sign}{}{digits}", "0".repeat(zeros));
        }
        _ => pad(out, &format!("{sign}{digits}"), spec, false),
    }
}

fn pad(out: &mut String, text: &str, spec: &Spec, zero: bool) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    let fill = if zero && !spec.minus { "0" } else { " " }.repeat(missing);
    let _ = if spec.minus { write!(out, "{text}{fill}") } else { write!(out, "{fill}{text}") };
}
