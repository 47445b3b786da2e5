//! `berth network tap`, which Docker has not.

use std::path::PathBuf;

use berth_client::Client;
use clap::Args;

use crate::commands::image::save::Output;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Tap>(
    "network",
    "tap",
    "[OPTIONS] CONTAINER",
    "Write the packets of a container as a capture file (pcap)",
    Arity::Exactly(1),
);

/// Writes the packets of a running container, until it ends or there were enough.
#[derive(Args)]
pub struct Tap {
    /// End after so many packets
    #[arg(short, long, value_name = "uint")]
    count: Option<u64>,
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Only packets from or to this port
    #[arg(short, long, value_name = "uint16")]
    port: Option<u16>,
    /// Keep at most so many bytes of each packet
    #[arg(short, long, value_name = "uint")]
    snaplen: Option<u32>,
    container: String,
}

impl Command for Tap {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let output = Output::open(cx, self.output, "failed to capture packets")?;
        let numbers =
            [("count", self.count), ("port", self.port.map(u64::from)), ("snaplen", self.snaplen.map(u64::from))];
        let mut request = cx.client()?.get(Client::path("berth/containers", &self.container, "/tap"));
        for (name, number) in numbers {
            if let Some(number) = number {
                request = request.query(name, &number.to_string());
            }
        }
        output.take(&mut request.send()?)
    }
}
