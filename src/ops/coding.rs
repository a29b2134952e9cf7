//! How rows of K or V are stored once they are coded: levels, scales, planes, and their exact bytes.
//!
//! A span is a run of tokens of one layer; its K and its V each lie in one run of 32-bit words, head-major, as planes of
//! codes, scales, zeros, cluster ids and centroids. Every plane starts at a multiple of four words, and every head's rows
//! are padded to a multiple of four, so that a word belongs to one lane of the kernels that write it. Attention reads
//! these words in place; [`SpanLayout::row`] is the definition of what they mean.
//! Source: METHOD sections 2, 4, 5 and 6; 9 for the rivals; 10.2 and 10.6 for the dual grid and the guard.

use half::f16;

/// Which levels a code stands for, and how the encoder rounds to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grid {
    /// `(code - m) * scale`, m = 2^(bits-1) - 1; rounds half away from zero (METHOD 4.1, the released grid).
    Symmetric,
    /// `code * scale + zero`, zero the block's least value (METHOD 4.2).
    Asymmetric,
    /// Per block the better of the symmetric grid and one without a zero level, which bit 7 of the scale names, each with
    /// the scale of least squared error out of six (METHOD 10.2).
    Dual,
    /// Decodes as `Symmetric`; scales round half away and are never 0, codes half to even (METHOD 9.1).
    Rtn,
    /// Decodes as `Asymmetric`; codes round half to even against the stored scale and least value (METHOD 9.2, KIVI).
    MinMax,
    /// `(code - zero) * scale` with a whole zero point; rounds half to even (METHOD 9.3, QuaRot asymmetric).
    ZeroPoint,
    /// `(code - m - 1) * scale`: one more negative level; rounds half to even (METHOD 9.3, QuaRot symmetric).
    Wide,
    /// As `Asymmetric`, with the interval shrunk about its middle to the least squared error of six (METHOD 10.3).
    AsymmetricSearch,
}

impl Grid {
    /// All grids.
    pub(super) const ALL: [Grid; 8] = [
        Grid::Symmetric,
        Grid::Asymmetric,
        Grid::Dual,
        Grid::Rtn,
        Grid::MinMax,
        Grid::ZeroPoint,
        Grid::Wide,
        Grid::AsymmetricSearch,
    ];

    /// Whether a block stores a second number beside its scale.
    pub fn has_zero(self) -> bool {
        matches!(
            self,
            Grid::Asymmetric | Grid::MinMax | Grid::ZeroPoint | Grid::AsymmetricSearch
        )
    }

    /// The number shaders know it by.
    pub(super) fn code(self) -> u32 {
        self as u32
    }
}

/// How a block's scale (and zero) is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleFormat {
    /// One E4M3 byte, and one for a zero, in planes of their own.
    E4m3,
    /// Half floats, scale and zero side by side in one word.
    F16,
    /// Scale and zero as f32, two words.
    F32,
}

/// What shares a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Neighbouring channels of one token.
    Token,
    /// Neighbouring tokens of one channel.
    Channel,
}

/// The stored form of a tensor's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Coding {
    /// Bits of a code: 2, 3, 4 or 8; 16: half floats as they are, without scales.
    pub bits: u32,
    /// Levels.
    pub grid: Grid,
    /// What shares a scale.
    pub axis: Axis,
    /// Channels (or tokens) that share one: 16 to 256, a power of two.
    pub block: usize,
    /// Storage of scales.
    pub scales: ScaleFormat,
    /// Centroids subtracted from every row, 0 to 4.
    pub stages: usize,
    /// Rows are rotated by the orthonormal Hadamard matrix before they are coded.
    pub hadamard: bool,
    /// A table a head is stored: a power of two that all scales are multiplied with (METHOD 10.6), and what coding added
    /// to the energy of each block (METHOD 10.1 b).
    pub head_table: bool,
}

