//! Opening a device: adapters, choice, limits, tier; making, filling and reading buffers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytemuck::Pod;

use super::Error;
use super::backend_twin::run_twin;
use super::backend_wgpu::WgpuBackend;
use super::buffer::{Buffer, Inner, Storage, Usage};
use super::kernel::Variant;
use super::ledger::{Ledger, Purpose};
use super::lent::Lent;
use super::recorder::{Dispatch, Recorder};

/// Subgroup sizes that the subgroup kernels are written for.
const NARROW: std::ops::RangeInclusive<u32> = 4..=16;

/// What kind of hardware is behind a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A card with memory of its own.
    Discrete,
    /// Shares the host's memory.
    Integrated,
    /// A virtual machine's GPU.
    Virtual,
    /// The driver could not say.
    Other,
    /// A driver that runs shaders on the processor.
    Software,
    /// No driver at all: the CPU twins, for checking and for machines without Vulkan.
    Twin,
}

/// Feature tier: which variants of the kernels run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// f32 arithmetic within WebGPU's default limits, no optional feature.
    Portable,
    /// Subgroup built-ins of one fixed size of 4 to 16 lanes.
    Subgroups,
}

impl Tier {
    /// The word shown to people.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Portable => "portable f32",
            Tier::Subgroups => "subgroups",
        }
    }
}

/// What the planner may count on. Read once when the device opens.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Caps {
    /// Adapter name as the driver gives it.
    pub name: String,
    /// Driver name and version.
    pub driver: String,
    /// `vulkan`, `metal`, `dx12`, `gl`, or `host` for the twins.
    pub backend: String,
    /// What kind of hardware.
    pub kind: Kind,
    /// Which kernel variants run.
    pub tier: Tier,
    /// Lanes of a subgroup where that is one fixed number, else 0.
    pub subgroup_size: u32,
    /// The driver offers 16-bit float arithmetic. Kernels of this version store halves and compute in f32.
    pub has_f16: bool,
    /// The driver offers cooperative matrices. Not used by this version.
    pub has_cooperative_matrix: bool,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// Storage buffers a kernel may bind.
    pub max_storage_buffers: u32,
    /// Lanes a workgroup may have.
    pub max_workgroup_lanes: u32,
    /// Workgroups in one dimension of a grid.
    pub max_groups_per_dimension: u32,
    /// Workgroup memory in bytes.
    pub max_workgroup_bytes: u32,
    /// Largest uniform binding in bytes.
    pub max_uniform_bytes: u64,
    /// The driver's compiler takes seconds over shaders with dozens of load expressions (Mesa's llvmpipe since 23; its
    /// version 22 takes longer over the indexed arrays that avoid them).
    pub loads_compile_slowly: bool,
    /// Memory that is free for this device where that can be known: the host's, for devices that live in it.
    pub memory_bytes: Option<u64>,
}

impl Caps {
    /// WebGPU's default limits and no feature: what every kernel must be able to run with.
    pub fn floor() -> Caps {
        let l = wgpu::Limits::default();
        let mut caps = Caps::twin();
        caps.set_limits(&l);
        caps
    }

    /// WebGPU's limits with every combination of what plans depend on: the tiers with the subgroup sizes that [`Caps`]
    /// takes for narrow, on CPU drivers and on hardware. What the shader tests compile is what `plans` gives for these.
    pub fn every() -> Vec<Caps> {
        let drivers = [
            (Kind::Discrete, false),
            (Kind::Software, false),
            (Kind::Software, true),
        ];
        let mut all = Vec::new();
        for (kind, loads_compile_slowly) in drivers {
            for subgroup_size in [0, 4, 8, 16] {
                all.push(Caps {
                    kind,
                    loads_compile_slowly,
                    subgroup_size,
                    tier: match subgroup_size {
                        0 => Tier::Portable,
                        size => {
                            debug_assert!(NARROW.contains(&size));
                            Tier::Subgroups
                        }
                    },
                    ..Caps::floor()
                });
            }
        }
        all
    }

