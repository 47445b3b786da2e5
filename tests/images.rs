//! Images: import, load, save, tag, rmi, history, inspect.

use crate::start;

#[test]
fn save_and_load_keep_the_image() {
    let berth = start();
    let id = berth.run("images -q --no-trunc busybox").succeeds();
    let file = berth.sandbox().path().join("image.tar");
    berth.run(&format!("save -o {} busybox", file.display())).succeeds();
    berth.run("rmi busybox").shows("Untagged: busybox:latest");
    berth.run("images -q").prints("");
    berth.run(&format!("load -i {}", file.display())).prints("Loaded image: busybox:latest\n");
    assert_eq!(berth.run("images -q --no-trunc busybox").succeeds(), id);
    berth.run("run --rm busybox echo back").prints("back\n");
}

#[test]
fn tags_come_and_go() {
    let berth = start();
    berth.run("tag busybox other:1").succeeds();
    berth.run("tag nosuch other:2").fails(1, "No such image: nosuch:latest");
    berth.run("rmi other:1").prints("Untagged: other:1\n");
    berth.run("run -d --name user busybox sleep 600").succeeds();
    berth.run("rmi busybox").fails(1, "conflict");
    berth.run("rmi nosuch").fails(1, "No such image: nosuch");
}

#[test]
fn history_and_inspect_tell_of_it() {
    let berth = start();
    berth.run("history -q busybox").succeeds();
    berth.run("image inspect -f '{{json .Config.Cmd}} {{.Os}}' busybox").prints("[\"sh\"] linux\n");
    berth.run("image inspect nosuch").fails(1, "No such image: nosuch");
}

#[test]
fn other_people_s_tools_read_what_we_save() {
    let berth = start();
    let path = berth.sandbox().path();
    berth.run(&format!("save -o {}/saved.tar busybox", path.display())).succeeds();
    let copied = std::process::Command::new("skopeo")
        .args(["--insecure-policy", "copy"])
        .arg(format!("docker-archive:{}/saved.tar", path.display()))
        .arg(format!("oci:{}/layout:busybox", path.display()))
        .output();
    let Ok(copied) = copied else {
        eprintln!("skopeo is not installed: not compared");
        return;
    };
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    berth.run("rmi busybox").succeeds();
    let packed = std::process::Command::new("tar")
        .args(["-C", &format!("{}/layout", path.display()), "-cf", &format!("{}/layout.tar", path.display()), "."])
        .status();
    assert!(packed.is_ok_and(|status| status.success()));
    berth.run(&format!("load -i {}/layout.tar", path.display())).exits(0);
    assert_ne!(berth.run("images -q").succeeds(), "");
}
