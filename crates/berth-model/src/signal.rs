//! Signals by name and number.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A signal of Linux, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(i32);

/// A text that is no signal. The text is Docker's (B050).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct InvalidSignal(String);

/// Names in the order of their numbers, from 1; the same on x86-64 and aarch64.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// Other names for the same numbers.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

impl Signal {
    /// Ends a process at once.
    pub const KILL: Signal = Signal(9);
    /// Asks a process to end.
    pub const TERM: Signal = Signal(15);
    /// What Ctrl-C sends.
    pub const INT: Signal = Signal(2);
    /// Tells a change of the terminal's size.
    pub const WINCH: Signal = Signal(28);

    /// The signal of that number, if there is one.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        (1..=RTMAX).contains(&number).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// The name without `SIG`, or the number where there is none.
    #[must_use]
    pub fn name(self) -> String {
        let index = usize::try_from(self.0 - 1).expect("signals begin at 1");
        match (NAMES.get(index), self.0) {
            (Some(name), _) => (*name).to_owned(),
            (None, RTMIN) => "RTMIN".to_owned(),
            (None, RTMAX) => "RTMAX".to_owned(),
            (None, number) if number > RTMIN => format!("RTMIN+{}", number - RTMIN),
            (None, number) => number.to_string(),
        }
    }
}

impl FromStr for Signal {
    type Err = InvalidSignal;

    /// Takes a number, or a name in any case with or without `SIG`.
    fn from_str(text: &str) -> Result<Self, InvalidSignal> {
        let invalid = || InvalidSignal(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return Self::from_number(number).ok_or_else(invalid);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(index) = NAMES.iter().position(|known| *known == name) {
            return Ok(Self(i32::try_from(index).expect("31 names") + 1));
        }
        if let Some((_, number)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            return Ok(Self(*number));
        }
        let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest[1..].parse::<i32>().ok() };
        let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => offset(rest).map(|n| RTMIN + n),
            (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => offset(rest).map(|n| RTMAX - n),
            _ => None,
        };
        number.filter(|n| (RTMIN..=RTMAX).contains(n)).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            // 32 and 33 have no name; their numbers are read as they are.
            number if number.starts_with(|c: char| c.is_ascii_digit()) => f.write_str(&number),
            name => write!(f, "SIG{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_number() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("term", 15),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGRTMAX", 64),
            ("IOT", 6),
            ("64", 64),
        ] {
            assert_eq!(text.parse::<Signal>().expect(text).number(), number, "{text}");
        }
        for bad in ["", "0", "-1", "65", "SIG", "NOPE", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+"] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_signal_reads_its_own_name() {
        for number in 1..=64 {
            let signal = Signal::from_number(number).expect("in range");
            assert_eq!(signal.name().parse::<Signal>().expect("own name"), signal);
            assert_eq!(signal.to_string().parse::<Signal>().expect("as it is shown"), signal);
        }
    }
}