    fn twin() -> Caps {
        Caps {
            name: "cpu".into(),
            driver: "CPU twins of the kernels".into(),
            backend: "host".into(),
            kind: Kind::Twin,
            tier: Tier::Portable,
            subgroup_size: 0,
            has_f16: false,
            has_cooperative_matrix: false,
            max_buffer_bytes: 1 << 40,
            max_binding_bytes: 1 << 40,
            max_storage_buffers: 8,
            max_workgroup_lanes: 256,
            max_groups_per_dimension: 65_535,
            max_workgroup_bytes: 16 << 10,
            max_uniform_bytes: 64 << 10,
            loads_compile_slowly: false,
            memory_bytes: host_memory(),
        }
    }

    pub(super) fn of(
        info: &wgpu::AdapterInfo,
        features: wgpu::Features,
        limits: &wgpu::Limits,
        tier: TierRequest,
    ) -> Caps {
        // The subgroup kernels pay on CPU drivers, whose subgroups are narrow. At 32 lanes and more their tiles outgrow the
        // registers of a lane, and the tiles in workgroup memory are the better shape.
        let narrow = info.subgroup_min_size == info.subgroup_max_size
            && NARROW.contains(&info.subgroup_min_size);
        let subgroups =
            tier == TierRequest::Best && narrow && features.contains(wgpu::Features::SUBGROUP);
        let mut caps = Caps {
            name: info.name.clone(),
            driver: format!("{} {}", info.driver, info.driver_info)
                .trim()
                .to_string(),
            backend: info.backend.to_string(),
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
                wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
                wgpu::DeviceType::VirtualGpu => Kind::Virtual,
                wgpu::DeviceType::Cpu => Kind::Software,
                wgpu::DeviceType::Other => Kind::Other,
            },
            tier: if subgroups {
                Tier::Subgroups
            } else {
                Tier::Portable
            },
            subgroup_size: if subgroups { info.subgroup_min_size } else { 0 },
            loads_compile_slowly: slow_loads(&info.driver, &info.driver_info),
            has_f16: features.contains(wgpu::Features::SHADER_F16),
            has_cooperative_matrix: features
                .contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
            ..Caps::twin()
        };
        caps.set_limits(limits);
        if !matches!(caps.kind, Kind::Software | Kind::Integrated) {
            caps.memory_bytes = None; // a card's own memory: no portable API tells
        }
        caps
    }

    fn set_limits(&mut self, l: &wgpu::Limits) {
        self.max_buffer_bytes = l.max_buffer_size;
        self.max_binding_bytes = l.max_storage_buffer_binding_size;
        self.max_storage_buffers = l.max_storage_buffers_per_shader_stage;
        self.max_workgroup_lanes = l.max_compute_invocations_per_workgroup;
        self.max_groups_per_dimension = l.max_compute_workgroups_per_dimension;
        self.max_workgroup_bytes = l.max_compute_workgroup_storage_size;
        self.max_uniform_bytes = l.max_uniform_buffer_binding_size;
    }

    /// Largest storage buffer that one binding reaches, in bytes.
    pub fn max_storage_bytes(&self) -> u64 {
        self.max_binding_bytes.min(self.max_buffer_bytes)
    }

    /// Name and back end, as reports show them.
    pub fn title(&self) -> String {
        format!("{} ({})", self.name, self.backend)
    }
}

/// Whether the driver is an llvmpipe later than Mesa 22. `info` reads like `Mesa 25.0.7 (LLVM 15.0.6)`.
fn slow_loads(driver: &str, info: &str) -> bool {
    let major = info
        .strip_prefix("Mesa ")
        .and_then(|v| v.split('.').next())
        .and_then(|v| v.parse::<u32>().ok());
    driver == "llvmpipe" && major.is_none_or(|v| v > 22)
}

/// Free bytes of main memory, on Linux.
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

/// Which tier to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TierRequest {
    /// Everything the adapter has.
    #[default]
    Best,
    /// WebGPU's default limits and no feature, whatever the adapter has.
    Portable,
}

