//! The tree of a parsed template, and how error messages show its parts.
//!
//! Only shapes: the parser builds them, the executor walks them.

use std::collections::HashMap;
use std::fmt;

/// One element of a template's body.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If { pipe: Pipe, list: Vec<Node>, otherwise: Vec<Node> },
    With { pipe: Pipe, list: Vec<Node>, otherwise: Vec<Node> },
    Range { pipe: Pipe, list: Vec<Node>, otherwise: Vec<Node> },
    Template { pos: usize, name: String, pipe: Option<Pipe> },
    Break,
    Continue,
}

/// Commands joined by `|`, with the variables they set.
#[derive(Debug)]
pub(super) struct Pipe {
    pub pos: usize,
    pub assigns: bool,
    pub variables: Vec<String>,
    pub commands: Vec<Command>,
}

/// An operand and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub pos: usize,
    pub operands: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub pos: usize,
    pub term: Term,
}

#[derive(Debug)]
pub(super) enum Term {
    Field(Vec<String>),
    /// Fields of something in parentheses or of a function's result.
    Chain(Box<Operand>, Vec<String>),
    Function(String),
    Pipe(Pipe),
    /// The name with its `$`, then fields.
    Variable(String, Vec<String>),
    Bool(bool),
    Dot,
    Nil,
    Number(String, Number),
    /// The literal as written, and its value.
    Text(String, String),
}

/// A numeric literal: whole where it is written so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    pub fn parse(text: &str) -> Option<Number> {
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return None;
        }
        let clean: String = digits.chars().filter(|c| *c != '_').collect();
        let radix = |prefix: [&str; 2], radix| {
            prefix.iter().find_map(|p| clean.strip_prefix(p)).map(|rest| i128::from_str_radix(rest, radix).ok())
        };
        let octal = (clean.len() > 1 && clean.starts_with('0') && clean.bytes().all(|b| b.is_ascii_digit()))
            .then(|| i128::from_str_radix(&clean, 8).ok());
        let int = radix(["0x", "0X"], 16)
            .or_else(|| radix(["0b", "0B"], 2))
            .or_else(|| radix(["0o", "0O"], 8))
            .or(octal)
            .unwrap_or_else(|| clean.parse().ok());
        if let Some(int) = int {
            return Some(Number::Int(if negative { -int } else { int }));
        }
        let float: f64 = clean.parse().ok()?;
        Some(Number::Float(if negative { -float } else { float }))
    }
}

/// The bodies of a template and of everything it defines, by name.
#[derive(Debug)]
pub(super) struct Trees(pub HashMap<String, Vec<Node>>);

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, operand) in self.operands.iter().enumerate() {
            write!(f, "{}{operand}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |f: &mut fmt::Formatter<'_>, names: &[String]| names.iter().try_for_each(|n| write!(f, ".{n}"));
        match &self.term {
            Term::Field(names) => fields(f, names),
            Term::Chain(inner, names) => write!(f, "{inner}").and_then(|()| fields(f, names)),
            Term::Function(name) => f.write_str(name),
            Term::Pipe(pipe) => write!(f, "({pipe})"),
            Term::Variable(name, names) => f.write_str(name).and_then(|()| fields(f, names)),
            Term::Bool(value) => write!(f, "{value}"),
            Term::Dot => f.write_str("."),
            Term::Nil => f.write_str("nil"),
            Term::Number(text, _) | Term::Text(text, _) => f.write_str(text),
        }
    }
}
