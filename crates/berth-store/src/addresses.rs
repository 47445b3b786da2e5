//! Networks, endpoints and the addresses they hold.
//!
//! A network is durable. An endpoint lives as long as its container runs, so it is transient, whatever its container is.
//! An address is held by a row and by nothing else: [`Endpoints::insert`] is the only way to get one, and the table's key
//! sees to it that none is given twice. The documents in the rows belong to the network crate.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::{
    Store, StoreError,
    database::{Database, Purpose},
};

pub(crate) const DURABLE_SCHEMA: &str = "
CREATE TABLE networks (
    id        TEXT PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE,
    -- JSON: driver, subnets, options, labels.
    document  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- Addresses that somebody asked for by number: kept while the container exists, running or not.
CREATE TABLE reserved_addresses (
    network    TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    address    TEXT NOT NULL,
    container  TEXT NOT NULL,
    PRIMARY KEY (network, address)
) STRICT, WITHOUT ROWID;
";

pub(crate) const TRANSIENT_SCHEMA: &str = "
CREATE TABLE endpoints (
    id         TEXT PRIMARY KEY,
    -- When it was made, in nanoseconds since 1970: the order of the list.
    made       INTEGER NOT NULL,
    network    TEXT NOT NULL,
    container  TEXT NOT NULL,
    -- With a space between them; each has a row below. Kept here too, so that deleting needs no index by endpoint.
    addresses  TEXT NOT NULL,
    -- JSON: interface, device, hardware address, aliases.
    document   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE addresses (
    network   TEXT NOT NULL,
    address   TEXT NOT NULL,
    endpoint  TEXT NOT NULL,
    PRIMARY KEY (network, address)
) STRICT, WITHOUT ROWID;
";

/// One network's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRow {
    /// 64 hex digits.
    pub id: String,
    /// The name; no two networks share one.
    pub name: String,
    /// JSON: what the network crate knows of it.
    pub document: String,
}

/// One endpoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRow {
    /// 64 hex digits.
    pub id: String,
    /// The network's id.
    pub network: String,
    /// The container's id.
    pub container: String,
    /// The addresses it holds, none of which another endpoint of the network has.
    pub addresses: Vec<IpAddr>,
    /// JSON: what the network crate knows of it.
    pub document: String,
}

/// An address somebody asked for by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedAddressRow {
    /// The network's id.
    pub network: String,
    /// The address.
    pub address: IpAddr,
    /// The id of the container it waits for.
    pub container: String,
}

/// The network records and the reservations in them.
#[derive(Clone)]
pub struct Networks {
    database: Arc<Database>,
}

/// The endpoint records and the addresses they hold.
#[derive(Clone)]
pub struct Endpoints {
    database: Arc<Database>,
}

impl Store {
    /// The network records.
    #[must_use]
    pub fn networks(&self) -> Networks {
        Networks { database: Arc::clone(self.of(crate::Durability::Durable)) }
    }

    /// The endpoint records.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints { database: Arc::clone(self.of(crate::Durability::Transient)) }
    }
}

impl Networks {
    /// All records, by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn list(&self) -> Result<Vec<NetworkRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, name, document FROM networks ORDER BY name")?;
            let rows = statement
                .query_map([], |row| Ok(NetworkRow { id: row.get(0)?, name: row.get(1)?, document: row.get(2)? }))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Adds records that are not there yet, all in one transaction, and waits until they are on the disk. `false` if the
    /// id or name of one is held already: then none is added.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be written.
    pub fn insert(&self, rows: Vec<NetworkRow>) -> Result<bool, StoreError> {
        let added = self.database.write(Purpose::Keep, move |tx| {
            let mut insert = tx.prepare_cached("INSERT INTO networks (id, name, document) VALUES (?1, ?2, ?3)")?;
            for row in rows {
                insert.execute(params![row.id, row.name, row.document])?;
            }
            Ok(())
        });
        unless_held(added)
    }

