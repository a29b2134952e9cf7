//! The executor on wgpu: adapters, pipelines, submits cut to a time budget, read-back, and the errors of all these.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TryRecvError;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Error;
use super::buffer::{Bound, Storage, Usage};
use super::compiler::Compiler;
use super::device::{Caps, Kind, Select, TierRequest};
use super::kernel::Variant;
use super::recorder::Dispatch;

/// Bytes between params of neighbouring dispatches: WebGPU's largest offset alignment.
const PARAMS_STRIDE: u64 = 256;
/// Dispatches in one submit at most.
const PARAMS_SLOTS: u64 = 512;
/// Aimed seconds of one submit. Windows resets a GPU after 2 s; a viewer wants its frames in between.
const SUBMIT_SECS: f64 = 0.08;
/// How often a wait beside a window looks whether the work is done.
const LOOK_IN: Duration = Duration::from_millis(1);

/// Work sent and not yet waited for.
#[derive(Debug, Default)]
struct Pace {
    work: u64,
    since: Option<Instant>,
    work_per_sec: f64,
    limit: Option<u64>,
}

#[derive(Debug)]
pub(super) struct WgpuBackend {
    instance: wgpu::Instance,
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// A window draws on the same queue.
    is_lent: AtomicBool,
    /// Held from filling it to the submit that reads it: a device may be shared by threads.
    params: Mutex<wgpu::Buffer>,
    compiler: Compiler,
    pace: Mutex<Pace>,
    fault: Arc<Mutex<Option<Fault>>>,
}

#[derive(Debug, Clone)]
enum Fault {
    Lost(String),
    Reported(String),
}

pub(super) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|p| p.into_inner())
}

fn instance(backends: wgpu::Backends) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle().with_env();
    descriptor.backends = backends;
    wgpu::Instance::new(descriptor)
}

/// An adapter, the instance that knows it, and what it can do.
type Found = (wgpu::Instance, wgpu::Adapter, Caps);

/// All adapters of the back ends asked for by `WGPU_BACKEND`; else of Vulkan, Metal and DX12, and where these have none,
/// of GL. GL would list the same hardware again, and its loader writes to standard error where there is no display.
fn adapters() -> Vec<Found> {
    match wgpu::Backends::from_env() {
        Some(backends) => adapters_of(backends),
        None => {
            let list = adapters_of(wgpu::Backends::PRIMARY);
            match list.is_empty() {
                true => adapters_of(wgpu::Backends::GL),
                false => list,
            }
        }
    }
}

/// Adapters, best first: what `devices` prints and what an index means.
fn adapters_of(backends: wgpu::Backends) -> Vec<Found> {
    let low_power = matches!(
        wgpu::PowerPreference::from_env(),
        Some(wgpu::PowerPreference::LowPower)
    );
    let instance = instance(backends);
    let mut list: Vec<_> = pollster::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        .map(|a| {
            let caps = Caps::of(&a.get_info(), a.features(), &a.limits(), TierRequest::Best);
            (instance.clone(), a, caps)
        })
        .filter(|(.., c)| c.max_workgroup_lanes >= 64 && c.max_groups_per_dimension > 0)
        .collect();
    // The sort is stable: among equals the driver's order stays.
    list.sort_by_key(|(.., c)| {
        let kind = match c.kind {
            Kind::Integrated if low_power => Kind::Discrete,
            Kind::Discrete if low_power => Kind::Integrated,
            kind => kind,
        };
        (kind, c.backend == "gl")
    });
    list
}

/// Caps of every usable adapter, best first.
pub(super) fn list() -> Vec<Caps> {
    adapters().into_iter().map(|(.., c)| c).collect()
}

