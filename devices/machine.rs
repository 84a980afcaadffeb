//! The machine that drivers are attached to: clock and engine, buses, where media are kept.

use crate::bus::{Cables, DmaBus, IrqBus, PortBus};
use crate::contract::UnitConfig;
use crate::contract::host_file::DISK_IMAGE;
use crate::engine::Engine;
use crate::fault::Faults;
use crate::sync::Arc;
use crate::trace::Trace;
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
    /// The port space.
    pub ports: Arc<PortBus>,
    /// The interrupt lines.
    pub irqs: Arc<IrqBus>,
    /// The memory that chips can reach.
    pub dma: Arc<DmaBus>,
    /// The serial cables.
    pub cables: Arc<Cables>,
    /// What goes wrong on purpose.
    pub faults: Arc<Faults>,
    /// What each layer did.
    pub trace: Arc<Trace>,
}

impl Machine {
    /// A machine with empty buses.
    #[must_use]
    pub fn new(engine: Arc<Engine>, state_dir: Option<PathBuf>, seed: u64) -> Machine {
        let (ports, irqs) = (Arc::default(), Arc::default());
        let (dma, cables, faults) = (Arc::default(), Arc::default(), Arc::default());
        let trace = Trace::new(Arc::clone(&engine));
        Machine { engine, state_dir, seed, ports, irqs, dma, cables, faults, trace }
    }

    /// Where the image of a disk is; `None`: its medium is memory.
    #[must_use]
    pub fn image(&self, unit: &UnitConfig) -> Option<PathBuf> {
        DISK_IMAGE.path(unit, self.state_dir.as_deref())
    }
}
