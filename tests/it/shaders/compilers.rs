//! naga's writers, and spirv-val where it is installed.

use std::io::Write as _;
use std::process::{Command, Stdio};

use naga::back::{glsl, hlsl, msl, spv};

use super::variants::Final;

/// As the executor has it written for Vulkan: with bounds checks and bounded loops.
pub fn spirv(f: &Final) -> Result<Vec<u32>, String> {
    let options = spv::Options {
        lang_version: (1, 3),
        bounds_check_policies: checks(),
        ..Default::default()
    };
    spv::write_vec(&f.module, &f.info, &options, None).map_err(|e| format!("SPIR-V: {e}"))
}

pub fn msl(f: &Final) -> Result<String, String> {
    let options = msl::Options {
        lang_version: (2, 4),
        bounds_check_policies: checks(),
        // Lengths of runtime arrays arrive in a buffer of their own, which the executor's layout names.
        fake_missing_bindings: true,
        ..Default::default()
    };
    let pipeline = msl::PipelineOptions::default();
    msl::write_string(&f.module, &f.info, &options, &pipeline)
        .map(|(text, _)| text)
        .map_err(|e| format!("MSL: {e}"))
}

pub fn hlsl(f: &Final) -> Result<String, String> {
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_0,
        ..Default::default()
    };
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
        .write(&f.module, &f.info, None)
        .map_err(|e| format!("HLSL: {e}"))?;
    Ok(text)
}

/// Whether every loop has a way out. FXC and DXC refuse one that has none ("infinite loop detected"), naga writes it.
pub fn hlsl_can_end(f: &Final) -> Result<(), String> {
    let functions = f.module.functions.iter().map(|(_, f)| f);
    let entries = f.module.entry_points.iter().map(|e| &e.function);
    match functions.chain(entries).all(|f| loops_end(&f.body)) {
        true => Ok(()),
        false => Err("HLSL: a loop without a way out".into()),
    }
}

fn loops_end(block: &naga::Block) -> bool {
    use naga::Statement as S;
    block.iter().all(|s| match s {
        S::Block(b) => loops_end(b),
        S::If { accept, reject, .. } => loops_end(accept) && loops_end(reject),
        S::Switch { cases, .. } => cases.iter().all(|c| loops_end(&c.body)),
        S::Loop {
            body,
            continuing,
            break_if,
        } => (break_if.is_some() || leaves(body)) && loops_end(body) && loops_end(continuing),
        _ => true,
    })
}

/// Whether a loop's body can leave the loop; the breaks of inner loops and switches are their own.
fn leaves(block: &naga::Block) -> bool {
    use naga::Statement as S;
    fn returns(block: &naga::Block) -> bool {
        block.iter().any(|s| match s {
            S::Return { .. } => true,
            S::Block(b) => returns(b),
            S::If { accept, reject, .. } => returns(accept) || returns(reject),
            S::Switch { cases, .. } => cases.iter().any(|c| returns(&c.body)),
            S::Loop { body, .. } => returns(body),
            _ => false,
        })
    }
    block.iter().any(|s| match s {
        S::Break | S::Return { .. } => true,
        S::Block(b) => leaves(b),
        S::If { accept, reject, .. } => leaves(accept) || leaves(reject),
        S::Switch { cases, .. } => cases.iter().any(|c| returns(&c.body)),
        S::Loop { body, .. } => returns(body),
        _ => false,
    })
}

pub fn gles(f: &Final) -> Result<String, String> {
    let options = glsl::Options {
        version: glsl::Version::new_gles(310),
        ..Default::default()
    };
    let pipeline = glsl::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".into(),
        multiview: None,
    };
    let mut text = String::new();
    glsl::Writer::new(&mut text, &f.module, &f.info, &options, &pipeline, checks())
        .and_then(|mut w| w.write())
        .map_err(|e| format!("GLSL ES: {e}"))?;
    Ok(text)
}

fn checks() -> naga::proc::BoundsCheckPolicies {
    let by = naga::proc::BoundsCheckPolicy::Restrict;
    naga::proc::BoundsCheckPolicies {
        index: by,
        buffer: by,
        ..Default::default()
    }
}

/// Whether spirv-val is installed; says so where it is not.
pub fn have_spirv_val() -> bool {
    let found = Command::new("spirv-val")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("SKIPPED: needs spirv-val (Debian, Ubuntu: spirv-tools)");
    }
    found
}

pub fn spirv_val(words: &[u8]) -> Result<(), String> {
    let mut child = Command::new("spirv-val")
        .args(["--target-env", "vulkan1.1", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("spirv-val: {e}"))?;
    // A validator that stops reading early tells why itself.
    let _ = child.stdin.take().unwrap().write_all(words);
    let out = child.wait_with_output().unwrap();
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match out.status.success() {
        true => Ok(()),
        false => Err(format!(
            "spirv-val: {}{}",
            said(&out.stdout),
            said(&out.stderr)
        )),
    }
}