fn choose(mut list: Vec<Found>, wanted: Option<&str>) -> Result<Found, Error> {
    let wanted = wanted.filter(|w| !w.eq_ignore_ascii_case("auto"));
    let at = match wanted {
        None => 0,
        Some(w) => {
            let lower = w.to_lowercase();
            let index = w.parse::<usize>().ok().filter(|i| *i < list.len());
            let named = || {
                list.iter()
                    .position(|(.., c)| c.name.to_lowercase().contains(&lower))
            };
            index.or_else(named).ok_or_else(|| Error::NoSuchDevice {
                wanted: w.to_string(),
                have: list.iter().map(|(.., c)| c.title()).collect(),
            })?
        }
    };
    if list.is_empty() {
        Err(Error::NoDevice)
    } else {
        Ok(list.swap_remove(at))
    }
}

impl WgpuBackend {
    pub(super) fn open(select: &Select) -> Result<(WgpuBackend, Caps), Error> {
        let from_env = std::env::var("WGPU_ADAPTER_NAME").ok();
        let wanted = select.device.as_deref().or(from_env.as_deref());
        let (instance, adapter, best) = choose(adapters(), wanted)?;
        let (features, limits) = match select.tier {
            TierRequest::Best => (
                adapter.features() & wgpu::Features::SUBGROUP,
                adapter.limits(),
            ),
            TierRequest::Portable => (wgpu::Features::empty(), wgpu::Limits::default()),
        };
        let caps = match select.tier {
            TierRequest::Best => best,
            TierRequest::Portable => Caps::of(
                &adapter.get_info(),
                features,
                &limits,
                TierRequest::Portable,
            ),
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("longtake"),
            required_features: features,
            required_limits: limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        }))
        .map_err(|e| Error::Open {
            device: caps.title(),
            message: e.to_string(),
        })?;
        let fault = Arc::new(Mutex::new(None));
        watch(&device, &fault);
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: PARAMS_STRIDE * PARAMS_SLOTS,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        // First guesses in multiply-adds a second, low on purpose: the pace is measured from the first wait on.
        let work_per_sec = match caps.kind {
            Kind::Discrete => 2e11,
            Kind::Integrated | Kind::Virtual | Kind::Other => 2e10,
            Kind::Software | Kind::Twin => 1e9,
        };
        let is_gl = adapter.get_info().backend == wgpu::Backend::Gl;
        let pace = Mutex::new(Pace {
            work_per_sec,
            ..Default::default()
        });
        Ok((
            WgpuBackend {
                instance,
                adapter,
                compiler: Compiler::new(&device, caps.tier, is_gl),
                device,
                queue,
                is_lent: AtomicBool::new(false),
                params: Mutex::new(params),
                pace,
                fault,
            },
            caps,
        ))
    }

    /// What a window needs to draw on this device.
    pub(super) fn lend(&self) -> super::Lent {
        self.is_lent.store(true, Ordering::Relaxed);
        super::Lent {
            instance: self.instance.clone(),
            adapter: self.adapter.clone(),
            device: self.device.clone(),
            queue: self.queue.clone(),
        }
    }

    /// Bytes of the executor's own buffers, for the ledger.
    pub(super) const OWN_BYTES: u64 = PARAMS_STRIDE * PARAMS_SLOTS;

    /// As if the driver had reset the device: every later call says so.
    pub(super) fn lose(&self) {
        *lock(&self.fault) = Some(Fault::Lost("it was given up on purpose".to_owned()));
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(*lock(&self.fault), Some(Fault::Lost(_)))
    }

    fn check(&self) -> Result<(), Error> {
        match lock(&self.fault).clone() {
            None => Ok(()),
            Some(Fault::Lost(message)) => Err(Error::Lost { message }),
            Some(Fault::Reported(message)) => Err(Error::Device { message }),
        }
    }

    pub(super) fn make(
        &self,
        label: &'static str,
        bytes: u64,
        data: Option<&[u8]>,
        usage: Usage,
        held: u64,
    ) -> Result<wgpu::Buffer, Error> {
        let usage = match usage {
            Usage::Storage => {
                wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST
            }
            Usage::Uniform => wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            Usage::Staging => wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
        };
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage,
            mapped_at_creation: data.is_some(),
        });
        if let Some(e) = pollster::block_on(scope.pop()) {
            return Err(Error::OutOfMemory {
                label,
                bytes,
                held,
                message: e.to_string(),
            });
        }
        if let Some(d) = data {
            let mut view = buffer
                .slice(..)
                .get_mapped_range_mut()
                .map_err(|e| Error::Device {
                    message: e.to_string(),
                })?;
            view.copy_from_slice(d);
            drop(view);
            buffer.unmap();
        }
        self.check()?;
        Ok(buffer)
    }

    pub(super) fn write(&self, dst: &wgpu::Buffer, offset: u64, data: &[u8]) {
        self.queue.write_buffer(dst, offset, data);
    }

    /// Fills staging buffers and copies each into its own buffer, after all work submitted before. Waits for the copies of the
    /// `last` time, which read the same staging, and for nothing after them; gives what the next call has to wait for.
    pub(super) fn fill(
        &self,
        fills: &[Fill<'_>],
        last: Option<wgpu::SubmissionIndex>,
    ) -> Result<wgpu::SubmissionIndex, Error> {
        self.check()?;
        let failed = |message: String| Error::Device { message };
        let (tell, told) = std::sync::mpsc::sync_channel(fills.len());
        for f in fills {
            let tell = tell.clone();
            f.staging.map_async(wgpu::MapMode::Write, .., move |r| {
                let _ = tell.send(r.is_ok());
            });
        }
        drop(tell);
        let mut mapped = 0;
        while mapped < fills.len() {
            match told.try_recv() {
                Ok(true) => mapped += 1,
                Err(TryRecvError::Empty) => self.wait_for(last.clone())?,
                Ok(false) | Err(TryRecvError::Disconnected) => {
                    self.check()?;
                    return Err(failed("memory for an upload cannot be mapped".into()));
                }
            }
        }
        let mut enc = self.device.create_command_encoder(&Default::default());
        for f in fills {
            let mut view =
                (f.staging.get_mapped_range_mut(..)).map_err(|e| failed(e.to_string()))?;
            view.copy_from_slice(f.data);
            drop(view);
            f.staging.unmap();
            enc.copy_buffer_to_buffer(f.staging, 0, f.place, 0, f.data.len() as u64);
        }
        let index = self.queue.submit([enc.finish()]);
        self.check()?;
        Ok(index)
    }

    /// Waits for one submission, or looks in where a window shares the queue.
    fn wait_for(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<(), Error> {
        let poll = match self.is_lent.load(Ordering::Relaxed) {
            false => wgpu::PollType::Wait {
                submission_index,
                timeout: None,
            },
            true => {
                std::thread::sleep(LOOK_IN);
                wgpu::PollType::Poll
            }
        };
        match self.device.poll(poll) {
            Ok(_) => Ok(()),
            Err(e) => {
                self.check()?;
                Err(Error::Device {
                    message: e.to_string(),
                })
            }
        }
    }

    pub(super) fn read(
        &self,
        src: &wgpu::Buffer,
        offset: u64,
        bytes: u64,
    ) -> Result<Vec<u8>, Error> {
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut enc = self.device.create_command_encoder(&Default::default());
        enc.copy_buffer_to_buffer(src, offset, &staging, 0, bytes);
        self.queue.submit([enc.finish()]);
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        staging.slice(..).map_async(wgpu::MapMode::Read, move |r| {
            let _ = tell.send(r.is_ok());
        });
        self.wait()?;
        // Another thread's wait may be the one that tells, a moment after this one's has returned.
        if told.recv() != Ok(true) {
            return Err(Error::Device {
                message: "reading a buffer back failed".into(),
            });
        }
        let view = staging
            .slice(..)
            .get_mapped_range()
            .map_err(|e| Error::Device {
                message: e.to_string(),
            })?;
        Ok(view.to_vec())
    }

    /// Seconds of one copy: the least of a few, each of four copies, after one that nobody times.
    pub(super) fn copy_secs(
        &self,
        from: &wgpu::Buffer,
        to: &wgpu::Buffer,
        bytes: u64,
    ) -> Result<f64, Error> {
        const COPIES: u32 = 4;
        let mut least = f64::INFINITY;
        for run in 0..4 {
            let start = Instant::now();
            let mut enc = self.device.create_command_encoder(&Default::default());
            for _ in 0..COPIES {
                enc.copy_buffer_to_buffer(from, 0, to, 0, bytes);
            }
            self.queue.submit([enc.finish()]);
            self.wait()?;
            if run > 0 {
                least = least.min(start.elapsed().as_secs_f64());
            }
        }
        Ok(least / f64::from(COPIES))
    }

    /// What compiles kernels.
    pub(super) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// Compiles a kernel.
    pub(super) fn compile(&self, (kernel, knobs): &Variant) -> Result<(), Error> {
        self.compiler.pipeline(kernel, knobs)?;
        // What the device did meanwhile says nothing about its pace.
        lock(&self.pace).since = None;
        Ok(())
    }

    pub(super) fn wait(&self) -> Result<(), Error> {
        let polled = match self.is_lent.load(Ordering::Relaxed) {
            false => self.device.poll(wgpu::PollType::wait_indefinitely()),
            true => self.wait_beside_a_window(),
        };
        self.check()?;
        polled.map_err(|e| Error::Device {
            message: e.to_string(),
        })?;
        let mut pace = lock(&self.pace);
        if let Some(since) = pace.since.take() {
            let secs = since.elapsed().as_secs_f64();
            // Short waits are mostly overhead and say nothing about the pace.
            if secs > 0.002 {
                pace.work_per_sec = 0.5 * pace.work_per_sec + 0.5 * (pace.work as f64 / secs);
            }
        }
        pace.work = 0;
        Ok(())
    }

    /// Looks in, and sleeps: a waiting poll holds a lock that showing a picture needs too, and one with a time limit trips
    /// over an assertion of wgpu 30 where another thread polls meanwhile.
    fn wait_beside_a_window(&self) -> Result<wgpu::PollStatus, wgpu::PollError> {
        let done = Arc::new(AtomicBool::new(false));
        let is_done = done.clone();
        self.queue
            .on_submitted_work_done(move || is_done.store(true, Ordering::Release));
        loop {
            let polled = self.device.poll(wgpu::PollType::Poll)?;
            if done.load(Ordering::Acquire) {
                return Ok(polled);
            }
            std::thread::sleep(LOOK_IN);
        }
    }

    pub(super) fn limit_submit_work(&self, max: u64) {
        lock(&self.pace).limit = Some(max);
    }

    /// Work of one submit.
    fn budget(&self) -> u64 {
        let pace = lock(&self.pace);
        let paced = (pace.work_per_sec * SUBMIT_SECS) as u64;
        paced.min(pace.limit.unwrap_or(u64::MAX)).max(1)
    }

    /// Whether this much work covers what a submit costs, some 0.1 ms on llvmpipe.
    pub(super) fn is_worth_a_submit(&self, work: u64) -> bool {
        work > self.budget() / 8
    }

    /// Cuts the dispatches into slices and the slices into submits, each within the time budget at the measured pace.
    pub(super) fn run(&self, caps: &Caps, dispatches: &[Dispatch]) -> Result<(), Error> {
        let budget = self.budget();
        let mut batch = Batch::default();
        for d in dispatches {
            let pipeline = self.compiler.pipeline(d.kernel, &d.plan.knobs)?;
            let per_group = d.plan.work_per_group.max(1);
            let mut first = 0;
            while first < d.plan.groups {
                let room =
                    (budget.saturating_sub(batch.work) / per_group).min(u64::from(u32::MAX)) as u32;
                let left = d.plan.groups - first;
                if batch.work > 0 && room < left || batch.slots == PARAMS_SLOTS {
                    self.submit(caps, std::mem::take(&mut batch))?;
                    continue;
                }
                let count = left.min(room.max(1));
                batch.push(d, pipeline.clone(), first, count);
                first += count;
            }
        }
        self.submit(caps, batch)
    }

    fn submit(&self, caps: &Caps, batch: Batch<'_>) -> Result<(), Error> {
        if batch.slots == 0 {
            return Ok(());
        }
        let params = lock(&self.params);
        self.queue.write_buffer(&params, 0, &batch.params);
        let mut enc = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = enc.begin_compute_pass(&Default::default());
            for (slot, s) in batch.slices.iter().enumerate() {
                let group = self.bind(s, &params, slot as u64);
                pass.set_pipeline(&s.pipeline);
                pass.set_bind_group(0, &group, &[]);
                let x = s.count.min(caps.max_groups_per_dimension);
                pass.dispatch_workgroups(x, s.count.div_ceil(x), 1);
            }
        }
        {
            let mut pace = lock(&self.pace);
            pace.since.get_or_insert_with(Instant::now);
            pace.work += batch.work;
        }
        self.queue.submit([enc.finish()]);
        self.check()
    }

    fn bind(&self, s: &Slice<'_>, params: &wgpu::Buffer, slot: u64) -> wgpu::BindGroup {
        let params = wgpu::BufferBinding {
            buffer: params,
            offset: slot * PARAMS_STRIDE,
            size: std::num::NonZeroU64::new(s.dispatch.params.len() as u64),
        };
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(params),
        }];
        for (i, Bound(inner)) in s.dispatch.bindings.iter().enumerate() {
            let Storage::Wgpu(buffer) = &inner.storage else {
                unreachable!("buffer of another device")
            };
            entries.push(wgpu::BindGroupEntry {
                binding: i as u32 + 1,
                resource: buffer.as_entire_binding(),
            });
        }
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(s.dispatch.kernel.name),
            layout: &s.pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }
}

