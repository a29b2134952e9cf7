//! `longtake kv`: what every codec costs on keys and values from a file; what a setting stores, written and read back.

mod choice;
mod figures;
mod told;

use std::path::Path;

use anyhow::Context as _;
use longtake::codec::{KvPair, NAMES, SpanShape};
use longtake::dump::packed::{PackedHead, PackedWriter};
use longtake::dump::{
    self, Ask, Axes, CodedLayer, Dump, Exact, LayerInfo, Measured, Packed, ranges, spans,
};
use longtake::gpu::Device;
use longtake::ops::BiasFix;
use longtake::weights::{self, check_free};
use serde_json::{Value, json};

pub(super) use self::choice::{Layers, PairName};

use self::figures::SettingRow;
use self::told::{form, guess, queries, queries_text, understood};
use super::args::{AxesArg, KvFileArgs, Voice};
use super::fault::Fault;
use super::say::Style;
use super::stop::Stop;
use super::{compare, generate, say, target};

/// Version of the JSON; raised when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// Measures; gives the exit code.
pub(super) fn run(args: &KvFileArgs, voice: &Voice) -> anyhow::Result<u8> {
    let bench = Bench {
        args,
        voice,
        stop: Stop::listen("this setting of this layer; nothing is written"),
    };
    match is_packed(&args.file)? {
        true => bench.read_back()?,
        false if args.original.is_some() => {
            return Err(Fault::Usage(format!(
                "--original is for a FILE of --export, with coded spans in it; this is none: {:?}",
                args.file
            ))
            .into());
        }
        false => bench.measure()?,
    }
    Ok(0)
}

/// One run of the command.
struct Bench<'a> {
    args: &'a KvFileArgs,
    voice: &'a Voice,
    stop: Stop,
}

