//! What a command printed and how it ended, and what was expected.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// What a command printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The command, for messages.
    pub command: String,
    /// Exit code; 128 and the signal for a killed command.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn of(command: &mut Command, input: &[u8]) -> Self {
        let text = command.get_args().skip(2).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read its input to the end may be gone by now.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output().expect("our child");
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        Self {
            command: text,
            code: output.status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It must have ended well; gives stdout without the last line's end.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn succeeds(&self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// It must have ended well and printed this.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn prints(&self, expected: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (0, expected), "{self:#?}");
    }

    /// It must have ended with this code.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// It must have ended with this code, and said this on stderr.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn fails(&self, code: i32, message: &str) {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.stderr.contains(message), "stderr lacks {message:?}: {self:#?}");
    }

    /// Its stdout must have this in it.
    ///
    /// # Panics
    /// If it has not.
    #[track_caller]
    pub fn shows(&self, text: &str) -> &Self {
        assert!(self.code == 0 && self.stdout.contains(text), "stdout lacks {text:?}: {self:#?}");
        self
    }
}