/// Words on their way to the device.
pub(super) struct Fill<'a> {
    /// Memory that the host maps, as large as `data`.
    pub(super) staging: &'a wgpu::Buffer,
    /// Where they go.
    pub(super) place: &'a wgpu::Buffer,
    pub(super) data: &'a [u8],
}

struct Slice<'d> {
    dispatch: &'d Dispatch,
    pipeline: Arc<wgpu::ComputePipeline>,
    count: u32,
}

#[derive(Default)]
struct Batch<'d> {
    slices: Vec<Slice<'d>>,
    params: Vec<u8>,
    slots: u64,
    work: u64,
}

impl<'d> Batch<'d> {
    fn push(
        &mut self,
        d: &'d Dispatch,
        pipeline: Arc<wgpu::ComputePipeline>,
        first: u32,
        count: u32,
    ) {
        let at = (self.slots * PARAMS_STRIDE) as usize;
        self.params.resize(at, 0);
        self.params.extend_from_slice(&d.params);
        self.params[at..at + 4].copy_from_slice(&first.to_le_bytes());
        self.params[at + 4..at + 8].copy_from_slice(&(first + count).to_le_bytes());
        self.slots += 1;
        self.work += u64::from(count) * d.plan.work_per_group.max(1);
        self.slices.push(Slice {
            dispatch: d,
            pipeline,
            count,
        });
    }
}

/// Turns what wgpu reports out of band into a fault that the next call returns.
fn watch(device: &wgpu::Device, fault: &Arc<Mutex<Option<Fault>>>) {
    let on_error = fault.clone();
    device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
        lock(&on_error).get_or_insert(Fault::Reported(e.to_string()));
    }));
    let on_lost = fault.clone();
    // Dropping the device also loses it; nobody is left to hear that.
    device.set_device_lost_callback(move |_, message| {
        *lock(&on_lost) = Some(Fault::Lost(message));
    });
}
