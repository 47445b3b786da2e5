//! What was asked for on the command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{engine::Kind, groups::Group};

/// The text of `--help`.
pub const HELP: &str = "\
Measures Berth beside docker, podman, crun and runc, as far as they are installed. Needs root.

Usage: cargo run --release -p bench -- [GROUP...] [OPTION...]

Groups (default: all but debian, registry, cuts, archive, traffic and names):
  run       run --rm of `true`, without network and on the default bridge
  ports     the same with a published port
  many-ports
            the start of a container with 10,000 published ports, and the memory that takes
  burst     what the default bridge adds to it, one by one and in bursts of 100
  steps     create, start, wait and rm of one container
  exec      exec of `true` in a running container
  load      loading an image archive: busybox, and 100 MB of mixed files
  many      100, 300 and 1,000 containers: starting, ps, memory, exec, removing
  runtime   run of a bundle by the OCI runtimes
  debian    loading a Debian root file system (debootstrap makes it, from a mirror)
  registry  pull and push of an image of 1.1 GB in 22 layers, with Debian's docker-registry
  cuts      the same pull on a line that is cut every 16 MB, the daemon killed twice: bytes that move
  archive   load and save of an image of 4 GB, and the memory that takes
  images    the list of 1,000 images
  traffic   throughput to published ports and between containers (iperf3), docker with and without its proxy
  names     answers of the name services for containers; how many are lost while the daemon is killed 20 times

Options:
  --quick           a third of the samples, and at most 100 containers
  --full            peers, too, go up to 1,000 containers, and Berth does so on the bridge as well (half an hour)
  --without LIST    leave these out: docker, podman, crun, runc (separated by commas)
  --berth FILE      the program to measure [default: beside this one, else the debug build]
  --disk KIND       where the engines' data goes: here (the temporary directory), ext4 (a journaled one on a loop
                    device), both [default: here]
  --first           run at the highest priority (nice -20), for a machine that cannot be made quiet
  --write           also write docs/benchmarks.md, its data and its plots; groups not measured now are kept
  --render          only write them again from the data there is
";

/// What to do.
pub enum Wish {
    /// Print [`HELP`].
    Help,
    /// Measure.
    Measure(Options),
}

/// How thorough to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// A glance.
    Quick,
    /// Less than ten minutes.
    Normal,
    /// Peers get as many containers as Berth.
    Full,
}

/// Where the engines keep their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// In the temporary directory of the system.
    Here,
    /// On an ext4 with a journal, in a file on a loop device.
    Ext4,
}

/// What to measure, and how.
pub struct Options {
    /// What to measure.
    pub groups: Vec<Group>,
    /// How thorough to be.
    pub effort: Effort,
    /// Where the data goes; everything is measured on each.
    pub disks: Vec<Disk>,
    /// Peers to leave out.
    pub without: Vec<Kind>,
    /// The program to measure, when it is named.
    pub berth: Option<PathBuf>,
    /// Whether to run before everything else that the machine does.
    pub first: bool,
    /// Whether to write the page in `docs/`.
    pub write: bool,
    /// Whether to write the page only, from the data of earlier runs.
    pub render: bool,
}

impl Options {
    /// Reads the words after the program's name.
    pub fn parse(words: &[String]) -> Result<Wish> {
        let mut options = Self {
            groups: Vec::new(),
            effort: Effort::Normal,
            disks: vec![Disk::Here],
            without: Vec::new(),
            berth: None,
            first: false,
            write: false,
            render: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "-h" | "--help" => return Ok(Wish::Help),
                "--quick" => options.effort = Effort::Quick,
                "--full" => options.effort = Effort::Full,
                "--first" => options.first = true,
                "--write" => options.write = true,
                "--render" => options.render = true,
                "--berth" => options.berth = Some(PathBuf::from(value()?)),
                "--disk" => options.disks = disks(value()?)?,
                "--without" => options.without = value()?.split(',').map(peer).collect::<Result<_>>()?,
                name => options
                    .groups
                    .push(Group::named(name).with_context(|| format!("no group {name:?} (--help lists them)"))?),
            }
        }
        if options.groups.is_empty() {
            options.groups = Group::ALL.into_iter().filter(|group| !Group::LARGE.contains(group)).collect();
        }
        Ok(Wish::Measure(options))
    }

    /// A number of samples, or a third of it for a glance.
    pub fn samples(&self, normal: usize) -> usize {
        if self.effort == Effort::Quick { normal.div_ceil(3) } else { normal }
    }
}

fn disks(word: &str) -> Result<Vec<Disk>> {
    Ok(match word {
        "here" => vec![Disk::Here],
        "ext4" => vec![Disk::Ext4],
        "both" => vec![Disk::Here, Disk::Ext4],
        _ => bail!("--disk {word:?} is none of here, ext4, both"),
    })
}

fn peer(word: &str) -> Result<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == word).with_context(|| format!("no peer {word:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        match Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())? {
            Wish::Measure(options) => Ok(options),
            Wish::Help => bail!("help"),
        }
    }

    #[test]
    fn groups_and_options_mix() {
        let options = parse("run --quick --disk both exec --without docker,crun").expect("good words");
        assert_eq!(options.groups, [Group::Run, Group::Exec]);
        assert_eq!((options.effort, options.disks.len()), (Effort::Quick, 2));
        assert_eq!(options.without, [Kind::Docker, Kind::Crun]);
        assert_eq!(options.samples(10), 4);
    }

    #[test]
    fn what_takes_long_is_measured_only_when_it_is_named() {
        let groups = parse("").expect("no words").groups;
        assert!(groups.contains(&Group::Run) && !groups.contains(&Group::Debian) && !groups.contains(&Group::Archive));
    }

    #[test]
    fn unknown_words_are_named() {
        for (line, word) in
            [("walk", "walk"), ("--disk floppy", "floppy"), ("--without lxc", "lxc"), ("--berth", "--berth")]
        {
            assert!(parse(line).err().expect(line).to_string().contains(word));
        }
    }
}
