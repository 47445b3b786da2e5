//! A shim that is forked instead of started.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[allow(dead_code, reason = "the rig has more than these tests need")]
mod rig;

use berth_proto::client::Client;
use berth_proto::shim as api;
use rig::Rig;
use rig::zygote::{Zygote, gone, words};

async fn shut_down(client: &Client) {
    let _: api::ShutdownResponse = rig::call(client, "Shutdown", &api::ShutdownRequest::default()).await.unwrap();
}

#[test]
fn a_forked_shim_outlives_its_zygote_and_says_whose_it_is() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: containers need root here");
        return;
    }
    let rig = Rig::new("zygote");
    rig.run(async {
        let request = rig.request("read x; exit 3");
        let request = api::LaunchRequest { open_stdin: true, stdin_once: true, ..request };
        let zygote = Zygote::start(&request.shim_cgroup);
        let client = zygote.fork(&request.id);
        let launched: api::LaunchResponse = client.call_with_fds(api::SERVICE, "Launch", &request, &[]).await.unwrap();
        zygote.end();
        assert_eq!(words(launched.shim_pid), format!("berth-shim -id {}", request.id));
        let open = rig::descriptors(launched.shim_pid);
        assert!(open.len() <= 12, "{open:?}");
        let _: api::CloseStdinResponse =
            rig::call(&client, "CloseStdin", &api::CloseStdinRequest::default()).await.unwrap();
        let end: api::WaitResponse = rig::call(&client, "Wait", &api::WaitRequest::default()).await.unwrap();
        assert_eq!(end.exit_code, 3);
        shut_down(&client).await;
        // Its end is nobody's to reap but init's; its socket goes before it does.
        gone(launched.shim_pid).await;
    });
    rig.assert_nothing_is_left();
}

#[test]
fn a_message_that_is_no_launch_is_passed_over_and_ended_shims_leave_no_zombies() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: containers need root here");
        return;
    }
    let rig = Rig::new("zygote-odd");
    let zygote = Zygote::start(&rig.request("true").shim_cgroup);
    rustix::net::send(&zygote.socket, b"no socket", rustix::net::SendFlags::empty()).unwrap();
    rig.run(async {
        for _ in 0..3 {
            let client = zygote.fork("nothing-to-launch");
            let refused = rig::call::<_, api::StatusResponse>(&client, "Status", &api::StatusRequest {}).await;
            assert!(refused.unwrap_err().to_string().contains("no container was launched"));
        }
        // Their clients are gone, so they leave.
        let children = format!("/proc/{0}/task/{0}/children", zygote.process.id());
        while !std::fs::read_to_string(&children).unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    zygote.end();
}