impl Coding {
    /// Half floats, head-major: for the half of a pair that stays exact.
    pub const HALVES: Coding = Coding {
        bits: 16,
        grid: Grid::Symmetric,
        axis: Axis::Token,
        block: 16,
        scales: ScaleFormat::E4m3,
        stages: 0,
        hadamard: false,
        head_table: false,
    };

    /// All of it in one number, for knobs.
    pub(super) fn number(&self) -> u32 {
        self.bits
            | self.grid.code() << 5
            | (self.axis as u32) << 8
            | self.block.ilog2() << 9
            | (self.scales as u32) << 13
            | (self.stages as u32) << 15
            | u32::from(self.hadamard) << 18
            | u32::from(self.head_table) << 19
    }

    /// The coding with this number.
    pub(super) fn from_number(n: u32) -> Coding {
        Coding {
            bits: n & 31,
            grid: Grid::ALL[(n >> 5 & 7) as usize],
            axis: [Axis::Token, Axis::Channel][(n >> 8 & 1) as usize],
            block: 1 << (n >> 9 & 15),
            scales: [ScaleFormat::E4m3, ScaleFormat::F16, ScaleFormat::F32][(n >> 13 & 3) as usize],
            stages: (n >> 15 & 7) as usize,
            hadamard: n >> 18 & 1 == 1,
            head_table: n >> 19 & 1 == 1,
        }
    }

    /// Whether rows have scales at all.
    pub fn is_quantized(&self) -> bool {
        self.bits < 16
    }

    /// Whether scales (and zeros) are E4M3 bytes in planes of their own.
    pub fn has_scale_bytes(&self) -> bool {
        self.is_quantized() && self.scales == ScaleFormat::E4m3
    }

    /// Words of the codes of one row.
    pub fn row_words(&self, head_dim: usize) -> usize {
        head_dim * self.bits as usize / 32
    }

    /// Blocks of one row (one, where tokens share scales).
    pub fn blocks(&self, head_dim: usize) -> usize {
        match self.axis {
            Axis::Token => head_dim / self.block,
            Axis::Channel => 1,
        }
    }

    /// Energy gains of a head: one a block of channels, or one in all where blocks are not runs of channels.
    pub fn gains(&self, head_dim: usize) -> usize {
        if self.hadamard {
            1
        } else {
            self.blocks(head_dim)
        }
    }

    /// Largest level of the symmetric grid.
    pub fn most(&self) -> u32 {
        (1 << (self.bits - 1)) - 1
    }

    /// Says what of it a head of `head_dim` channels cannot have.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self, head_dim: usize) -> Result<(), String> {
        if !self.is_quantized() {
            return match head_dim.is_multiple_of(8) {
                true => Ok(()),
                false => Err(format!(
                    "halves of a span need a head_dim that is a multiple of 8, not {head_dim}"
                )),
            };
        }
        if !head_dim.is_power_of_two() || !(32..=256).contains(&head_dim) {
            return Err(format!(
                "heads of {head_dim} channels cannot be coded; 32, 64, 128 and 256 can"
            ));
        }
        if !matches!(self.bits, 2 | 3 | 4 | 8) {
            return Err(format!(
                "{} bits; there are codes of 2, 3, 4 and 8",
                self.bits
            ));
        }
        let least = if self.bits == 3 { 32 } else { 16 };
        if !self.block.is_power_of_two() || self.block < least || self.block > 256 {
            return Err(format!(
                "blocks of {}; with {} bits they are a power of two from {least} to 256",
                self.block, self.bits
            ));
        }
        if self.axis == Axis::Token && self.block > head_dim {
            return Err(format!(
                "blocks of {} do not fit heads of {head_dim} channels",
                self.block
            ));
        }
        if self.grid == Grid::Dual && self.scales != ScaleFormat::E4m3 {
            return Err("the dual grid keeps its flag in the sign of an E4M3 scale".to_owned());
        }
        if self.axis == Axis::Channel
            && (self.grid, self.scales, self.head_table) != (Grid::MinMax, ScaleFormat::F16, false)
        {
            return Err(
                "scales by channel are pairs of halves, scale and least value, without head tables"
                    .to_owned(),
            );
        }
        if self.stages > 4 {
            return Err(format!("{} stages; there are at most 4", self.stages));
        }
        Ok(())
    }
}

