//! Name services: how fast names of containers are answered, and whether a question is lost while the daemon is killed and started again.
//!
//! Eight clients inside a container each ask as soon as they have an answer. Beside docker's service, which is a part of its daemon, Debian's
//! `dnsmasq` gives the scale: the same clients ask it on a loopback without containers.

use std::{
    fs::File,
    net::UdpSocket,
    os::fd::AsFd,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use berth_testkit::Sandbox;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Field, IMAGE, Setting, set_bars};
use crate::{
    engine::{Engine, Kind, installed},
    results::{Measure, Row},
};

const CLIENTS: u64 = 8;
/// Questions of one round, of all clients together.
const QUESTIONS: u64 = 20_000;
const TIME: &str = "20,000 answers";
const MEDIAN: &str = "one answer, median";
const SLOWEST: &str = "one answer, 99 % within";
/// At least 20,000 answers a second, and 99 % of them within 2 ms.
const BARS: [(&str, f64); 2] = [(TIME, 1000.0), (SLOWEST, 2.0)];
/// How often the daemon is killed.
const KILLS: usize = 20;
/// A question without an answer for so long is lost.
const PATIENCE: Duration = Duration::from_secs(2);

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let rounds = setting.options.samples(9);
    let mut samples: Vec<(String, [Vec<f64>; 3])> = Vec::new();
    let mut pids = Vec::new();
    for engine in &mut field.engines {
        pids.push(set_up(engine)?);
        samples.push((engine.kind.name().to_owned(), Default::default()));
    }
    let scale = installed("dnsmasq").map(|_| Dnsmasq::start()).transpose()?;
    if scale.is_some() {
        samples.push(("dnsmasq".to_owned(), Default::default()));
    }
    for round in 0..=rounds {
        for place in 0..samples.len() {
            let number = (place + round) % samples.len();
            let (pid, server) = match (pids.get(number), &scale) {
                (Some(pid), _) => (*pid, "127.0.0.11:53"),
                (None, Some(dnsmasq)) => (dnsmasq.sandbox.pid(), "127.0.0.1:5353"),
                (None, None) => continue,
            };
            let asked = ask(pid, server, &AtomicBool::new(false), QUESTIONS)?;
            if round > 0 {
                asked.add_to(&mut samples[number].1);
            }
        }
    }
    let mut rows = Vec::new();
    for (number, case) in [TIME, MEDIAN, SLOWEST].into_iter().enumerate() {
        rows.extend(samples.iter().map(|(name, series)| Row::new(case, name).with(Measure::Wall, &series[number])));
    }
    for (case, most) in BARS {
        set_bars(&mut rows, case, &[(Measure::Wall, most)], None);
    }
    if let Some(place) = field.engines.iter().position(|engine| engine.kind == Kind::Berth) {
        let note = lost(&mut field.engines[place], pids[place])?;
        field.note(note);
    }
    field.note("docker's name service is a part of its daemon: without that there is none".to_owned());
    for engine in &mut field.engines {
        engine.run(&["rm", "-f", "web", "asker"])?;
    }
    Ok(rows)
}

/// Starts the container that has the name and the one that asks; gives the process of the latter.
fn set_up(engine: &mut Engine) -> Result<u32> {
    engine.run(&["network", "create", "names"])?;
    for name in ["web", "asker"] {
        engine.run(&["run", "-d", "--network", "names", "--name", name, IMAGE, "sleep", "3600"])?;
    }
    let pid = engine.run(&["inspect", "-f", "{{.State.Pid}}", "asker"])?;
    pid.trim().parse().with_context(|| format!("no process id: {pid:?}"))
}

