//! The daemon is killed at every step of every operation; the next one finds the whole of it or nothing.
//!
//! The points are in the code (`berth_sys::fault`), in debug builds. A point that is not reached fails its test.

use berth_testkit::Berth;

use crate::{eventually, start};

/// Has the daemon die at a point of what `words` ask for, and starts the next one.
#[track_caller]
fn die(berth: &mut Berth, point: &str, words: &str) {
    berth.start_daemon_to_die(point);
    let outcome = berth.run(words);
    assert_ne!(outcome.code, 0, "{point}: {outcome:#?}");
    assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "{point}: {outcome:#?}");
    berth.await_death();
    berth.start_daemon();
}

#[track_caller]
fn status(berth: &Berth, name: &str) -> String {
    berth.run(&format!("inspect -f '{{{{.State.Status}}}} {{{{.State.ExitCode}}}}' {name}")).succeeds()
}

#[test]
fn create() {
    let mut berth = start();
    for point in ["create:named", "create:layered", "create:filled", "create:mounted", "create:recorded"] {
        for rm in ["", "--rm"] {
            die(&mut berth, point, &format!("create --name new {rm} -v /anonymous busybox true"));
            let made = berth.run("ps -aq --filter name=new").succeeds();
            assert_eq!(made.is_empty(), point != "create:recorded", "{point} {rm}");
            if made.is_empty() {
                berth.run("volume ls -q").prints("");
                berth.run("create --name new -v /anonymous busybox true").succeeds();
            }
            berth.run("start -a new").succeeds();
            if !berth.run("ps -aq").succeeds().is_empty() {
                berth.run("rm -v new").prints("new\n");
            }
            eventually("its volume is gone", || berth.run("volume ls -q").stdout.is_empty());
        }
    }
}

#[test]
fn filling_a_volume() {
    let mut berth = start();
    die(&mut berth, "create:filled", "create --name new -v tools:/bin busybox true");
    berth.run("volume ls -q").prints("tools\n");
    // The image's files came again, and none of the first time is left.
    berth.run("run --rm -v tools:/etc busybox ls /etc").prints("group\npasswd\n");
    berth.run("volume rm tools").succeeds();
}

#[test]
fn start_() {
    let mut berth = start();
    for (point, runs) in
        [("start:connected", false), ("start:bundled", false), ("start:launched", true), ("start:submitted", true)]
    {
        for rm in ["", "--rm"] {
            berth.run(&format!("create --name cc {rm} busybox sleep 600")).succeeds();
            die(&mut berth, point, "start cc");
            let expected = if runs { "running 0" } else { "created 0" };
            assert_eq!(status(&berth, "cc"), expected, "{point} {rm}");
            berth.run("start cc").prints("cc\n");
            berth.run("exec cc echo here").prints("here\n");
            berth.run("rm -f cc").prints("cc\n");
        }
    }
}

#[test]
fn stop() {
    let mut berth = start();
    for point in ["stop:begun", "stop:signalled", "exit:heard", "exit:recorded", "exit:disconnected"] {
        berth.run("run -d --name cc --restart unless-stopped busybox sleep 600").succeeds();
        let grace = if point.starts_with("stop") { "600" } else { "0" };
        die(&mut berth, point, &format!("stop -t {grace} cc"));
        // Who was asked to end may go on; who has ended by somebody's hand is not started again.
        let expected = if point.starts_with("stop") { "running 0" } else { "exited 137" };
        assert_eq!(status(&berth, "cc"), expected, "{point}");
        berth.run("stop -t 0 cc").prints("cc\n");
        assert_eq!(status(&berth, "cc"), "exited 137", "{point}");
        berth.run("start cc").prints("cc\n");
        berth.run("rm -f cc").prints("cc\n");
    }
}

#[test]
fn rm() {
    let mut berth = start();
    for point in ["remove:marked", "remove:devolumed", "remove:unrecorded", "remove:unlayered"] {
        berth.run("run --name cc -v /anonymous busybox true").succeeds();
        berth.start_daemon_to_die(point);
        // The last step is not waited for: its files are nobody's by then.
        let outcome = berth.run("rm -v cc");
        assert!(outcome.code != 0 || point == "remove:unlayered", "{point}: {outcome:#?}");
        berth.await_death();
        berth.start_daemon();
        eventually(point, || berth.run("ps -aq").succeeds().is_empty());
        eventually(point, || berth.run("volume ls -q").succeeds().is_empty());
    }
}

#[test]
fn rm_of_one_that_runs() {
    let mut berth = start();
    for point in ["exit:heard", "exit:recorded", "exit:disconnected", "remove:marked"] {
        berth.run("run -d --name cc --restart always busybox sleep 600").succeeds();
        die(&mut berth, point, "rm -f cc");
        let _ = berth.run("rm -f cc"); // Where the next daemon is about to do it, it is gone already, or in progress.
        eventually(point, || berth.run("ps -aq").succeeds().is_empty());
    }
}

#[test]
fn a_container_with_rm_that_ends() {
    let mut berth = start();
    for point in ["exit:heard", "exit:disconnected", "remove:devolumed", "remove:unrecorded", "remove:unlayered"] {
        berth.start_daemon_to_die(point);
        let outcome = berth.run("run --rm --name cc -v /anonymous busybox sh -c 'exit 3'");
        // The last step is not waited for.
        assert!(outcome.code == 125 || (outcome.code, point) == (3, "remove:unlayered"), "{point}: {outcome:#?}");
        berth.await_death();
        berth.start_daemon();
        eventually(point, || berth.run("ps -aq").succeeds().is_empty());
        eventually(point, || berth.run("volume ls -q").succeeds().is_empty());
    }
}

