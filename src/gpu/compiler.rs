//! Pipelines: each is compiled once, by the thread that asks for it first or by one that compiles ahead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::Error;
use super::backend_wgpu::lock;
use super::device::Tier;
use super::kernel::{Kernel, Knob, Source, Variant};
use super::shader;

type Key = (&'static str, Vec<Knob>);
/// Held while its kernel is being compiled, so that who else wants it waits instead of compiling it again.
type Slot = Arc<Mutex<Option<Arc<wgpu::ComputePipeline>>>>;

/// All pipelines of a device.
#[derive(Debug)]
pub(super) struct Compiler {
    shared: Arc<Shared>,
    /// Threads that compile ahead. They hold what is shared, never the device's owner: that one waits for them before it goes.
    ahead: Mutex<Vec<JoinHandle<()>>>,
    /// Off on GL, whose contexts do not take turns between threads.
    may_thread: bool,
}

#[derive(Debug)]
struct Shared {
    device: wgpu::Device,
    tier: Tier,
    slots: Mutex<HashMap<Key, Slot>>,
    is_closing: AtomicBool,
}

impl Compiler {
    pub(super) fn new(device: &wgpu::Device, tier: Tier, is_gl: bool) -> Compiler {
        Compiler {
            shared: Arc::new(Shared {
                device: device.clone(),
                tier,
                slots: Mutex::default(),
                is_closing: AtomicBool::new(false),
            }),
            ahead: Mutex::default(),
            may_thread: !is_gl,
        }
    }

    /// The pipeline of a kernel, compiled if it is not yet.
    pub(super) fn pipeline(
        &self,
        kernel: &'static Kernel,
        knobs: &[Knob],
    ) -> Result<Arc<wgpu::ComputePipeline>, Error> {
        self.shared.pipeline(kernel, knobs)
    }

    /// Whether a kernel is compiled, or being compiled.
    pub(super) fn has(&self, kernel: &Kernel, knobs: &[Knob]) -> bool {
        lock(&self.shared.slots).contains_key(&(kernel.name, knobs.to_vec()))
    }

    /// Compiles these on a thread of their own while the film goes on.
    pub(super) fn foresee(&self, kernels: Vec<Variant>) {
        if !self.may_thread {
            return;
        }
        let shared = self.shared.clone();
        let run = move || {
            for (kernel, knobs) in kernels {
                if shared.is_closing.load(Ordering::Relaxed) {
                    return;
                }
                // One that fails is met again, with its error, when it is to run.
                if let Err(e) = shared.pipeline(kernel, &knobs) {
                    log::debug!("{} ahead of its use: {e}", kernel.name);
                }
            }
        };
        let mut ahead = lock(&self.ahead);
        ahead.retain(|thread| !thread.is_finished());
        match std::thread::Builder::new()
            .name("shader compiler".to_owned())
            .spawn(run)
        {
            Ok(thread) => ahead.push(thread),
            Err(e) => log::debug!("kernels are compiled where they are first used: {e}"),
        }
    }
}

impl Drop for Compiler {
    /// A driver that is unloaded under a thread of its own crashes.
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::Relaxed);
        for thread in lock(&self.ahead).drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn pipeline(
        &self,
        kernel: &'static Kernel,
        knobs: &[Knob],
    ) -> Result<Arc<wgpu::ComputePipeline>, Error> {
        let key = (kernel.name, knobs.to_vec());
        let slot = lock(&self.slots).entry(key).or_default().clone();
        let mut slot = lock(&slot);
        if let Some(pipeline) = &*slot {
            return Ok(pipeline.clone());
        }
        let checked = shader::check(kernel, knobs, self.tier == Tier::Subgroups)?;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let overrides: Vec<(&str, f64)> = match kernel.source {
            Source::File(_) => knobs.iter().map(|(n, v)| (*n, f64::from(*v))).collect(),
            Source::Written(_) => Vec::new(),
        };
        let module = self
            .device
            .create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(kernel.name),
                source: wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(checked.module)),
            });
        // From the text, not from what the driver finds in use: a variant may leave a binding untouched.
        let group = self.group_layout(kernel.name, &checked.bindings);
        let layout = self
            .device
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(kernel.name),
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
        let pipeline = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(kernel.name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &overrides,
                    // Every kernel writes workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            });
        if let Some(e) = pollster::block_on(scope.pop()) {
            return Err(Error::Shader(shader::ShaderError {
                name: kernel.name,
                message: e.to_string(),
            }));
        }
        Ok(slot.insert(Arc::new(pipeline)).clone())
    }

    fn group_layout(&self, label: &str, bindings: &[shader::Access]) -> wgpu::BindGroupLayout {
        let entry = |(i, access): (usize, &shader::Access)| wgpu::BindGroupLayoutEntry {
            binding: i as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match access {
                    shader::Access::Uniform => wgpu::BufferBindingType::Uniform,
                    shader::Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    shader::Access::ReadWrite => {
                        wgpu::BufferBindingType::Storage { read_only: false }
                    }
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        self.device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(label),
                entries: &bindings.iter().enumerate().map(entry).collect::<Vec<_>>(),
            })
    }
}
