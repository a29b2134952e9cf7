//! Every kernel with every set of knobs a planner can choose: composed, validated, held to the portable floor, and
//! written for every API.

mod broken;
mod compilers;
mod settings;
pub mod variants;

use std::collections::HashSet;
use std::path::Path;

use longtake::gpu::shader::{Access, Checked};
use longtake::gpu::{Caps, Knob, Source, Tier};
use longtake::ops::KERNELS;

use self::variants::{Final, Texts, Variant, for_all, is_subgroup, resolved};
use crate::support::device;

/// What no device refuses: WebGPU's limits, every binding in use.
fn keeps_to_the_floor(v: &Variant, c: &Checked, f: &Final) -> Result<(), String> {
    let (name, kernel, floor) = (v.name(), v.kernel, Caps::floor());
    let hold = |holds: bool, what: String| match holds {
        true => Ok(()),
        false => Err(format!("{name}: {what}")),
    };
    hold(
        f.module.entry_points.len() == 1,
        "more than one entry".into(),
    )?;
    let entry = f.info.get_entry_point(0);
    let mut workgroup_bytes = 0;
    for (handle, var) in f.module.global_variables.iter() {
        // An automatic layout leaves out what is not used, and then no bind group fits.
        hold(
            !entry[handle].is_empty(),
            format!("{:?} is not used", var.name),
        )?;
        if var.space == naga::AddressSpace::WorkGroup {
            workgroup_bytes += f.module.types[var.ty].inner.size(f.module.to_ctx());
        }
    }
    let storage = c.bindings.iter().filter(|b| **b != Access::Uniform).count();
    hold(
        storage as u32 <= floor.max_storage_buffers,
        format!("{storage} storage buffers"),
    )?;
    hold(
        workgroup_bytes <= floor.max_workgroup_bytes,
        format!("{workgroup_bytes} bytes of workgroup memory"),
    )?;
    let lanes: u32 = f.module.entry_points[0].workgroup_size.iter().product();
    hold(
        (1..=floor.max_workgroup_lanes).contains(&lanes),
        format!("{lanes} lanes"),
    )?;
    if v.is_subgroup() {
        let size = v.knobs.iter().find(|(n, _)| ["LANES", "WG"].contains(n));
        hold(
            Some(lanes) == size.map(|(_, v)| *v),
            "one subgroup a workgroup".into(),
        )?;
    }
    hold(
        c.params_bytes == kernel.params_bytes,
        format!("params of {} bytes", c.params_bytes),
    )?;
    hold(
        c.bindings[0] == Access::Uniform,
        "params are no uniform".into(),
    )
}

#[test]
fn knobs_of_shader_files_name_their_overrides() {
    for v in variants::all() {
        if let Source::File(_) = v.kernel.source {
            let checked = v.checked().unwrap();
            let names: HashSet<_> = checked
                .module
                .overrides
                .iter()
                .filter_map(|(_, o)| o.name.clone())
                .collect();
            let set: HashSet<_> = v.knobs.iter().map(|(n, _)| n.to_string()).collect();
            assert_eq!(names, set, "{}", v.kernel.name);
        }
    }
}

#[test]
fn every_kernel_has_plans_and_the_open_device_has_none_of_its_own() {
    let listed: HashSet<_> = Caps::every()
        .iter()
        .flat_map(|caps| {
            KERNELS
                .iter()
                .flat_map(|k| (k.plans)(caps).into_iter().map(|knobs| (k.name, knobs)))
        })
        .collect();
    for kernel in KERNELS {
        assert!(
            listed.iter().any(|(name, _)| *name == kernel.name),
            "{} has no plans: the gate does not see it",
            kernel.name
        );
        let Some(device) = device() else { continue };
        for knobs in (kernel.plans)(device.caps()) {
            assert!(
                listed.contains(&(kernel.name, knobs.clone())),
                "{} {knobs:?} is planned for {:?}, which `Caps::every` does not stand for",
                kernel.name,
                device.caps()
            );
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
            Variant { kernel, knobs }.checked().unwrap();
        }
    }
}

/// One pass over all variants, since reading and validating one costs as much as what is then asked of it.
#[test]
fn kernels_keep_to_the_portable_floor_and_are_written_for_every_api() {
    let all = variants::all();
    let tools = Tools {
        spirv_val: compilers::have_spirv_val(),
        texts: Texts::wanted(),
    };
    for_all(all, |v| {
        let c = v.checked()?;
        let f = resolved(v, &c)?;
        keeps_to_the_floor(v, &c, &f)?;
        is_written(v, &c, &f, &tools).map_err(|e| format!("{}: {e}", v.name()))
    });
    for column in ["naga-spirv", "naga-msl", "naga-hlsl"] {
        variants::write_column(column, all, |_| true);
    }
    variants::write_column("naga-gles", all, |v| !v.is_subgroup());
    if tools.spirv_val {
        variants::write_column("spirv-val", all, |_| true);
    }
}

struct Tools {
    spirv_val: bool,
    texts: Texts,
}

fn is_written(v: &Variant, c: &Checked, f: &Final, tools: &Tools) -> Result<(), String> {
    let words = compilers::spirv(f)?;
    if tools.spirv_val {
        compilers::spirv_val(bytemuck::cast_slice(&words))?;
    }
    tools.texts.keep("wgsl", v, &with_constants(v, &c.text));
    tools.texts.keep("metal", v, &compilers::msl(f)?);
    compilers::hlsl_can_end(f)?;
    tools.texts.keep("hlsl", v, &compilers::hlsl(f)?);
    if !v.is_subgroup() {
        tools.texts.keep("comp", v, &compilers::gles(f)?);
    }
    Ok(())
}

/// A last line that tells the next compiler which overrides the pipeline sets.
fn with_constants(v: &Variant, text: &str) -> String {
    match v.kernel.source {
        Source::Written(_) => text.to_owned(),
        Source::File(_) => {
            let set: Vec<_> = v
                .knobs
                .iter()
                .map(|(n, v)| format!("\"{n}\": {v}"))
                .collect();
            format!("{text}// constants {{{}}}\n", set.join(", "))
        }
    }
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
