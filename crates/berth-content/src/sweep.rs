//! Throws away what nobody needs.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use berth_model::Digest;

use crate::{ALGORITHMS, Content, ContentError};

/// What a sweep took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The blobs.
    pub blobs: Vec<Digest>,
    /// Their size in bytes.
    pub bytes: u64,
}

/// A sweep that has begun: whatever any lease holds from here on is safe from it.
pub struct Sweep<'a> {
    content: &'a Content,
    /// Content that is younger is left alone.
    horizon: SystemTime,
}

impl Content {
    /// Begins a sweep. The caller then finds out what is needed: an operation that ends meanwhile has either left its record, which the caller
    /// finds, or its content is younger than this moment or than its lease.
    #[must_use]
    pub fn begin_sweep(&self) -> Sweep<'_> {
        let now = SystemTime::now();
        Sweep { content: self, horizon: self.held_since().map_or(now, |since| since.min(now)) }
    }
}

impl Content {
    /// Bytes of all blobs.
    ///
    /// # Errors
    /// [`ContentError`] if the file system refuses.
    pub fn bytes(&self) -> Result<u64, ContentError> {
        Ok(self.digests()?.iter().filter_map(|digest| self.size(digest)).sum())
    }

    /// Every blob that is here.
    fn digests(&self) -> Result<Vec<Digest>, ContentError> {
        let mut found = Vec::new();
        for algorithm in ALGORITHMS {
            let directory = self.directory(algorithm);
            for entry in std::fs::read_dir(&directory).map_err(ContentError::io("reading", &directory))? {
                let name = entry.map_err(ContentError::io("reading", &directory))?.file_name();
                found.extend(format!("{}:{}", algorithm.word(), name.to_string_lossy()).parse::<Digest>());
            }
        }
        Ok(found)
    }
}

impl Sweep<'_> {
    /// Removes every blob that is not in `keep` and not held by a lease.
    ///
    /// # Errors
    /// [`ContentError`] if the file system refuses; what was removed until then stays so.
    pub fn run(self, keep: &HashSet<Digest>) -> Result<Swept, ContentError> {
        let mut swept = Swept::default();
        for digest in self.content.digests()?.into_iter().filter(|digest| !keep.contains(digest)) {
            if let Some(bytes) = self.take(&digest)? {
                swept.bytes += bytes;
                swept.blobs.push(digest);
            }
        }
        Ok(swept)
    }

    /// What [`Sweep::run`] would remove.
    ///
    /// # Errors
    /// [`ContentError`] if the file system refuses.
    pub fn candidates(&self, keep: &HashSet<Digest>) -> Result<Vec<Digest>, ContentError> {
        let all = self.content.digests()?.into_iter().filter(|digest| !keep.contains(digest));
        all.filter_map(|digest| self.is_old(&digest).map(|old| old.map(|_| digest)).transpose()).collect()
    }

    fn take(&self, digest: &Digest) -> Result<Option<u64>, ContentError> {
        // Nobody can hold it between the look at its age and its end.
        let _lock = self.content.lock_against_holding();
        let Some(bytes) = self.is_old(digest)? else { return Ok(None) };
        self.content.delete(digest)?;
        Ok(Some(bytes))
    }

    /// The size of a blob that is old enough to go.
    fn is_old(&self, digest: &Digest) -> Result<Option<u64>, ContentError> {
        let path = self.content.path(digest);
        let Ok(data) = std::fs::metadata(&path) else { return Ok(None) };
        let modified = data.modified().map_err(ContentError::io("reading the age of", &path))?;
        // A file system that keeps whole seconds made it look older than it is.
        let whole = modified.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|age| age.subsec_nanos() == 0);
        if modified + Duration::from_secs(u64::from(whole)) >= self.horizon {
            return Ok(None);
        }
        Ok(Some(data.len()))
    }
}

#[cfg(test)]
mod tests {
    use berth_store::Store;

    use super::*;

    #[test]
    fn what_is_needed_or_leased_stays_and_the_rest_goes() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path(), dir.path()).expect("store");
        let content = Content::open(&dir.path().join("content"), store.clone()).expect("content");
        let digests: Vec<Digest> = (0..4_u8).map(|n| content.put(&[n; 10]).expect("put")).collect();
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        for digest in &digests {
            let file = content.open_blob(digest).expect("open");
            file.set_modified(long_ago).expect("age");
        }
        let lease = content.lease("test").expect("lease");
        assert_eq!(store.images().leases().expect("rows").len(), 1);
        assert!(content.hold(&digests[1]).expect("hold"));
        let young = content.put(b"young").expect("put");
        let keep = HashSet::from([digests[0].clone()]);
        let swept = content.begin_sweep().run(&keep).expect("sweep");
        assert_eq!((swept.blobs.len(), swept.bytes), (2, 20));
        assert!(content.size(&digests[0]).is_some() && content.size(&digests[1]).is_some());
        drop(lease);
        for digest in [&digests[1], &young] {
            content.open_blob(digest).expect("open").set_modified(long_ago).expect("age");
        }
        assert_eq!(content.begin_sweep().run(&keep).expect("sweep").blobs.len(), 2);
        assert_eq!(content.size(&young), None);
    }

    #[test]
    fn opening_again_ends_what_a_dead_engine_had_begun() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path(), dir.path()).expect("store");
        let root = dir.path().join("content");
        let content = Content::open(&root, store.clone()).expect("content");
        std::mem::forget(content.lease("dies").expect("lease"));
        std::mem::forget(content.ingest(berth_model::Algorithm::Sha256).expect("ingest"));
        let again = Content::open(&root, store.clone()).expect("again");
        assert_eq!(std::fs::read_dir(again.root().join("ingest")).expect("ingest").count(), 0);
        assert_eq!(store.images().leases().expect("rows"), []);
    }
}
