//! Everything that the planner can choose, once: kernels with knobs, composed, checked, their overrides resolved.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use longtake::gpu::shader::{self, Checked};
use longtake::gpu::{Caps, Kernel, Knob, Source};
use longtake::ops::{KERNELS, attention_choices};

use crate::support::device;

/// Knobs that give the same text and the same overrides are one variant: the compilers see no difference.
pub struct Variant {
    pub kernel: &'static Kernel,
    pub knobs: Vec<Knob>,
}

impl Variant {
    pub fn name(&self) -> String {
        format!("{} {:?}", self.kernel.name, self.knobs)
    }

    pub fn is_subgroup(&self) -> bool {
        is_subgroup(self.kernel)
    }

    /// Fit for a file name, and the same in every run.
    pub fn file(&self) -> String {
        let knobs: String = self
            .knobs
            .iter()
            .map(|(name, v)| format!("-{}{v}", name.to_lowercase()))
            .collect();
        format!("{}{knobs}", self.kernel.name)
    }

    /// The text of a file is read and validated once, for all its overrides.
    pub fn checked(&self) -> Result<Arc<Checked>, String> {
        static FILES: Mutex<BTreeMap<usize, Arc<Checked>>> = Mutex::new(BTreeMap::new());
        let check = || {
            shader::check(self.kernel, &self.knobs, self.is_subgroup())
                .map(Arc::new)
                .map_err(|e| format!("{}: {e}", self.name()))
        };
        if let Source::Written(_) = self.kernel.source {
            return check();
        }
        let at = std::ptr::from_ref(self.kernel).addr();
        let mut files = FILES.lock().unwrap();
        if let Some(known) = files.get(&at) {
            return Ok(known.clone());
        }
        let found = check()?;
        files.insert(at, found.clone());
        Ok(found)
    }
}

pub fn is_subgroup(kernel: &Kernel) -> bool {
    kernel.name.ends_with("_sg")
}

/// Every different (kernel, knobs) that `plans` lists for some device.
pub fn all() -> &'static [Variant] {
    static ALL: OnceLock<Vec<Variant>> = OnceLock::new();
    ALL.get_or_init(|| {
        let open = device().map(|d| d.caps().clone());
        let mut seen = HashSet::new();
        let mut texts = HashSet::new();
        let mut all = Vec::new();
        for caps in Caps::every().into_iter().chain(open) {
            for kernel in KERNELS {
                for knobs in (kernel.plans)(&caps) {
                    if !seen.insert((kernel.name, knobs.clone())) {
                        continue;
                    }
                    let same = match kernel.source {
                        Source::Written(write) => texts.insert(write(&knobs)),
                        Source::File(_) => true,
                    };
                    if same {
                        all.push(Variant { kernel, knobs });
                    }
                }
            }
        }
        all
    })
}

/// What is known of a kernel's variants.
#[derive(Default)]
struct Seen {
    whole: HashSet<Vec<Knob>>,
    /// Every two choices of a listed variant, and every three of one tensor's.
    twos: HashSet<[Knob; 2]>,
    threes: HashSet<[Knob; 3]>,
}

/// Whether the gate sees what a planner chose: `Ok`, or what it does not. A plan is listed; or, where all plans are too many to
/// list, every two of its choices stand together in a listed one, and every three of what K, or V, depends on.
pub fn is_seen(kernel: &Kernel, plan: &[Knob]) -> Result<(), String> {
    static SEEN: OnceLock<HashMap<&str, Seen>> = OnceLock::new();
    let seen = SEEN.get_or_init(|| {
        let mut seen: HashMap<&str, Seen> = HashMap::new();
        for caps in Caps::every() {
            for kernel in KERNELS {
                let of = seen.entry(kernel.name).or_default();
                for knobs in (kernel.plans)(&caps) {
                    if is_covered(kernel) && !of.whole.contains(&knobs) {
                        of.twos.extend(twos(&knobs));
                        of.threes.extend(threes(&knobs));
                    }
                    of.whole.insert(knobs);
                }
            }
        }
        seen
    });
    let of = seen.get(kernel.name).ok_or("no such kernel")?;
    if of.whole.contains(plan) {
        return Ok(());
    }
    let unlisted = format!("{}: {plan:?} is not in its `plans`", kernel.name);
    if !is_covered(kernel) {
        return Err(unlisted);
    }
    if let Some(two) = twos(plan).find(|two| !of.twos.contains(two)) {
        return Err(format!("{unlisted}, and no listed one has {two:?}"));
    }
    match threes(plan).find(|three| !of.threes.contains(three)) {
        Some(three) => Err(format!("{unlisted}, and no listed one has {three:?}")),
        None => Ok(()),
    }
}

