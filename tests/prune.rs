//! `prune --dry-run` of everything: what would go is told, and nothing goes.

use crate::start;

#[test]
fn what_a_prune_would_remove_is_told_first() {
    let berth = start();
    let id = berth.run("create --name made -v /data busybox").succeeds();
    let other = berth.run("run -d --name runs -v kept:/data busybox sleep 600").succeeds();
    let lonely = berth.run("volume create").succeeds();
    berth.run("network create unused").succeeds();
    berth.run("network create used").succeeds();
    berth.run("network connect used runs").succeeds();
    berth.run("import --change 'LABEL a=1' busybox.tar spare:1").succeeds();
    let all = [
        ("container prune --dry-run", "Would delete containers:", id.trim()),
        ("network prune --dry-run", "Would delete networks:", "unused"),
        ("volume prune --dry-run", "Would delete volumes:", lonely.trim()),
    ];
    for (words, headline, name) in all {
        let told = berth.run(words).succeeds();
        assert!(told.starts_with(&format!("{headline}\n{name}")), "{words}: {told}");
        assert!(
            !told.contains(other.trim()) && !told.contains("kept") && !told.contains("\nused\n"),
            "{words}: {told}"
        );
        assert!(words.starts_with("network") || told.contains("Total reclaimable space: "), "{words}: {told}");
    }
    berth.run("network prune --dry-run --filter label=none").prints("");
    let told = berth.run("system prune --dry-run --volumes -a").succeeds();
    for line in [id.trim(), "unused", lonely.trim(), "would untag: spare:1", "Total reclaimable space: "] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("Are you sure"), "{told}");
    // Nothing has gone.
    berth.run("ps -aq --no-trunc").shows(id.trim());
    berth.run("volume ls -q").shows(lonely.trim());
    berth.run("network ls").shows("unused");
    berth.run("images").shows("spare");
    // The same, and no more, goes now.
    let done = berth.run("system prune -f --volumes -a").succeeds();
    for line in [id.trim(), "unused", lonely.trim(), "untagged: spare:1", "Total reclaimed space: "] {
        assert!(done.contains(line), "{line}: {done}");
    }
    berth.run("rm -f runs").succeeds();
    berth.run("volume rm kept").succeeds();
    berth.run("network rm used").succeeds();
}