/// Which device to open.
#[derive(Debug, Clone, Default)]
pub struct Select {
    /// `None` or `auto`: the best one. A number: the index `devices` prints. Else part of a name, any case; `cpu`: the twins.
    pub device: Option<String>,
    /// Tier to ask for.
    pub tier: TierRequest,
}

/// An open device, its ledger and its executor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Device {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) caps: Caps,
    pub(super) ledger: Ledger,
    pub(super) backend: Backend,
    stages: Mutex<Option<Vec<(&'static str, f64)>>>,
    pending: Mutex<Pending>,
    /// While somebody rehearses: kernels that work asks for, which is not done.
    rehearsal: Mutex<Option<Vec<Variant>>>,
    /// Bytes that the device is taken to have.
    most_bytes: AtomicU64,
}

/// Recorded work that is not worth a submit of its own yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    dispatches: Vec<Dispatch>,
    work: u64,
    /// What went wrong when a write, which returns nothing, had to submit; the next call returns it.
    failed: Option<Error>,
}

#[derive(Debug)]
pub(super) enum Backend {
    Wgpu(Box<WgpuBackend>),
    Twin,
}

impl Device {
    /// Opens a device.
    ///
    /// # Errors
    /// No such device, or the driver refused.
    pub fn open(select: &Select) -> Result<Device, Error> {
        if select
            .device
            .as_deref()
            .is_some_and(|d| d.eq_ignore_ascii_case("cpu"))
        {
            return Ok(Device::twin());
        }
        let (backend, caps) = WgpuBackend::open(select)?;
        let device = Device::with(caps, Backend::Wgpu(Box::new(backend)));
        device
            .shared
            .ledger
            .book(Purpose::Scratch, WgpuBackend::OWN_BYTES);
        Ok(device)
    }

    /// The executor that runs the kernels' CPU twins.
    pub fn twin() -> Device {
        Device::with(Caps::twin(), Backend::Twin)
    }

    fn with(caps: Caps, backend: Backend) -> Device {
        Device {
            shared: Arc::new(Shared {
                caps,
                ledger: Ledger::default(),
                backend,
                stages: Mutex::new(None),
                pending: Mutex::default(),
                rehearsal: Mutex::default(),
                most_bytes: AtomicU64::new(u64::MAX),
            }),
        }
    }

    /// What the device can do.
    pub fn caps(&self) -> &Caps {
        &self.shared.caps
    }

    /// What a window needs to draw on this device; `None` for the twins, which no window can draw on.
    pub fn lend(&self) -> Option<Lent> {
        match &self.shared.backend {
            Backend::Wgpu(b) => Some(b.lend()),
            Backend::Twin => None,
        }
    }

    /// Bytes by purpose.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Measures every stage from now on, waiting for each: the sum is a little above the time without.
    pub fn measure_stages(&self) {
        *self.stages() = Some(Vec::new());
    }

