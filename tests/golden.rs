//! Replays exchanges recorded with another engine against a real daemon, and compares every answer.
//!
//! `golden/AREA.jsonl` are the recordings (their README tells the format), `golden/setup/AREA.txt` is what has to be made before and during the
//! documents, and `golden/differences.tsv` is the one list of every difference that stays, with its reason. A difference that is not listed fails
//! the test, and so does a listed one that no longer occurs.

mod answer;
mod compare;
mod differences;
mod placeholder;
mod replay;
mod script;
mod wire;

use differences::Differences;
use replay::Replay;

/// Replays one area's documents in their order.
#[track_caller]
fn area(name: &str) {
    let mut listed = Differences::of(name);
    let mut replay = Replay::new(name);
    let (mut asked, mut equal) = (0, 0);
    for document in replay::documents(name) {
        let number = document["n"].as_u64().expect("a number");
        if listed.leaves_out(number) {
            continue;
        }
        asked += 1;
        let found = replay.run(number, &document);
        equal += usize::from(listed.judge(number, document["shows"].as_str().unwrap_or_default(), found));
    }
    println!("{name}: {asked} asked, {equal} equal, {} with listed differences", asked - equal);
    listed.finish();
}

macro_rules! areas {
    ($($test:ident $name:literal)*) => { $(
        #[test]
        fn $test() {
            area($name);
        }
    )* };
}

areas! {
    containers_attach "containers-attach"
    containers_create "containers-create"
    containers_inspect "containers-inspect"
    containers_lifecycle "containers-lifecycle"
    containers_list "containers-list"
    containers_logs "containers-logs"
    containers_misc "containers-misc"
    containers_wait "containers-wait"
    events "events"
    exec "exec"
    extra "extra"
    images "images"
    networks "networks"
    system "system"
    system_df "system-df"
    volumes "volumes"
}