/// Bytes of one tensor of one layer in one span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SpanBytes {
    /// Codes.
    pub codes: u64,
    /// Scales and zeros.
    pub scales: u64,
    /// Cluster ids.
    pub ids: u64,
    /// Centroid tables.
    pub centroids: u64,
    /// Tables of one head each.
    pub heads: u64,
    /// Rows up to a multiple of four, planes up to a multiple of four words.
    pub padding: u64,
}

impl SpanBytes {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.codes + self.scales + self.ids + self.centroids + self.heads + self.padding
    }

    /// Adds another tensor's bytes.
    pub fn add(&mut self, o: &SpanBytes) {
        self.codes += o.codes;
        self.scales += o.scales;
        self.ids += o.ids;
        self.centroids += o.centroids;
        self.heads += o.heads;
        self.padding += o.padding;
    }
}

/// Where the planes of one tensor of one layer in one span lie, in words from its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanLayout {
    /// Form of the rows.
    pub coding: Coding,
    /// Heads.
    pub n_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Tokens of the span.
    pub tokens: usize,
    /// Centroids a head and stage.
    pub n_centroids: usize,
    /// Rows kept a head: the tokens, padded to a multiple of four.
    pub rows: usize,
    /// Blocks of tokens where tokens share scales, else 0.
    pub groups: usize,
    /// First word of the scales.
    pub scales_at: usize,
    /// First word of the zeros (E4M3 only: the other formats keep them beside the scales).
    pub zeros_at: usize,
    /// First word of the ids, `[stage, head, row]` bytes.
    pub ids_at: usize,
    /// First word of the centroids, `[stage, head, centroid, head_dim]` bf16.
    pub cents_at: usize,
    /// First word of the head tables, `[head, 1 + gains]` f32.
    pub heads_at: usize,
    /// Words in all, a multiple of four.
    pub words: usize,
}

impl SpanLayout {
    /// The layout of a span.
    ///
    /// # Panics
    /// When the coding does not fit the head ([`Coding::check`]) or there are more than 256 centroids.
    pub fn new(
        coding: Coding,
        n_heads: usize,
        head_dim: usize,
        tokens: usize,
        n_centroids: usize,
    ) -> SpanLayout {
        assert!(
            coding.check(head_dim).is_ok() && n_centroids <= 256,
            "codings are checked before spans are laid out"
        );
        let rows = tokens.next_multiple_of(4);
        let all = n_heads * rows;
        let blocks = coding.blocks(head_dim);
        let groups = match coding.axis {
            Axis::Token => 0,
            Axis::Channel => tokens.div_ceil(coding.block),
        };
        let entries = match (coding.is_quantized(), coding.axis) {
            (false, _) => 0,
            (true, Axis::Token) => all * blocks,
            (true, Axis::Channel) => n_heads * groups * head_dim,
        };
        let (scales, zeros) = match coding.scales {
            ScaleFormat::E4m3 => {
                let words = entries.div_ceil(4);
                (words, if coding.grid.has_zero() { words } else { 0 })
            }
            ScaleFormat::F16 => (entries, 0),
            ScaleFormat::F32 => (2 * entries, 0),
        };
        let heads = if coding.head_table {
            n_heads * (1 + coding.gains(head_dim))
        } else {
            0
        };
        let up = |n: usize| n.next_multiple_of(4);
        let scales_at = up(all * coding.row_words(head_dim));
        let zeros_at = scales_at + up(scales);
        let ids_at = zeros_at + up(zeros);
        let cents_at = ids_at + up(coding.stages * all / 4);
        let heads_at = cents_at + up(coding.stages * n_heads * n_centroids * head_dim / 2);
        SpanLayout {
            coding,
            n_heads,
            head_dim,
            tokens,
            n_centroids,
            rows,
            groups,
            scales_at,
            zeros_at,
            ids_at,
            cents_at,
            heads_at,
            words: heads_at + up(heads),
        }
    }

