//! Small safetensors files for this folder's tests, written by hand so that they may also be wrong.

/// A file of `header` as it stands and then `data`. Nothing is padded, so the data may lie at any alignment.
pub(super) fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

/// A sound file of (name, dtype, shape, bytes), in this order.
pub(super) fn file(tensors: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let (start, end) = (data.len(), data.len() + bytes.len());
        entries.push(format!(
            r#"{name:?}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        ));
        data.extend_from_slice(bytes);
    }
    raw(&format!("{{{}}}", entries.join(",")), &data)
}

/// `c` BF16 [] = -1, `a.weight` F32 [2, 2] = 1 2 3 4, `b.bias` F16 [2] = 1 -2; two names carry a wrapper's prefix.
pub(super) fn small() -> Vec<u8> {
    let a: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    file(&[
        ("c", "BF16", &[], &[0x80, 0xbf]),
        ("model.a.weight", "F32", &[2, 2], &a),
        (
            "model._fsdp_wrapped_module.b.bias",
            "F16",
            &[2],
            &[0x00, 0x3c, 0x00, 0xc0],
        ),
    ])
}

/// The `SplitMix64` generator, so that a failing test fails again. Source: Steele, Lea, Flood, OOPSLA 2014, figure 16.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("less than n")
    }

    /// Any byte.
    pub(super) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
