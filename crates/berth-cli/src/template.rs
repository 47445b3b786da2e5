//! Go's text/template for `--format`: parse once, run on any value.
//!
//! Follows the template language of Go 1.24 with the functions docker adds, down to the texts of its errors, because
//! scripts were written against them. Not here: what the rows of a table offer (see [`crate::table`] and the
//! commands), and Go features no value of ours has: channels, complex numbers, functions as values.

mod call;
mod exec;
mod functions;
mod lexer;
mod parser;
mod print;
mod quote;
mod tree;
mod value;

#[cfg(test)]
mod tests;

pub use exec::MissingKey;
pub use quote::quote;
pub(crate) use value::{Escape, write_joined, write_json_text};
pub use value::{List, Map, Object, Value};

use functions::Library;

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    name: &'static str,
    text: String,
    trees: tree::Trees,
}

/// Why a template was refused or stopped, in Go's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct TemplateError(String);

impl Template {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`TemplateError`] with line and reason, as `template: :1: unclosed action`.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        Template::parse_named("", text)
    }

    /// Parses `text` as a template with a name, which its errors show.
    pub fn parse_named(name: &'static str, text: &str) -> Result<Template, TemplateError> {
        let known = |name: &str| functions::find(name, Library::Values).is_some();
        let trees = parser::parse(name, text, &known).map_err(TemplateError)?;
        Ok(Template { name, text: text.to_owned(), trees })
    }

    /// Runs the template on `data` and returns what it prints.
    ///
    /// # Errors
    /// [`TemplateError`] with line, column and the expression that failed.
    pub fn execute(&self, data: Value, missing_key: MissingKey) -> Result<String, TemplateError> {
        let (out, result) = self.execute_partly(data, missing_key);
        result.map(|()| out)
    }

    /// As [`Template::execute`], but what was printed before an error is there too.
    pub fn execute_partly(&self, data: Value, missing_key: MissingKey) -> (String, Result<(), TemplateError>) {
        let (out, result) = exec::execute(self.name, &self.trees, &self.text, &data, Library::Values, missing_key);
        (out, result.map_err(TemplateError))
    }

    /// Runs the template on the names of columns, where functions such as `upper` or `json` change nothing.
    ///
    /// What fails ends the header where it stands, as with docker: the rows have told the user already.
    pub fn execute_header(&self, names: Value) -> String {
        exec::execute(self.name, &self.trees, &self.text, &names, Library::Header, MissingKey::NoValue).0
    }
}
