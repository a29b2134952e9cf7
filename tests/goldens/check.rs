//! The comparison of one golden file: what was compared, what was the worst, what the file lacks, what nobody looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::file::{Golden, Set, Tensor, Values, say};

/// Where the wanted tensor is all zero there is no maximum to compare with.
const ZERO: f64 = 1e-6;

#[derive(Debug)]
pub struct Check {
    title: String,
    golden: Golden,
    /// Largest |got - want| allowed, as a share of the wanted tensor's largest magnitude.
    tol: f64,
    used: BTreeSet<String>,
    n: usize,
    worst: (f64, String),
    absent: BTreeSet<String>,
    failures: Vec<String>,
    stopped: bool,
}

impl Check {
    /// Opens a file of a set; `None`, and a line, when the set lacks it.
    pub fn open(set: &Set, file: &str, title: &str, tol: f64) -> Option<Check> {
        let golden = Golden::read(&set.file(file)?);
        Some(Check {
            title: title.to_owned(),
            golden,
            tol,
            used: BTreeSet::new(),
            n: 0,
            worst: (0.0, String::new()),
            absent: BTreeSet::new(),
            failures: Vec::new(),
            stopped: false,
        })
    }

    pub fn names(&self) -> Vec<String> {
        self.golden.0.keys().cloned().collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.golden.0.contains_key(name)
    }

    /// Whether a name with this beginning and this end is there.
    pub fn has_like(&self, begin: &str, end: &str) -> bool {
        let mut names = self.golden.0.keys();
        names.any(|n| n.starts_with(begin) && n.ends_with(end))
    }

    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.golden.0.get(name)?.shape.clone())
    }

    pub fn absent(&mut self, name: &str) {
        self.absent.insert(name.to_owned());
    }

    pub fn fail(&mut self, text: String) {
        self.failures.push(text);
    }

    /// The computation ended early for want of an input, so that what follows cannot be compared.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Tensors that another check looks at, by the beginning and the end of their names.
    pub fn leave(&mut self, begin: &str, end: &str) {
        let names = self.golden.0.keys();
        let left = names.filter(|n| n.starts_with(begin) && n.ends_with(end));
        self.used.extend(left.cloned());
    }

    /// A tensor that the computation takes in.
    pub fn input(&mut self, name: &str) -> Option<&Tensor> {
        if !self.has(name) {
            self.absent(name);
        }
        self.used.insert(name.to_owned());
        self.golden.0.get(name)
    }

    pub fn reals(&mut self, name: &str) -> Option<Vec<f32>> {
        self.input(name).map(Tensor::reals)
    }

    pub fn ints(&mut self, name: &str) -> Option<Vec<i64>> {
        self.input(name).map(Tensor::ints)
    }

    /// Compares a tensor if the file has it; else it is named as absent.
    pub fn real(&mut self, name: &str, got: &[f32]) {
        if self.has(name) {
            self.some_real(name, got);
        } else {
            self.absent(name);
        }
    }

    /// Compares a tensor if the file has it.
    pub fn some_real(&mut self, name: &str, got: &[f32]) {
        if self.has(name) {
            let got: Vec<f64> = got.iter().map(|v| f64::from(*v)).collect();
            self.against(name, "", &got, self.tol);
        }
    }

    /// Compares a tensor of the file under another tolerance; `how` tells apart several comparisons with one tensor.
    pub fn against(&mut self, name: &str, how: &str, got: &[f64], tol: f64) {
        self.used.insert(name.to_owned());
        let label = format!("{name}{how}");
        let want = match self.golden.0.get(name).map(|t| &t.values) {
            Some(Values::Real(want)) => want.clone(),
            Some(Values::Int(want)) => want.iter().map(|v| *v as f64).collect(),
            None => return self.absent(name),
        };
        if got.len() != want.len() {
            self.fail(format!(
                "{label}: {} values, wanted {}",
                got.len(),
                want.len()
            ));
            return;
        }
        self.n += 1;
        let pairs = || got.iter().zip(&want).map(|(g, w)| (g - w).abs());
        let most = |v: &mut dyn Iterator<Item = f64>| v.fold(0.0, f64::max);
        if pairs().any(|d| !d.is_finite()) {
            self.fail(format!("{label}: not finite"));
            return;
        }
        let scale = most(&mut want.iter().map(|v| v.abs()));
        let error = most(&mut pairs());
        if scale == 0.0 {
            if error > ZERO {
                self.fail(format!("{label}: up to {error:.1e}, wanted all zero"));
            }
            return;
        }
        let relative = error / scale;
        if relative > self.worst.0 || self.worst.1.is_empty() {
            self.worst = (relative, label.clone());
        }
        if relative > tol {
            let at = pairs().position(|d| d == error).unwrap_or(0);
            self.fail(format!(
                "{label}: relative error {relative:.2e} beyond {tol:.0e}, at value {at}: {} instead of {}",
                got[at], want[at]
            ));
        }
    }

    /// Compares integers exactly if the file has them; else they are named as absent.
    pub fn exact(&mut self, name: &str, got: &[i64]) {
        let Some(want) = self.ints(name) else { return };
        self.n += 1;
        if got != want {
            self.fail(format!("{name}: {got:?}, wanted {want:?}"));
        }
    }

    /// Prints the figures and holds the check to them.
    ///
    /// # Panics
    /// When something differs, when a tensor of the file was not looked at, or when nothing was compared.
    pub fn finish(mut self) {
        let left: Vec<&str> = (self.golden.0.keys().map(String::as_str))
            .filter(|n| !self.used.contains(*n))
            .collect();
        let left = left.join(" ");
        if !left.is_empty() && !self.stopped {
            self.failures
                .push(format!("recorded, but no check looked at: {left}"));
        }
        if self.n == 0 {
            self.failures.push("nothing to check".to_owned());
        }
        let (worst, name) = &self.worst;
        let mut text = format!(
            "{}: {} tensors compared, worst relative error {worst:.1e} ({name})",
            self.title, self.n
        );
        if !self.absent.is_empty() {
            text += &format!("; absent: {}", folded(&self.absent).join(" "));
        }
        if self.stopped && !left.is_empty() {
            text += &format!("; without what is absent these cannot be computed: {left}");
        }
        say(&text);
        let n = self.failures.len();
        self.failures.truncate(20);
        assert!(
            n == 0,
            "{}: {n} failures\n  {}",
            self.title,
            self.failures.join("\n  ")
        );
    }
}

