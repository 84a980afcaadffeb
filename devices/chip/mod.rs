//! The chips: hardware as registers and time, which knows nothing of drivers or requests.

mod disk;
mod drive;
mod floppy;
mod host_line;
mod panel;
mod paper;
mod parallel;
mod spares;
mod tape;
mod transport;
mod uart;

pub use disk::install as install_disk;
pub use floppy::install as install_floppy;
pub use parallel::install as install_printer;
pub use tape::install as install_tape;
pub use uart::install as install_uart;