    /// Bytes by kind; their sum is exactly the words of the layout.
    pub fn bytes(&self) -> SpanBytes {
        let c = &self.coding;
        let (h, s, d) = (
            self.n_heads as u64,
            self.tokens as u64,
            self.head_dim as u64,
        );
        let entries = match (c.is_quantized(), c.axis) {
            (false, _) => 0,
            (true, Axis::Token) => h * s * c.blocks(self.head_dim) as u64,
            (true, Axis::Channel) => h * self.groups as u64 * d,
        };
        let entry = match c.scales {
            ScaleFormat::E4m3 => 1 + u64::from(c.grid.has_zero()),
            ScaleFormat::F16 => 4,
            ScaleFormat::F32 => 8,
        };
        let mut b = SpanBytes {
            codes: h * s * d * u64::from(c.bits) / 8,
            scales: entries * entry,
            ids: c.stages as u64 * h * s,
            centroids: c.stages as u64 * h * self.n_centroids as u64 * d * 2,
            heads: if c.head_table {
                4 * h * (1 + c.gains(self.head_dim) as u64)
            } else {
                0
            },
            padding: 0,
        };
        b.padding = 4 * self.words as u64 - b.total();
        b
    }

    /// Bytes of the same rows as 16-bit floats.
    pub fn half_bytes(&self) -> u64 {
        2 * (self.n_heads * self.tokens * self.head_dim) as u64
    }

    /// Code of a channel.
    fn code(&self, words: &[u32], row: usize, channel: usize) -> u32 {
        let bits = self.coding.bits;
        let first = row * self.coding.row_words(self.head_dim);
        let in_byte = |per_byte: usize, bits: u32| {
            let byte = channel / per_byte;
            let shift = 8 * (byte % 4) as u32 + bits * (per_byte - 1 - channel % per_byte) as u32;
            (words[first + byte / 4] >> shift) & ((1 << bits) - 1)
        };
        match bits {
            2 => in_byte(4, 2),
            3 => {
                let high = words[first + self.head_dim / 16 + channel / 32] >> (channel % 32) & 1;
                in_byte(4, 2) | high << 2
            }
            4 => in_byte(2, 4),
            _ => words[first + channel / 4] >> (8 * (channel % 4)) & 255,
        }
    }

    /// Puts a code into words that held 0 there.
    pub(super) fn put_code(&self, words: &mut [u32], row: usize, channel: usize, code: u32) {
        let first = row * self.coding.row_words(self.head_dim);
        let mut in_byte = |per_byte: usize, bits: u32, code: u32| {
            let byte = channel / per_byte;
            let shift = 8 * (byte % 4) as u32 + bits * (per_byte - 1 - channel % per_byte) as u32;
            words[first + byte / 4] |= code << shift;
        };
        match self.coding.bits {
            2 => in_byte(4, 2, code),
            3 => {
                in_byte(4, 2, code & 3);
                words[first + self.head_dim / 16 + channel / 32] |= (code >> 2) << (channel % 32);
            }
            4 => in_byte(2, 4, code),
            _ => words[first + channel / 4] |= code << (8 * (channel % 4)),
        }
    }

    /// Index of the scale of a row's channel.
    fn entry(&self, head: usize, token: usize, channel: usize) -> usize {
        match self.coding.axis {
            Axis::Token => {
                (head * self.rows + token) * self.coding.blocks(self.head_dim)
                    + channel / self.coding.block
            }
            Axis::Channel => {
                (head * self.groups + token / self.coding.block) * self.head_dim + channel
            }
        }
    }

