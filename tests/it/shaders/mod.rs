//! Every kernel with every set of knobs a planner can choose: composed, validated, held to the portable floor, and
//! written for every API.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use longtake::gpu::shader::{self, Access, Checked};
use longtake::gpu::{Caps, Kernel, Knob, Source, Tier};
use longtake::ops::KERNELS;
use naga::back::{glsl, hlsl, msl, spv};

use crate::support::device;

/// The open device, the floor, and subgroups of every size that hardware has.
fn all_caps() -> Vec<Caps> {
    let mut all: Vec<Caps> = device().map(|d| d.caps().clone()).into_iter().collect();
    all.push(Caps::floor());
    for subgroup_size in [4, 8, 16, 32, 64] {
        all.push(Caps {
            tier: Tier::Subgroups,
            subgroup_size,
            ..Caps::floor()
        });
    }
    all
}

/// Every different (kernel, knobs).
fn all_plans() -> Vec<(&'static Kernel, Vec<Knob>)> {
    let mut seen = HashSet::new();
    let mut plans = Vec::new();
    for caps in all_caps() {
        for kernel in KERNELS {
            for knobs in (kernel.plans)(&caps) {
                if seen.insert((kernel.name, knobs.clone())) {
                    plans.push((*kernel, knobs));
                }
            }
        }
    }
    plans
}

fn is_subgroup(kernel: &Kernel) -> bool {
    kernel.name.ends_with("_sg")
}

fn checked(kernel: &Kernel, knobs: &[Knob]) -> Checked {
    shader::check(kernel, knobs, is_subgroup(kernel)).unwrap_or_else(|e| panic!("{knobs:?}: {e}"))
}

/// Overrides resolved, as the executor's pipeline does.
struct Final {
    module: naga::Module,
    info: naga::valid::ModuleInfo,
}

fn resolved(kernel: &Kernel, knobs: &[Knob], c: &Checked) -> Final {
    let constants = match kernel.source {
        Source::File(_) => knobs
            .iter()
            .map(|(n, v)| (n.to_string(), f64::from(*v)))
            .collect(),
        Source::Written(_) => Default::default(),
    };
    let entry = Some((naga::ShaderStage::Compute, "main"));
    let (module, info) =
        naga::back::pipeline_constants::process_overrides(&c.module, &c.info, entry, &constants)
            .unwrap_or_else(|e| panic!("{} {knobs:?}: {e}", kernel.name));
    Final {
        module: module.into_owned(),
        info: info.into_owned(),
    }
}

#[test]
fn kernels_keep_to_the_portable_floor() {
    let floor = Caps::floor();
    for (kernel, knobs) in all_plans() {
        let name = format!("{} {knobs:?}", kernel.name);
        let c = checked(kernel, &knobs);
        let f = resolved(kernel, &knobs, &c);
        assert_eq!(f.module.entry_points.len(), 1, "{name}");
        let entry = f.info.get_entry_point(0);
        let mut workgroup_bytes = 0;
        for (handle, var) in f.module.global_variables.iter() {
            let used = !entry[handle].is_empty();
            // An automatic layout leaves out what is not used, and then no bind group fits.
            assert!(used, "{name}: {:?} is not used", var.name);
            if var.space == naga::AddressSpace::WorkGroup {
                workgroup_bytes += f.module.types[var.ty].inner.size(f.module.to_ctx());
            }
        }
        let storage = c.bindings.iter().filter(|b| **b != Access::Uniform).count();
        assert!(
            storage as u32 <= floor.max_storage_buffers,
            "{name}: {storage} storage buffers"
        );
        assert!(
            workgroup_bytes <= floor.max_workgroup_bytes,
            "{name}: {workgroup_bytes} bytes of workgroup memory"
        );
        let lanes: u32 = f.module.entry_points[0].workgroup_size.iter().product();
        assert!(
            (1..=floor.max_workgroup_lanes).contains(&lanes),
            "{name}: {lanes} lanes"
        );
        if is_subgroup(kernel) {
            let size = knobs
                .iter()
                .find(|(n, _)| ["LANES", "WG"].contains(n))
                .map(|(_, v)| *v);
            assert_eq!(Some(lanes), size, "{name}: one subgroup a workgroup");
        }
        assert_eq!(c.params_bytes, kernel.params_bytes, "{name}");
        assert_eq!(c.bindings[0], Access::Uniform, "{name}");
    }
}

#[test]
fn knobs_of_shader_files_name_their_overrides() {
    for (kernel, knobs) in all_plans() {
        if let Source::File(_) = kernel.source {
            let module = checked(kernel, &knobs).module;
            let names: HashSet<_> = module
                .overrides
                .iter()
                .filter_map(|(_, o)| o.name.clone())
                .collect();
            let set: HashSet<_> = knobs.iter().map(|(n, _)| n.to_string()).collect();
            assert_eq!(names, set, "{}", kernel.name);
        }
    }
}

