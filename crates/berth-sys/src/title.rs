//! The words by which `ps` shows a process, for one that becomes somebody else without executing a program. See proc_pid_cmdline(5).

use std::io;
use std::ptr;

/// Where the kernel has put the arguments of this process. It is what `/proc/PID/cmdline` shows.
#[derive(Clone, Copy, Debug)]
pub struct Title {
    start: usize,
    length: usize,
}

impl Title {
    /// Finds the place, which is as long as the arguments that the process was started with.
    ///
    /// # Errors
    /// Those of reading `/proc/self/stat`, `InvalidData` if it says nothing of a place.
    pub fn find() -> io::Result<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let (start, end) = arguments_in(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, length: end - start })
    }

    /// Replaces the arguments; what does not fit is cut off.
    ///
    /// Only for a process with one thread that has read its arguments: they are gone.
    pub fn set<'a>(&self, words: impl IntoIterator<Item = &'a str>) {
        let mut text: Vec<u8> = words.into_iter().flat_map(|word| word.bytes().chain([0])).collect();
        text.resize(self.length, 0);
        // A last byte that is not zero would make the kernel look for more behind it.
        if let Some(last) = text.last_mut() {
            *last = 0;
        }
        let target = ptr::with_exposed_provenance_mut::<u8>(self.start);
        // SAFETY: the kernel has put the arguments there, at the top of the stack, writable and for as long as the process lives. Whoever reads them
        // by the pointers made at the start still finds text that ends within them, because the last byte is zero.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), target, self.length) };
    }
}

/// Fields 48 and 49, `arg_start` and `arg_end`. The second field is in brackets and may hold blanks.
fn arguments_in(stat: &str) -> Option<(usize, usize)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(48 - 3);
    let start = fields.next()?.parse().ok()?;
    let end = fields.next()?.trim_end().parse().ok()?;
    (start != 0 && end > start).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{CloneRequest, Cloned, exit_now};
    use std::io::{Read, Write};

    /// In a child, so that the test itself keeps its name.
    fn shown_after(words: &[&str]) -> Vec<u8> {
        let title = Title::find().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let Cloned::Parent { .. } = CloneRequest::default().run().unwrap() else {
            title.set(words.iter().copied());
            let shown = std::fs::read("/proc/self/cmdline").unwrap_or_default();
            let _ = writer.write_all(&shown);
            exit_now(0)
        };
        drop(writer);
        let mut shown = Vec::new();
        reader.read_to_end(&mut shown).unwrap();
        shown
    }

    #[test]
    fn the_new_words_are_shown_and_never_more_than_fit() {
        let room = std::fs::read("/proc/self/cmdline").unwrap().len();
        let shown = shown_after(&["a", "bc"]);
        assert!(shown.starts_with(b"a\0bc\0") && shown[5..].iter().all(|byte| *byte == 0), "{shown:?}");
        let long = "x".repeat(2 * room);
        assert_eq!(shown_after(&[&long]).iter().filter(|byte| **byte == b'x').count(), room - 1);
    }

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_confuse() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        assert_eq!(arguments_in(&format!("7 (a) (b c) {}\n", fields.join(" "))), Some((48, 49)));
        assert_eq!(arguments_in("7 (a) S 1"), None);
    }
}
