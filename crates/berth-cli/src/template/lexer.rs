//! Splits template text into tokens, as Go's text/template does, with its error texts.
//!
//! No grammar here: the lexer knows delimiters, trim markers, comments, words and literals, nothing of their order.

/// One token with the place where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    /// The text of the token; for [`Kind::Error`] the message.
    pub text: String,
    /// Byte offset in the template.
    pub pos: usize,
    /// Line in the template, counted from one.
    pub line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Error,
    Eof,
    Text,
    LeftDelim,
    RightDelim,
    Space,
    Bool,
    Char,
    CharConstant,
    Assign,
    Declare,
    Field,
    Identifier,
    LeftParen,
    RightParen,
    Number,
    Pipe,
    RawString,
    String,
    Variable,
    Dot,
    Nil,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

impl Kind {
    fn is_keyword(self) -> bool {
        use Kind::*;
        matches!(self, Dot | Nil | Block | Break | Continue | Define | Else | End | If | Range | Template | With)
    }
}

impl Token {
    /// The token as error messages quote it.
    pub fn quoted(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Error => self.text.clone(),
            kind if kind.is_keyword() => format!("<{}>", self.text),
            _ if self.text.len() > 10 => {
                let head: String = self.text.chars().take(10).collect();
                format!("{}...", super::quote::quote(&head))
            }
            _ => super::quote::quote(&self.text),
        }
    }
}