    /// Scale byte or number, and zero, of an entry as they are stored, multiplied by nothing.
    fn scale_and_zero(&self, words: &[u32], entry: usize) -> (f32, f32) {
        let byte = |at: usize| (words[at + entry / 4] >> (8 * (entry % 4)) & 255) as u8;
        match self.coding.scales {
            ScaleFormat::E4m3 => {
                let zero = if self.coding.grid.has_zero() {
                    e4m3_decode(byte(self.zeros_at))
                } else {
                    0.0
                };
                (e4m3_decode(byte(self.scales_at)), zero)
            }
            ScaleFormat::F16 => {
                let w = words[self.scales_at + entry];
                let half = |h: u32| f16::from_bits(h as u16).to_f32();
                (half(w & 0xffff), half(w >> 16))
            }
            ScaleFormat::F32 => {
                let at = self.scales_at + 2 * entry;
                (f32::from_bits(words[at]), f32::from_bits(words[at + 1]))
            }
        }
    }

    /// Value of a code with a stored scale and zero.
    pub(super) fn level(&self, code: u32, scale: f32, zero: f32) -> f32 {
        let code = code as f32;
        let most = self.coding.most() as f32;
        match self.coding.grid {
            Grid::Symmetric | Grid::Rtn => (code - most) * scale,
            // The grid's flag is bit 7 of the scale, its sign once decoded: also of a scale of 0.
            Grid::Dual if scale.is_sign_negative() => (code - most - 0.5) * -scale,
            Grid::Dual => (code - most) * scale,
            Grid::Wide => (code - most - 1.0) * scale,
            Grid::ZeroPoint => (code - zero) * scale,
            Grid::Asymmetric | Grid::MinMax | Grid::AsymmetricSearch => code * scale + zero,
        }
    }

    /// Power of two on all scales of a head.
    pub(super) fn multiplier(&self, words: &[u32], head: usize) -> f32 {
        if self.coding.head_table {
            f32::from_bits(words[self.heads_at + head * (1 + self.coding.gains(self.head_dim))])
        } else {
            1.0
        }
    }

    /// Energy gains of a head.
    pub(super) fn head_gains(&self, words: &[u32], head: usize) -> Vec<f32> {
        let n = self.coding.gains(self.head_dim);
        let at = self.heads_at + head * (1 + n) + 1;
        words[at..at + n]
            .iter()
            .map(|w| f32::from_bits(*w))
            .collect()
    }

    /// What the codes of a row say, without centroids and before rotating back.
    pub(super) fn residual(&self, words: &[u32], head: usize, token: usize) -> Vec<f32> {
        let row = head * self.rows + token;
        if !self.coding.is_quantized() {
            let at = row * self.head_dim / 2;
            let halves = |w: &u32| [w & 0xffff, w >> 16];
            return words[at..at + self.head_dim / 2]
                .iter()
                .flat_map(halves)
                .map(|h| f16::from_bits(h as u16).to_f32())
                .collect();
        }
        let by = self.multiplier(words, head);
        (0..self.head_dim)
            .map(|ch| {
                let (scale, zero) = self.scale_and_zero(words, self.entry(head, token, ch));
                self.level(self.code(words, row, ch), scale, zero) * by
            })
            .collect()
    }

    /// A row as attention sees it.
    ///
    /// # Panics
    /// When `words` is shorter than the layout.
    pub fn row(&self, words: &[u32], head: usize, token: usize) -> Vec<f32> {
        let row = self.unturned_row(words, head, token);
        match self.coding.hadamard {
            true => hadamard(&row),
            false => row,
        }
    }

    /// A row with its centroids, before it is turned back.
    pub(super) fn unturned_row(&self, words: &[u32], head: usize, token: usize) -> Vec<f32> {
        let mut out = self.residual(words, head, token);
        for stage in 0..self.coding.stages {
            let at = (stage * self.n_heads + head) * self.rows + token;
            let id = (words[self.ids_at + at / 4] >> (8 * (at % 4)) & 255) as usize;
            let table = (stage * self.n_heads + head) * self.n_centroids;
            let first = self.cents_at + (table + id) * self.head_dim / 2;
            for (i, o) in out.iter_mut().enumerate() {
                let half = words[first + i / 2] >> (16 * (i % 2)) & 0xffff;
                *o += f32::from_bits(half << 16);
            }
        }
        out
    }

