//! The format of a registry's index. See [`crate::registry_index`] for what the tables mean.

/// The first format.
pub(crate) const SCHEMA: &str = "
CREATE TABLE repositories (
    id       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    -- Grows with each change of the repository; its directory shows the change it was laid out at.
    changed  INTEGER NOT NULL DEFAULT 1,
    laid_out INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE blobs (
    repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest     TEXT NOT NULL,
    size       INTEGER NOT NULL,
    -- Nanoseconds since 1970.
    added      INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (digest);
CREATE TABLE manifests (
    repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest     TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size       INTEGER NOT NULL,
    added      INTEGER NOT NULL,
    -- The manifest that this one says something about.
    subject    TEXT,
    artifact   TEXT,
    -- JSON: its annotations, for lists of referrers.
    annotations TEXT,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest) WHERE subject IS NOT NULL;
-- What a manifest needs: blobs and, for an index, manifests.
CREATE TABLE needs (
    repository INTEGER NOT NULL,
    manifest   TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (repository, manifest, digest),
    FOREIGN KEY (repository, manifest) REFERENCES manifests (repository, digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX needs_by_digest ON needs (repository, digest);
CREATE TABLE tags (
    repository INTEGER NOT NULL,
    tag        TEXT NOT NULL,
    digest     TEXT NOT NULL,
    moved      INTEGER NOT NULL,
    PRIMARY KEY (repository, tag),
    FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
";

/// The second format: events that wait to be sent.
pub(crate) const NOTIFICATIONS: &str = "
CREATE TABLE notifications (
    id       INTEGER PRIMARY KEY,
    listener TEXT NOT NULL,
    -- JSON: the event.
    event    TEXT NOT NULL
) STRICT;
CREATE INDEX notifications_by_listener ON notifications (listener, id);
";
