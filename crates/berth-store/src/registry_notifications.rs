//! Notifications of a registry that wait to be sent: one queue for each listener, in the registry's index.

use rusqlite::params;

use crate::{RegistryChange, RegistryView, StoreError};

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationRow {
    /// Its place in the queue: grows.
    pub id: i64,
    /// The event, as it is sent.
    pub event: String,
}

impl RegistryView<'_> {
    /// The first events that wait for a listener, in order.
    ///
    /// # Errors
    /// [`StoreError`] if the index cannot be read.
    pub fn notifications(&self, listener: &str, limit: usize) -> Result<Vec<NotificationRow>, StoreError> {
        let sql = "SELECT id, event FROM notifications WHERE listener = ?1 ORDER BY id LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![listener, limit], |row| Ok(NotificationRow { id: row.get(0)?, event: row.get(1)? }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many events wait for a listener.
    ///
    /// # Errors
    /// [`StoreError`] if the index cannot be read.
    pub fn notifications_waiting(&self, listener: &str) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM notifications WHERE listener = ?1";
        let count: i64 = self.connection.prepare_cached(sql)?.query_row([listener], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }
}

impl RegistryChange<'_> {
    /// An event waits for a listener from now on.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn add_notification(&self, listener: &str, event: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO notifications (listener, event) VALUES (?1, ?2)";
        self.tx.prepare_cached(sql)?.execute([listener, event])?;
        Ok(())
    }

    /// The events of a listener up to that one wait no more.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn remove_notifications(&self, listener: &str, last: i64) -> Result<(), StoreError> {
        let sql = "DELETE FROM notifications WHERE listener = ?1 AND id <= ?2";
        self.tx.prepare_cached(sql)?.execute(params![listener, last])?;
        Ok(())
    }

    /// Only these listeners are told any more: what waits for others goes.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn keep_notifications_of(&self, listeners: &[String]) -> Result<(), StoreError> {
        let mut statement = self.tx.prepare_cached("SELECT DISTINCT listener FROM notifications")?;
        let known = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        for gone in known.iter().filter(|known| !listeners.contains(known)) {
            self.remove_notifications(gone, i64::MAX)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::RegistryIndex;

    #[test]
    fn each_listener_has_a_queue_of_its_own_that_outlives_the_server() {
        let dir = tempfile::tempdir().expect("temp dir");
        let open = || RegistryIndex::open(&dir.path().join("index.db")).expect("index");
        let index = open();
        let queued = index.change_now(|change| {
            ["1", "2", "3"].iter().try_for_each(|event| change.add_notification("a", event))?;
            change.add_notification("b", "4")?;
            change.add_notification("gone", "5")
        });
        queued.expect("written");
        drop(index);
        let index = open();
        let waiting = |listener: &str| {
            let rows = index.read(|view| view.notifications(listener, 2)).expect("read");
            (rows.clone(), rows.into_iter().map(|row| row.event).collect::<Vec<_>>())
        };
        let (rows, events) = waiting("a");
        assert_eq!(events, ["1", "2"]);
        let last = rows[1].id;
        let sent = index.change_now(move |change| {
            change.remove_notifications("a", last)?;
            change.keep_notifications_of(&["a".to_owned(), "b".to_owned()])
        });
        sent.expect("written");
        assert_eq!((waiting("a").1, waiting("b").1, waiting("gone").1), (vec!["3".into()], vec!["4".into()], vec![]));
        assert_eq!(index.read(|view| view.notifications_waiting("a")).expect("read"), 1);
    }
}