    /// Replaces the document of a record. `false` if there is no such record.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn update(&self, id: String, document: String) -> Result<bool, StoreError> {
        self.database.write(Purpose::Keep, move |tx| {
            let mut update = tx.prepare_cached("UPDATE networks SET document = ?2 WHERE id = ?1")?;
            Ok(update.execute(params![id, document])? == 1)
        })
    }

    /// Removes a record and the reservations in it. `false` if there was none.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn delete(&self, id: String) -> Result<bool, StoreError> {
        self.database.write(Purpose::Release, move |tx| {
            Ok(tx.prepare_cached("DELETE FROM networks WHERE id = ?1")?.execute([id])? == 1)
        })
    }

    /// All reservations.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn reservations(&self) -> Result<Vec<ReservedAddressRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT network, address, container FROM reserved_addresses")?;
            let rows = statement.query_map([], |row| {
                Ok(ReservedAddressRow { network: row.get(0)?, address: address(row, 1)?, container: row.get(2)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Reserves an address for a container. `false` if another container has it; asking twice is no error.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn reserve(&self, row: ReservedAddressRow) -> Result<bool, StoreError> {
        self.database.write(Purpose::Keep, move |tx| {
            let mut insert = tx.prepare_cached(
                "INSERT INTO reserved_addresses (network, address, container) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET container = container WHERE container = excluded.container",
            )?;
            Ok(insert.execute(params![row.network, row.address.to_string(), row.container])? == 1)
        })
    }

    /// Gives back everything that is reserved for a container.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn release(&self, container: String) -> Result<(), StoreError> {
        self.database.write(Purpose::Release, move |tx| {
            tx.prepare_cached("DELETE FROM reserved_addresses WHERE container = ?1")?.execute([container])?;
            Ok(())
        })
    }
}

impl Endpoints {
    /// All records, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn list(&self) -> Result<Vec<EndpointRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, network, container, addresses, document FROM endpoints ORDER BY made, id",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(EndpointRow {
                    id: row.get(0)?,
                    network: row.get(1)?,
                    container: row.get(2)?,
                    addresses: addresses(row, 3)?,
                    document: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Adds a record with its addresses. `false`, and nothing is added, if one of them is held by another endpoint.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn insert(&self, row: EndpointRow) -> Result<bool, StoreError> {
        unless_held(self.database.write(Purpose::Keep, move |tx| insert_endpoint(tx, &row)))
    }

    /// Replaces the document of a record. `false` if there is no such record.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn update(&self, id: String, document: String) -> Result<bool, StoreError> {
        self.database.write(Purpose::Keep, move |tx| {
            let mut update = tx.prepare_cached("UPDATE endpoints SET document = ?2 WHERE id = ?1")?;
            Ok(update.execute(params![id, document])? == 1)
        })
    }

    /// Removes records and the addresses they hold; those that are not there are no error.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be written.
    pub fn delete(&self, ids: Vec<String>) -> Result<(), StoreError> {
        self.database.write(Purpose::Release, move |tx| ids.iter().try_for_each(|id| delete_endpoint(tx, id)))
    }
}

fn insert_endpoint(tx: &Transaction<'_>, row: &EndpointRow) -> Result<(), StoreError> {
    let made = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let made = i64::try_from(made.as_nanos()).unwrap_or(i64::MAX);
    let texts: Vec<_> = row.addresses.iter().map(ToString::to_string).collect();
    tx.prepare_cached(
        "INSERT INTO endpoints (id, made, network, container, addresses, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![row.id, made, row.network, row.container, texts.join(" "), row.document])?;
    let mut insert = tx.prepare_cached("INSERT INTO addresses (network, address, endpoint) VALUES (?1, ?2, ?3)")?;
    for address in texts {
        insert.execute(params![row.network, address, row.id])?;
    }
    Ok(())
}

fn delete_endpoint(tx: &Transaction<'_>, id: &str) -> Result<(), StoreError> {
    let mut delete = tx.prepare_cached("DELETE FROM endpoints WHERE id = ?1 RETURNING network, addresses")?;
    let held = delete.query_row([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).optional()?;
    let Some((network, addresses)) = held else { return Ok(()) };
    let mut release = tx.prepare_cached("DELETE FROM addresses WHERE network = ?1 AND address = ?2")?;
    for address in addresses.split_whitespace() {
        release.execute(params![network, address])?;
    }
    Ok(())
}

fn unless_held(written: Result<(), StoreError>) -> Result<bool, StoreError> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn address(row: &Row<'_>, column: usize) -> Result<IpAddr, rusqlite::Error> {
    parse(&row.get::<_, String>(column)?, column)
}

fn addresses(row: &Row<'_>, column: usize) -> Result<Vec<IpAddr>, rusqlite::Error> {
    row.get::<_, String>(column)?.split_whitespace().map(|text| parse(text, column)).collect()
}

fn parse(text: &str, column: usize) -> Result<IpAddr, rusqlite::Error> {
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::open(dir.path(), dir.path()).expect("open")
    }

    fn endpoint(id: &str, addresses: &[&str]) -> EndpointRow {
        EndpointRow {
            id: id.to_owned(),
            network: "n".to_owned(),
            container: format!("c-{id}"),
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            document: "{}".to_owned(),
        }
    }

    #[test]
    fn an_address_is_held_by_one_endpoint_until_it_goes() {
        let dir = tempfile::tempdir().expect("temp dir");
        let endpoints = store(&dir).endpoints();
        let first = endpoint("a", &["10.0.0.2", "fd00::2"]);
        assert!(endpoints.insert(first.clone()).expect("insert"));
        assert!(!endpoints.insert(endpoint("b", &["10.0.0.3", "fd00::2"])).expect("held"));
        // The refused one left nothing behind: its first address is free.
        assert!(endpoints.insert(endpoint("c", &["10.0.0.3"])).expect("insert"));
        assert_eq!(endpoints.list().expect("list"), [first, endpoint("c", &["10.0.0.3"])]);
        endpoints.delete(vec!["a".to_owned(), "none".to_owned()]).expect("delete");
        assert!(endpoints.insert(endpoint("d", &["fd00::2"])).expect("free again"));
    }

    #[test]
    fn a_network_name_is_unique_and_its_reservations_go_with_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let networks = store(&dir).networks();
        let row = |id: &str, name: &str| NetworkRow { id: id.into(), name: name.into(), document: "{}".into() };
        assert!(networks.insert(vec![row("1", "bridge"), row("2", "host")]).expect("insert"));
        assert!(!networks.insert(vec![row("3", "none"), row("4", "host")]).expect("held"));
        assert_eq!(networks.list().expect("list").len(), 2);
        let reserve = |container: &str| {
            let address = "10.0.0.9".parse().expect("an address");
            networks.reserve(ReservedAddressRow { network: "1".into(), address, container: container.into() })
        };
        assert!(reserve("c1").expect("free"));
        assert!(reserve("c1").expect("mine"));
        assert!(!reserve("c2").expect("taken"));
        networks.release("c1".into()).expect("release");
        assert!(reserve("c2").expect("free again"));
        assert!(networks.update("1".into(), "[]".into()).expect("update"));
        assert!(networks.delete("1".into()).expect("delete"));
        assert_eq!(networks.reservations().expect("list"), []);
    }
}