    /// Decoded step of each block of a row, as the step form of the mass correction takes it (METHOD 10.1 a).
    pub(super) fn steps(&self, words: &[u32], head: usize, token: usize) -> Vec<f32> {
        let by = self.multiplier(words, head);
        (0..self.coding.blocks(self.head_dim))
            .map(|b| {
                let entry = self.entry(head, token, b * self.coding.block);
                self.scale_and_zero(words, entry).0.abs() * by
            })
            .collect()
    }

    /// Bytes of a plane, padding rows left out.
    fn rows_of(&self, words: &[u32], at: usize, per_row: usize) -> Vec<u8> {
        let byte = |i: usize| (words[at + i / 4] >> (8 * (i % 4)) & 255) as u8;
        (0..self.n_heads)
            .flat_map(|head| {
                let first = head * self.rows * per_row;
                (first..first + self.tokens * per_row).map(byte)
            })
            .collect()
    }

    /// The tensors of the released format: codes `[head, token, head_dim * bits / 8]`, scales and zeros
    /// `[head, token, block]` and ids by stage `[head, token]` in bytes, padding left out (METHOD 5.2). Scales of another
    /// format are left out too: see [`SpanLayout::export_pairs`].
    pub fn export(&self, words: &[u32]) -> Exported {
        let rows = |at: usize, per_row: usize| self.rows_of(words, at, per_row);
        let blocks = self.coding.blocks(self.head_dim);
        let stage_words = self.n_heads * self.rows / 4;
        let cents = self.n_heads * self.n_centroids * self.head_dim / 2;
        let halves = |w: &u32| [*w as u16, (w >> 16) as u16];
        Exported {
            codes: self.export_codes(words),
            scales: match self.coding.has_scale_bytes() {
                true => rows(self.scales_at, blocks),
                false => Vec::new(),
            },
            zeros: match self.coding.has_scale_bytes() && self.coding.grid.has_zero() {
                true => rows(self.zeros_at, blocks),
                false => Vec::new(),
            },
            ids: (0..self.coding.stages)
                .map(|t| rows(self.ids_at + t * stage_words, 1))
                .collect(),
            centroids: (0..self.coding.stages)
                .map(|t| {
                    let at = self.cents_at + t * cents;
                    words[at..at + cents].iter().flat_map(halves).collect()
                })
                .collect(),
        }
    }

    /// Packed codes alone, `[head, token, head_dim * bits / 8]`.
    pub fn export_codes(&self, words: &[u32]) -> Vec<u8> {
        self.rows_of(words, 0, 4 * self.coding.row_words(self.head_dim))
    }

    /// Scales and zeros of the formats that keep them side by side, in the order of the blocks: `[head, token, block]`, or
    /// `[head, run of tokens, channel]`.
    pub fn export_pairs(&self, words: &[u32]) -> Vec<(f32, f32)> {
        let at = |head, token, ch| self.scale_and_zero(words, self.entry(head, token, ch));
        let mut out = Vec::new();
        for head in 0..self.n_heads {
            match self.coding.axis {
                Axis::Token => {
                    for t in 0..self.tokens {
                        let blocks = (0..self.head_dim).step_by(self.coding.block);
                        out.extend(blocks.map(|ch| at(head, t, ch)));
                    }
                }
                Axis::Channel => {
                    for t in (0..self.tokens).step_by(self.coding.block) {
                        out.extend((0..self.head_dim).map(|ch| at(head, t, ch)));
                    }
                }
            }
        }
        out
    }

