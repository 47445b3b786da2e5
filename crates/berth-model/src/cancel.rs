//! A flag by which one thread tells others that nobody wants their work any more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether work should end early. All clones are the same flag; once set it stays so.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
}

impl Cancel {
    /// Tells everybody who holds a clone to end.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
    }

    /// Whether somebody told so.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }
}
