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
