//! Calls of functions: arguments against parameters, and the two functions that evaluate no more than they need.

use super::exec::{At, Evaluated, Execution};
use super::functions::{Parameter, find};
use super::quote::quote;
use super::tree::{Number, Operand, Term};
use super::value::Value;

impl<'t> Execution<'t> {
    pub(super) fn function(
        &mut self,
        dot: &Value,
        node: &'t Operand,
        call: At<'t>,
        name: &'t str,
        arguments: &'t [Operand],
        last: Option<Value>,
    ) -> Evaluated<Value> {
        self.at = At::Operand(node);
        let function = find(name, self.library).ok_or_else(|| format!("{} is not a defined function", quote(name)))?;
        let count = arguments.len() + usize::from(last.is_some());
        let fixed = function.parameters.len() - usize::from(function.variadic);
        if function.variadic && count < fixed {
            return Err(format!("wrong number of args for {name}: want at least {fixed} got {count}"));
        }
        if !function.variadic && count != fixed {
            return Err(format!("wrong number of args for {name}: want {fixed} got {count}"));
        }
        if name == "and" || name == "or" {
            return self.shortcut(dot, name == "or", arguments, last);
        }
        let parameter = |at: usize| function.parameters[at.min(function.parameters.len() - 1)];
        let mut values = Vec::with_capacity(count);
        for (at, argument) in arguments.iter().enumerate() {
            values.push(self.argument(dot, argument, parameter(at))?);
        }
        if let Some(last) = last {
            values.push(fit(last, parameter(arguments.len()))?);
        }
        (function.run)(&values).map_err(|message| {
            self.at = call;
            match arguments.first() {
                Some(first) if name == "call" => {
                    format!("error calling call: non-function {first} of type {}", values[0].type_name())
                }
                _ => format!("error calling {name}: {message}"),
            }
        })
    }

    /// `and` and `or` evaluate no further than they need.
    fn shortcut(
        &mut self,
        dot: &Value,
        until: bool,
        arguments: &'t [Operand],
        last: Option<Value>,
    ) -> Evaluated<Value> {
        let mut value = Value::Missing;
        for argument in arguments {
            value = self.operand(dot, argument)?;
            if value.is_true() == until {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn argument(&mut self, dot: &Value, operand: &'t Operand, parameter: Parameter) -> Evaluated<Value> {
        self.at = At::Operand(operand);
        let wanted = match (&operand.term, parameter) {
            (Term::Nil, Parameter::Text | Parameter::Int) => {
                return Err(format!("cannot assign nil to {}", parameter.go_type()));
            }
            (Term::Bool(_) | Term::Number(..), Parameter::Text) => "string",
            (Term::Bool(_) | Term::Text(..) | Term::Number(_, Number::Float(_)), Parameter::Int) => "integer",
            (Term::Bool(_) | Term::Text(..) | Term::Number(..), Parameter::Texts) => {
                return Err(format!("can't handle {operand} for arg of type {}", parameter.go_type()));
            }
            _ => {
                let value = self.operand(dot, operand)?;
                return fit(value, parameter);
            }
        };
        Err(format!("expected {wanted}; found {operand}"))
    }
}

/// Checks a value against the type a function wants.
fn fit(value: Value, parameter: Parameter) -> Evaluated<Value> {
    let texts = |items: &[Value]| items.iter().all(|item| matches!(item, Value::Text(_)));
    match (&value, parameter) {
        (_, Parameter::Any) | (Value::Text(_), Parameter::Text) | (Value::Int(_), Parameter::Int) => Ok(value),
        (Value::List(list), Parameter::Texts) if list.go_type != "[]interface {}" && texts(&list.items) => Ok(value),
        (Value::Missing | Value::Null, Parameter::Texts) => Ok(Value::texts::<&str>([])),
        (Value::Missing, _) => Err(format!("invalid value; expected {}", parameter.go_type())),
        (Value::Null, _) => Err(format!("wrong type for value; expected {}; got interface {{}}", parameter.go_type())),
        _ => Err(format!("wrong type for value; expected {}; got {}", parameter.go_type(), value.type_name())),
    }
}