impl Bench<'_> {
    /// Codes the file under every setting.
    fn measure(&self) -> anyhow::Result<()> {
        let args = self.args;
        let pairs: Vec<PairName> = match args.kv.is_empty() {
            true => NAMES.iter().flat_map(|name| name.parse()).collect(),
            false => args.kv.clone(),
        };
        compare::only_once("--kv", &pairs)?;
        if let Some(path) = &args.export {
            if pairs.len() != 1 {
                return Err(Fault::Usage(
                    "--export writes what one setting stores; name it with --kv, as in --kv qvg-int2".into(),
                )
                .into());
            }
            check_free(path, target::existing(args.overwrite)).context("--export")?;
        }
        let dump = self.open(&args.file)?;
        let span = span_tokens(args, &dump)?;
        let pairs = with_fine_layers(&pairs, &dump)?;
        if let Some(name) = pairs.iter().find(|name| name.pair().has_fine())
            && args.export.is_some()
        {
            return Err(Fault::Usage(format!(
                "--export: one file holds layers of one coding, {name} has two: leave fine= out"
            ))
            .into());
        }
        for name in &pairs {
            for layer in dump.layers() {
                fits(name.pair(), layer)?;
            }
        }
        let device = self.device()?;
        for name in &pairs {
            for layer in dump.layers() {
                check_room(name.pair(), layer, span, &device)?;
            }
        }
        let mut export = self.export(&pairs[0], &dump, span)?;
        let mut rows: Vec<SettingRow> = pairs.iter().map(row).collect();
        let places = dump.head().places.as_ref();
        for (at, layer) in dump.layers().iter().enumerate() {
            let values = dump.rows(at, args.queries).map_err(plain)?;
            let exact = Exact::of(&values, places);
            let cuts = spans(layer.shape.tokens, span);
            for (row, name) in rows.iter_mut().zip(&pairs) {
                if self.stop.is_asked() {
                    return Err(Fault::NotMeasured.into());
                }
                let pair = name.pair().layer(layer.names.layer);
                let coded = CodedLayer::encode(&device, &pair, &values, &cuts)?;
                let m = Measured::of(
                    &device,
                    &coded,
                    &values,
                    &exact,
                    places,
                    &self.biases(row.bias),
                )?;
                if let Some(file) = &mut export {
                    let bad = m.k.not_numbers + m.v.not_numbers;
                    if bad > 0 {
                        return Err(Fault::Usage(format!(
                            "--export: {bad} values of layer {} overflow in {name} and would be no numbers; nothing was written",
                            layer.names.layer
                        ))
                        .into());
                    }
                    file.layer(layer.names.layer, &coded)?;
                }
                row.layers.push((layer.names.layer, m));
            }
        }
        if let (Some(file), Some(path)) = (export, &args.export) {
            file.finish()?;
            self.note(&format!("codes and scales: {}", path.display()));
        }
        let mut json = self.about(&dump, &device);
        json["span_tokens"] = json!(span);
        self.tell(json, &rows, queries_text(&dump, args.queries));
        Ok(())
    }

    /// Reads coded spans, and holds them against the dump that they were made from where it is given.
    fn read_back(&self) -> anyhow::Result<()> {
        let args = self.args;
        let packed = Packed::open(&args.file)?;
        if !args.kv.is_empty() || args.span.is_some() || args.export.is_some() {
            return Err(Fault::Usage(format!(
                "--kv, --span and --export are for keys and values; these are coded already, in {:?}: {:?}",
                packed.head().codec,
                args.file
            ))
            .into());
        }
        let head = packed.head();
        let extensions = head.extensions();
        self.note(&format!("coded in {:?}, {}", head.codec, form(&extensions)));
        let mut row = SettingRow {
            // What was stored by others is shown, not obeyed.
            name: head.codec.chars().filter(|c| !c.is_control()).collect(),
            bias: head.bias,
            layers: Vec::new(),
        };
        let original = args.original.as_deref().map(|f| self.open(f)).transpose()?;
        let device = match original {
            Some(_) => Some(self.device()?),
            None => None,
        };
        for (at, number) in packed.layers().enumerate() {
            if !args.layers.0.is_empty() && !args.layers.0.contains(&number) {
                continue;
            }
            let coded = packed.layer(at)?;
            let m = match (&original, &device) {
                (Some(dump), Some(device)) => {
                    let biases = self.biases(row.bias);
                    self.against(dump, device, number, &coded, &biases)?
                }
                _ => Measured::bytes(&coded),
            };
            row.layers.push((number, m));
        }
        if row.layers.is_empty() {
            let has: Vec<i64> = packed.layers().map(|l| l as i64).collect();
            let text = format!(
                "--layers: none of them is in {:?}; there are {}",
                args.file,
                ranges(&has)
            );
            return Err(Fault::Usage(text).into());
        }
        let mut json = match (&original, &device) {
            (Some(dump), Some(device)) => self.about(dump, device),
            _ => json!({ "schema": SCHEMA, "file": args.file.to_string_lossy() }),
        };
        json["extensions"] = json!(extensions);
        let text = match &original {
            Some(dump) => queries_text(dump, args.queries),
            None => "give the dump that it was made from as --original for errors".to_owned(),
        };
        self.tell(json, &[row], text);
        Ok(())
    }

    /// A layer of coded spans against the rows they were made from.
    fn against(
        &self,
        dump: &Dump,
        device: &Device,
        number: usize,
        coded: &CodedLayer,
        biases: &[BiasFix],
    ) -> anyhow::Result<Measured> {
        let all = dump.layers().iter();
        let Some(at) = all.clone().position(|l| l.names.layer == number) else {
            return Err(Fault::Usage(format!("--original has no layer {number}")).into());
        };
        let shape = dump.layers()[at].shape;
        let size = |s: SpanShape| (s.n_heads, s.tokens, s.head_dim);
        let l = coded.spans.first().map(|s| s.layouts[0]);
        let is = SpanShape {
            n_heads: l.map_or(0, |l| l.n_heads),
            head_dim: l.map_or(0, |l| l.head_dim),
            tokens: coded.spans.last().map_or(0, |s| s.tokens.end),
        };
        if is != shape {
            return Err(Fault::Usage(format!(
                "layer {number} is coded as (heads, tokens, channels) {:?}, --original has {:?}: it is another dump",
                size(is),
                size(shape)
            ))
            .into());
        }
        let places = dump.head().places.as_ref();
        if let Some(p) = places
            && let Some(odd) = coded
                .spans
                .iter()
                .find(|s| s.tokens.len() % p.tokens_per_frame() != 0)
        {
            return Err(Fault::Usage(format!(
                "a span of {} tokens is no whole number of the {} tokens of a frame of --original",
                odd.tokens.len(),
                p.tokens_per_frame()
            ))
            .into());
        }
        let values = dump.rows(at, self.args.queries).map_err(plain)?;
        let exact = Exact::of(&values, places);
        Ok(Measured::of(
            device, coded, &values, &exact, places, biases,
        )?)
    }

    /// Corrections that attention is measured under.
    fn biases(&self, own: BiasFix) -> Vec<BiasFix> {
        match self.args.corrections {
            true => vec![BiasFix::Off, BiasFix::Step, BiasFix::Energy],
            false => vec![own],
        }
    }

    /// Opens a dump and says how it was understood.
    fn open(&self, file: &Path) -> anyhow::Result<Dump> {
        let ask = Ask {
            axes: self.args.layout.map(|axes| match axes {
                AxesArg::Thd => Axes::Thd,
                AxesArg::Htd => Axes::Htd,
            }),
            layers: self.args.layers.0.clone(),
        };
        let dump = Dump::open(file, &ask).map_err(plain)?;
        if let Some(text) = guess(&dump) {
            self.warn(&text);
        }
        self.note(&understood(&dump));
        if !dump.unused().is_empty() {
            self.note(&format!("not used: {:?}", dump.unused()));
        }
        let notes = &dump.head().notes;
        if let Some(frames) = notes.get("decoded_frames") {
            let cache = notes.get("cache").map_or("a codec", String::as_str);
            self.warn(&format!(
                "frames {frames:?} of {file:?} were in {cache:?} and are decoded: coding them again says little; dump an exact cache"
            ));
        }
        Ok(dump)
    }

    fn device(&self) -> anyhow::Result<Device> {
        generate::open(self.args.device.as_deref(), self.args.tier)
    }

    fn export(
        &self,
        name: &PairName,
        dump: &Dump,
        span: usize,
    ) -> anyhow::Result<Option<PackedWriter>> {
        let Some(path) = &self.args.export else {
            return Ok(None);
        };
        let widths = dump.layers().iter().map(|l| l.shape.head_dim);
        let (least, most) = (widths.clone().min(), widths.max());
        if least != most {
            return Err(Fault::Usage(format!(
                "--export: heads have {} to {} channels; one file holds layers of one width: choose with --layers",
                least.unwrap_or(0),
                most.unwrap_or(0)
            ))
            .into());
        }
        let head = PackedHead::new(name.pair(), least.unwrap_or(0), dump.head());
        let extensions = head.extensions();
        if !extensions.is_empty() {
            self.warn(&format!(
                "{name} is stored in {}: readers of that layout alone would decode it wrongly",
                form(&extensions)
            ));
        }
        let layer = |l: &LayerInfo| (l.names.layer, l.shape, spans(l.shape.tokens, span));
        let layers: Vec<_> = dump.layers().iter().map(layer).collect();
        let existing = target::existing(self.args.overwrite);
        let file = PackedWriter::create(path, existing, &head, name.pair(), &layers);
        Ok(Some(file.context("--export")?))
    }

    /// What the figures are of.
    fn about(&self, dump: &Dump, device: &Device) -> Value {
        let (axes, by) = dump.axes();
        let layer = |l: &LayerInfo| {
            json!({
                "layer": l.names.layer, "k": l.names.k, "v": l.names.v, "q": l.names.q,
                "heads": l.shape.n_heads, "tokens": l.shape.tokens, "head_dim": l.shape.head_dim,
            })
        };
        let (are, n) = queries(dump, self.args.queries);
        json!({
            "schema": SCHEMA,
            "file": self.args.file.to_string_lossy(),
            "layout": axes,
            "layout_by": by,
            "turned": dump.head().places.is_some(),
            "notes": dump.head().notes,
            "layers": dump.layers().iter().map(layer).collect::<Vec<_>>(),
            "unused": dump.unused(),
            "queries": { "are": are, "n": n },
            "device": device.caps().title(),
            "driver": device.caps().driver,
            "tier": device.caps().tier.name(),
        })
    }

    /// Prints the result.
    fn tell(&self, mut about: Value, rows: &[SettingRow], foot: String) {
        rows.iter()
            .filter_map(SettingRow::warning)
            .for_each(|text| self.warn(&text));
        let text = match self.args.json {
            true => {
                about["settings"] = rows.iter().map(figures::json).collect();
                about["exported"] = json!(self.args.export.as_ref().map(|p| p.to_string_lossy()));
                format!("{about:#}\n")
            }
            false => {
                let mut parts = vec![figures::table(rows)];
                if self.args.corrections {
                    parts.push(figures::corrections(rows));
                }
                if 0 < self.voice.verbose {
                    parts.push(figures::bytes(rows));
                    parts.push(figures::by_layer(rows));
                }
                format!("{}\n", parts.join("\n\n"))
            }
        };
        // A reader that has gone is quiet.
        let _ = say::result(&text);
        self.note(&foot);
    }

    fn warn(&self, text: &str) {
        say::message(&Style::new(self.voice).warning(text));
    }

    fn note(&self, text: &str) {
        if !self.voice.quiet && !self.args.json {
            say::message(text);
        }
    }
}

