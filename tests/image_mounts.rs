//! `image mount` and `image unmount`: an image's files in a directory, kept for as long as they are looked at.

use berth_testkit::{Berth, Outcome, split};

use crate::{BERTH, start};

/// Runs the client in the engine's own mount namespace: what it mounts is seen there, and nowhere else.
fn inside(berth: &Berth, words: &str) -> Outcome {
    let mut command = berth.sandbox().command(BERTH);
    command.arg("--host").arg(format!("unix://{}", berth.sandbox().socket().display())).args(split(words));
    command.env("DOCKER_CONFIG", berth.sandbox().path().join("client")).env("HOME", berth.sandbox().path());
    Outcome::of(command.current_dir(berth.sandbox().path()), b"")
}

#[test]
fn a_mounted_image_stays_whatever_becomes_of_names_and_daemon() {
    let mut berth = start();
    inside(&berth, "image mount nosuch").fails(1, "No such image: nosuch");
    let target = inside(&berth, "image mount busybox").succeeds();
    let target = target.trim();
    inside(&berth, "image mount busybox").prints(&format!("{target}\n"));
    assert_eq!(berth.sandbox().shell(&format!("ls {target}/bin/busybox")), format!("{target}/bin/busybox\n"));
    assert_eq!(berth.sandbox().shell(&format!("touch {target}/new 2>&1 | grep -c 'Read-only'")), "1\n");
    let shown = berth.run("image mount").succeeds();
    assert!(shown.starts_with("IMAGE ID") && shown.contains("busybox") && shown.contains(target), "{shown}");
    // Nothing takes away what somebody looks at.
    berth.run("rmi busybox").fails(1, "(must be forced) - image ");
    berth.run("image prune -a -f").prints("Total reclaimed space: 0B\n");
    let id = berth.run("images -q --no-trunc busybox").succeeds();
    berth.run(&format!("rmi -f {}", id.trim())).fails(1, &format!("is mounted at {target}: unmount it first"));
    berth.kill_daemon();
    assert_eq!(berth.sandbox().shell(&format!("ls {target}/bin/busybox")), format!("{target}/bin/busybox\n"));
    berth.start_daemon();
    berth.run("image mount --format {{.Image}}").prints("busybox\n");
    // Its name can go; its content stays until it is not looked at any more.
    berth.run("rmi -f busybox").prints("Untagged: busybox:latest\n");
    berth.run(&format!("rmi -f {}", id.trim())).fails(1, "is mounted at");
    berth.run("image prune -f").prints("Total reclaimed space: 0B\n");
    assert_eq!(berth.sandbox().shell(&format!("cat {target}/etc/passwd | head -c 4")), "root");
    inside(&berth, "image unmount busybox").prints("busybox\n");
    inside(&berth, "image unmount busybox").fails(1, "No such image: busybox:latest");
    assert_eq!(berth.sandbox().shell(&format!("ls -d {target} 2>/dev/null")), "");
    berth.run("image mount").prints("IMAGE ID   IMAGE     MOUNT POINT\n");
    berth.run("image prune -f").shows("deleted: sha256:");
    berth.run("fsck").prints("0 images, 0 blobs, 0 layers: all good\n");
}

#[test]
fn layers_are_shown_one_above_the_other_at_a_place_that_people_choose() {
    let berth = start();
    berth.run("run --name made busybox sh -c 'echo new > /new; rm /etc/group'").succeeds();
    berth.run("commit made two:1").succeeds();
    berth.run("rm made").succeeds();
    let place = berth.sandbox().path().join("place");
    inside(&berth, &format!("image mount two:1 {}", place.display())).fails(1, "place: no such file or directory");
    std::fs::create_dir(&place).expect("a directory");
    inside(&berth, &format!("image mount two:1 {}", place.display())).prints(&format!("{}\n", place.display()));
    let look = |line: &str| berth.sandbox().shell(&format!("cd {} && {line}", place.display()));
    assert_eq!(look("cat new"), "new\n");
    assert_eq!(look("ls etc | grep -c group"), "0\n");
    inside(&berth, &format!("image mount busybox {}", place.display()))
        .fails(1, "shows image two:1 already: unmount it first");
    berth.run("rmi two:1").fails(1, "is mounted at");
    // Somebody works in it.
    let mut worker = berth.sandbox().command("sh");
    worker.args(["-c", "cd \"$0\" && echo in && exec sleep 600"]).arg(&place).stdout(std::process::Stdio::piped());
    let mut worker = worker.spawn().expect("sh");
    let mut said = [0; 3];
    std::io::Read::read_exact(worker.stdout.as_mut().expect("piped"), &mut said).expect("it is in");
    inside(&berth, "image unmount two:1").fails(1, "it is in use: end what works in it");
    worker.kill().and_then(|()| worker.wait()).expect("ended");
    // Unmounted by hand, it is only forgotten.
    assert_eq!(berth.sandbox().shell(&format!("umount {}", place.display())), "");
    inside(&berth, &format!("image unmount {}", place.display())).prints(&format!("{}\n", place.display()));
    inside(&berth, &format!("image unmount {}", place.display())).fails(1, "no image is mounted at /");
    assert!(place.is_dir(), "the directory was not the engine's");
    for image in ["two:1", "busybox"] {
        inside(&berth, &format!("image mount {image}")).succeeds();
    }
    inside(&berth, "image unmount --all").prints("");
    inside(&berth, "image unmount").fails(1, "name images or directories, or use --all");
    berth.run("rmi two:1 busybox").succeeds();
}

#[test]
fn a_container_sees_other_images_at_its_mounts() {
    let mut berth = start();
    berth
        .run("run --name made busybox sh -c 'echo new > /etc/new; rm /etc/group; mkdir -p /a/b; ln -s /a/b /link'")
        .succeeds();
    berth.run("commit made two:1").succeeds();
    berth.run("rm made").succeeds();
    let mount = "--mount type=image,source=two:1,target=/mnt";
    for client in [berth_testkit::Client::Berth, berth_testkit::Client::Docker] {
        let run = |words: &str| berth.run_as(client, &format!("run --rm {words}"));
        run(&format!("{mount} busybox cat /mnt/etc/new")).prints("new\n");
        run(&format!("{mount} busybox ls /mnt/etc/group")).fails(1, "No such file");
        run(&format!("{mount} busybox touch /mnt/x")).fails(1, "Read-only file system");
        run(&format!("{mount},image-subpath=etc busybox cat /mnt/new")).prints("new\n");
        run(&format!("{mount},image-subpath=link busybox ls -d /mnt")).prints("/mnt\n");
        run(&format!("{mount},image-subpath=etc/new busybox cat /mnt")).prints("new\n");
        run(&format!("{mount},image-subpath=nope busybox true")).fails(125, "it does not have nope");
        run("--mount type=image,source=none,target=/mnt busybox true").fails(125, "No such image: none");
    }
    berth.run(&format!("create --name sees {mount} busybox cat /mnt/etc/new")).succeeds();
    let format = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}";
    berth.run(&format!("inspect -f '{format}' sees")).prints("image two:1 /mnt false\n");
    // The container keeps the image, whatever becomes of its name.
    berth.run("rmi two:1").fails(1, "is using its referenced image");
    berth.run("rmi -f two:1").prints("Untagged: two:1\n");
    berth.run("image prune -a -f").prints("Total reclaimed space: 0B\n");
    berth.kill_daemon();
    berth.start_daemon();
    berth.run("start -a sees").prints("new\n");
    berth.run("rm sees").prints("sees\n");
    berth.run("image prune -f").shows("deleted: sha256:");
}
