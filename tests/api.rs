//! The Engine API by hand: status codes, headers, shapes.

use serde_json::json;

use crate::start;

#[test]
fn versions_are_negotiated() {
    let berth = start();
    let (status, version) = berth.api("GET", "/version", None);
    assert_eq!(status, 200);
    assert_eq!(version["MinAPIVersion"], "1.24");
    let newest = version["ApiVersion"].as_str().expect("text").to_owned();
    let (status, body) = berth.api("GET", "/v9.99/info", None);
    assert_eq!(status, 400);
    let expected = format!("client version 9.99 is too new. Maximum supported API version is {newest}");
    assert_eq!(body["message"], expected.as_str());
    let (status, body) = berth.api("GET", "/v1.23/info", None);
    assert!(status == 400 && body["message"].as_str().is_some_and(|text| text.contains("too old")));
    assert_eq!(berth.api("GET", "/nosuch", None), (404, json!({"message": "page not found"})));
}

#[test]
fn objects_that_are_missing_are_named() {
    let berth = start();
    for (method, path, message) in [
        ("GET", "/containers/nosuch/json", "No such container: nosuch"),
        ("POST", "/containers/nosuch/start", "No such container: nosuch"),
        ("DELETE", "/containers/nosuch", "No such container: nosuch"),
        ("GET", "/images/nosuch/json", "No such image: nosuch:latest"),
        ("GET", "/exec/nosuch/json", "No such exec instance: nosuch"),
        ("GET", "/volumes/nosuch", "get nosuch: no such volume"),
        ("GET", "/networks/nosuch", "network nosuch not found"),
    ] {
        assert_eq!(berth.api(method, path, None), (404, json!({"message": message})), "{method} {path}");
    }
}

#[test]
fn starting_twice_and_stopping_twice_is_not_modified() {
    let berth = start();
    let (status, created) =
        berth.api("POST", "/containers/create?name=box", Some(&json!({"Image": "busybox", "Cmd": ["sleep", "600"]})));
    assert_eq!((status, &created["Warnings"]), (201, &json!([])));
    assert_eq!(berth.api("POST", "/containers/box/start", None).0, 204);
    assert_eq!(berth.api("POST", "/containers/box/start", None).0, 304);
    assert_eq!(berth.api("POST", "/containers/box/stop?t=0", None).0, 204);
    assert_eq!(berth.api("POST", "/containers/box/stop?t=0", None).0, 304);
    let (_, inspect) = berth.api("GET", "/containers/box/json", None);
    assert_eq!(inspect["State"]["Status"], "exited");
    assert_eq!(inspect["ExecIDs"], json!(null));
}

#[test]
fn events_tell_a_container_s_life_in_order() {
    let berth = start();
    berth.run("run --rm --name told --network none busybox true").succeeds();
    let text = berth.run("events --since 1h --until 0s --filter container=told --format '{{.Action}}'").succeeds();
    let actions: Vec<&str> = text.lines().collect();
    assert_eq!(actions, ["create", "attach", "start", "die", "destroy"]);
}

/// What happened to containers and their networks since the last look, in order.
fn story(berth: &berth_testkit::Berth, seen: &mut usize) -> String {
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.signal}}";
    let filters = "--filter type=container --filter type=network";
    let text = berth.run(&format!("events --since 1h --until 0s {filters} --format '{format}'")).succeeds();
    let told: Vec<&str> = text.lines().skip(*seen).collect();
    *seen += told.len();
    let words = |line: &&str| line.trim_start_matches("container ").replace("<no value>", "").trim_end().to_owned();
    told.iter().map(words).collect::<Vec<_>>().join(", ")
}

#[test]
fn events_tell_a_stop_in_docker_s_order() {
    let berth = start();
    let seen = &mut 0;
    story(&berth, seen);
    berth.run("run -d --name deaf busybox sleep 600").succeeds();
    assert_eq!(story(&berth, seen), "create, network connect, start");
    berth.run("stop -t 0 deaf").succeeds();
    assert_eq!(story(&berth, seen), "kill 15, kill 9, die, network disconnect, stop");
    berth.run("start deaf").succeeds();
    berth.run("stop -s KILL deaf").succeeds();
    assert_eq!(story(&berth, seen), "network connect, start, kill 9, die, network disconnect, stop");
    berth.run("stop deaf").succeeds();
    assert_eq!(story(&berth, seen), "");
}

#[test]
fn a_restart_is_told_as_a_stop_and_a_start_and_removes_nothing() {
    let berth = start();
    let seen = &mut 0;
    berth.run("run -d --name again --rm --stop-signal KILL busybox sleep 600").succeeds();
    story(&berth, seen);
    berth.run("restart again").succeeds();
    let told = "kill 9, die, network disconnect, stop, network connect, start, restart";
    assert_eq!(story(&berth, seen), told);
    berth.run("stop again").succeeds();
    assert_eq!(story(&berth, seen), "kill 9, die, network disconnect, stop, destroy");
    berth.run("ps -aq").prints("");
}
