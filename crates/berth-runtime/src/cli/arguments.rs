//! Options as runc reads them: `--name value`, `--name=value`, `-n value`, up to the first operand.
//!
//! Written by hand: a container's start is measured in microseconds, and the grammar is small.

use std::collections::BTreeMap;

/// An option that a command knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    name: &'static str,
    short: Option<char>,
    takes_value: bool,
}

impl Flag {
    /// An option without a value.
    pub(super) const fn switch(name: &'static str) -> Flag {
        Flag { name, short: None, takes_value: false }
    }

    /// An option with a value; given again it adds one.
    pub(super) const fn value(name: &'static str) -> Flag {
        Flag { name, short: None, takes_value: true }
    }

    /// Its letter.
    pub(super) const fn short(self, letter: char) -> Flag {
        Flag { name: self.name, short: Some(letter), takes_value: self.takes_value }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.short.is_some_and(|letter| name.chars().eq([letter]))
    }
}

/// `--help`, which every command has.
pub(super) const HELP: Flag = Flag::switch("help").short('h');

/// Options and operands as typed.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    given: BTreeMap<&'static str, Vec<String>>,
    operands: Vec<String>,
}

/// Reads options up to the first operand or `--`; gives them and what is left.
pub(super) fn parse<'a>(flags: &[Flag], args: &'a [String]) -> Result<(Parsed, &'a [String]), String> {
    let mut parsed = Parsed::default();
    let mut rest = args;
    while let Some((first, more)) = rest.split_first() {
        let Some(name) = first.strip_prefix('-').filter(|name| !name.is_empty()) else { break };
        rest = more;
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() {
            break;
        }
        let (name, attached) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let flag = flags.iter().find(|flag| flag.is_called(name));
        let flag = flag.ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
        match (flag.takes_value, attached) {
            (true, Some(value)) => parsed.add(flag, value),
            (true, None) => {
                let (value, more) = rest.split_first().ok_or_else(|| format!("flag needs an argument: -{name}"))?;
                rest = more;
                parsed.add(flag, value.clone());
            }
            (false, None) => parsed.add(flag, String::new()),
            (false, Some(value)) => match value.as_str() {
                "true" | "1" | "t" => parsed.add(flag, String::new()),
                "false" | "0" | "f" => {
                    parsed.given.remove(flag.name);
                }
                other => return Err(format!("invalid boolean value {other:?} for -{name}")),
            },
        }
    }
    Ok((parsed, rest))
}

impl Parsed {
    fn add(&mut self, flag: &Flag, value: String) {
        self.given.entry(flag.name).or_default().push(value);
    }

    /// Puts in what follows the options.
    pub(super) fn set_operands(&mut self, operands: &[String]) {
        self.operands = operands.to_vec();
    }

    /// Whether an option is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The last value of an option.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.given.get(name)?.last().map(String::as_str)
    }

    /// All values of an option.
    pub(super) fn values(&self, name: &str) -> &[String] {
        self.given.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of an option, as what it must be.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let parse = |value: &str| value.parse().map_err(|_| format!("invalid value {value:?} for flag -{name}"));
        self.value(name).map(parse).transpose()
    }

    /// What follows the options.
    pub(super) fn operands(&self) -> &[String] {
        &self.operands
    }

    /// The one operand, a container's id.
    pub(super) fn only_id(&self, command: &str) -> Result<&str, String> {
        match self.operands.as_slice() {
            [id] => Ok(id),
            _ => Err(format!("{command:?} requires exactly 1 argument(s)")),
        }
    }
}

/// Prints options for `--help`.
pub(super) fn print_flags(flags: &[Flag]) {
    for flag in flags {
        let short = flag.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
        println!("  {short}--{}{}", flag.name, if flag.takes_value { " VALUE" } else { "" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] =
        &[Flag::value("bundle").short('b'), Flag::switch("detach").short('d'), Flag::value("env").short('e')];

    fn parsed(line: &str) -> Result<(Parsed, Vec<String>), String> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(FLAGS, &args).map(|(parsed, rest)| (parsed, rest.to_vec()))
    }

    #[test]
    fn options_come_in_many_spellings() {
        for line in ["--bundle x -d id", "-bundle=x --detach id", "-b x --detach=true id", "-d -b=x id"] {
            let (parsed, rest) = parsed(line).unwrap();
            assert_eq!(parsed.value("bundle"), Some("x"), "{line}");
            assert!(parsed.has("detach"), "{line}");
            assert_eq!(rest, ["id"], "{line}");
        }
    }

    #[test]
    fn options_end_at_the_first_operand() {
        let (first, rest) = parsed("-e a=b -e c=d id ls -d").unwrap();
        assert_eq!(first.values("env"), ["a=b", "c=d"]);
        assert!(!first.has("detach"));
        assert_eq!(rest, ["id", "ls", "-d"]);
        assert_eq!(parsed("-d -- -x").unwrap().1, ["-x"]);
    }

    #[test]
    fn wrong_options_are_named() {
        assert_eq!(parsed("--nope").unwrap_err(), "flag provided but not defined: -nope");
        assert_eq!(parsed("-b").unwrap_err(), "flag needs an argument: -b");
        assert!(parsed("-d=maybe").unwrap_err().contains("maybe"));
    }
}
