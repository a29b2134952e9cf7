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