/// Names with a common beginning folded into one: `c0.s0.b*.{attn_in, attn_o}` where every block lacks them.
fn folded(names: &BTreeSet<String>) -> Vec<String> {
    let block = |part: &str| {
        part.strip_prefix('b')
            .is_some_and(|n| n.parse::<usize>().is_ok())
    };
    let mut blocks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in names {
        let number = name.split('.').find(|p| block(p)).unwrap_or("").to_owned();
        let parts: Vec<&str> = name
            .split('.')
            .map(|p| if block(p) { "b*" } else { p })
            .collect();
        blocks.entry(parts.join(".")).or_default().insert(number);
    }
    let most = blocks.values().map(BTreeSet::len).max().unwrap_or(0);
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, numbers) in blocks {
        let all = numbers.len() == most && most > 1;
        for number in if all {
            BTreeSet::from(["b*".to_owned()])
        } else {
            numbers
        } {
            let name = name.replacen("b*", &number, 1);
            let (begin, end) = name.rsplit_once('.').unwrap_or(("", &name));
            groups
                .entry(begin.to_owned())
                .or_default()
                .push(end.to_owned());
        }
    }
    let one = |(begin, ends): (String, Vec<String>)| match (begin.as_str(), ends.as_slice()) {
        ("", _) => ends.join(" "),
        (_, [end]) => format!("{begin}.{end}"),
        _ => format!("{begin}.{{{}}}", ends.join(" ")),
    };
    groups.into_iter().map(one).collect()
}

#[test]
fn absent_names_are_folded_but_none_is_lost() {
    let names = [
        "c0.b0.q", "c0.b1.q", "c0.b0.v", "c0.b1.v", "c0.b1.k", "c0.t", "noise",
    ];
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    assert_eq!(folded(&names), ["noise", "c0.t", "c0.b*.{q v}", "c0.b1.k"]);
}
