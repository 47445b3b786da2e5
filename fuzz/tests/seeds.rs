//! Replays the seeds of every target without a fuzzer: whole, and changed in ways that are the same in every run.
//!
//! `BERTH_FUZZ_ROUNDS` asks for more changes than the few that every run of the tests makes.

use std::path::Path;

/// Changes of all seeds together, for each target.
const ROUNDS: u32 = 50;
/// Bytes that parsers often compare with.
const TELLING: [u8; 8] = [0, 1, b'\n', b'/', b'"', 0x7f, 0x80, 0xff];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

#[test]
fn seeds_break_nothing() {
    for (name, target) in berth_fuzz::TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| target(seed));
    }
}

#[test]
fn changed_seeds_break_nothing() {
    let rounds = std::env::var("BERTH_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let only = std::env::var("BERTH_FUZZ_TARGET").ok();
    for (name, target) in berth_fuzz::TARGETS.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|o| o == name)) {
        let seeds = seeds(name);
        let mut random = fastrand::Rng::with_seed(u64::from(rounds));
        for _ in 0..rounds {
            let mut input = seeds[random.usize(..seeds.len())].clone();
            for _ in 0..=random.usize(..4) {
                change(&mut input, &seeds, &mut random);
            }
            let kept = Kept(name, &input);
            target(kept.1);
            std::mem::forget(kept);
        }
    }
}

/// Keeps the input when a target panics.
struct Kept<'a>(&'static str, &'a [u8]);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let path = std::env::temp_dir().join(format!("berth-fuzz-{}", self.0));
        let kept = std::fs::write(&path, self.1);
        eprintln!("{} broke on what is in {} now ({kept:?})", self.0, path.display());
    }
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut fastrand::Rng) {
    if input.is_empty() {
        input.push(random.u8(..));
    }
    let at = random.usize(..input.len());
    match random.u8(..7) {
        0 => input[at] ^= 1 << random.u8(..8),
        1 => input[at] = TELLING[random.usize(..TELLING.len())],
        2 => input.truncate(at),
        3 => input.insert(at, random.u8(..)),
        4 => drop(input.drain(at..input.len().min(at + random.usize(1..16)))),
        5 => {
            let piece = input[at..input.len().min(at + random.usize(1..32))].to_vec();
            let place = random.usize(..=input.len());
            input.splice(place..place, piece);
        }
        _ => {
            let other = &seeds[random.usize(..seeds.len())];
            input.truncate(at);
            input.extend_from_slice(&other[random.usize(..=other.len())..]);
        }
    }
}

#[test]
fn every_target_has_a_program() {
    for (name, _) in berth_fuzz::TARGETS {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz_targets/{name}.rs"));
        assert!(program.is_file(), "{} is missing", program.display());
    }
}
