//! From a kernel's text to a checked naga module: includes, parsing, validation, reflection.

use naga::valid::{Capabilities, SubgroupOperationSet, ValidationFlags, Validator};

use super::kernel::{Kernel, Knob, Source};

/// Fragments that a shader may take in with a line `//#include "lib/x.wgsl"`.
const LIB: &[(&str, &str)] = &[
    ("lib/bf16.wgsl", include_str!("../../shaders/lib/bf16.wgsl")),
    ("lib/e4m3.wgsl", include_str!("../../shaders/lib/e4m3.wgsl")),
    ("lib/half.wgsl", include_str!("../../shaders/lib/half.wgsl")),
    ("lib/grid.wgsl", include_str!("../../shaders/lib/grid.wgsl")),
];

/// Why a shader was refused. Reachable only by a bug in this crate or a device below the portable floor.
#[derive(Debug, thiserror::Error)]
#[error("shader {name}: {message}")]
pub struct ShaderError {
    /// Kernel name.
    pub name: &'static str,
    /// naga's report with source lines.
    pub message: String,
}

/// How a binding is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Uniform buffer.
    Uniform,
    /// Storage buffer, read only.
    Read,
    /// Storage buffer, written.
    ReadWrite,
}

/// A kernel's text, parsed, validated and reflected.
#[derive(Debug)]
pub struct Checked {
    /// The composed WGSL.
    pub text: String,
    /// naga's module.
    pub module: naga::Module,
    /// What validation found out, as the writers need it.
    pub info: naga::valid::ModuleInfo,
    /// Bindings 0.. in order.
    pub bindings: Vec<Access>,
    /// Size of the struct at binding 0 in bytes.
    pub params_bytes: usize,
}

/// The kernel's text for these knobs, fragments included.
///
/// # Errors
/// An include that names no fragment.
pub fn compose(kernel: &Kernel, knobs: &[Knob]) -> Result<String, ShaderError> {
    let raw = match kernel.source {
        Source::File(text) => text.to_string(),
        Source::Written(write) => write(knobs),
    };
    let mut out = String::with_capacity(raw.len() + 512);
    for line in raw.lines() {
        if let Some(path) = line
            .strip_prefix("//#include \"")
            .and_then(|l| l.strip_suffix('"'))
        {
            let found = LIB.iter().find(|(p, _)| *p == path);
            let (_, text) = found.ok_or_else(|| ShaderError {
                name: kernel.name,
                message: format!("no fragment {path:?}"),
            })?;
            out.push_str(text);
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    Ok(out)
}

/// Parses and validates a kernel. `subgroups` allows subgroup built-ins, which only `_sg` variants use.
///
/// # Errors
/// Whatever naga refuses, with the source lines.
pub fn check(kernel: &Kernel, knobs: &[Knob], subgroups: bool) -> Result<Checked, ShaderError> {
    let text = compose(kernel, knobs)?;
    let fail = |message: String| ShaderError {
        name: kernel.name,
        message,
    };
    let module = naga::front::wgsl::parse_str(&text).map_err(|e| fail(e.emit_to_string(&text)))?;
    let mut caps = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    if subgroups {
        caps |= Capabilities::SUBGROUP;
    }
    let mut validator = Validator::new(ValidationFlags::all(), caps);
    validator
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all());
    let info = validator
        .validate(&module)
        .map_err(|e| fail(e.emit_to_string(&text)))?;
    let (bindings, params_bytes) = reflect(&module).map_err(fail)?;
    if params_bytes != kernel.params_bytes {
        return Err(fail(format!(
            "params are {params_bytes} bytes in WGSL, {} in Rust",
            kernel.params_bytes
        )));
    }
    Ok(Checked {
        text,
        module,
        info,
        bindings,
        params_bytes,
    })
}

fn reflect(module: &naga::Module) -> Result<(Vec<Access>, usize), String> {
    let mut found = Vec::new();
    let mut params_bytes = 0;
    for (_, var) in module.global_variables.iter() {
        let Some(at) = &var.binding else { continue };
        let access = match var.space {
            naga::AddressSpace::Uniform => Access::Uniform,
            naga::AddressSpace::Storage { access }
                if access.contains(naga::StorageAccess::STORE) =>
            {
                Access::ReadWrite
            }
            naga::AddressSpace::Storage { .. } => Access::Read,
            other => return Err(format!("binding {} in address space {other:?}", at.binding)),
        };
        if at.binding == 0 {
            params_bytes = module.types[var.ty].inner.size(module.to_ctx()) as usize;
        }
        found.push((at.binding, access));
    }
    found.sort_unstable_by_key(|(b, _)| *b);
    if found.iter().enumerate().any(|(i, (b, _))| i as u32 != *b) {
        return Err("bindings are not numbered 0, 1, 2, ...".to_string());
    }
    Ok((found.into_iter().map(|(_, a)| a).collect(), params_bytes))
}
