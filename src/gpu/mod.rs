//! Devices, buffers and recorded work. The only module that names wgpu and naga.
//!
//! Work is written into a [`Recorder`] by the ops and executed by a [`Device`]: on a GPU through wgpu, or by the
//! kernels' CPU twins. Deliberately absent: shapes, dtypes beyond 4-byte words, lazy graphs.

mod backend_twin;
mod backend_wgpu;
mod buffer;
mod compiler;
mod device;
mod feed;
mod kernel;
mod ledger;
mod lent;
mod recorder;
pub mod shader;

pub use buffer::{Bound, Buffer};
pub use device::{Caps, Device, Kind, Select, Tier, TierRequest};
pub use feed::Feed;
pub use kernel::{Kernel, Knob, Launch, Plan, Source, Variant, knob};
pub use ledger::{Ledger, Purpose};
pub use lent::{Booked, Lent};
pub use recorder::Recorder;

/// Device bytes a GPU executor keeps for itself, in the ledger under scratch.
pub const EXECUTOR_BYTES: u64 = backend_wgpu::WgpuBackend::OWN_BYTES;

/// Every usable adapter, best first; the index is what `--device N` means.
pub fn list_devices() -> Vec<Caps> {
    backend_wgpu::list()
}

/// Why a device could not be opened or its work failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No adapter at all.
    #[error(
        "no Vulkan, Metal, DX12 or GL device was found; install a driver (Debian, Ubuntu: mesa-vulkan-drivers) or use --device cpu"
    )]
    NoDevice,
    /// No adapter of that name.
    #[error("no device {wanted:?}; there are: {}, and cpu", have.join(", "))]
    NoSuchDevice {
        /// What was asked for.
        wanted: String,
        /// What there is.
        have: Vec<String>,
    },
    /// The driver refused.
    #[error("{device} could not be opened: {message}")]
    Open {
        /// Which.
        device: String,
        /// The driver's words.
        message: String,
    },
    /// One buffer beyond a limit.
    #[error(
        "{label} needs one buffer of {bytes} bytes, the device allows {limit}; take a smaller picture or a device with larger bindings (`longtake devices`)"
    )]
    TooLarge {
        /// The buffer.
        label: &'static str,
        /// Asked.
        bytes: u64,
        /// Allowed.
        limit: u64,
    },
    /// No memory for a buffer.
    #[error(
        "out of device memory: {bytes} bytes for {label} were asked for with {held} bytes already held ({message}); shorten the film, set --window, or close other programs"
    )]
    OutOfMemory {
        /// The buffer.
        label: &'static str,
        /// Asked.
        bytes: u64,
        /// Held by this process on the device.
        held: u64,
        /// The driver's words.
        message: String,
    },
    /// The device went away.
    #[error(
        "the device was lost ({message}); start again, and with a shorter film or another --device if it happens again"
    )]
    Lost {
        /// The driver's words.
        message: String,
    },
    /// Any other failure the driver reported.
    #[error("the device reported an error: {message}")]
    Device {
        /// The driver's words.
        message: String,
    },
    /// A shader was refused.
    #[error(transparent)]
    Shader(#[from] shader::ShaderError),
}