/// Kills and starts the daemon while the clients ask; says how many questions had no answer.
fn lost(engine: &mut Engine, pid: u32) -> Result<String> {
    let over = AtomicBool::new(false);
    let (asked, killed) = std::thread::scope(|scope| {
        let clients = scope.spawn(|| ask(pid, "127.0.0.11:53", &over, u64::MAX));
        let killed = (0..KILLS).try_for_each(|_| {
            std::thread::sleep(Duration::from_millis(100));
            engine.kill_and_restart()
        });
        over.store(true, Ordering::Relaxed);
        (clients.join(), killed)
    });
    killed?;
    let asked = asked.map_err(|_| anyhow::anyhow!("a client panicked"))??;
    Ok(format!(
        "while berth's daemon was killed and started {KILLS} times, {} of {} questions had no answer within {} s",
        asked.lost,
        asked.times.len() as u64 + asked.lost,
        PATIENCE.as_secs()
    ))
}

/// What came of many questions; times in milliseconds.
#[derive(Default)]
struct Asked {
    wall: f64,
    times: Vec<f64>,
    lost: u64,
}

impl Asked {
    fn add_to(mut self, series: &mut [Vec<f64>; 3]) {
        self.times.sort_by(f64::total_cmp);
        let at = |share: usize| self.times.get(self.times.len() * share / 100).copied();
        series[0].push(self.wall);
        series[1].extend(at(50));
        series[2].extend(at(99));
    }
}

/// Has eight clients in the network of a process ask until there are enough answers, or it is over.
fn ask(pid: u32, server: &str, over: &AtomicBool, enough: u64) -> Result<Asked> {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).context("the container's network")?;
    let count = AtomicU64::new(0);
    let begin = Instant::now();
    let outcomes: Vec<Result<Asked>> = std::thread::scope(|scope| {
        let client = |number: u64| {
            let (namespace, count) = (&namespace, &count);
            scope.spawn(move || -> Result<Asked> {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                one_client(server, number, || {
                    !over.load(Ordering::Relaxed) && count.fetch_add(1, Ordering::Relaxed) < enough
                })
            })
        };
        let threads: Vec<_> = (0..CLIENTS).map(client).collect();
        let failed = |_| Err(anyhow::anyhow!("a client panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(failed)).collect()
    });
    let mut all = Asked { wall: begin.elapsed().as_secs_f64() * 1e3, ..Asked::default() };
    for outcome in outcomes {
        let outcome = outcome?;
        all.times.extend(outcome.times);
        all.lost += outcome.lost;
    }
    Ok(all)
}

fn one_client(server: &str, number: u64, goes_on: impl Fn() -> bool) -> Result<Asked> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut asked = Asked::default();
    let mut room = [0; 512];
    let mut id = u16::try_from(number * 8000).unwrap_or(0);
    while goes_on() {
        id = id.wrapping_add(1);
        let question = question(id);
        let begin = Instant::now();
        socket.send(&question)?;
        let answered = loop {
            match socket.recv(&mut room) {
                // Late ones of questions that were given up.
                Ok(length) if length >= 12 && room[..2] == id.to_be_bytes() => break true,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        if answered {
            ensure!(room[3] & 15 == 0 && room[7] > 0, "the name is not known: code {}", room[3] & 15);
            asked.times.push(begin.elapsed().as_secs_f64() * 1e3);
        } else {
            asked.lost += 1;
        }
    }
    Ok(asked)
}

/// A question for the IPv4 addresses of `web`.
fn question(id: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3]);
    bytes.extend(b"web");
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Debian's dnsmasq, which knows the name too.
struct Dnsmasq {
    sandbox: Sandbox,
    process: Child,
}

impl Dnsmasq {
    fn start() -> Result<Self> {
        let sandbox = Sandbox::new();
        let mut command = sandbox.command("dnsmasq");
        command.args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--port=5353"]);
        command.args(["--listen-address=127.0.0.1", "--host-record=web,10.0.0.1", "--user=root", "--pid-file="]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let dnsmasq = Self { sandbox, process };
        let deadline = Instant::now() + Duration::from_secs(20);
        let one = || dnsmasq.sandbox.inside(|| one_answer("127.0.0.1:5353"));
        while !one() {
            ensure!(Instant::now() < deadline, "dnsmasq does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(dnsmasq)
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn one_answer(server: &str) -> bool {
    let asked = || -> std::io::Result<usize> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        socket.send(&question(1))?;
        socket.recv(&mut [0; 512])
    };
    asked().is_ok()
}
