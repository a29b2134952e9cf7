//! What a film is made with: a model and where it comes from.

use std::path::Path;

use super::error::Error;
use super::plan::Outline;
use crate::decode::{DecoderShape, DecoderSource};
use crate::model::Lora;
use crate::model::config::DitConfig;
use crate::weights::Weights;

/// A model as it comes from disk or from the binary.
#[derive(Debug)]
pub struct ModelSource {
    /// Name shown to people and stored in recipes.
    pub name: String,
    /// Sizes and sampler.
    pub config: DitConfig,
    /// Tensors.
    pub weights: Weights,
    /// A change of them that is worked in while they are loaded.
    pub lora: Option<Lora>,
    /// What makes pictures of its latents.
    pub decoder: DecoderSource,
}

impl ModelSource {
    /// The embedded demo world `rooms`.
    ///
    /// # Errors
    /// Never for the shipped files; the type is that of a model from disk.
    pub fn rooms() -> Result<ModelSource, Error> {
        let weights: &'static [u8] =
            include_bytes!("../../assets/worlds/rooms/weights.safetensors");
        Ok(ModelSource {
            name: "rooms".to_owned(),
            config: parse_config(
                Path::new("rooms"),
                include_str!("../../assets/worlds/rooms/config.json"),
            )?,
            weights: Weights::from_static("rooms", weights)?,
            lora: None,
            decoder: DecoderSource::Pixels,
        })
    }

    /// A demo world's folder (`config.json`, `weights.safetensors`).
    ///
    /// # Errors
    /// A missing or faulty file, named.
    pub fn open(folder: &Path) -> Result<ModelSource, Error> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|source| Error::NoModel {
            path: path.clone(),
            source,
        })?;
        let name = folder
            .file_name()
            .map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned());
        Ok(ModelSource {
            name,
            config: parse_config(&path, &text)?,
            weights: Weights::open(&folder.join("weights.safetensors"))?,
            lora: None,
            decoder: DecoderSource::Pixels,
        })
    }

    /// The outline of a film of `frames` latent frames behind `given` ones.
    ///
    /// # Errors
    /// A decoder whose tensors are missing or of other shapes, or that does not take the model's latents.
    pub fn outline(&self, given: usize, frames: usize) -> Result<Outline<'_>, Error> {
        let decoder = self.decoder.shape()?;
        check_decoder(self, &decoder)?;
        Ok(Outline {
            name: &self.name,
            model: &self.config,
            given,
            frames,
            decoder,
            text_encoder_bytes: 0,
        })
    }
}

/// Holds the decoder to the model's latents.
fn check_decoder(model: &ModelSource, decoder: &DecoderShape) -> Result<(), Error> {
    let c = &model.config;
    let d = decoder.needs(c.latent_grid());
    let channels = d.channels as u32;
    let (theirs, ours) = (
        (channels, channels, d.cell_px, d.cell_frames),
        (c.in_channels, c.out_channels, c.cell_px, c.cell_frames),
    );
    if theirs == ours {
        return Ok(());
    }
    Err(Error::Decoder(format!(
        "{} takes latents of {channels} channels, {} pixels a side and {} pictures; those of {} have {} channels in and {} out, {} pixels and {} pictures: take the decoder that belongs to the model",
        decoder.name(),
        d.cell_px,
        d.cell_frames,
        model.name,
        c.in_channels,
        c.out_channels,
        c.cell_px,
        c.cell_frames
    )))
}

fn parse_config(path: &Path, text: &str) -> Result<DitConfig, Error> {
    DitConfig::from_tiny_json(text).map_err(|source| Error::Config {
        path: path.to_owned(),
        source,
    })
}
