//! `berth fsck`: every image record, blob and layer checked. Not of the reference client.

use clap::Args;
use serde::Deserialize;

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Fsck>(
    "system",
    "fsck",
    "[OPTIONS]",
    "Check every image, blob and layer of the store",
    Arity::Exactly(0),
)
.top(&["fsck"]);

/// Checks the image store.
#[derive(Args)]
pub struct Fsck {
    /// Fetch or unpack again what is bad, and remove what nothing needs
    #[arg(long)]
    repair: bool,
}

/// A line of the answer: a fault, or the sum at the end.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Fault(Fault),
    Sum(Sum),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fault {
    kind: String,
    id: String,
    reason: String,
    repaired: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sum {
    images: usize,
    blobs: usize,
    layers: usize,
    faults: usize,
    left: usize,
}

impl Command for Fsck {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let response = cx.client()?.post("/images/check").flag("repair", self.repair).send()?;
        for line in response.documents::<Line>() {
            match line? {
                Line::Fault(fault) => {
                    let done = fault.repaired.map(|done| format!(": {done}")).unwrap_or_default();
                    cx.say(format!("{} {} {}{done}", fault.kind, fault.id, fault.reason))?;
                }
                Line::Sum(sum) => return tell(cx, &sum),
            }
        }
        Err(CliError::message("the check broke off: see the daemon's log"))
    }
}

fn tell(cx: &Context, sum: &Sum) -> Result<(), CliError> {
    let checked = format!("{} images, {} blobs, {} layers", sum.images, sum.blobs, sum.layers);
    match (sum.faults, sum.left) {
        (0, _) => cx.say(format!("{checked}: all good")),
        (faults, 0) => cx.say(format!("{checked}: {faults} faults, all repaired")),
        (faults, left) => {
            cx.say(format!("{checked}: {faults} faults, {left} left"))?;
            Err(CliError::exit(1))
        }
    }
}
