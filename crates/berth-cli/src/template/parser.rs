//! Builds the tree of a template from its tokens, with the texts of Go's parse errors.
//!
//! Checks all that Go checks before execution: undefined functions and variables, `break` outside of `range`,
//! operands in the wrong place. It evaluates nothing.

use std::collections::HashMap;

use super::lexer::{Kind, Token, tokens};
use super::quote::{quote, unquote};
use super::tree::{Command, Node, Number, Operand, Pipe, Term, Trees};

/// How deep actions and parentheses may nest; both recurse on the stack.
const MAX_NESTING: usize = 200;

/// Parses `text`; `known` says which function names exist.
pub(super) fn parse(name: &str, text: &str, known: &dyn Fn(&str) -> bool) -> Result<Trees, String> {
    let mut parser = Parser {
        name,
        tokens: tokens(text),
        at: 0,
        known,
        variables: vec!["$".to_owned()],
        ranges: 0,
        nesting: 0,
        action_line: 0,
        trees: HashMap::new(),
    };
    let root = parser.root().map_err(|message| format!("template: {name}:{}: {message}", parser.line()))?;
    let Parser { mut trees, .. } = parser;
    trees.insert(name.to_owned(), root);
    Ok(Trees(trees))
}

struct Parser<'a> {
    name: &'a str,
    tokens: Vec<Token>,
    at: usize,
    known: &'a dyn Fn(&str) -> bool,
    variables: Vec<String>,
    ranges: usize,
    nesting: usize,
    action_line: usize,
    trees: HashMap<String, Vec<Node>>,
}

/// What ends a list of nodes.
enum Ending {
    End,
    /// `{{else}}`, and whether the action goes on with `if` or `with`.
    Else(Option<Kind>),
}

impl Ending {
    fn quoted(&self) -> &'static str {
        match self {
            Ending::End => "{{end}}",
            Ending::Else(_) => "{{else}}",
        }
    }
}

enum Item {
    Node(Node),
    Ending(Ending),
    /// A definition, which leaves nothing in the body.
    Nothing,
}

type Parsed<T> = Result<T, String>;

