//! The list of the differences that stay.

use std::collections::BTreeSet;

use super::compare::Difference;

/// In place of a difference: the document is left out.
const NOT_ASKED: &str = "not asked";

/// The rules of `differences.tsv` for one area, and which of them were needed.
pub(crate) struct Differences {
    area: String,
    rules: Vec<Rule>,
    unlisted: Vec<String>,
}

struct Rule {
    line: usize,
    /// `None` for every document of the area.
    documents: Option<BTreeSet<u64>>,
    /// Where, recorded and ours: patterns in which `*` stands for anything.
    patterns: [String; 3],
    used: BTreeSet<u64>,
    /// It is a rule of all areas.
    everywhere: bool,
}

impl Differences {
    /// Reads the rules of an area, and those of all areas.
    pub(crate) fn of(area: &str) -> Self {
        let path = super::replay::golden().join("differences.tsv");
        let text = std::fs::read_to_string(path).expect("the list of differences");
        let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let rules = lines.filter_map(|(number, line)| Rule::parse(number + 1, line, area)).collect();
        Self { area: area.to_owned(), rules, unlisted: Vec::new() }
    }

    /// Whether the document is left out.
    pub(crate) fn leaves_out(&mut self, document: u64) -> bool {
        let mut left_out = false;
        for rule in self.rules.iter_mut().filter(|rule| rule.patterns[0] == NOT_ASKED) {
            if rule.documents.as_ref().is_some_and(|documents| documents.contains(&document)) {
                rule.used.insert(document);
                left_out = true;
            }
        }
        left_out
    }

    /// Keeps what is not listed.
    /// Says whether the document is equal but for what every document is different in.
    pub(crate) fn judge(&mut self, document: u64, shows: &str, found: BTreeSet<Difference>) -> bool {
        let mut equal = true;
        for difference in found {
            let Difference { place, recorded, ours } = &difference;
            equal &= self.rules.iter().any(|rule| rule.everywhere && rule.is_of([place, recorded, ours]));
            if !self.is_expected(document, [place, recorded, ours]) {
                self.unlisted.push(format!("{} {document}\t{place}\t{recorded}\t{ours}\t({shows})", self.area));
            }
        }
        equal
    }

    fn is_expected(&mut self, document: u64, difference: [&str; 3]) -> bool {
        let mut expected = false;
        for rule in &mut self.rules {
            let names_it = rule.documents.as_ref().is_none_or(|documents| documents.contains(&document));
            if names_it && rule.is_of(difference) {
                rule.used.insert(document);
                expected = true;
            }
        }
        expected
    }

    /// # Panics
    /// If there were differences that are not listed, or listed ones that did not occur.
    #[track_caller]
    pub(crate) fn finish(self) {
        let idle = self.rules.iter().filter_map(Rule::idle).collect::<Vec<_>>();
        assert!(
            self.unlisted.is_empty(),
            "{} differences are not listed:\n{}",
            self.unlisted.len(),
            self.unlisted.join("\n")
        );
        assert!(idle.is_empty(), "no longer different:\n{}", idle.join("\n"));
    }
}

impl Rule {
    fn parse(line: usize, text: &str, area: &str) -> Option<Self> {
        let fields = text.split('\t').collect::<Vec<_>>();
        let [documents, place, recorded, ours, reason] = fields[..] else {
            panic!("differences.tsv line {line}: five fields")
        };
        assert!(!reason.is_empty(), "differences.tsv line {line}: a reason");
        let (of, numbers) = documents.split_once(' ').expect("an area and numbers");
        (of == area || of == "*").then(|| Self {
            line,
            documents: (numbers != "*").then(|| parse_numbers(numbers)),
            patterns: [place, recorded, ours].map(str::to_owned),
            used: BTreeSet::new(),
            everywhere: of == "*",
        })
    }

    fn is_of(&self, difference: [&str; 3]) -> bool {
        self.patterns.iter().zip(difference).all(|(pattern, text)| is_like(pattern, text))
    }

    /// What of this rule was not needed. A rule of all areas may be idle in one of them.
    fn idle(&self) -> Option<String> {
        if self.everywhere {
            return None;
        }
        let unused = match &self.documents {
            Some(documents) => documents.difference(&self.used).collect::<Vec<_>>(),
            None if self.used.is_empty() => Vec::new(),
            None => return None,
        };
        let all_used = self.documents.is_some() && unused.is_empty();
        (!all_used).then(|| format!("line {}: {} in {unused:?}", self.line, self.patterns.join(" | ")))
    }
}

/// `1-3,7`.
pub(crate) fn parse_numbers(text: &str) -> BTreeSet<u64> {
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("a number: {text}"));
    let ranges = text.split(',').map(|part| match part.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(part)..=number(part),
    });
    ranges.flatten().collect()
}

fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts = parts.collect::<Vec<_>>();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}
