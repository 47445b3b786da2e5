//! Throughput, as the time in which iperf3 carries a certain amount: from the host, a neighbour and a container to a published port, and
//! from container to container.
//!
//! The programs run in the containers' network namespaces, not in the containers: what carries the packets is the same, and the image needs no
//! iperf3.

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use berth_testkit::topology::{HOST, Topology};

use super::{Field, IMAGE, Setting, set_bars};
use crate::{
    engine::{Cost, Engine, installed},
    hand::Batch,
    results::Row,
    series::turns,
};

/// What is carried in each run, as iperf3 takes it.
const AMOUNT: &str = "1G";
/// The port on the host that leads to the server.
const PORT: &str = "18080:5201";
/// What Berth wants to reach of docker's best throughput.
const SHARE: f64 = 0.95;

const CASES: [&str; 5] = [
    "host to published port, by loopback",
    "host to published port, by its own address",
    "neighbour to published port",
    "container to container",
    "host to container, nothing published",
];

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    ensure!(installed("iperf3").is_some(), "iperf3 is not installed");
    let mut places = BTreeMap::new();
    for engine in &mut field.engines {
        places.insert(engine.kind, Place::around(engine)?);
    }
    let rounds = setting.options.samples(12);
    let mut rows = Vec::new();
    for (number, case) in CASES.into_iter().enumerate() {
        let mut more = turns(&mut field.engines, rounds, |engine, _| {
            let place = places.get(&engine.kind).context("no place")?;
            let batch = Batch { jobs: vec![place.command(number)], width: 1, ..Batch::default() };
            let (outcome, _) = engine.batch(batch)?;
            Ok(vec![(case.to_owned(), Cost { wall: outcome.wall, cpu: None })])
        });
        set_bars(&mut more, case, &[], Some(SHARE));
        rows.extend(more);
    }
    for engine in &mut field.engines {
        engine.run(&["rm", "-f", "server", "client"])?;
    }
    Ok(rows)
}

/// A server and a client in containers of one engine, and hosts around it.
struct Place {
    server: Child,
    client: String,
    address: String,
    topology: Topology,
}

impl Place {
    fn around(engine: &mut Engine) -> Result<Place> {
        let topology = Topology::around(engine.sandbox());
        engine.run(&["run", "-d", "--name", "server", "-p", PORT, IMAGE, "sleep", "3600"])?;
        engine.run(&["run", "-d", "--name", "client", IMAGE, "sleep", "3600"])?;
        let mut look = |field: &str, name: &str| -> Result<String> {
            Ok(engine.run(&["inspect", "-f", &format!("{{{{{field}}}}}"), name])?.trim().to_owned())
        };
        let address = look(".NetworkSettings.Networks.bridge.IPAddress", "server")?;
        let (pid, client) = (look(".State.Pid", "server")?, look(".State.Pid", "client")?);
        let mut server = engine.sandbox().command("nsenter");
        server.args(["--target", &pid, "--net", "iperf3", "--server"]).stdin(Stdio::null()).stdout(Stdio::null());
        let server = server.spawn().context("starting iperf3")?;
        let place = Place { server, client, address, topology };
        place.wait(engine, &pid)?;
        Ok(place)
    }

    fn wait(&self, engine: &Engine, pid: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut look = engine.sandbox().command("nsenter");
            let output = look.args(["--target", pid, "--net", "ss", "-Hltn", "sport = :5201"]).output()?;
            if !output.stdout.trim_ascii().is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("iperf3 does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the client of a case runs.
    fn command(&self, case: usize) -> Vec<String> {
        let neighbour = self.topology.neighbour.pid().to_string();
        let (inside, address, port) = match case {
            0 => (None, "127.0.0.1", "18080"),
            1 => (None, HOST, "18080"),
            2 => (Some(&neighbour), HOST, "18080"),
            3 => (Some(&self.client), self.address.as_str(), "5201"),
            _ => (None, self.address.as_str(), "5201"),
        };
        let enter = inside.map(|pid| ["nsenter", "--target", pid, "--net"]).into_iter().flatten();
        let words = ["iperf3", "--client", address, "--port", port, "--bytes", AMOUNT];
        enter.chain(words).map(str::to_owned).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