/// Splits `input`; the last token is [`Kind::Eof`] or [`Kind::Error`].
pub(super) fn tokens(input: &str) -> Vec<Token> {
    let mut lexer = Lexer { input, pos: 0, start: 0, line: 1, start_line: 1, parens: 0, out: Vec::new() };
    let mut state = State::Text;
    loop {
        let next = match state {
            State::Text => lexer.text(),
            State::Action => lexer.inside_action(),
            State::Done => break,
        };
        state = next.unwrap_or_else(|message| lexer.error(message));
    }
    lexer.out
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

#[derive(Clone, Copy)]
enum State {
    Text,
    Action,
    Done,
}

type Step = Result<State, String>;

struct Lexer<'a> {
    input: &'a str,
    pos: usize,
    start: usize,
    line: usize,
    start_line: usize,
    parens: usize,
    out: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn skip(&mut self, bytes: usize) {
        self.line += self.rest()[..bytes].matches('\n').count();
        self.pos += bytes;
    }

    fn ignore(&mut self) {
        self.start = self.pos;
        self.start_line = self.line;
    }

    fn emit(&mut self, kind: Kind) {
        let text = self.input[self.start..self.pos].to_owned();
        self.out.push(Token { kind, text, pos: self.start, line: self.start_line });
        self.ignore();
    }

    fn error(&mut self, message: String) -> State {
        self.out.push(Token { kind: Kind::Error, text: message, pos: self.start, line: self.start_line });
        State::Done
    }

    fn text(&mut self) -> Step {
        let Some(at) = self.rest().find(LEFT) else {
            self.skip(self.rest().len());
            if self.pos > self.start {
                self.emit(Kind::Text);
            }
            self.emit(Kind::Eof);
            return Ok(State::Done);
        };
        let after = &self.rest()[at + LEFT.len()..];
        let trim = has_left_trim(after);
        let text = &self.rest()[..at];
        let keep = if trim { text.trim_end_matches(is_space).len() } else { at };
        self.skip(keep);
        if self.pos > self.start {
            self.emit(Kind::Text);
        }
        self.skip(at - keep);
        self.ignore();
        self.left_delim(trim)
    }

    fn left_delim(&mut self, trim: bool) -> Step {
        self.skip(LEFT.len());
        let marker = if trim { 2 } else { 0 };
        if self.rest()[marker..].starts_with("/*") {
            self.skip(marker);
            self.ignore();
            return self.comment();
        }
        self.emit(Kind::LeftDelim);
        self.skip(marker);
        self.ignore();
        self.parens = 0;
        Ok(State::Action)
    }

    fn comment(&mut self) -> Step {
        let end = self.rest().find("*/").ok_or("unclosed comment")?;
        self.skip(end + 2);
        let Some(trim) = self.at_right_delim() else {
            return Err("comment ends before closing delimiter".to_owned());
        };
        self.close(trim);
        Ok(State::Text)
    }

    /// Whether the action ends here, and if so whether blanks after it are trimmed.
    fn at_right_delim(&self) -> Option<bool> {
        if has_right_trim(self.rest()) {
            return Some(true);
        }
        self.rest().starts_with(RIGHT).then_some(false)
    }

    fn close(&mut self, trim: bool) {
        self.skip(if trim { 2 + RIGHT.len() } else { RIGHT.len() });
        if trim {
            let rest = self.rest();
            self.skip(rest.len() - rest.trim_start_matches(is_space).len());
        }
        self.ignore();
    }

    fn right_delim(&mut self, trim: bool) {
        let pos = self.pos + if trim { 2 } else { 0 };
        self.out.push(Token { kind: Kind::RightDelim, text: RIGHT.to_owned(), pos, line: self.line });
        self.close(trim);
    }

    fn inside_action(&mut self) -> Step {
        if let Some(trim) = self.at_right_delim() {
            if self.parens > 0 {
                return Err("unclosed left paren".to_owned());
            }
            self.right_delim(trim);
            return Ok(State::Text);
        }
        let c = self.next().ok_or("unclosed action")?;
        match c {
            c if is_space(c) => self.space(),
            '=' => self.emit(Kind::Assign),
            ':' if self.next() == Some('=') => self.emit(Kind::Declare),
            ':' => return Err("expected :=".to_owned()),
            '|' => self.emit(Kind::Pipe),
            '"' => self.quoted('"', Kind::String, "unterminated quoted string")?,
            '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant")?,
            '`' => self.raw_quoted()?,
            '$' => self.field_or_variable(Kind::Variable)?,
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => self.field_or_variable(Kind::Field)?,
            '.' | '+' | '-' | '0'..='9' => self.number()?,
            '(' => {
                self.parens += 1;
                self.emit(Kind::LeftParen);
            }
            ')' => {
                self.parens = self.parens.checked_sub(1).ok_or("unexpected right paren")?;
                self.emit(Kind::RightParen);
            }
            c if is_alphanumeric(c) => self.identifier()?,
            c if c.is_ascii_graphic() => self.emit(Kind::Char),
            c => return Err(format!("unrecognized character in action: {}", code_point(c))),
        }
        Ok(State::Action)
    }

    fn space(&mut self) {
        self.pos = self.start;
        self.line = self.start_line;
        // The blank before `-}}` belongs to the trim marker.
        while self.peek().is_some_and(is_space) && !has_right_trim(self.rest()) {
            self.next();
        }
        if self.pos > self.start {
            self.emit(Kind::Space);
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, unterminated: &str) -> Result<(), String> {
        loop {
            match self.next() {
                Some('\\') if self.peek().is_some_and(|c| c != '\n') => {
                    self.next();
                }
                Some(c) if c == quote => break,
                Some(c) if c != '\n' && c != '\\' => {}
                _ => return Err(unterminated.to_owned()),
            }
        }
        self.emit(kind);
        Ok(())
    }

    fn raw_quoted(&mut self) -> Result<(), String> {
        let end = self.rest().find('`').ok_or("unterminated raw quoted string")?;
        self.skip(end + 1);
        self.emit(Kind::RawString);
        Ok(())
    }

    fn field_or_variable(&mut self, kind: Kind) -> Result<(), String> {
        if self.at_terminator() {
            self.emit(if kind == Kind::Field { Kind::Dot } else { kind });
            return Ok(());
        }
        self.word()?;
        self.emit(kind);
        Ok(())
    }

    fn identifier(&mut self) -> Result<(), String> {
        self.word()?;
        let kind = match &self.input[self.start..self.pos] {
            "true" | "false" => Kind::Bool,
            "block" => Kind::Block,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "nil" => Kind::Nil,
            "range" => Kind::Range,
            "template" => Kind::Template,
            "with" => Kind::With,
            _ => Kind::Identifier,
        };
        self.emit(kind);
        Ok(())
    }

    /// Takes letters and digits and insists that a word may end there.
    fn word(&mut self) -> Result<(), String> {
        while self.peek().is_some_and(is_alphanumeric) {
            self.next();
        }
        match self.peek() {
            Some(c) if !self.at_terminator() => Err(format!("bad character {}", code_point(c))),
            _ => Ok(()),
        }
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(c) => is_space(c) || self.rest().starts_with(RIGHT),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        self.pos = self.start;
        let rest = self.rest();
        let unsigned = rest.trim_start_matches(['+', '-']);
        let hex = unsigned.starts_with("0x") || unsigned.starts_with("0X");
        let mut previous = ' ';
        while let Some(c) = self.peek() {
            let sign = matches!(c, '+' | '-')
                && (self.pos == self.start || (!hex && matches!(previous, 'e' | 'E')) || matches!(previous, 'p' | 'P'));
            if !(sign || c == '.' || c == '_' || c.is_ascii_alphanumeric()) {
                break;
            }
            previous = c;
            self.next();
        }
        let text = &self.input[self.start..self.pos];
        if self.peek().is_some_and(is_alphanumeric) || super::tree::Number::parse(text).is_none() {
            return Err(format!("bad number syntax: {}", super::quote::quote(text)));
        }
        self.emit(Kind::Number);
        Ok(())
    }
}

fn has_left_trim(after: &str) -> bool {
    let mut chars = after.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_space)
}

fn has_right_trim(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next().is_some_and(is_space) && chars.next() == Some('-') && chars.as_str().starts_with(RIGHT)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// A character as Go's `%#U` shows it: `U+0040 '@'`.
fn code_point(c: char) -> String {
    let number = format!("U+{:04X}", u32::from(c));
    if c.is_control() { number } else { format!("{number} '{c}'") }
}
