//! Looks at an engine's memory while it works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{account::pss, engine::Engine};

/// How often it looks.
const EVERY: Duration = Duration::from_millis(20);

/// A look at the memory of an engine's daemons and of the client that works now (PSS), again and again.
pub struct Watch {
    idle: f64,
    over: Arc<AtomicBool>,
    most: JoinHandle<f64>,
}

impl Watch {
    /// Begins; the engine is at rest now.
    pub fn begin(engine: &Engine) -> Self {
        let (account, hand) = (engine.account.clone(), engine.hand());
        let now =
            move || -> f64 { account.processes(true).into_iter().filter(|&pid| pid != hand).filter_map(pss).sum() };
        let (idle, over) = (now(), Arc::new(AtomicBool::new(false)));
        let ended = Arc::clone(&over);
        let most = std::thread::spawn(move || {
            let mut most = 0.0_f64;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(now());
                std::thread::sleep(EVERY);
            }
            most
        });
        Self { idle, over, most }
    }

    /// Ends, and tells how much more it was at most than at rest. In KiB.
    pub fn end(self) -> f64 {
        self.over.store(true, Ordering::Relaxed);
        let most = self.most.join().unwrap_or(f64::NAN);
        (most - self.idle).max(0.0)
    }
}