/// Whether a kernel has more plans than can be listed.
fn is_covered(kernel: &Kernel) -> bool {
    kernel.name.starts_with("attention_coded")
}

fn twos(plan: &[Knob]) -> impl Iterator<Item = [Knob; 2]> + use<> {
    let all = attention_choices(plan);
    let pairs = (0..all.len()).flat_map(move |j| (0..j).map(move |i| (i, j)));
    pairs.map(move |(i, j)| [all[i], all[j]])
}

fn threes(plan: &[Knob]) -> impl Iterator<Item = [Knob; 3]> + use<> {
    let all = attention_choices(plan);
    let of = |own: char, also: &'static [&'static str]| {
        let is_own = move |(name, _): &Knob| name.starts_with(own) || also.contains(name);
        all.iter().copied().filter(is_own).collect::<Vec<_>>()
    };
    // One of the three counts of pairs stands for the width of a head.
    let tensors = [of('K', &["FRAME_PAIRS", "BIAS"]), of('V', &["FRAME_PAIRS"])];
    tensors.into_iter().flat_map(|all| {
        let n = all.len();
        let places = (0..n).flat_map(|k| (0..k).flat_map(move |j| (0..j).map(move |i| [i, j, k])));
        places.map(move |at| at.map(|i| all[i]))
    })
}

/// Overrides resolved, as the executor's pipeline does.
pub struct Final {
    pub module: naga::Module,
    pub info: naga::valid::ModuleInfo,
}

pub fn resolved(v: &Variant, c: &Checked) -> Result<Final, String> {
    let constants = match v.kernel.source {
        Source::File(_) => v
            .knobs
            .iter()
            .map(|(n, v)| (n.to_string(), f64::from(*v)))
            .collect(),
        Source::Written(_) => Default::default(),
    };
    let entry = Some((naga::ShaderStage::Compute, "main"));
    let (module, info) =
        naga::back::pipeline_constants::process_overrides(&c.module, &c.info, entry, &constants)
            .map_err(|e| format!("{}: {e}", v.name()))?;
    Ok(Final {
        module: module.into_owned(),
        info: info.into_owned(),
    })
}

/// Runs `check` on all variants, on every core, and fails with the first few complaints.
pub fn for_all(variants: &[Variant], check: impl Fn(&Variant) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                while let Some(v) = variants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = check(v) {
                        wrong.lock().unwrap().push(e);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {} variants are refused; first: {:#?}",
        wrong.len(),
        variants.len(),
        &wrong[..wrong.len().min(3)]
    );
}

/// Texts that later steps of the gate compile: those of the languages named in `LONGTAKE_GATE_TEXTS`, split at commas.
pub struct Texts(Vec<(String, PathBuf)>);

impl Texts {
    pub fn wanted() -> Texts {
        let names = std::env::var("LONGTAKE_GATE_TEXTS").unwrap_or_default();
        let folder = |name: &str| {
            let path = gate_dir()?.join(name);
            std::fs::create_dir_all(&path).unwrap();
            Some((name.to_owned(), path))
        };
        Texts(names.split(',').filter_map(folder).collect())
    }

    pub fn keep(&self, language: &str, v: &Variant, text: &str) {
        for (_, folder) in self.0.iter().filter(|(name, _)| name == language) {
            std::fs::write(folder.join(format!("{}.{language}", v.file())), text).unwrap();
        }
    }
}

/// The folder that later steps of the gate read texts and verdicts from; none in an ordinary test run.
pub fn gate_dir() -> Option<PathBuf> {
    std::env::var_os("LONGTAKE_GATE_DIR").map(PathBuf::from)
}

/// Leaves a column of the gate's table: kernels and how many of their variants passed.
pub fn write_column(name: &str, variants: &[Variant], counts: impl Fn(&Variant) -> bool) {
    let Some(dir) = gate_dir() else { return };
    let mut by_kernel: BTreeMap<&str, usize> =
        KERNELS.iter().map(|kernel| (kernel.name, 0)).collect();
    for v in variants.iter().filter(|v| counts(v)) {
        *by_kernel.entry(v.kernel.name).or_default() += 1;
    }
    let dir = dir.join("columns");
    std::fs::create_dir_all(&dir).unwrap();
    let mut file = std::fs::File::create(dir.join(name)).unwrap();
    for (kernel, n) in by_kernel {
        writeln!(file, "{kernel}\t{n}").unwrap();
    }
}
