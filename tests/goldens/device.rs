//! The devices under test, opened once each and shared by all tests.

use std::sync::OnceLock;

use longtake::gpu::{Device, Error, Select, TierRequest};

use super::file::say;

/// Which executor a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The best adapter with everything it has.
    Best,
    /// The best adapter within WebGPU's default limits.
    Portable,
    /// The kernels' CPU twins.
    Twin,
}

impl On {
    /// The device. `None`, and a line, without an adapter.
    ///
    /// # Panics
    /// Without an adapter under `LONGTAKE_REQUIRE_GPU=1`, or when it cannot be opened.
    pub fn device(self) -> Option<Device> {
        static BEST: OnceLock<Option<Device>> = OnceLock::new();
        static PORTABLE: OnceLock<Option<Device>> = OnceLock::new();
        let device = match self {
            On::Twin => return Some(Device::twin()),
            On::Best => BEST.get_or_init(|| open(TierRequest::Best)),
            On::Portable => PORTABLE.get_or_init(|| open(TierRequest::Portable)),
        };
        if device.is_none() {
            let required = std::env::var_os("LONGTAKE_REQUIRE_GPU").is_some_and(|v| v == "1");
            assert!(
                !required,
                "LONGTAKE_REQUIRE_GPU=1, and there is no GPU and no lavapipe"
            );
            say("SKIPPED: needs a GPU or lavapipe");
        }
        device.clone()
    }
}

fn open(tier: TierRequest) -> Option<Device> {
    match Device::open(&Select { device: None, tier }) {
        Ok(device) => {
            let c = device.caps();
            say(&format!(
                "on {}, {}, {}",
                c.title(),
                c.driver,
                c.tier.name()
            ));
            Some(device)
        }
        Err(Error::NoDevice) => None,
        Err(e) => panic!("{e}"),
    }
}
