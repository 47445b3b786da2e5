//! What a long operation tells while it runs. The words are Docker's (B077).

use berth_model::Digest;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Text to print as it is.
    Stream(String),
    /// A word or sentence.
    Status {
        /// The object it is about, usually a short digest; empty for none.
        id: String,
        /// The word or sentence.
        status: String,
        /// How far it is.
        detail: Detail,
    },
    /// What a tag of a registry points to from now on. For programs; people are told by a status.
    Pushed {
        /// The tag.
        tag: String,
        /// The manifest or index.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
}

/// How far an operation on one object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing that could be measured: no detail at all.
    None,
    /// Not yet measured: an empty detail.
    Empty,
    /// Bytes done, and bytes in all.
    Bytes {
        /// Done so far.
        current: u64,
        /// All.
        total: u64,
    },
    /// Seconds it has taken so far.
    Seconds(u64),
    /// Done; how much it was is of no interest any more.
    Done,
}

impl Progress {
    /// A word about one layer.
    #[must_use]
    pub fn layer(digest: &Digest, status: &str, detail: Detail) -> Self {
        Self::Status { id: digest.short().to_owned(), status: status.to_owned(), detail }
    }

    /// A sentence about the whole.
    #[must_use]
    pub fn status(status: impl Into<String>) -> Self {
        Self::Status { id: String::new(), status: status.into(), detail: Detail::None }
    }
}
