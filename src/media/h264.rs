//! H.264 by openh264: constrained baseline, no frames out of order, one slice a frame, constant quantizer.
//!
//! Cisco's sources are free (BSD-2), but its patent cover holds for its own binaries only.

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Encoder, EncoderConfig, FrameRate, FrameType, QpRange, RateControlMode, VuiConfig,
};
use openh264::formats::YUVSlices;

use super::Error;
use super::yuv::{Geometry, Picture420};
use crate::frame::Frame;

/// The quantizer of every frame. Luma keeps 50 dB in a 64x48 picture enlarged 8 times (0.45 Mbit/s at 16 frames a second) and
/// 42 dB in one of 512x384 with noise in every pixel (6 Mbit/s); 22 would cost 3 dB in both.
const QP: u8 = 18;
/// Seconds between key frames at most, so that players can seek.
const KEY_SECS: f64 = 2.0;
/// openh264 derives the level from it; a constant quantizer ignores it otherwise.
const LEVEL_BITRATE: u32 = 8_000_000;

/// One encoder for one film.
pub(super) struct H264 {
    encoder: Encoder,
    geometry: Geometry,
    picture: Picture420,
    key_period: u32,
    since_key: u32,
    /// Sequence parameter set, without start code.
    pub sps: Vec<u8>,
    /// Picture parameter set, without start code.
    pub pps: Vec<u8>,
}

impl H264 {
    /// Opens the encoder and learns the parameter sets, which the MP4 header needs before the first frame.
    pub(super) fn new(geometry: Geometry, fps: f64) -> Result<Self, Error> {
        // "Buffer based" with equal ends is the constant quantizer of openh264 that can be reached from here: "off" means
        // a fixed 26, and "quality" warns on stderr about frames that we never let it skip.
        let config = EncoderConfig::new()
            .rate_control_mode(RateControlMode::Bufferbased)
            .qp(QpRange::new(QP, QP))
            .skip_frames(false)
            .bitrate(BitRate::from_bps(LEVEL_BITRATE))
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            .background_detection(false)
            .num_threads(1)
            .vui(VuiConfig::bt709());
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|e| failed(0, &e.to_string()))?;
        let mut this = Self {
            encoder,
            geometry,
            picture: Picture420::new(geometry),
            key_period: (fps * KEY_SECS).floor().max(1.0) as u32,
            since_key: 0,
            sps: Vec::new(),
            pps: Vec::new(),
        };
        this.learn_parameter_sets()?;
        Ok(this)
    }

    /// Makes the next frame a key frame: it needs none of the frames before it.
    pub(super) fn restart(&mut self) {
        self.since_key = 0;
    }

    /// Encodes frame `index` and appends it to `out` as length-prefixed NAL units. True when it is a key frame.
    pub(super) fn encode(
        &mut self,
        index: u64,
        frame: &Frame,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        self.picture.fill(frame);
        self.encode_picture(index, |nal| match nal_type(nal) {
            // Parameter sets stand in the header; `avc1` tracks must not repeat them.
            7 | 8 => {}
            _ => {
                out.extend_from_slice(&(nal.len() as u32).to_be_bytes());
                out.extend_from_slice(nal);
            }
        })
    }

    fn learn_parameter_sets(&mut self) -> Result<(), Error> {
        let (mut sps, mut pps) = (Vec::new(), Vec::new());
        self.encode_picture(0, |nal| match nal_type(nal) {
            7 => sps = nal.to_vec(),
            8 => pps = nal.to_vec(),
            _ => {}
        })?;
        if sps.len() < 4 || pps.is_empty() {
            return Err(failed(0, "no parameter sets"));
        }
        (self.sps, self.pps) = (sps, pps);
        self.restart();
        Ok(())
    }

    fn encode_picture(
        &mut self,
        index: u64,
        mut each_nal: impl FnMut(&[u8]),
    ) -> Result<bool, Error> {
        // Before the first picture the encoder is not set up, and makes a key frame anyway.
        if self.since_key == 0 && !self.sps.is_empty() {
            self.encoder.force_intra_frame();
        }
        let (w, h) = self.geometry.even();
        let picture = &self.picture;
        let slices = YUVSlices::new(
            (&picture.y, &picture.u, &picture.v),
            (w, h),
            (w, w / 2, w / 2),
        );
        let coded = self
            .encoder
            .encode(&slices)
            .map_err(|e| failed(index, &e.to_string()))?;
        let is_key = match coded.frame_type() {
            FrameType::IDR => true,
            FrameType::I | FrameType::P => false,
            other => return Err(failed(index, &format!("frame type {other:?}"))),
        };
        for layer in (0..coded.num_layers()).filter_map(|i| coded.layer(i)) {
            for nal in (0..layer.nal_count()).filter_map(|i| layer.nal_unit(i)) {
                each_nal(without_start_code(nal));
            }
        }
        self.since_key = if is_key { 1 } else { self.since_key + 1 };
        if self.key_period <= self.since_key {
            self.since_key = 0;
        }
        Ok(is_key)
    }
}

fn failed(index: u64, what: &str) -> Error {
    Error::Encode {
        index,
        what: what.to_owned(),
    }
}

fn without_start_code(nal: &[u8]) -> &[u8] {
    let zeros = nal.iter().take_while(|&&byte| byte == 0).count();
    match nal.get(zeros) {
        Some(1) if 2 <= zeros => &nal[zeros + 1..],
        _ => nal,
    }
}

fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |byte| byte & 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(width: u32, height: u32, index: u32) -> Frame {
        let rgb = (0..width * height * 3)
            .map(|i| (i * 7 + index * 11) as u8)
            .collect();
        Frame { width, height, rgb }
    }

    #[test]
    fn key_frames_come_at_the_start_every_two_seconds_and_after_restart() {
        let mut h264 = H264::new(
            Geometry {
                width: 16,
                height: 16,
                scale: 2,
            },
            4.0,
        )
        .expect("opens");
        let mut keys = Vec::new();
        for index in 0..20u32 {
            if index == 13 {
                h264.restart();
            }
            let mut out = Vec::new();
            // The same picture each time, so that no scene change asks for a key frame.
            if h264
                .encode(u64::from(index), &frame(16, 16, 0), &mut out)
                .expect("encodes")
            {
                keys.push(index);
            }
            let len = u32::from_be_bytes(out[..4].try_into().unwrap()) as usize;
            assert!(4 + len <= out.len());
        }
        assert_eq!(keys, [0, 8, 13]);
    }

    #[test]
    fn start_codes_are_removed_once() {
        assert_eq!(
            without_start_code(&[0, 0, 0, 1, 0x65, 0, 0, 1]),
            [0x65, 0, 0, 1]
        );
        assert_eq!(without_start_code(&[0, 0, 1, 0x41]), [0x41]);
        assert_eq!(without_start_code(&[0x41]), [0x41]);
        assert_eq!(without_start_code(&[]), [0u8; 0]);
    }
}
