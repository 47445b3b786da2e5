//! Names for containers that nobody named: an adjective and somebody who built things (B066).

use berth_model::ContainerName;

const ADJECTIVES: [&str; 48] = [
    "able", "amber", "bold", "brave", "breezy", "bright", "calm", "candid", "clever", "coastal", "cosmic", "crisp",
    "daring", "deft", "eager", "early", "fair", "festive", "fleet", "frosty", "gallant", "gentle", "golden", "happy",
    "hardy", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucid", "merry", "mighty", "modest", "nimble",
    "noble", "patient", "placid", "proud", "quiet", "rapid", "sincere", "steady", "sunny", "tidal", "vivid", "witty",
];
const SURNAMES: [&str; 56] = [
    "allen",
    "babbage",
    "backus",
    "bartik",
    "boole",
    "borg",
    "brunel",
    "cerf",
    "church",
    "clarke",
    "conway",
    "cook",
    "curie",
    "dijkstra",
    "drake",
    "easley",
    "engelbart",
    "erdos",
    "euler",
    "faraday",
    "feynman",
    "floyd",
    "franklin",
    "galileo",
    "gauss",
    "goldberg",
    "hamilton",
    "hamming",
    "hertz",
    "hoare",
    "hopper",
    "johnson",
    "kay",
    "kepler",
    "knuth",
    "lamarr",
    "lamport",
    "liskov",
    "lovelace",
    "maxwell",
    "mclean",
    "meitner",
    "moore",
    "neumann",
    "newton",
    "noether",
    "pascal",
    "perlman",
    "postel",
    "ritchie",
    "shannon",
    "thompson",
    "torvalds",
    "turing",
    "volta",
    "wirth",
];

/// A name to try; from the second attempt on a digit makes a clash less likely.
pub(crate) fn generate(attempt: u32) -> ContainerName {
    let adjective = fastrand::choice(ADJECTIVES).expect("the list is not empty");
    let surname = fastrand::choice(SURNAMES).expect("the list is not empty");
    let digit = if attempt == 0 { String::new() } else { fastrand::u8(0..10).to_string() };
    format!("{adjective}_{surname}{digit}").parse().expect("words and digits make a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_have_docker_s_form() {
        for attempt in 0..5 {
            let name = generate(attempt).to_string();
            let (adjective, surname) = name.split_once('_').expect("two words");
            assert!(ADJECTIVES.contains(&adjective));
            assert_eq!(surname.ends_with(|c: char| c.is_ascii_digit()), attempt > 0, "{name}");
        }
    }
}
