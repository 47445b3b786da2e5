//! The words in angle brackets that stand for ids, times and places in the recordings.

use std::collections::HashMap;

/// What the placeholders stand for in this run.
#[derive(Default)]
pub(crate) struct Names {
    ids: HashMap<String, String>,
    places: Vec<(&'static str, String)>,
}

impl Names {
    /// With the directories of this run.
    pub(crate) fn new(places: Vec<(&'static str, String)>) -> Self {
        Self { ids: HashMap::new(), places }
    }

    /// From now on, this name has this 64-digit id.
    pub(crate) fn bind(&mut self, name: &str, id: &str) {
        self.ids.insert(name.to_owned(), id.to_owned());
    }

    /// The object of this name will be another one.
    pub(crate) fn forget(&mut self, name: &str) {
        self.ids.remove(name);
    }

    /// The id of a name.
    pub(crate) fn id(&self, name: &str) -> Option<&str> {
        self.ids.get(name).map(String::as_str)
    }

    /// A text to be sent: an id that is not known yet becomes one that nothing has.
    pub(crate) fn fill(&mut self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, word, after)) = next_word(rest) {
            filled += before;
            filled += &self.sent(word);
            rest = after;
        }
        filled + rest
    }

    fn sent(&mut self, word: &str) -> String {
        match (word.split_once(':'), self.place(word)) {
            (Some(("ID", name)), _) => {
                let made_up = format!("{:0>64}", self.ids.len() + 0xabc_def0);
                self.ids.entry(name.to_owned()).or_insert(made_up).clone()
            }
            (Some(("SID", name)), _) => self.id(name).unwrap_or("000000000000")[..12].to_owned(),
            (_, Some(place)) => place.to_owned(),
            _ if word == "TIME" => "2026-01-02T03:04:05Z".to_owned(),
            _ => format!("<{word}>"),
        }
    }

    fn place(&self, word: &str) -> Option<&str> {
        self.places.iter().find(|(name, _)| *name == word).map(|(_, place)| place.as_str())
    }

    /// Whether a text is what was recorded. An id seen for the first time is remembered.
    pub(crate) fn matches(&mut self, recorded: &str, ours: &str) -> bool {
        let (mut recorded, mut ours) = (recorded, ours);
        while let Some((before, word, after)) = next_word(recorded) {
            let Some(rest) = ours.strip_prefix(before) else { return false };
            let Some(length) = self.length(word, rest) else { return false };
            (recorded, ours) = (after, &rest[length..]);
        }
        recorded == ours
    }

    /// How much of a text is what a placeholder stands for.
    fn length(&mut self, word: &str, text: &str) -> Option<usize> {
        if let Some(place) = self.place(word) {
            return text.starts_with(place).then_some(place.len());
        }
        let run = |is_one: fn(char) -> bool| text.find(|c| !is_one(c)).unwrap_or(text.len());
        match word.split_once(':') {
            Some(("ID", name)) => {
                let length = run(|c| c.is_ascii_hexdigit());
                let id = self.ids.entry(name.to_owned()).or_insert_with(|| text[..length.min(64)].to_owned());
                (length >= 64 && text.starts_with(id.as_str())).then_some(64)
            }
            Some(("SID", name)) => {
                let known = self.id(name).is_none_or(|id| text.starts_with(&id[..12]));
                (known && run(|c| c.is_ascii_hexdigit()) >= 12).then_some(12)
            }
            _ => match word {
                "TIME" => Some(run(|c| c.is_ascii_digit() || "-:.TZ+".contains(c))).filter(|length| *length > 0),
                "N" => Some(run(|c| c.is_ascii_digit())).filter(|length| *length > 0),
                "MAC" => Some(run(|c| c.is_ascii_hexdigit() || c == ':')).filter(|length| *length == 17),
                // The rest of a line; what follows it in the recordings is not compared.
                _ => Some(text.len()),
            },
        }
    }
}

/// The text before a placeholder, the word in it, and the text after it.
fn next_word(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find('<')?;
        let end = start + text[start..].find('>')?;
        let word = &text[start + 1..end];
        let is_placeholder = word.starts_with("ID:")
            || word.starts_with("SID:")
            || word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        if is_placeholder && !word.is_empty() {
            return Some((&text[..start], word, &text[end + 1..]));
        }
        from = start + 1;
    }
}
