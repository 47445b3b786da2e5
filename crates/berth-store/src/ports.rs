//! Published ports: which port of the host is whose.
//!
//! Like an endpoint, a published port lives as long as its container runs, so its record is transient. A port is held by its row and by
//! nothing else: [`Ports::insert`] is the only way to get one, and it refuses whatever overlaps with a row that is there.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
};

use rusqlite::{OptionalExtension, Transaction, params};

use crate::{
    Store, StoreError,
    database::{Database, Purpose},
};

pub(crate) const SCHEMA: &str = "
CREATE TABLE ports (
    number     INTEGER PRIMARY KEY,
    endpoint   TEXT NOT NULL,
    container  TEXT NOT NULL,
    -- tcp, udp or sctp.
    transport  TEXT NOT NULL,
    -- An address of the host; 0.0.0.0 and :: are every address of their family.
    address    TEXT NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    -- JSON: where it leads to.
    document   TEXT NOT NULL
) STRICT;
CREATE INDEX ports_by_first ON ports (transport, first);
CREATE INDEX ports_by_endpoint ON ports (endpoint);
";

/// A range of ports of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRow {
    /// The id of the endpoint it leads to.
    pub endpoint: String,
    /// The container's id.
    pub container: String,
    /// `tcp`, `udp` or `sctp`.
    pub transport: String,
    /// The address of the host; the unspecified one is every one of its family.
    pub address: IpAddr,
    /// The first port of the host.
    pub first: u16,
    /// The last port of the host.
    pub last: u16,
    /// JSON: what the network crate knows of it.
    pub document: String,
}

/// The records of published ports.
#[derive(Clone)]
pub struct Ports {
    database: Arc<Database>,
}

impl Store {
    /// The records of published ports.
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports { database: Arc::clone(self.of(crate::Durability::Transient)) }
    }
}

impl Ports {
    /// All records, in the order in which they were made.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn list(&self) -> Result<Vec<PortRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT endpoint, container, transport, address, first, last, document FROM ports ORDER BY number",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(PortRow {
                    endpoint: row.get(0)?,
                    container: row.get(1)?,
                    transport: row.get(2)?,
                    address: crate::addresses::address(row, 3)?,
                    first: row.get(4)?,
                    last: row.get(5)?,
                    document: row.get(6)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Adds records. If one overlaps with a record that is there, none is added, and its position is given.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be written.
    pub fn insert(&self, rows: Vec<PortRow>) -> Result<Option<usize>, StoreError> {
        self.database.write(Purpose::Keep, move |tx| {
            for (position, row) in rows.iter().enumerate() {
                if overlaps(tx, row)? {
                    return Ok(Some(position));
                }
            }
            let mut insert = tx.prepare_cached(
                "INSERT INTO ports (endpoint, container, transport, address, first, last, document)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for row in &rows {
                let address = row.address.to_string();
                insert.execute(params![
                    row.endpoint,
                    row.container,
                    row.transport,
                    address,
                    row.first,
                    row.last,
                    row.document
                ])?;
            }
            Ok(None)
        })
    }

    /// Removes the records of endpoints, as [`Ports::delete`] does, and tells when that is done.
    #[must_use]
    pub fn begin_delete(&self, endpoints: Vec<String>) -> Receiver<Result<(), StoreError>> {
        let (tell, told) = sync_channel(1);
        self.database.submit(
            Purpose::Release,
            move |tx| delete(tx, &endpoints),
            move |result| {
                // Whoever does not listen any more does not mind.
                let _ = tell.send(result);
            },
        );
        told
    }

    /// Removes the records of endpoints; those that are not there are no error.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be written.
    pub fn delete(&self, endpoints: Vec<String>) -> Result<(), StoreError> {
        self.database.write(Purpose::Release, move |tx| delete(tx, &endpoints))
    }
}

fn delete(tx: &Transaction<'_>, endpoints: &[String]) -> Result<(), StoreError> {
    let mut delete = tx.prepare_cached("DELETE FROM ports WHERE endpoint = ?1")?;
    endpoints.iter().try_for_each(|endpoint| Ok(delete.execute([endpoint]).map(drop)?))
}

/// Whether a port of the row is held at an address that means it too.
fn overlaps(tx: &Transaction<'_>, row: &PortRow) -> Result<bool, StoreError> {
    let every = if row.address.is_ipv4() { "0.0.0.0" } else { "::" };
    let mut query = tx.prepare_cached(
        "SELECT 1 FROM ports WHERE transport = ?1 AND first <= ?3 AND last >= ?2
         AND (address = ?4 OR address = ?5 OR (?4 = ?5 AND (address LIKE '%:%') = (?5 = '::'))) LIMIT 1",
    )?;
    let found = query
        .query_row(params![row.transport, row.first, row.last, row.address.to_string(), every], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(endpoint: &str, transport: &str, address: &str, first: u16, last: u16) -> PortRow {
        PortRow {
            endpoint: endpoint.to_owned(),
            container: format!("c-{endpoint}"),
            transport: transport.to_owned(),
            address: address.parse().expect("an address"),
            first,
            last,
            document: "{}".to_owned(),
        }
    }

    #[test]
    fn a_port_is_held_by_one_endpoint_until_it_goes() {
        let dir = tempfile::tempdir().expect("temp dir");
        let ports = Store::open(dir.path(), dir.path()).expect("open").ports();
        let first = row("a", "tcp", "127.0.0.1", 80, 89);
        assert_eq!(ports.insert(vec![first.clone()]).expect("insert"), None);
        for (other, position) in [
            (row("b", "tcp", "127.0.0.1", 85, 95), Some(0)),
            (row("b", "tcp", "0.0.0.0", 89, 89), Some(0)),
            (row("b", "tcp", "127.0.0.2", 80, 89), None),
            (row("c", "tcp", "0.0.0.0", 90, 90), None),
            (row("d", "tcp", "127.0.0.1", 90, 90), Some(0)),
            (row("e", "tcp", "::", 80, 89), None),
            (row("f", "tcp", "::1", 80, 80), Some(0)),
            (row("g", "udp", "0.0.0.0", 80, 89), None),
        ] {
            assert_eq!(ports.insert(vec![other.clone()]).expect("insert"), position, "{other:?}");
        }
        // What was refused left nothing behind.
        assert_eq!(ports.insert(vec![row("h", "tcp", "::", 200, 200), first.clone()]).expect("held"), Some(1));
        assert_eq!(ports.insert(vec![row("h", "tcp", "::", 200, 200)]).expect("insert"), None);
        assert_eq!(ports.list().expect("list")[0], first);
        ports.delete(vec!["a".to_owned(), "none".to_owned()]).expect("delete");
        assert_eq!(ports.insert(vec![first]).expect("free again"), None);
    }
}
