//! Tables of noise shares, look-ups, and the conversions between noisy, clean and velocity on the device.

use longtake::gpu::{Device, Purpose};
use longtake::ops::mix;
use longtake::rollout::SigmaTable;

use super::check::Check;

pub fn run(check: &mut Check, device: &Device) {
    let names = check.names();
    let mut shifts: Vec<(&str, f64)> = names.iter().filter_map(|n| shift(n)).collect();
    shifts.dedup();
    for (prefix, shift) in shifts {
        let table = SigmaTable::new(shift);
        let at = |part: &str| format!("{prefix}.{part}");
        check.real(&at("sigmas"), table.sigmas());
        let timesteps: Vec<f32> = (0..table.sigmas().len())
            .map(|i| table.timestep(i))
            .collect();
        check.real(&at("timesteps"), &timesteps);
        for name in names
            .iter()
            .filter(|n| n.starts_with(&at("warp_")) && !n.ends_with(".index"))
        {
            warp(check, &table, name, &name[at("warp_").len()..]);
        }
        if let Some(ts) = check.reals(&at("lookup.t")) {
            let index: Vec<i64> = ts.iter().map(|t| table.index(*t) as i64).collect();
            check.exact(&at("lookup.index"), &index);
            let sigma: Vec<f32> = ts.iter().map(|t| table.sigma(*t)).collect();
            check.real(&at("lookup.sigma"), &sigma);
        }
        let mixed = [("an", ["x0", "noise"]), ("x0", ["xt", "flow"])];
        for (op, sides) in mixed
            .iter()
            .filter(|(op, _)| names.iter().any(|n| n.starts_with(&at(&format!("{op}.")))))
        {
            let (Some(x), Some(y), Some(ts)) = (
                check.reals(&at(&format!("{op}.{}", sides[0]))),
                check.reals(&at(&format!("{op}.{}", sides[1]))),
                check.reals(&at(&format!("{op}.t"))),
            ) else {
                check.stop();
                continue;
            };
            let n = x.len() / ts.len();
            let mut out = Vec::new();
            for ((x, y), t) in x.chunks(n).zip(y.chunks(n)).zip(&ts) {
                let sigma = table.sigma(*t);
                let (a, b) = if *op == "an" {
                    (1.0 - sigma, sigma)
                } else {
                    (1.0, -sigma)
                };
                out.extend(mixed_on(device, x, y, a, b));
            }
            check.real(&at(&format!("{op}.out")), &out);
        }
        let mut eulers: Vec<&str> = names
            .iter()
            .filter_map(|n| n.strip_prefix(&at("euler"))?.split('.').next())
            .collect();
        eulers.dedup();
        for steps in eulers {
            euler(
                check,
                device,
                shift,
                &at(&format!("euler{steps}")),
                steps.parse().expect("the number of steps"),
            );
        }
    }
}

/// `shift5` and 5 of `shift5.sigmas`.
fn shift(name: &str) -> Option<(&str, f64)> {
    let rest = name.strip_prefix("shift")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let number = rest[..end].trim_end_matches('.');
    Some((&name[.."shift".len() + number.len()], number.parse().ok()?))
}

/// The list is told by its name; one with another name by the entries it is said to take.
fn warp(check: &mut Check, table: &SigmaTable, name: &str, list: &str) {
    let index = format!("{name}.index");
    let listed: Vec<u32> = match list {
        "4step" => vec![1000, 750, 500, 250],
        "3step_causvid" => vec![1000, 757, 522],
        "2step" => vec![1000, 500],
        "1step" => vec![1000],
        _ => match check.ints(&index) {
            Some(entries) => entries.iter().map(|i| (1000 - i) as u32).collect(),
            None => return check.fail(format!("{name}: an unknown list, and no {index}")),
        },
    };
    let warped: Vec<f32> = listed.iter().map(|t| table.warp(*t)).collect();
    check.real(name, &warped);
    let entries: Vec<i64> = warped.iter().map(|t| table.index(*t) as i64).collect();
    check.exact(&index, &entries);
}

fn mixed_on(device: &Device, x: &[f32], y: &[f32], a: f32, b: f32) -> Vec<f32> {
    let up = |v: &[f32]| device.upload(Purpose::Scratch, "x", v).unwrap();
    let (x, y) = (up(x), up(y));
    let mut rec = device.recorder();
    mix(&mut rec, &x, &y, a, b);
    device.run(rec).unwrap();
    device.read_all(&x).unwrap()
}

/// Steps with the stand-in velocity sin(0.7 x + i). States after every step are recorded, or after the first and the last.
fn euler(check: &mut Check, device: &Device, shift: f64, name: &str, steps: usize) {
    let table = SigmaTable::with_steps(shift, steps);
    let at = |part: &str| format!("{name}.{part}");
    check.real(&at("sigmas"), table.sigmas());
    let timesteps: Vec<f32> = (0..steps).map(|i| table.timestep(i)).collect();
    check.real(&at("timesteps"), &timesteps);
    let Some(mut x) = check.reals(&at("x_init")) else {
        return check.stop();
    };
    let recorded = check.shape(&at("x_all")).map_or(0, |s| s[0]);
    let mut states = Vec::new();
    for i in 0..steps {
        let velocity: Vec<f32> = x.iter().map(|v| (0.7 * v + i as f32).sin()).collect();
        let next = table.sigmas().get(i + 1).copied().unwrap_or(0.0);
        x = mixed_on(device, &x, &velocity, 1.0, next - table.sigmas()[i]);
        if recorded == steps || i == 0 || i + 1 == steps {
            states.extend_from_slice(&x);
        }
    }
    check.real(&at("x_all"), &states);
}
