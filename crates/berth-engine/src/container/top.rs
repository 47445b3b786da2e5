//! The processes of a container as `ps` shows them, read from /proc (B169).

use std::collections::HashMap;

use super::Handle;
use crate::{EngineError, blocking, clock};

/// Hundredths of a second: what /proc counts in.
const TICKS: u64 = 100;
/// Bytes of a page: the same on every machine this runs on.
const PAGE: u64 = 4096;

/// A table of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopTable {
    /// Names of the columns.
    pub titles: Vec<String>,
    /// One row for each process.
    pub rows: Vec<Vec<String>>,
}

/// A column: its title, and what stands in it.
struct Column {
    title: &'static str,
    value: fn(&Process, &Host) -> String,
}

/// A process, as /proc shows it.
struct Process {
    pid: u32,
    ppid: u32,
    uid: u32,
    gid: u32,
    state: char,
    tty: u32,
    cpu_ticks: u64,
    nice: i64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
    threads: u64,
    name: String,
    command: String,
}

/// What the columns need to know of the host.
struct Host {
    users: HashMap<u32, String>,
    boot: i64,
    now: i64,
    memory: u64,
}

pub(crate) async fn top(handle: &Handle, options: &str) -> Result<TopTable, EngineError> {
    let columns = columns(options)?;
    let shim = handle.run(|container| Box::pin(async move { container.running_shim() })).await?;
    let pids = shim.processes().await?;
    let view = handle.view();
    let table = blocking(move || {
        let host = Host::read();
        let rows = pids.into_iter().filter_map(Process::read);
        let rows = rows.map(|process| columns.iter().map(|column| (column.value)(&process, &host)).collect());
        Ok(TopTable { titles: columns.iter().map(|column| column.title.to_owned()).collect(), rows: rows.collect() })
    });
    let table = table.await?;
    handle.run(|container| Box::pin(container.note("top"))).await?;
    tracing::trace!(container = %view.id.short(), rows = table.rows.len(), "listed processes");
    Ok(table)
}

/// Understands `-ef`, `aux` and lists of columns after `-o`.
fn columns(options: &str) -> Result<Vec<Column>, EngineError> {
    let words: Vec<&str> = options.split_ascii_whitespace().collect();
    let names: Vec<&str> = match words[..] {
        [] | ["-ef" | "ef" | "-f" | "-fe"] => vec!["uid_name", "pid", "ppid", "c", "stime", "tty", "time", "cmd"],
        ["-e" | "-A"] => vec!["pid", "tty", "time", "ucmd"],
        ["aux" | "-aux" | "u" | "ax"] => {
            vec!["user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "start", "time", "args"]
        }
        [flag, ref lists @ ..] if matches!(flag, "-o" | "-eo" | "-efo" | "o" | "-axo" | "axo" | "--format") => {
            lists.iter().flat_map(|list| list.split(',')).filter(|name| !name.is_empty()).collect()
        }
        _ => {
            return Err(EngineError::invalid(format!(
                "ps: unsupported options: {options}: use -ef, aux, or -o with a list of columns"
            )));
        }
    };
    let has_pid = names.contains(&"pid");
    let columns = names.into_iter().map(column).collect::<Result<Vec<_>, _>>()?;
    if columns.is_empty() || !has_pid {
        return Err(EngineError::invalid("Couldn't find PID field in ps output"));
    }
    Ok(columns)
}

fn column(name: &str) -> Result<Column, EngineError> {
    let make = |title, value| Column { title, value };
    Ok(match name {
        "uid_name" => make("UID", |process, host| host.user(process.uid)),
        "user" | "euser" | "uname" => make("USER", |process, host| host.user(process.uid)),
        "uid" | "euid" => make("UID", |process, _| process.uid.to_string()),
        "gid" | "egid" => make("GID", |process, _| process.gid.to_string()),
        "pid" => make("PID", |process, _| process.pid.to_string()),
        "ppid" => make("PPID", |process, _| process.ppid.to_string()),
        "c" => make("C", |process, host| format!("{:.0}", process.cpu_share(host))),
        "pcpu" | "%cpu" => make("%CPU", |process, host| format!("{:.1}", process.cpu_share(host))),
        "pmem" | "%mem" => make("%MEM", |process, host| format!("{:.1}", process.memory_share(host))),
        "vsz" | "vsize" => make("VSZ", |process, _| (process.virtual_bytes / 1024).to_string()),
        "rss" | "rssize" => make("RSS", |process, _| (process.resident_bytes / 1024).to_string()),
        "stime" => make("STIME", |process, host| process.started(host)),
        "start" | "start_time" => make("START", |process, host| process.started(host)),
        "tty" | "tt" | "tname" => make("TTY", |process, _| process.terminal()),
        "time" | "cputime" => make("TIME", |process, _| clock_text(process.cpu_ticks / TICKS)),
        "etime" => make("ELAPSED", |process, host| elapsed_text(process.age(host))),
        "stat" | "s" | "state" => make("STAT", |process, _| process.state.to_string()),
        "ni" | "nice" => make("NI", |process, _| process.nice.to_string()),
        "nlwp" | "thcount" => make("NLWP", |process, _| process.threads.to_string()),
        "cmd" => make("CMD", |process, _| process.command.clone()),
        "args" | "command" => make("COMMAND", |process, _| process.command.clone()),
        "ucmd" => make("CMD", |process, _| process.name.clone()),
        "comm" => make("COMMAND", |process, _| process.name.clone()),
        _ => return Err(EngineError::invalid(format!("ps: unknown user-defined format specifier {name:?}"))),
    })
}

impl Process {
    /// `None` if it has ended meanwhile.
    fn read(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Self::parse(pid, &stat, &status, &arguments)
    }

    fn parse(pid: u32, stat: &str, status: &str, arguments: &[u8]) -> Option<Self> {
        // The name may hold blanks and parentheses; the fields begin after the last one.
        let (head, fields) = stat.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        let id = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().nth(1)?.parse().ok()
        };
        let arguments = String::from_utf8_lossy(arguments);
        let command = arguments.trim_end_matches('\0').replace('\0', " ");
        Some(Self {
            pid,
            ppid: u32::try_from(number(1)?).ok()?,
            uid: id("Uid:")?,
            gid: id("Gid:")?,
            state: fields.first()?.chars().next()?,
            tty: u32::try_from(number(4).unwrap_or(0)).unwrap_or(0),
            cpu_ticks: number(11)? + number(12)?,
            nice: fields.get(16)?.parse().ok()?,
            threads: number(17)?,
            start_ticks: number(19)?,
            virtual_bytes: number(20)?,
            resident_bytes: number(21)? * PAGE,
            command: if command.is_empty() { format!("[{name}]") } else { command },
            name,
        })
    }

    fn age(&self, host: &Host) -> u64 {
        u64::try_from(host.now - host.boot).unwrap_or(0).saturating_sub(self.start_ticks / TICKS)
    }

    fn cpu_share(&self, host: &Host) -> f64 {
        self.cpu_ticks as f64 / TICKS as f64 * 100.0 / (self.age(host).max(1)) as f64
    }

    fn memory_share(&self, host: &Host) -> f64 {
        self.resident_bytes as f64 * 100.0 / host.memory.max(1) as f64
    }

    /// The hour, or after a day the date.
    fn started(&self, host: &Host) -> String {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let at = host.boot + i64::try_from(self.start_ticks / TICKS).unwrap_or(0);
        let text = berth_model::Timestamp::from_parts(at, 0).to_string();
        if self.age(host) < 86_400 {
            return text[11..16].to_owned();
        }
        let month = text[5..7].parse::<usize>().unwrap_or(1);
        format!("{}{}", MONTHS[month - 1], &text[8..10])
    }

    fn terminal(&self) -> String {
        match (self.tty >> 8 & 0xfff, self.tty & 0xff | self.tty >> 12 & 0xfff00) {
            (0, 0) => "?".to_owned(),
            (136..=143, minor) => format!("pts/{minor}"),
            (4, minor) => format!("tty{minor}"),
            _ => "?".to_owned(),
        }
    }
}

