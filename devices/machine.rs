//! The machine that drivers are attached to: clock and engine, buses, where media are kept.

use crate::engine::Engine;
use crate::sync::Arc;
use std::path::PathBuf;

/// What a driver may use while it attaches and ever after.
#[derive(Clone)]
pub struct Machine {
    /// The clock and the event wheel.
    pub engine: Arc<Engine>,
    /// The state directory: relative paths of media are in it. `None`: media live in memory.
    pub state_dir: Option<PathBuf>,
    /// From which all random choices come.
    pub seed: u64,
}