#[test]
fn load() {
    let mut berth = start();
    let archive = berth.sandbox().path().join("saved.tar");
    berth.run(&format!("save -o {} busybox", archive.display())).succeeds();
    berth.run("rmi busybox").succeeds();
    let empty = berth.footprint();
    for point in ["load:ingested", "load:read", "layer:unpacked", "layer:published", "load:unpacked", "load:recorded"] {
        die(&mut berth, point, &format!("load -i {}", archive.display()));
        if point != "load:recorded" {
            berth.run("images -aq").prints("");
            assert_eq!(berth.footprint(), empty, "{point}");
            berth.run(&format!("load -i {}", archive.display())).prints("Loaded image: busybox:latest\n");
        }
        berth.run("run --rm busybox echo whole").prints("whole\n");
        berth.run("rmi busybox").succeeds();
        berth.footprint_is(&empty);
    }
}

#[test]
fn exec() {
    let mut berth = start();
    berth.run("run -d --name cc busybox sleep 600").succeeds();
    for point in ["exec:ready", "exec:launched"] {
        die(&mut berth, point, "exec cc sleep 0.2");
        assert_eq!(status(&berth, "cc"), "running 0", "{point}");
        eventually(point, || berth.run("top cc -o pid").succeeds().lines().count() == 2);
        berth.run("exec cc echo here").prints("here\n");
    }
}

#[test]
fn connecting_and_taking_off_a_network() {
    let mut berth = start();
    let _ = berth
        .sandbox()
        .shell("ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip link set lan1 up");
    berth.run("network create --subnet 10.61.0.0/24 --gateway 10.61.0.1 red").succeeds();
    let macvlan = berth.run("network create -d macvlan -o parent=lan0 --subnet 10.62.0.0/24 lan").code == 0
        && berth.run("run --rm --network lan busybox true").code == 0;
    let networks: &[&str] = if macvlan { &["red", "lan"] } else { &["red"] };
    for network in networks {
        berth.run("run -d --name cc -p 8080:80 busybox sleep 600").succeeds();
        let connect = format!("network connect --gw-priority 1 {network} cc");
        let links = |berth: &Berth| berth.run("exec cc ls /sys/class/net").succeeds().split_whitespace().count();
        let way = |berth: &Berth| {
            let routes = berth.run("exec cc ip route").succeeds();
            routes.lines().filter(|line| line.starts_with("default")).collect::<Vec<_>>().join("\n")
        };
        for point in ["connect:plugged", "connect:rerouted", "ports:withdrawn"] {
            if point == "ports:withdrawn" && *network == "lan" {
                continue; // Ports lead to bridges only, and this is none.
            }
            die(&mut berth, point, &connect);
            // Whole or not at all: what inspect shows is there, and nothing else is.
            let shown = berth.run("inspect -f '{{len .NetworkSettings.Networks}}' cc").succeeds();
            assert_eq!(
                links(&berth).to_string(),
                (shown.parse::<usize>().expect("a number") + 1).to_string(),
                "{point} {network}"
            );
            assert_eq!(way(&berth).lines().count(), 1, "{point} {network}: {}", way(&berth));
            let leads = berth.sandbox().shell("nft list map inet berth ports4any").matches("tcp . 8080 : ").count();
            assert!(leads == 1 || *network == "lan", "{point} {network}");
            let _ = berth.run(&format!("network disconnect {network} cc"));
            assert_eq!(links(&berth), 2, "{point} {network}");
            berth.run("port cc").shows("0.0.0.0:8080");
        }
        berth.run(&connect).succeeds();
        die(&mut berth, "disconnect:unplugged", &format!("network disconnect {network} cc"));
        assert_eq!(links(&berth), 2, "{network}");
        berth.run("inspect -f '{{len .NetworkSettings.Networks}}' cc").prints("1\n");
        assert!(way(&berth).contains("via 172.17.0.1 dev eth0"), "{network}: {}", way(&berth));
        berth.run("port cc").shows("0.0.0.0:8080");
        berth.run("rm -f cc").succeeds();
    }
    for network in networks {
        berth.run(&format!("network rm {network}")).succeeds();
    }
    let _ = berth.sandbox().shell("ip link del lan0");
}

#[test]
fn an_exit_that_is_on_record_is_not_replayed() {
    let mut berth = start();
    for point in ["exit:recorded", "exit:disconnected"] {
        berth.start_daemon_to_die(point);
        let _ = berth.run("run --name cc busybox sh -c 'exit 3'");
        berth.await_death();
        let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        berth.start_daemon();
        assert_eq!(status(&berth, "cc"), "exited 3", "{point}");
        let times =
            berth.run("inspect -f '{{.State.StartedAt}} {{.State.FinishedAt}} {{.RestartCount}}' cc").succeeds();
        berth.run(&format!("events --since {} --until 0s --filter event=die", began - 60)).prints("");
        // Nor is it by the daemon after that.
        berth.kill_daemon();
        berth.start_daemon();
        let again =
            berth.run("inspect -f '{{.State.StartedAt}} {{.State.FinishedAt}} {{.RestartCount}}' cc").succeeds();
        assert_eq!(again, times, "{point}");
        berth.run("start -a cc").exits(3);
        berth.run("rm cc").prints("cc\n");
    }
}

#[test]
fn an_exit_that_is_not_on_record_is_replayed_once() {
    let mut berth = start();
    berth.start_daemon_to_die("exit:heard");
    let _ = berth.run("run --name cc busybox sh -c 'exit 3'");
    berth.await_death();
    berth.start_daemon();
    assert_eq!(status(&berth, "cc"), "exited 3");
    let told = berth.run("events --since 1h --until 0s --filter event=die --format '{{.Action}}'");
    told.prints("die\n");
}