impl Parser<'_> {
    /// The line of the token read last, which is the one errors name.
    fn line(&self) -> usize {
        let last = self.at.clamp(1, self.tokens.len()) - 1;
        self.tokens[last].line
    }

    fn peek(&self) -> &Token {
        // The last token is Eof or Error and is never consumed past.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len());
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    fn peek_word(&mut self) -> &Token {
        self.skip_space();
        self.peek()
    }

    fn next_word(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let token = self.next_word();
        if token.kind == kind { Ok(token) } else { Err(self.unexpected(&token, context)) }
    }

    fn unexpected(&self, token: &Token, context: &str) -> String {
        if token.kind != Kind::Error {
            return format!("unexpected {} in {context}", token.quoted());
        }
        if self.action_line == 0 || self.action_line == token.line {
            return token.text.clone();
        }
        let place = format!("started at {}:{}", self.name, self.action_line);
        if token.text.ends_with(" action") {
            format!("{} {place}", token.text)
        } else {
            format!("{} in action {place}", token.text)
        }
    }

    fn enter(&mut self) -> Parsed<()> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(format!("nested deeper than {MAX_NESTING} levels"));
        }
        Ok(())
    }

    fn root(&mut self) -> Parsed<Vec<Node>> {
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::Eof {
            match self.text_or_action()? {
                Item::Node(node) => nodes.push(node),
                Item::Ending(ending) => return Err(format!("unexpected {}", ending.quoted())),
                Item::Nothing => {}
            }
        }
        Ok(nodes)
    }

    fn list(&mut self) -> Parsed<(Vec<Node>, Ending)> {
        let mut nodes = Vec::new();
        while self.peek_word().kind != Kind::Eof {
            match self.text_or_action()? {
                Item::Node(node) => nodes.push(node),
                Item::Ending(ending) => return Ok((nodes, ending)),
                Item::Nothing => {}
            }
        }
        self.next();
        Err("unexpected EOF".to_owned())
    }

    fn text_or_action(&mut self) -> Parsed<Item> {
        let token = self.next_word();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text))),
            Kind::LeftDelim => {
                self.action_line = token.line;
                let item = self.action()?;
                self.action_line = 0;
                Ok(item)
            }
            _ => Err(self.unexpected(&token, "input")),
        }
    }

    fn action(&mut self) -> Parsed<Item> {
        let kind = self.peek_word().kind;
        let node = match kind {
            Kind::Define if self.nesting == 0 => {
                self.next();
                return self.definition();
            }
            Kind::Else => {
                self.next();
                return self.otherwise();
            }
            Kind::End => {
                self.next();
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Item::Ending(Ending::End));
            }
            Kind::Break | Kind::Continue => self.loop_control()?,
            Kind::If | Kind::With | Kind::Range => {
                self.next();
                self.control(kind)?
            }
            Kind::Block => self.block()?,
            Kind::Template => self.template()?,
            _ => Node::Action(self.pipeline("command", Kind::RightDelim)?),
        };
        Ok(Item::Node(node))
    }

    fn definition(&mut self) -> Parsed<Item> {
        const CONTEXT: &str = "define clause";
        let token = self.next_word();
        let name = self.template_name(&token, CONTEXT)?;
        self.expect(Kind::RightDelim, CONTEXT)?;
        self.body(name, CONTEXT)?;
        Ok(Item::Nothing)
    }

    /// The body of a definition: it sees no variable of what surrounds it.
    fn body(&mut self, name: String, context: &str) -> Parsed<()> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        self.enter()?;
        let (nodes, ending) = self.list()?;
        if let Ending::Else(_) = ending {
            return Err(format!("unexpected {} in {context}", ending.quoted()));
        }
        self.nesting -= 1;
        self.variables = outer;
        self.ranges = ranges;
        self.trees.insert(name, nodes);
        Ok(())
    }

    fn template_name(&self, token: &Token, context: &str) -> Parsed<String> {
        match token.kind {
            Kind::String | Kind::RawString => unquote(&token.text).ok_or_else(|| "invalid syntax".to_owned()),
            _ => Err(self.unexpected(token, context)),
        }
    }

    fn otherwise(&mut self) -> Parsed<Item> {
        let kind = self.peek_word().kind;
        if matches!(kind, Kind::If | Kind::With) {
            return Ok(Item::Ending(Ending::Else(Some(kind))));
        }
        self.expect(Kind::RightDelim, "else")?;
        Ok(Item::Ending(Ending::Else(None)))
    }

    fn loop_control(&mut self) -> Parsed<Node> {
        let token = self.next();
        let end = self.next_word();
        if end.kind != Kind::RightDelim {
            return Err(self.unexpected(&end, &format!("{{{{{}}}}}", token.text)));
        }
        if self.ranges == 0 {
            return Err(format!("{{{{{}}}}} outside {{{{range}}}}", token.text));
        }
        Ok(if token.kind == Kind::Break { Node::Break } else { Node::Continue })
    }

    fn control(&mut self, kind: Kind) -> Parsed<Node> {
        let context = match kind {
            Kind::If => "if",
            Kind::With => "with",
            _ => "range",
        };
        let scope = self.variables.len();
        self.enter()?;
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let looping = usize::from(kind == Kind::Range);
        self.ranges += looping;
        let (list, ending) = self.list()?;
        self.ranges -= looping;
        let otherwise = match ending {
            Ending::End => Vec::new(),
            Ending::Else(Some(next)) if next == kind => {
                self.next();
                vec![self.control(next)?]
            }
            Ending::Else(_) => self.else_list()?,
        };
        self.nesting -= 1;
        self.variables.truncate(scope);
        Ok(match kind {
            Kind::If => Node::If { pipe, list, otherwise },
            Kind::With => Node::With { pipe, list, otherwise },
            _ => Node::Range { pipe, list, otherwise },
        })
    }

    fn else_list(&mut self) -> Parsed<Vec<Node>> {
        let (list, ending) = self.list()?;
        match ending {
            Ending::End => Ok(list),
            Ending::Else(_) => Err(format!("expected end; found {}", ending.quoted())),
        }
    }

    fn block(&mut self) -> Parsed<Node> {
        const CONTEXT: &str = "block clause";
        self.next();
        let token = self.next_word();
        let name = self.template_name(&token, CONTEXT)?;
        let pipe = self.pipeline(CONTEXT, Kind::RightDelim)?;
        self.body(name.clone(), CONTEXT)?;
        Ok(Node::Template { pos: token.pos, name, pipe: Some(pipe) })
    }

    fn template(&mut self) -> Parsed<Node> {
        const CONTEXT: &str = "template clause";
        self.next();
        let token = self.next_word();
        let name = self.template_name(&token, CONTEXT)?;
        if self.peek_word().kind == Kind::RightDelim {
            self.next();
            return Ok(Node::Template { pos: token.pos, name, pipe: None });
        }
        let pipe = Some(self.pipeline(CONTEXT, Kind::RightDelim)?);
        Ok(Node::Template { pos: token.pos, name, pipe })
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        self.enter()?;
        let pos = self.peek_word().pos;
        let mut pipe = Pipe { pos, assigns: false, variables: Vec::new(), commands: Vec::new() };
        while self.declaration(&mut pipe, context)? {}
        loop {
            let token = self.peek_word().clone();
            match token.kind {
                kind if kind == end => {
                    self.next();
                    break;
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => pipe.commands.push(self.command()?),
                _ => {
                    self.next();
                    return Err(self.unexpected(&token, context));
                }
            }
        }
        self.nesting -= 1;
        check(&pipe, context)?;
        Ok(pipe)
    }

    /// Takes `$x :=`, `$x =` or, for `range`, `$i,`; true when another variable may follow.
    fn declaration(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<bool> {
        if self.peek_word().kind != Kind::Variable {
            return Ok(false);
        }
        let start = self.at;
        let name = self.next().text;
        let next = self.next_word();
        let more = match next.kind {
            Kind::Assign | Kind::Declare => {
                pipe.assigns = next.kind == Kind::Assign;
                false
            }
            Kind::Char if next.text == "," => {
                if context != "range" || !pipe.variables.is_empty() {
                    return Err(format!("too many declarations in {context}"));
                }
                if !matches!(self.peek_word().kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                    return Err("range can only initialize variables".to_owned());
                }
                true
            }
            _ => {
                self.at = start;
                return Ok(false);
            }
        };
        self.variables.push(name.clone());
        pipe.variables.push(name);
        Ok(more)
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut command = Command { pos: self.peek_word().pos, operands: Vec::new() };
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                command.operands.push(operand);
            }
            let token = self.peek().clone();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => {}
                Kind::Pipe => {
                    self.next();
                }
                _ => {
                    self.next();
                    return Err(self.unexpected(&token, "operand"));
                }
            }
            break;
        }
        if command.operands.is_empty() { Err("empty command".to_owned()) } else { Ok(command) }
    }

    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let Some(mut operand) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(operand));
        }
        let pos = self.peek().pos;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.next().text[1..].to_owned());
        }
        match &mut operand.term {
            Term::Field(names) | Term::Variable(_, names) => {
                names.append(&mut fields);
                operand.pos = pos;
            }
            Term::Bool(_) | Term::Text(..) | Term::Number(..) | Term::Nil | Term::Dot => {
                return Err(format!("unexpected . after term {}", quote(&operand.to_string())));
            }
            Term::Chain(..) | Term::Function(_) | Term::Pipe(_) => {
                operand = Operand { pos, term: Term::Chain(Box::new(operand), fields) };
            }
        }
        Ok(Some(operand))
    }

    fn term(&mut self) -> Parsed<Option<Operand>> {
        let token = self.peek_word().clone();
        if !matches!(
            token.kind,
            Kind::Identifier
                | Kind::Dot
                | Kind::Nil
                | Kind::Variable
                | Kind::Field
                | Kind::Bool
                | Kind::CharConstant
                | Kind::Number
                | Kind::LeftParen
                | Kind::String
                | Kind::RawString
        ) {
            return Ok(None);
        }
        self.next();
        let term = match token.kind {
            Kind::Identifier if (self.known)(&token.text) => Term::Function(token.text),
            Kind::Identifier => return Err(format!("function {} not defined", quote(&token.text))),
            Kind::Dot => Term::Dot,
            Kind::Nil => Term::Nil,
            Kind::Variable if self.variables.contains(&token.text) => Term::Variable(token.text, Vec::new()),
            Kind::Variable => return Err(format!("undefined variable {}", quote(&token.text))),
            Kind::Field => Term::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => Term::Bool(token.text == "true"),
            Kind::CharConstant => {
                let value =
                    unquote(&token.text).ok_or_else(|| format!("malformed character constant: {}", token.text))?;
                let code = value.chars().next().map_or(0, |c| i128::from(u32::from(c)));
                Term::Number(token.text, Number::Int(code))
            }
            Kind::Number => {
                let number = Number::parse(&token.text)
                    .ok_or_else(|| format!("illegal number syntax: {}", quote(&token.text)))?;
                Term::Number(token.text, number)
            }
            Kind::LeftParen => Term::Pipe(self.pipeline("parenthesized pipeline", Kind::RightParen)?),
            _ => {
                let value = unquote(&token.text).ok_or("invalid syntax")?;
                Term::Text(token.text, value)
            }
        };
        Ok(Some(Operand { pos: token.pos, term }))
    }
}

/// Only the first command of a pipeline may be a plain value.
fn check(pipe: &Pipe, context: &str) -> Parsed<()> {
    if pipe.commands.is_empty() {
        return Err(format!("missing value for {context}"));
    }
    for (stage, command) in pipe.commands.iter().enumerate().skip(1) {
        let first = &command.operands[0].term;
        if matches!(first, Term::Bool(_) | Term::Dot | Term::Nil | Term::Number(..) | Term::Text(..)) {
            return Err(format!("non executable command in pipeline stage {}", stage + 1));
        }
    }
    Ok(())
}