    /// The words of exported tensors: the inverse of [`SpanLayout::export`], head tables left at "nothing", scales that
    /// are no bytes at 0.
    ///
    /// # Panics
    /// When a tensor has another length than `export` gives.
    pub fn import(&self, e: &Exported) -> Vec<u32> {
        let mut words = vec![0u32; self.words];
        let blocks = self.coding.blocks(self.head_dim);
        let stage_words = self.n_heads * self.rows / 4;
        let mut rows = |at: usize, per_row: usize, bytes: &[u8]| {
            assert_eq!(bytes.len(), self.n_heads * self.tokens * per_row, "plane");
            for (head, part) in bytes.chunks_exact(self.tokens * per_row).enumerate() {
                for (i, b) in part.iter().enumerate() {
                    let i = head * self.rows * per_row + i;
                    words[at + i / 4] |= u32::from(*b) << (8 * (i % 4));
                }
            }
        };
        rows(0, 4 * self.coding.row_words(self.head_dim), &e.codes);
        if self.coding.has_scale_bytes() {
            rows(self.scales_at, blocks, &e.scales);
            if self.coding.grid.has_zero() {
                rows(self.zeros_at, blocks, &e.zeros);
            }
        }
        for (t, ids) in e.ids.iter().enumerate() {
            rows(self.ids_at + t * stage_words, 1, ids);
        }
        let cents = self.n_heads * self.n_centroids * self.head_dim / 2;
        for (t, table) in e.centroids.iter().enumerate() {
            for (i, pair) in table.chunks_exact(2).enumerate() {
                words[self.cents_at + t * cents + i] =
                    u32::from(pair[0]) | u32::from(pair[1]) << 16;
            }
        }
        if self.coding.head_table {
            for head in 0..self.n_heads {
                words[self.heads_at + head * (1 + self.coding.gains(self.head_dim))] =
                    1f32.to_bits();
            }
        }
        words
    }
}

/// The planes of a span in the released format (E4M3 scales by token only).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Packed codes.
    pub codes: Vec<u8>,
    /// E4M3 scales.
    pub scales: Vec<u8>,
    /// E4M3 zeros; empty without.
    pub zeros: Vec<u8>,
    /// Cluster ids by stage.
    pub ids: Vec<Vec<u8>>,
    /// bf16 centroids by stage.
    pub centroids: Vec<Vec<u16>>,
}

/// Value of an E4M3 byte; 0x7F and 0xFF are NaN (METHOD 4.3).
pub fn e4m3_decode(byte: u8) -> f32 {
    let (e, m) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let v = match (byte & 0x7f, e) {
        (0x7f, _) => f32::NAN,
        (_, 0) => m / 512.0,
        _ => (1.0 + m / 8.0) * ((e - 7) as f32).exp2(),
    };
    if byte >> 7 == 1 { -v } else { v }
}

/// Nearest E4M3 byte, ties to the even mantissa, saturating at 448; NaN gives 0x7F (METHOD 4.3).
pub fn e4m3_encode(x: f32) -> u8 {
    let u = x.abs().to_bits();
    let magnitude = if x.is_nan() {
        0x7f
    } else if u >= 0x43e0_0000 {
        0x7e
    } else if u < 0x3c80_0000 {
        (x.abs() * 512.0).round_ties_even() as u32
    } else {
        (((u + 0x7ffff + (u >> 20 & 1)) >> 20) - 960).min(0x7e)
    };
    magnitude as u8 | (u8::from(x.is_sign_negative()) << 7)
}

/// Nearest bf16, ties to even, as f32.
pub fn bf16_round(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}

