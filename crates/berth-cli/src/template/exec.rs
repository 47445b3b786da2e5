//! Runs a parsed template on a value, with the rules and error texts of Go's text/template.

use super::functions::Library;
use super::print::display;
use super::quote::quote;
use super::tree::{Command, Node, Number, Operand, Pipe, Term, Trees};
use super::value::{UNTYPED_MAP, Value};

/// How deep templates may call each other.
const MAX_DEPTH: usize = 200;

/// The most bytes one execution may print.
const MAX_OUTPUT: usize = 64 << 20;

/// What a missing key of a map is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MissingKey {
    /// No value, printed as `<no value>`.
    NoValue,
    /// An error.
    Error,
}

/// One execution: where it reads, where it writes and what it remembers.
pub(super) struct Execution<'t> {
    trees: &'t Trees,
    text: &'t str,
    pub(super) library: Library,
    missing_key: MissingKey,
    main: &'t str,
    name: &'t str,
    variables: Vec<(&'t str, Value)>,
    pub(super) at: At<'t>,
    depth: usize,
    out: String,
}

/// The last node visited: the one an error is blamed on.
#[derive(Clone, Copy)]
pub(super) enum At<'t> {
    Nothing,
    Pipe(&'t Pipe),
    Command(&'t Command),
    Operand(&'t Operand),
    Call(usize, &'t str),
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// What went wrong is text, which [`execute`] completes with the place.
pub(super) type Evaluated<T> = Result<T, String>;

/// Room for what most templates print, in bytes.
const USUAL_LINE: usize = 160;

/// Runs the main body of `trees` on `data`; returns what it printed, until the end or until it failed.
pub(super) fn execute(
    name: &str,
    trees: &Trees,
    text: &str,
    data: &Value,
    library: Library,
    missing_key: MissingKey,
) -> (String, Result<(), String>) {
    let mut run = Execution {
        trees,
        text,
        library,
        missing_key,
        main: name,
        name,
        variables: vec![("$", data.clone())],
        at: At::Nothing,
        depth: 0,
        out: String::with_capacity(USUAL_LINE),
    };
    let result = run.call_template(name, data).map_err(|message| run.blame(&message));
    (run.out, result)
}

impl<'t> Execution<'t> {
    /// The message with the place in the template it belongs to.
    fn blame(&self, message: &str) -> String {
        let (pos, context) = match self.at {
            At::Nothing => return format!("template: {}: {message}", self.name),
            At::Pipe(pipe) => (pipe.pos, pipe.to_string()),
            At::Command(command) => (command.pos, command.to_string()),
            At::Operand(operand) => (operand.pos, operand.to_string()),
            At::Call(pos, name) => (pos, format!("{{{{template {}}}}}", quote(name))),
        };
        let before = &self.text[..pos];
        let line = 1 + before.matches('\n').count();
        let column = pos - before.rfind('\n').map_or(0, |newline| newline + 1);
        format!("template: {}:{line}:{column}: executing {} at <{context}>: {message}", self.main, quote(self.name))
    }

    fn write(&mut self, text: &str) -> Evaluated<()> {
        if self.out.len() + text.len() > MAX_OUTPUT {
            return Err(format!("output exceeds {MAX_OUTPUT} bytes"));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn call_template(&mut self, name: &'t str, data: &Value) -> Evaluated<()> {
        let Some(nodes) = self.trees.0.get(name) else {
            return Err(format!("template {} not defined", quote(name)));
        };
        if self.depth == MAX_DEPTH {
            return Err(format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.variables, vec![("$", data.clone())]);
        let outer_name = std::mem::replace(&mut self.name, name);
        self.walk(data, nodes)?;
        self.name = outer_name;
        self.variables = outer;
        self.depth -= 1;
        Ok(())
    }

    fn walk(&mut self, dot: &Value, nodes: &'t [Node]) -> Evaluated<Flow> {
        for node in nodes {
            let flow = self.step(dot, node)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn step(&mut self, dot: &Value, node: &'t Node) -> Evaluated<Flow> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(pipe) => {
                let value = self.pipeline(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.print(&value)?;
                }
            }
            Node::If { pipe, list, otherwise } => return self.choose(dot, pipe, list, otherwise, false),
            Node::With { pipe, list, otherwise } => return self.choose(dot, pipe, list, otherwise, true),
            Node::Range { pipe, list, otherwise } => return self.range(dot, pipe, list, otherwise),
            Node::Template { pos, name, pipe } => {
                self.at = At::Call(*pos, name);
                let data = match pipe {
                    Some(pipe) => self.pipeline(dot, pipe)?,
                    None => Value::Missing,
                };
                self.call_template(name, &data)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Evaluated<()> {
        match value {
            Value::Missing | Value::Null => self.write("<no value>"),
            Value::Text(text) => self.write(text),
            value => self.write(&display(value)),
        }
    }

    fn choose(
        &mut self,
        dot: &Value,
        pipe: &'t Pipe,
        list: &'t [Node],
        otherwise: &'t [Node],
        narrows: bool,
    ) -> Evaluated<Flow> {
        let scope = self.variables.len();
        let value = self.pipeline(dot, pipe)?;
        let flow = match value.is_true() {
            true if narrows => self.walk(&value, list),
            true => self.walk(dot, list),
            false => self.walk(dot, otherwise),
        }?;
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(&mut self, dot: &Value, pipe: &'t Pipe, list: &'t [Node], otherwise: &'t [Node]) -> Evaluated<Flow> {
        let scope = self.variables.len();
        let over = self.pipeline(dot, pipe)?;
        let mark = self.variables.len();
        let mut ran = false;
        for (index, element) in Elements::of(&over)? {
            ran = true;
            self.bind(pipe, index, &element)?;
            let flow = self.walk(&element, list)?;
            self.variables.truncate(mark);
            if flow == Flow::Break {
                break;
            }
        }
        let flow = if ran { Flow::Next } else { self.walk(dot, otherwise)? };
        self.variables.truncate(scope);
        Ok(flow)
    }

    /// Gives the variables of a `range` the values of this round: the element alone, or index and element.
    fn bind(&mut self, pipe: &'t Pipe, index: Value, element: &Value) -> Evaluated<()> {
        let values = match pipe.variables.len() {
            0 => return Ok(()),
            1 => vec![element.clone()],
            _ => vec![index, element.clone()],
        };
        let first = self.variables.len() - pipe.variables.len().min(self.variables.len());
        for (i, (name, value)) in pipe.variables.iter().zip(values).enumerate() {
            if pipe.assigns {
                self.set(name, value)?;
            } else {
                self.variables[first + i].1 = value;
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value) -> Evaluated<()> {
        let variable = self.variables.iter_mut().rev().find(|(known, _)| *known == name);
        variable.ok_or_else(|| format!("undefined variable: {name}"))?.1 = value;
        Ok(())
    }

    fn pipeline(&mut self, dot: &Value, pipe: &'t Pipe) -> Evaluated<Value> {
        self.at = At::Pipe(pipe);
        let mut value = None;
        for command in &pipe.commands {
            let result = self.command(dot, command, value)?;
            value = Some(if matches!(result, Value::Null) { Value::Missing } else { result });
        }
        let value = value.unwrap_or(Value::Missing);
        for name in &pipe.variables {
            if pipe.assigns {
                self.set(name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    /// Evaluates a command; `last` is the value of the command before it in the pipeline.
    fn command(&mut self, dot: &Value, command: &'t Command, last: Option<Value>) -> Evaluated<Value> {
        let (first, arguments) = command.operands.split_first().ok_or("empty command")?;
        match &first.term {
            Term::Field(names) => {
                self.at = At::Operand(first);
                return self.fields(dot, dot.clone(), names, arguments, last);
            }
            Term::Chain(inner, names) => {
                self.at = At::Operand(first);
                if let Term::Nil = inner.term {
                    return Err(format!("indirection through explicit nil in {first}"));
                }
                let receiver = self.operand(dot, inner)?;
                return self.fields(dot, receiver, names, arguments, last);
            }
            Term::Variable(name, names) if !names.is_empty() => {
                self.at = At::Operand(first);
                let receiver = self.variable(name)?;
                return self.fields(dot, receiver, names, arguments, last);
            }
            Term::Function(name) => return self.function(dot, first, At::Command(command), name, arguments, last),
            Term::Pipe(pipe) => {
                refuse_arguments(first, arguments, last.as_ref())?;
                return self.pipeline(dot, pipe);
            }
            _ => {}
        }
        self.at = At::Operand(first);
        refuse_arguments(first, arguments, last.as_ref())?;
        match &first.term {
            Term::Nil => Err("nil is not a command".to_owned()),
            _ => self.operand(dot, first),
        }
    }

    /// The value of an operand that gets no arguments.
    pub(super) fn operand(&mut self, dot: &Value, operand: &'t Operand) -> Evaluated<Value> {
        self.at = At::Operand(operand);
        match &operand.term {
            Term::Field(names) => self.fields(dot, dot.clone(), names, &[], None),
            Term::Chain(inner, names) => {
                let receiver = self.operand(dot, inner)?;
                self.fields(dot, receiver, names, &[], None)
            }
            Term::Function(name) => self.function(dot, operand, At::Operand(operand), name, &[], None),
            Term::Pipe(pipe) => self.pipeline(dot, pipe),
            Term::Variable(name, names) => {
                let receiver = self.variable(name)?;
                self.fields(dot, receiver, names, &[], None)
            }
            Term::Bool(b) => Ok(Value::Bool(*b)),
            Term::Dot => Ok(dot.clone()),
            Term::Nil => Ok(Value::Null),
            Term::Number(text, Number::Int(i)) => match i64::try_from(*i) {
                Ok(_) => Ok(Value::Int(*i)),
                Err(_) => Err(format!("{text} overflows int")),
            },
            Term::Number(_, Number::Float(f)) => Ok(Value::Float(*f)),
            Term::Text(_, value) => Ok(Value::text(value)),
        }
    }

    fn variable(&self, name: &str) -> Evaluated<Value> {
        let found = self.variables.iter().rev().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("undefined variable: {name}"))
    }

    /// Follows field names from `receiver`; only the last one takes arguments.
    fn fields(
        &mut self,
        dot: &Value,
        mut receiver: Value,
        names: &'t [String],
        arguments: &'t [Operand],
        last: Option<Value>,
    ) -> Evaluated<Value> {
        let Some((end, path)) = names.split_last() else { return Ok(receiver) };
        for (name, next) in path.iter().zip(&names[1..]) {
            // What comes out of an untyped map has the type of its place, not its own.
            let untyped = matches!(&receiver, Value::Map(map) if map.go_type == UNTYPED_MAP);
            receiver = self.field(dot, &receiver, name, &[], None)?;
            if untyped && !has_fields(&receiver) {
                return Err(format!("can't evaluate field {next} in type interface {{}}"));
            }
        }
        self.field(dot, &receiver, end, arguments, last)
    }

    fn field(
        &mut self,
        dot: &Value,
        receiver: &Value,
        name: &str,
        arguments: &'t [Operand],
        last: Option<Value>,
    ) -> Evaluated<Value> {
        let called = !arguments.is_empty() || last.is_some();
        match receiver {
            Value::Missing if self.missing_key == MissingKey::Error => {
                Err(format!("nil data; no entry for key {}", quote(name)))
            }
            Value::Missing => Ok(Value::Missing),
            Value::Null => Err(format!("nil pointer evaluating interface {{}}.{name}")),
            Value::NilPointer(go_type) => Err(format!("nil pointer evaluating {go_type}.{name}")),
            Value::Map(_) if called => Err(format!("{name} is not a method but has arguments")),
            Value::Map(map) => match map.entries.get(name) {
                Some(value) => Ok(value.clone()),
                None if self.missing_key == MissingKey::Error => {
                    Err(format!("map has no entry for key {}", quote(name)))
                }
                None => Ok(Value::Missing),
            },
            Value::Object(object) if called => {
                let mut values = Vec::new();
                for argument in arguments {
                    values.push(self.operand(dot, argument)?);
                }
                values.extend(last);
                match object.call(name, &values) {
                    Some(result) => result,
                    None if object.field(name).is_some() => {
                        Err(format!("{name} has arguments but cannot be invoked as function"))
                    }
                    None => Err(format!("can't evaluate field {name} in type {}", object.go_type())),
                }
            }
            Value::Object(object) => match (object.field(name), object.call(name, &[])) {
                (Some(value), _) => Ok(value),
                (None, Some(result)) => result,
                (None, None) => Err(format!("can't evaluate field {name} in type {}", object.go_type())),
            },
            other => Err(format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }
}

fn has_fields(value: &Value) -> bool {
    matches!(value, Value::Missing | Value::Null | Value::NilPointer(_) | Value::Map(_) | Value::Object(_))
}

fn refuse_arguments(first: &Operand, arguments: &[Operand], last: Option<&Value>) -> Evaluated<()> {
    if arguments.is_empty() && last.is_none() {
        return Ok(());
    }
    Err(format!("can't give argument to non-function {first}"))
}

/// What `range` goes over: index or key, and element.
enum Elements {
    Counted(i128, i128),
    Kept(std::vec::IntoIter<(Value, Value)>),
}

impl Elements {
    fn of(value: &Value) -> Evaluated<Elements> {
        let pairs: Vec<(Value, Value)> = match value {
            Value::List(list) => {
                list.items.iter().enumerate().map(|(i, item)| (Value::Int(i as i128), item.clone())).collect()
            }
            Value::Map(map) => map.entries.iter().map(|(key, item)| (Value::text(key), item.clone())).collect(),
            Value::Missing | Value::Null => Vec::new(),
            Value::Int(count) => return Ok(Elements::Counted(0, *count)),
            other => return Err(format!("range can't iterate over {}", display(other))),
        };
        Ok(Elements::Kept(pairs.into_iter()))
    }
}

impl Iterator for Elements {
    type Item = (Value, Value);

    fn next(&mut self) -> Option<(Value, Value)> {
        match self {
            Elements::Kept(pairs) => pairs.next(),
            Elements::Counted(at, end) => {
                let value = Value::Int(*at);
                *at += 1;
                (*at <= *end).then(|| (value.clone(), value))
            }
        }
    }
}