    pub(super) fn stages(&self) -> MutexGuard<'_, Option<Vec<(&'static str, f64)>>> {
        self.shared.stages.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// Seconds by stage since [`Device::measure_stages`], in the order they first ran.
    pub fn stage_secs(&self) -> Vec<(&'static str, f64)> {
        self.stages().clone().unwrap_or_default()
    }

    pub(super) fn book_stage(&self, stage: &'static str, secs: f64) {
        if let Some(list) = self.stages().as_mut() {
            match list.iter_mut().find(|(s, _)| *s == stage) {
                Some((_, t)) => *t += secs,
                None => list.push((stage, secs)),
            }
        }
    }

    /// A buffer of `len` zeros.
    ///
    /// # Errors
    /// More than the device's limits allow, or no memory left.
    pub fn zeros<T: Pod>(
        &self,
        purpose: Purpose,
        label: &'static str,
        len: usize,
    ) -> Result<Buffer<T>, Error> {
        self.make(purpose, label, len, None, Usage::Storage)
    }

    /// A buffer holding `data`.
    ///
    /// # Errors
    /// More than the device's limits allow, or no memory left.
    pub fn upload<T: Pod>(
        &self,
        purpose: Purpose,
        label: &'static str,
        data: &[T],
    ) -> Result<Buffer<T>, Error> {
        self.make(
            purpose,
            label,
            data.len(),
            Some(bytemuck::cast_slice(data)),
            Usage::Storage,
        )
    }

    /// A uniform buffer of `len` zeros; filled with [`Device::write`].
    ///
    /// # Errors
    /// More than the device's limits allow, or no memory left.
    pub fn uniform<T: Pod>(&self, label: &'static str, len: usize) -> Result<Buffer<T>, Error> {
        self.make(Purpose::Scratch, label, len, None, Usage::Uniform)
    }

    pub(super) fn make<T: Pod>(
        &self,
        purpose: Purpose,
        label: &'static str,
        len: usize,
        data: Option<&[u8]>,
        usage: Usage,
    ) -> Result<Buffer<T>, Error> {
        assert!(len > 0, "buffer {label} is empty");
        let bytes = (len * size_of::<T>()) as u64;
        let limit = match usage {
            Usage::Uniform => self.shared.caps.max_uniform_bytes,
            Usage::Storage | Usage::Staging => self.shared.caps.max_storage_bytes(),
        };
        if bytes > limit {
            return Err(Error::TooLarge {
                label,
                bytes,
                limit,
            });
        }
        let held = self.shared.ledger.total();
        if self.shared.most_bytes.load(Ordering::Relaxed) < held + bytes {
            return Err(Error::OutOfMemory {
                label,
                bytes,
                held,
                message: "it was said to have no more".to_owned(),
            });
        }
        let storage = match &self.shared.backend {
            Backend::Wgpu(b) => Storage::Wgpu(b.make(label, bytes, data, usage, held)?),
            Backend::Twin => Storage::Host(Mutex::new(match data {
                Some(d) => bytemuck::pod_collect_to_vec(d),
                None => vec![0; len],
            })),
        };
        self.shared.ledger.book(purpose, bytes);
        Ok(Buffer::new(
            Inner {
                storage,
                bytes,
                label,
                purpose,
                device: self.shared.clone(),
            },
            len,
        ))
    }

    /// Replaces elements from `offset` on, before any work submitted later.
    ///
    /// # Panics
    /// When the range lies outside the buffer.
    pub fn write<T: Pod>(&self, buffer: &Buffer<T>, offset: usize, data: &[T]) {
        assert!(
            offset + data.len() <= buffer.len(),
            "write past {}",
            buffer.inner.label
        );
        match (&self.shared.backend, &buffer.inner.storage) {
            (Backend::Wgpu(b), Storage::Wgpu(dst)) => {
                // What was recorded before must still see the old values.
                if let Err(e) = self.flush(self.pending()) {
                    self.pending().failed = Some(e);
                }
                b.write(dst, (offset * 4) as u64, bytemuck::cast_slice(data))
            }
            (_, Storage::Host(w)) => {
                let mut w = w.lock().unwrap_or_else(|p| p.into_inner());
                w[offset..offset + data.len()].copy_from_slice(bytemuck::cast_slice(data));
            }
            (Backend::Twin, Storage::Wgpu(_)) => unreachable!("buffer of another device"),
        }
    }

    /// Waits for all work and copies elements back.
    ///
    /// # Errors
    /// Device lost, out of memory, or an error of earlier work.
    ///
    /// # Panics
    /// When the range lies outside the buffer.
    pub fn read<T: Pod>(
        &self,
        buffer: &Buffer<T>,
        range: std::ops::Range<usize>,
    ) -> Result<Vec<T>, Error> {
        assert!(
            range.start <= range.end && range.end <= buffer.len(),
            "read past {}",
            buffer.inner.label
        );
        match (&self.shared.backend, &buffer.inner.storage) {
            (Backend::Wgpu(b), Storage::Wgpu(src)) => {
                self.flush(self.pending())?;
                let bytes = (range.len() * 4) as u64;
                self.shared.ledger.book(Purpose::Scratch, bytes);
                let out = b.read(src, (range.start * 4) as u64, bytes);
                self.shared.ledger.release(Purpose::Scratch, bytes);
                Ok(bytemuck::pod_collect_to_vec(&out?))
            }
            (_, Storage::Host(w)) => {
                let w = w.lock().unwrap_or_else(|p| p.into_inner());
                Ok(bytemuck::cast_slice(&w[range]).to_vec())
            }
            (Backend::Twin, Storage::Wgpu(_)) => unreachable!("buffer of another device"),
        }
    }

    /// All elements of a buffer.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn read_all<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Vec<T>, Error> {
        self.read(buffer, 0..buffer.len())
    }

    /// GB/s of copies within the device, bytes read and bytes written together: what no kernel that streams can beat.
    ///
    /// # Errors
    /// No memory left, or device lost.
    pub fn copy_rate(&self) -> Result<f64, Error> {
        const BYTES: u64 = 32 << 20;
        let bytes = BYTES.min(self.shared.caps.max_storage_bytes());
        let words = (bytes / 4) as usize;
        let secs = match &self.shared.backend {
            Backend::Wgpu(b) => {
                let make = || self.zeros::<u32>(Purpose::Scratch, "copy", words);
                let (from, to) = (make()?, make()?);
                self.wait()?;
                let (Storage::Wgpu(from), Storage::Wgpu(to)) =
                    (&from.inner.storage, &to.inner.storage)
                else {
                    unreachable!("buffers of this device")
                };
                b.copy_secs(from, to, bytes)?
            }
            Backend::Twin => {
                let (from, mut to) = (vec![1u32; words], vec![0u32; words]);
                let start = std::time::Instant::now();
                to.copy_from_slice(std::hint::black_box(&from));
                std::hint::black_box(&to);
                start.elapsed().as_secs_f64()
            }
        };
        Ok(2.0 * bytes as f64 / secs * 1e-9)
    }

    /// An empty recorder for this device.
    pub fn recorder(&self) -> Recorder<'_> {
        Recorder::new(self)
    }

    /// Executes what was recorded. On a GPU this collects until a submit is worth its cost, submits in slices that no
    /// watchdog minds, and does not wait; reading, writing and waiting submit the rest first.
    ///
    /// # Errors
    /// A shader the driver refuses, device lost, or an error of earlier work.
    pub fn run(&self, rec: Recorder<'_>) -> Result<(), Error> {
        let mut rest = rec.dispatches;
        if self.stages().is_none() {
            return self.execute(rest);
        }
        while !rest.is_empty() {
            let stage = rest[0].stage;
            let n = rest
                .iter()
                .position(|d| d.stage != stage)
                .unwrap_or(rest.len());
            let tail = rest.split_off(n);
            let t0 = std::time::Instant::now();
            self.execute(rest)?;
            self.wait()?;
            self.book_stage(stage, t0.elapsed().as_secs_f64());
            rest = tail;
        }
        Ok(())
    }

    fn execute(&self, dispatches: Vec<Dispatch>) -> Result<(), Error> {
        let Backend::Wgpu(b) = &self.shared.backend else {
            run_twin(&dispatches);
            return Ok(());
        };
        if let Some(wanted) = self.rehearsal().as_mut() {
            for d in &dispatches {
                let is_same = |(k, n): &Variant| k.name == d.kernel.name && *n == d.plan.knobs;
                if !wanted.iter().any(is_same) {
                    wanted.push((d.kernel, d.plan.knobs.clone()));
                }
            }
            return Ok(());
        }
        let mut pending = self.pending();
        let work = |d: &Dispatch| u64::from(d.plan.groups) * d.plan.work_per_group.max(1);
        pending.work += dispatches.iter().map(work).sum::<u64>();
        pending.dispatches.extend(dispatches);
        // A fraction of a submit keeps the device busy while the rest of a pass is still being recorded.
        if b.is_worth_a_submit(pending.work) {
            return self.flush(pending);
        }
        Ok(())
    }

    /// Goes through `work` without doing what it records, on the thread that uses the device: the kernels it asks for that are not
    /// compiled yet, in the order of first use. What it writes into buffers is written, but for uploads of layers. The twins compile
    /// nothing.
    ///
    /// # Errors
    /// What `work` answers.
    pub fn rehearse<E>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<Vec<Variant>, E> {
        let Backend::Wgpu(b) = &self.shared.backend else {
            return Ok(Vec::new());
        };
        *self.rehearsal() = Some(Vec::new());
        let done = work();
        let mut wanted = self.rehearsal().take().unwrap_or_default();
        wanted.retain(|(kernel, knobs)| !b.compiler().has(kernel, knobs));
        done.map(|()| wanted)
    }

    /// Compiles a kernel before it is used.
    ///
    /// # Errors
    /// A shader the driver refuses; device lost.
    pub fn compile(&self, kernel: &Variant) -> Result<(), Error> {
        match &self.shared.backend {
            Backend::Wgpu(b) => b.compile(kernel),
            Backend::Twin => Ok(()),
        }
    }

    pub(super) fn rehearses(&self) -> bool {
        self.rehearsal().is_some()
    }

    fn rehearsal(&self) -> MutexGuard<'_, Option<Vec<Variant>>> {
        self.shared
            .rehearsal
            .lock()
            .unwrap_or_else(|p| p.into_inner())
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.shared
            .pending
            .lock()
            .unwrap_or_else(|p| p.into_inner())
    }

    /// Submits what is pending. The guard is held throughout, so that threads keep their order.
    pub(super) fn flush(&self, mut pending: MutexGuard<'_, Pending>) -> Result<(), Error> {
        if let Some(e) = pending.failed.take() {
            return Err(e);
        }
        let Backend::Wgpu(b) = &self.shared.backend else {
            return Ok(());
        };
        pending.work = 0;
        let dispatches = std::mem::take(&mut pending.dispatches);
        b.run(&self.shared.caps, &dispatches)
    }

    /// Keeps the work of one submit below `max` multiply-adds whatever the measured pace allows: for drivers that reset
    /// the device early, and for tests of the slicing. A single workgroup is never cut.
    pub fn limit_submit_work(&self, max: u64) {
        if let Backend::Wgpu(b) = &self.shared.backend {
            b.limit_submit_work(max);
        }
    }

    /// Takes the device to have `most` bytes for buffers and no more, whatever it has: for tests of what comes when they are
    /// used up.
    pub fn limit_memory(&self, most: u64) {
        self.shared.most_bytes.store(most, Ordering::Relaxed);
    }

    /// Says which kernels will be wanted: a thread compiles them while the device works, so that the film does not stand still
    /// for a compiler where they first run.
    pub fn foresee(&self, kernels: Vec<Variant>) {
        if let Backend::Wgpu(b) = &self.shared.backend {
            b.compiler().foresee(kernels);
        }
    }

    /// Gives the device up as if its driver had reset it: later work answers [`Error::Lost`]. For tests of what comes then; the
    /// twins have nothing to lose.
    pub fn lose(&self) {
        if let Backend::Wgpu(b) = &self.shared.backend {
            b.lose();
        }
    }

    /// The driver gave the device up; nothing on it can be used any more.
    pub fn is_lost(&self) -> bool {
        match &self.shared.backend {
            Backend::Wgpu(b) => b.is_lost(),
            Backend::Twin => false,
        }
    }

    /// Waits until all submitted work is done.
    ///
    /// # Errors
    /// Device lost, or an error of that work.
    pub fn wait(&self) -> Result<(), Error> {
        match &self.shared.backend {
            Backend::Wgpu(b) => {
                self.flush(self.pending())?;
                b.wait()
            }
            Backend::Twin => Ok(()),
        }
    }
}