impl Host {
    fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let boot = field(&read("/proc/stat"), "btime ").unwrap_or(0);
        Self {
            users: users(&read("/etc/passwd")),
            boot: i64::try_from(boot).unwrap_or(0),
            now: clock::now().seconds(),
            memory: field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) * 1024,
        }
    }

    fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}

/// Names of the host's users from its file; no other source is asked.
fn users(passwd: &str) -> HashMap<u32, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    let mut users = HashMap::new();
    for (uid, name) in passwd.lines().filter_map(entry) {
        users.entry(uid).or_insert(name);
    }
    users
}

fn clock_text(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn elapsed_text(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24) {
        (0, 0) => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        (0, hours) => format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
        (days, hours) => format!("{days}-{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_texts_are_read() {
        let stat = "7 (a) b) S 1 7 7 34816 7 0 0 0 0 0 150 50 0 0 20 0 3 0 1000 4096000 100 0";
        let status = "Name:\ta\nUid:\t33\t34\t33\t33\nGid:\t5\t6\t5\t5\n";
        let process = Process::parse(7, stat, status, b"sleep\x00600\x00").expect("valid");
        assert_eq!((process.name.as_str(), process.ppid, process.uid, process.gid), ("a) b", 1, 34, 6));
        assert_eq!((process.command.as_str(), process.threads, process.nice), ("sleep 600", 3, 0));
        assert_eq!(
            (process.terminal().as_str(), clock_text(process.cpu_ticks / TICKS).as_str()),
            ("pts/0", "00:00:02")
        );
    }

    #[test]
    fn options_choose_columns() {
        let titles = |options: &str| {
            columns(options)
                .map(|list| list.iter().map(|c| c.title).collect::<Vec<_>>().join(" "))
                .map_err(|e| e.to_string())
        };
        assert_eq!(titles("").expect("default"), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(titles("aux").expect("known"), "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
        assert_eq!(titles("-o pid,comm").expect("list"), "PID COMMAND");
        assert!(titles("-o comm").expect_err("no pid").contains("PID"));
        assert!(titles("--forest").is_err());
    }
}
