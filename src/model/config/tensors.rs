//! The tensors that a config's network has, by bare name, so that a weights file can be held to them.
//!
//! Source: Wan 2.1, `wan/modules/model.py::WanModel`; the demo model has the same names without cross-attention and with
//! a pose embedding.

use super::{Cross, DitConfig, FrameCondition};
use crate::weights::Expected;

/// Collects names and shapes.
struct List(Vec<Expected>);

impl List {
    fn push(&mut self, name: String, shape: &[u32]) {
        self.0.push(Expected {
            name,
            shape: shape.iter().map(|size| *size as usize).collect(),
        });
    }

    /// A linear layer: weight `[out, in]` and bias `[out]`.
    fn linear(&mut self, name: &str, out: u32, input: u32) {
        self.push(format!("{name}.weight"), &[out, input]);
        self.push(format!("{name}.bias"), &[out]);
    }

    /// The q, k, v and o layers of an attention and the norms of q and k.
    fn attention(&mut self, name: &str, hidden: u32) {
        for part in ["q", "k", "v", "o"] {
            self.linear(&format!("{name}.{part}"), hidden, hidden);
        }
        for part in ["norm_q", "norm_k"] {
            self.push(format!("{name}.{part}.weight"), &[hidden]);
        }
    }
}

impl DitConfig {
    /// Every tensor of the network with its shape, each once, in the order of use.
    #[must_use]
    pub fn tensors(&self) -> Vec<Expected> {
        let mut list = List(Vec::new());
        let hidden = self.hidden;
        let [patch_frames, patch_height, patch_width] = self.patch;
        let patch_shape = [
            hidden,
            self.in_channels,
            patch_frames,
            patch_height,
            patch_width,
        ];
        list.push("patch_embedding.weight".to_owned(), &patch_shape);
        list.push("patch_embedding.bias".to_owned(), &[hidden]);
        if let Cross::Separate { text_dim, .. } = self.cross {
            list.linear("text_embedding.0", hidden, text_dim);
            list.linear("text_embedding.2", hidden, hidden);
        }
        list.linear("time_embedding.0", hidden, self.time.freq_dim);
        list.linear("time_embedding.2", hidden, hidden);
        if let FrameCondition::Pose { dim } = self.frame_condition {
            list.linear("pose_embedding", hidden, dim);
        }
        list.linear("time_projection.1", 6 * hidden, hidden);
        for layer in 0..self.layers {
            self.block(&mut list, layer);
        }
        list.push("head.modulation".to_owned(), &[1, 2, hidden]);
        let patch_values = patch_frames * patch_height * patch_width * self.out_channels;
        list.linear("head.head", patch_values, hidden);
        list.0
    }

    fn block(&self, list: &mut List, layer: u32) {
        let hidden = self.hidden;
        let name = format!("blocks.{layer}");
        list.push(format!("{name}.modulation"), &[1, 6, hidden]);
        list.attention(&format!("{name}.self_attn"), hidden);
        if let Cross::Separate { .. } = self.cross {
            list.push(format!("{name}.norm3.weight"), &[hidden]);
            list.push(format!("{name}.norm3.bias"), &[hidden]);
            list.attention(&format!("{name}.cross_attn"), hidden);
        }
        list.linear(&format!("{name}.ffn.0"), self.ffn_hidden, hidden);
        list.linear(&format!("{name}.ffn.2"), hidden, self.ffn_hidden);
    }

    /// Values in all tensors together.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let elements = |shape: &[usize]| shape.iter().map(|size| *size as u64).product::<u64>();
        self.tensors()
            .iter()
            .map(|tensor| elements(&tensor.shape))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::json::tests::{selfforcing_file, tiny_file};
    use super::*;

    fn shape_of(tensors: &[Expected], name: &str) -> Vec<usize> {
        tensors
            .iter()
            .find(|tensor| tensor.name == name)
            .expect("listed")
            .shape
            .clone()
    }

    #[test]
    fn published_model_has_825_tensors() {
        let config = DitConfig::selfforcing_1_3b();
        let tensors = config.tensors();
        assert_eq!((tensors.len(), config.parameters()), (825, 1_418_996_800));
        let names: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names.len(), 825);
        assert_eq!(
            shape_of(&tensors, "patch_embedding.weight"),
            [1536, 16, 1, 2, 2]
        );
        assert_eq!(shape_of(&tensors, "time_projection.1.weight"), [9216, 1536]);
        assert_eq!(
            shape_of(&tensors, "blocks.29.cross_attn.norm_k.weight"),
            [1536]
        );
        assert_eq!(shape_of(&tensors, "blocks.29.ffn.2.weight"), [1536, 8960]);
        assert_eq!(shape_of(&tensors, "head.head.weight"), [64, 1536]);
        assert_eq!(shape_of(&tensors, "head.modulation"), [1, 2, 1536]);
        assert!(!names.contains("pose_embedding.weight"));
    }

    #[test]
    fn demo_model_has_a_pose_embedding_and_no_text() {
        let config = DitConfig::from_tiny_json(&tiny_file().to_string()).unwrap();
        let tensors = config.tensors();
        assert_eq!((tensors.len(), config.parameters()), (103, 4_593_344));
        assert_eq!(
            shape_of(&tensors, "patch_embedding.weight"),
            [256, 3, 1, 8, 8]
        );
        assert_eq!(shape_of(&tensors, "pose_embedding.weight"), [256, 42]);
        assert_eq!(shape_of(&tensors, "head.head.weight"), [192, 256]);
        assert!(
            tensors
                .iter()
                .all(|tensor| !tensor.name.contains("text") && !tensor.name.contains("cross"))
        );
    }

    #[test]
    fn small_reference_model_has_its_parameters() {
        let config = DitConfig::from_selfforcing_json(&selfforcing_file().to_string()).unwrap();
        assert_eq!((config.tensors().len(), config.parameters()), (69, 531_776));
    }
}