/// A row times the orthonormal Hadamard matrix of its size, Sylvester order (METHOD 9.3).
///
/// In f32 and in the kernel's order, operation by operation: codes are rounded from these values, and must not depend on
/// where they were computed.
pub fn hadamard(row: &[f32]) -> Vec<f32> {
    let norm = (1.0 / (row.len() as f64).sqrt()) as f32;
    let mut y = row.to_vec();
    let mut half = 1;
    while half < y.len() {
        for pair in y.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    y.into_iter().map(|v| v * norm).collect()
}

/// One centroid for 146.25 tokens, 8 to 256 (METHOD 10.4).
pub fn centroid_count(tokens: usize) -> usize {
    ((tokens * 200 + 14_625) / 29_250).clamp(8, 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qvg(block: usize, stages: usize) -> Coding {
        Coding {
            bits: 2,
            block,
            stages,
            ..Coding::HALVES
        }
    }

    #[test]
    fn numbers_hold_all_of_a_coding() {
        for grid in Grid::ALL {
            for (axis, scales) in [
                (Axis::Token, ScaleFormat::E4m3),
                (Axis::Channel, ScaleFormat::F16),
                (Axis::Token, ScaleFormat::F32),
            ] {
                let c = Coding {
                    bits: 3,
                    grid,
                    axis,
                    block: 256,
                    scales,
                    stages: 4,
                    hadamard: true,
                    head_table: false,
                };
                assert_eq!(Coding::from_number(c.number()), c);
            }
        }
    }

    #[test]
    fn bytes_of_the_released_settings_are_those_of_the_formula() {
        for (s, h, d, stages, block, total) in [
            (37_440, 12, 128, 1, 64, 16_511_232),
            (29_640, 32, 128, 1, 64, 35_293_952),
            (7_040, 24, 256, 4, 16, 26_775_552),
        ] {
            let b = SpanLayout::new(qvg(block, stages), h, d, s, 256).bytes();
            assert_eq!((b.total(), b.padding), (total, 0));
        }
    }

    #[test]
    fn padding_is_counted() {
        let l = SpanLayout::new(qvg(64, 1), 3, 64, 13, 8);
        assert_eq!(l.rows, 16);
        assert_eq!(l.bytes().total(), 4 * l.words as u64);
        assert!(l.bytes().padding > 0);
    }

    #[test]
    fn codes_come_back_as_they_were_put() {
        for bits in [2, 3, 4, 8] {
            let coding = Coding {
                bits,
                block: 32,
                ..qvg(32, 0)
            };
            let l = SpanLayout::new(coding, 2, 64, 5, 8);
            let mut words = vec![0; l.words];
            let code = |row: usize, ch: usize| ((row * 7 + ch * 5) % (1 << bits)) as u32;
            for row in 0..2 * l.rows {
                (0..64).for_each(|ch| l.put_code(&mut words, row, ch, code(row, ch)));
            }
            for row in 0..2 * l.rows {
                assert!((0..64).all(|ch| l.code(&words, row, ch) == code(row, ch)));
            }
        }
    }

    #[test]
    fn first_code_is_in_the_high_bits_of_the_byte() {
        let l = SpanLayout::new(qvg(64, 0), 1, 64, 4, 8);
        let mut words = vec![0; l.words];
        l.put_code(&mut words, 0, 0, 3);
        assert_eq!(l.export(&words).codes[0], 0xc0);
    }

    #[test]
    fn e4m3_round_trips_and_saturates() {
        for b in (0..=255u8).filter(|b| b & 0x7f != 0x7f) {
            assert_eq!(e4m3_encode(e4m3_decode(b)), b);
        }
        assert_eq!(
            (e4m3_encode(1e9), e4m3_encode(f32::NEG_INFINITY)),
            (0x7e, 0xfe)
        );
        assert_eq!(e4m3_encode(1.0 / 1024.0), 0);
    }

    #[test]
    fn hadamard_is_its_own_inverse() {
        let row: Vec<f32> = (0..32).map(|i| ((i * i) % 17) as f32 - 8.0).collect();
        let back = hadamard(&hadamard(&row));
        assert!(row.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn what_does_not_fit_a_head_is_said() {
        let bad = |c: Coding, d| c.check(d).unwrap_err();
        assert!(bad(qvg(64, 1), 40).contains("heads of 40"));
        assert!(bad(qvg(128, 1), 64).contains("do not fit"));
        assert!(
            bad(
                Coding {
                    bits: 5,
                    ..qvg(64, 1)
                },
                64
            )
            .contains("5 bits")
        );
        assert!(qvg(64, 4).check(256).is_ok());
    }
}
