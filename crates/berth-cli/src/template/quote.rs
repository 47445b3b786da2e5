//! Go's literals: text into quotes, and the value of what stands in quotes.

use std::fmt::Write;

/// Text in Go's double quotes.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let _ = match c {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\x07' => out.write_str("\\a"),
            '\x08' => out.write_str("\\b"),
            '\x0c' => out.write_str("\\f"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\x0b' => out.write_str("\\v"),
            c if c < ' ' || c == '\x7f' => write!(out, "\\x{:02x}", u32::from(c)),
            c if is_printable(c) => out.write_char(c),
            c if u32::from(c) > 0xffff => write!(out, "\\U{:08x}", u32::from(c)),
            c => write!(out, "\\u{:04x}", u32::from(c)),
        };
    }
    out.push('"');
    out
}

fn is_printable(c: char) -> bool {
    let invisible = matches!(c, '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}');
    !invisible && !c.is_control()
}

/// The value of a Go literal in any of its three quotes; `None` when it is malformed.
pub(super) fn unquote(literal: &str) -> Option<String> {
    let quote = literal.chars().next()?;
    let inner = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        return Some(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            escape(&mut chars, quote, &mut bytes)?;
        } else {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (quote == '"' || text.chars().count() == 1).then_some(text)
}

fn escape(chars: &mut std::str::Chars<'_>, quote: char, bytes: &mut Vec<u8>) -> Option<()> {
    let digits = |chars: &mut std::str::Chars<'_>, count: usize, radix: u32| {
        let text = chars.as_str().get(..count)?;
        let value = u32::from_str_radix(text, radix).ok()?;
        *chars = chars.as_str()[count..].chars();
        Some(value)
    };
    match chars.clone().next()? {
        '0'..='7' => bytes.push(u8::try_from(digits(chars, 3, 8)?).ok()?),
        marker => {
            chars.next();
            match marker {
                'x' => bytes.push(u8::try_from(digits(chars, 2, 16)?).ok()?),
                'u' | 'U' => {
                    let code = digits(chars, if marker == 'u' { 4 } else { 8 }, 16)?;
                    bytes.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
                }
                'a' => bytes.push(7),
                'b' => bytes.push(8),
                'f' => bytes.push(12),
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                'v' => bytes.push(11),
                '\\' => bytes.push(b'\\'),
                c if c == quote => bytes.push(c as u8),
                _ => return None,
            }
        }
    }
    Some(())
}
