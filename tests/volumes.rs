//! `-v`, `--mount`, `--tmpfs`, and `berth volume`.

use crate::start;

#[test]
fn a_named_volume_keeps_its_files() {
    let berth = start();
    berth.run("run --rm -v data:/d busybox sh -c 'echo kept > /d/f'").succeeds();
    berth.run("run --rm -v data:/d:ro busybox cat /d/f").prints("kept\n");
    berth.run("run --rm -v data:/d:ro busybox touch /d/x").fails(1, "Read-only file system");
    berth.run("volume ls -q").prints("data\n");
    berth.run("run -d --name user -v data:/d busybox sleep 600").succeeds();
    berth.run("volume rm data").fails(1, "volume is in use");
    berth.run("rm -f user").succeeds();
    berth.run("volume rm data").prints("data\n");
    berth.run("volume inspect data").fails(1, "no such volume");
}

#[test]
fn an_empty_volume_gets_the_image_s_files() {
    let berth = start();
    berth.run("run --rm -v etc:/etc busybox cat /etc/group").shows("www-data");
    berth.run("run --rm --mount type=volume,src=none,dst=/etc,volume-nocopy busybox ls /etc/group").exits(1);
}

#[test]
fn an_anonymous_volume_goes_with_rm() {
    let berth = start();
    berth.run("run --rm -v /a busybox touch /a/x").succeeds();
    berth.run("volume ls -q").prints("");
    berth.run("run --name keeps -v /a busybox touch /a/x").succeeds();
    assert_eq!(berth.run("volume ls -q").succeeds().len(), 64);
    berth.run("rm -v keeps").succeeds();
    berth.run("volume ls -q").prints("");
}

#[test]
fn binds_show_the_host_s_files() {
    let berth = start();
    let path = berth.sandbox().path().join("shared");
    std::fs::create_dir(&path).expect("made");
    std::fs::write(path.join("f"), "from the host\n").expect("written");
    let path = path.display();
    berth.run(&format!("run --rm -v {path}:/s busybox sh -c 'cat /s/f; echo back > /s/g'")).prints("from the host\n");
    assert_eq!(std::fs::read_to_string(format!("{path}/g")).expect("written inside"), "back\n");
    berth.run(&format!("run --rm -v {path}:/s:ro busybox touch /s/x")).fails(1, "Read-only file system");
    berth
        .run(&format!("run --rm --mount type=bind,src={path},dst=/s,readonly busybox cat /s/f"))
        .prints("from the host\n");
    berth.run(&format!("run --rm -v {path}/made:/s busybox ls /s")).prints("");
    assert!(std::path::Path::new(&format!("{path}/made")).is_dir());
    berth.run(&format!("run --rm -v {path}/f:/etc/motd busybox cat /etc/motd")).prints("from the host\n");
}

#[test]
fn tmpfs_has_its_options() {
    let berth = start();
    berth.run("run --rm --tmpfs /t:size=1m,mode=700 busybox sh -c 'stat -c %a /t; df -k /t | tail -1 | tr -s \" \" | cut -d\" \" -f2'").prints("700\n1024\n");
    berth.run("run --rm -v xx:/a -v yy:/a busybox").fails(125, "Duplicate mount point: /a");
}

#[test]
fn volume_commands() {
    let berth = start();
    berth.run("volume create v1").prints("v1\n");
    berth.run("volume create v1").prints("v1\n");
    berth.run("volume create --label a=b v2").prints("v2\n");
    berth.run("volume ls -q --filter label=a").prints("v2\n");
    berth.run("volume inspect -f '{{.Name}} {{.Driver}}' v2").prints("v2 local\n");
    berth.run("volume create x").fails(1, "volume name is too short");
    berth.run("volume prune -af").shows("Total reclaimed space: 0B");
    berth.run("volume ls -q").prints("");
}