#[test]
fn attention_is_written_for_every_head_dim() {
    for kernel in KERNELS.iter().filter(|k| k.name.starts_with("attention")) {
        let caps = Caps {
            tier: Tier::Subgroups,
            subgroup_size: 8,
            ..Caps::floor()
        };
        let some = (kernel.plans)(&caps).swap_remove(0);
        // Codes are for heads of powers of two, which the plans have all of; floats for any whole quads.
        if some.iter().any(|(name, _)| *name == "K") {
            continue;
        }
        for head_dim in [12u32, 16, 24, 36, 40, 48, 80, 112, 160, 192, 256] {
            let third = head_dim / 6;
            let knobs: Vec<Knob> = some
                .iter()
                .map(|(name, v)| match *name {
                    "FRAME_PAIRS" => (*name, head_dim / 2 - 2 * third),
                    "ROW_PAIRS" | "COL_PAIRS" => (*name, third),
                    _ => (*name, *v),
                })
                .collect();
            checked(kernel, &knobs);
        }
    }
}

#[test]
fn kernels_are_written_for_every_api() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("spirv");
    std::fs::create_dir_all(&dir).unwrap();
    let have_validator = std::process::Command::new("spirv-val")
        .arg("--version")
        .output()
        .is_ok();
    if !have_validator {
        eprintln!("SKIPPED: needs spirv-val (Debian, Ubuntu: spirv-tools)");
    }
    for (i, (kernel, knobs)) in all_plans().into_iter().enumerate() {
        let name = format!("{} {knobs:?}", kernel.name);
        let f = resolved(kernel, &knobs, &checked(kernel, &knobs));
        let words = spv_words(&f, &name);
        if have_validator {
            let file = dir.join(format!("{i}.spv"));
            std::fs::write(&file, bytemuck::cast_slice(&words)).unwrap();
            validate(&file, &name);
        }
        msl_text(&f, &name);
        hlsl_text(&f, &name);
        if !is_subgroup(kernel) {
            gles_text(&f, &name);
        }
    }
}

fn spv_words(f: &Final, name: &str) -> Vec<u32> {
    let options = spv::Options {
        lang_version: (1, 3),
        ..Default::default()
    };
    spv::write_vec(&f.module, &f.info, &options, None)
        .unwrap_or_else(|e| panic!("{name}: SPIR-V: {e}"))
}

fn validate(file: &Path, name: &str) {
    let out = std::process::Command::new("spirv-val")
        .args(["--target-env", "vulkan1.1"])
        .arg(file)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{name}: spirv-val: {}",
        String::from_utf8_lossy(&out.stdout)
    );
}

fn msl_text(f: &Final, name: &str) {
    let options = msl::Options {
        lang_version: (2, 4),
        ..Default::default()
    };
    msl::write_string(
        &f.module,
        &f.info,
        &options,
        &msl::PipelineOptions::default(),
    )
    .unwrap_or_else(|e| panic!("{name}: MSL: {e}"));
}

fn hlsl_text(f: &Final, name: &str) {
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_0,
        ..Default::default()
    };
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
        .write(&f.module, &f.info, None)
        .unwrap_or_else(|e| panic!("{name}: HLSL: {e}"));
}

fn gles_text(f: &Final, name: &str) {
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
    let policies = naga::proc::BoundsCheckPolicies::default();
    glsl::Writer::new(&mut text, &f.module, &f.info, &options, &pipeline, policies)
        .and_then(|mut w| w.write())
        .unwrap_or_else(|e| panic!("{name}: GLSL ES: {e}"));
}

#[test]
fn no_shader_file_is_an_orphan() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let texts: HashSet<String> = KERNELS
        .iter()
        .filter_map(|k| match k.source {
            Source::File(text) => Some(text.to_string()),
            Source::Written(_) => None,
        })
        .collect();
    for entry in std::fs::read_dir(&root).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "wgsl") {
            let text = std::fs::read_to_string(&path).unwrap();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            assert!(
                texts.contains(&text),
                "{stem}.wgsl belongs to no kernel of KERNELS"
            );
            assert!(
                KERNELS.iter().any(|k| k.name == stem),
                "no kernel is named {stem}"
            );
            assert!(
                text.contains("Twin: src/ops/"),
                "{stem}.wgsl does not name its twin"
            );
        }
    }
    let fragments: Vec<_> = std::fs::read_dir(root.join("lib"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    for fragment in fragments {
        let include = format!("//#include \"lib/{}\"", fragment.to_str().unwrap());
        assert!(
            texts.iter().any(|t| t.contains(&include)),
            "{include} stands in no shader"
        );
    }
}

#[test]
fn kernels_have_names_of_their_own() {
    let names: HashSet<_> = KERNELS.iter().map(|k| k.name).collect();
    assert_eq!(names.len(), KERNELS.len());
    assert!(
        KERNELS
            .iter()
            .all(|k| (k.plans)(&Caps::floor()).is_empty() == is_subgroup(k))
    );
}