/// As it is said here: these files are no models.
fn plain(err: dump::Error) -> anyhow::Error {
    match err {
        dump::Error::File(weights::Error::NotFound { path }) => {
            Fault::Usage(format!("no such file; check the path: {path:?}")).into()
        }
        other => other.into(),
    }
}

fn is_packed(file: &Path) -> anyhow::Result<bool> {
    Packed::is_packed(file).map_err(plain)
}

fn row(name: &PairName) -> SettingRow {
    SettingRow {
        name: name.to_string(),
        bias: name.pair().bias,
        layers: Vec::new(),
    }
}

/// Settings whose finer layers are those that they name themselves: a dump does not know its model's.
fn with_fine_layers(pairs: &[PairName], dump: &Dump) -> Result<Vec<PairName>, Fault> {
    let last = dump.layers().iter().map(|l| l.names.layer).max();
    let n_layers = last.map_or(0, |n| {
        u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1)
    });
    let pairs = pairs.iter().map(|name| name.for_layers(n_layers));
    pairs
        .collect::<Result<_, _>>()
        .map_err(|why| Fault::Usage(format!("--kv: {why}")))
}

/// Tokens of a span.
fn span_tokens(args: &KvFileArgs, dump: &Dump) -> Result<usize, Fault> {
    let head = dump.head();
    let per_frame = head.places.as_ref().map_or(1, |p| p.tokens_per_frame());
    let longest = dump.layers().iter().map(|l| l.shape.tokens).max();
    let longest = longest.unwrap_or(0);
    let Some(asked) = args.span else {
        let own = head.span_frames.map(|n| n.saturating_mul(per_frame));
        return Ok(own.map_or(longest, |n| n.min(longest)));
    };
    match head.places.is_none() || asked.is_multiple_of(per_frame) {
        true => Ok(asked.min(longest)),
        false => Err(Fault::Usage(format!(
            "--span {asked}: spans are whole frames, and a frame of this dump has {per_frame} tokens"
        ))),
    }
}

/// Holds a setting to a layer's heads.
fn fits(pair: &KvPair, layer: &LayerInfo) -> Result<(), Fault> {
    pair.check(layer.shape.head_dim).map_err(|why| {
        Fault::Usage(format!(
            "{} on layer {}: {why}: tensor {:?}",
            pair.name, layer.names.layer, layer.names.k
        ))
    })
}

/// Holds a span to what one binding of the device can be.
fn check_room(pair: &KvPair, layer: &LayerInfo, span: usize, device: &Device) -> Result<(), Fault> {
    let limit = device.caps().max_storage_bytes();
    let shape = SpanShape {
        tokens: span.min(layer.shape.tokens),
        ..layer.shape
    };
    let words = pair.codecs().map(|codec| codec.layout(shape).words);
    let bytes = 4 * words.max().unwrap_or(0).max(shape.tokens * shape.head_dim) as u64;
    match bytes <= limit {
        true => Ok(()),
        false => Err(Fault::Usage(format!(
            "a span of {} tokens takes one buffer of {bytes} bytes in {}, the device allows {limit}: give a smaller --span",
            shape.tokens, pair.name
        ))),
    }
}
