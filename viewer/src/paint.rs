//! The painter's thread: the window's surface, egui's meshes on it, and screenshots. The only place that names wgpu.
//!
//! It takes the newest picture that the window has laid out and may wait for the device, which is busy with the film; the
//! window's own thread never does. A picture that was not painted in time is replaced by the next, its textures kept.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use egui::epaint::textures::TexturesDelta;
use egui::{ClippedPrimitive, TextureId};
use egui_wgpu::wgpu;
use egui_wgpu::{Renderer, RendererOptions, ScreenDescriptor};
use longtake::gpu::{Booked, Device, Lent, Select};
use winit::window::Window;

use crate::pictures::Arrival;

/// A picture of the window.
pub struct Picture {
    /// Meshes.
    pub meshes: Vec<ClippedPrimitive>,
    /// Textures that changed.
    pub textures: TexturesDelta,
    /// Pictures to copy into textures, on the device, after those changes.
    pub arrivals: Vec<Arrival>,
    /// Physical pixels.
    pub size: [u32; 2],
    /// Physical pixels a point.
    pub ppp: f32,
    /// When the oldest input came that it shows.
    pub input: Option<Instant>,
    /// Files to save it to.
    pub shots: Vec<PathBuf>,
}

/// What the painter tells the window.
#[derive(Debug)]
pub enum Painted {
    /// A picture is shown; seconds from the input to it.
    Shown(Option<f64>),
    /// A screenshot is saved, or why not.
    Shot(Result<PathBuf, String>),
    /// Nothing can be shown any more.
    Failed(String),
}

#[derive(Default)]
struct Slot {
    next: Option<Picture>,
    ends: bool,
}

/// The window's end of the thread.
pub struct Painter {
    slot: Arc<(Mutex<Slot>, Condvar)>,
    thread: Option<std::thread::JoinHandle<Textures>>,
    device: Device,
    /// Side of the largest texture.
    pub max_side: usize,
}

impl Painter {
    /// Makes the window's surface and starts the thread. `device`: the engine's; where it lends none (the CPU twins), the best
    /// one there is paints. `textures`: what an earlier painter gave back.
    ///
    /// # Errors
    /// No device, or none that can show on this window.
    pub fn start(
        device: &Device,
        window: Arc<Window>,
        textures: Textures,
        tell: Box<dyn Fn(Painted) + Send>,
    ) -> anyhow::Result<Painter> {
        let (lent, owner) = match device.lend() {
            Some(lent) => (lent, device.clone()),
            None => {
                let other = Device::open(&Select::default()).context(
                    "the window needs a device to draw on, also where the film is made by the CPU twins",
                )?;
                (other.lend().context("no device to draw on")?, other)
            }
        };
        let surface = lent.instance.create_surface(window).context("no surface")?;
        let caps = surface.get_capabilities(&lent.adapter);
        let plain = [
            wgpu::TextureFormat::Bgra8Unorm,
            wgpu::TextureFormat::Rgba8Unorm,
        ];
        // egui blends in gamma space: a format that converts on its own would lighten everything.
        let format = plain
            .into_iter()
            .find(|f| caps.formats.contains(f))
            .or(caps.formats.first().copied())
            .with_context(|| {
                format!(
                    "{} cannot show on this window; choose another --device",
                    owner.caps().title()
                )
            })?;
        let renderer = Renderer::new(&lent.device, format, RendererOptions::default());
        let max_side = lent.device.limits().max_texture_dimension_2d as usize;
        let slot = Arc::new((Mutex::new(Slot::default()), Condvar::new()));
        let mut painting = Painting {
            booked: owner.book_viewer(),
            copies: Textures::default(),
            lent,
            surface,
            format,
            renderer,
            size: [0, 0],
            textures: std::collections::HashMap::new(),
            tell,
        };
        let inbox = slot.clone();
        let thread = std::thread::Builder::new()
            .name("painter".into())
            .spawn(move || {
                painting.upload(textures);
                // A driver that went away can make calls fail in ways that wgpu answers by panicking: the window lives on.
                let work = std::panic::AssertUnwindSafe(|| painting.serve(&inbox));
                if std::panic::catch_unwind(work).is_err() {
                    (painting.tell)(Painted::Failed("the drawing thread ended".to_owned()));
                }
                std::mem::take(&mut painting.copies)
            })?;
        Ok(Painter {
            slot,
            thread: Some(thread),
            device: owner,
            max_side,
        })
    }

    /// Hands over a picture; one that still waits is replaced.
    pub fn show(&self, mut picture: Picture) {
        let (slot, ready) = &*self.slot;
        let mut slot = slot.lock().unwrap_or_else(|p| p.into_inner());
        if let Some(mut old) = slot.next.take() {
            old.textures.append(picture.textures);
            picture.textures = old.textures;
            old.arrivals.append(&mut picture.arrivals);
            picture.arrivals = old.arrivals;
            picture.input = old.input.or(picture.input);
            picture.shots.append(&mut old.shots);
        }
        slot.next = Some(picture);
        ready.notify_one();
    }
}

impl Painter {
    /// Its device was lost: nothing can be drawn with it any more.
    pub fn is_lost(&self) -> bool {
        self.device.is_lost()
    }

    /// It draws on this device.
    pub fn shares(&self, device: &Device) -> bool {
        let own = self.device.lend().zip(device.lend());
        own.is_some_and(|(a, b)| a.device == b.device)
    }

    /// Ends it; gives the textures, for the next one on another device.
    pub fn end(mut self) -> Textures {
        self.stop()
    }

    fn stop(&mut self) -> Textures {
        let (slot, ready) = &*self.slot;
        let waiting = {
            let mut slot = slot.lock().unwrap_or_else(|p| p.into_inner());
            slot.ends = true;
            slot.next.take()
        };
        ready.notify_one();
        // A painter that panicked has nothing left to tell.
        let done = self.thread.take().and_then(|thread| thread.join().ok());
        let mut textures = done.unwrap_or_default();
        if let Some(picture) = waiting {
            textures.take(&picture.textures);
        }
        textures
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Textures as they lie in main memory: egui tells changes only, so whoever draws on another device needs all of them.
#[derive(Default)]
pub struct Textures(std::collections::HashMap<TextureId, (egui::ColorImage, egui::TextureOptions)>);

impl Textures {
    fn take(&mut self, delta: &TexturesDelta) {
        for (id, deltas) in &delta.set {
            for delta in deltas {
                let egui::ImageData::Color(part) = &delta.image;
                match (delta.pos, self.0.get_mut(id)) {
                    (Some([x, y]), Some((whole, _))) => patch(whole, part, [x, y]),
                    (Some(_), None) => {}
                    (None, _) => {
                        self.0
                            .insert(*id, (egui::ColorImage::clone(part), delta.options));
                    }
                }
            }
        }
        for id in &delta.free {
            self.0.remove(id);
        }
    }
}

/// Replaces a part of an image; what would lie outside it is left out.
fn patch(whole: &mut egui::ColorImage, part: &egui::ColorImage, [x, y]: [usize; 2]) {
    let [wide, high] = whole.size;
    let n = part.size[0].min(wide.saturating_sub(x));
    for (i, row) in part.pixels.chunks_exact(part.size[0].max(1)).enumerate() {
        if y + i < high {
            let at = (y + i) * wide + x;
            whole.pixels[at..at + n].copy_from_slice(&row[..n]);
        }
    }
}

/// How often, and after what pause, a surface is set up anew before the window gives up.
const CONFIGURE_TRIES: u32 = 50;
const CONFIGURE_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

struct Painting {
    lent: Lent,
    surface: wgpu::Surface<'static>,
    format: wgpu::TextureFormat,
    renderer: Renderer,
    size: [u32; 2],
    /// Bytes by texture.
    textures: std::collections::HashMap<TextureId, u64>,
    copies: Textures,
    booked: Booked,
    tell: Box<dyn Fn(Painted) + Send>,
}

impl Painting {
    /// Brings textures onto the device that another painter had.
    fn upload(&mut self, textures: Textures) {
        for (id, (image, options)) in &textures.0 {
            let delta = egui::epaint::ImageDelta::full(image.clone(), *options);
            self.renderer
                .update_texture(&self.lent.device, &self.lent.queue, *id, &delta);
            let [w, h] = image.size;
            self.textures.insert(*id, 4 * (w * h) as u64);
        }
        self.copies = textures;
    }

    fn serve(&mut self, inbox: &(Mutex<Slot>, Condvar)) {
        loop {
            let picture = {
                let (slot, ready) = inbox;
                let mut slot = slot.lock().unwrap_or_else(|p| p.into_inner());
                loop {
                    if slot.ends {
                        return;
                    }
                    if let Some(picture) = slot.next.take() {
                        break picture;
                    }
                    slot = ready.wait(slot).unwrap_or_else(|p| p.into_inner());
                }
            };
            if let Err(e) = self.paint(picture) {
                (self.tell)(Painted::Failed(format!("{e:#}")));
                return;
            }
        }
    }

    fn paint(&mut self, picture: Picture) -> anyhow::Result<()> {
        let Picture {
            meshes,
            textures,
            arrivals,
            size,
            ppp,
            input,
            shots,
        } = picture;
        let screen = ScreenDescriptor {
            size_in_pixels: size,
            pixels_per_point: ppp,
        };
        self.copies.take(&textures);
        for (id, deltas) in &textures.set {
            for delta in deltas {
                self.renderer
                    .update_texture(&self.lent.device, &self.lent.queue, *id, delta);
                if delta.is_whole() {
                    let [w, h] = delta.image.size();
                    self.textures.insert(*id, 4 * (w * h) as u64);
                }
            }
        }
        let mut encoder = self.lent.device.create_command_encoder(&Default::default());
        for arrival in &arrivals {
            self.bring(&mut encoder, arrival);
        }
        let mut buffers = self.renderer.update_buffers(
            &self.lent.device,
            &self.lent.queue,
            &mut encoder,
            &meshes,
            &screen,
        );
        self.book(&meshes, size);
        let visible = size[0] > 0 && size[1] > 0;
        let target = match visible {
            true => self.target(size)?,
            false => None,
        };
        if let Some(target) = &target {
            self.draw(&mut encoder, &target.texture, &meshes, &screen);
        }
        let shot =
            (visible && !shots.is_empty()).then(|| self.capture(&mut encoder, &meshes, &screen));
        buffers.push(encoder.finish());
        self.lent.queue.submit(buffers);
        if let Some(target) = target {
            self.lent.queue.present(target);
        }
        for id in &textures.free {
            self.renderer.free_texture(id);
            self.textures.remove(id);
        }
        if let Some(shot) = shot {
            for path in shots {
                let saved = self
                    .save(&shot, &path)
                    .map(|()| path)
                    .map_err(|e| format!("{e:#}"));
                (self.tell)(Painted::Shot(saved));
            }
        }
        (self.tell)(Painted::Shown(input.map(|at| at.elapsed().as_secs_f64())));
        Ok(())
    }

    /// Copies a chunk's pictures into their places.
    fn bring(&self, encoder: &mut wgpu::CommandEncoder, arrival: &Arrival) {
        let pictures = &arrival.pictures;
        let texture = self.renderer.texture(&arrival.texture);
        let (Some(texture), Some(buffer)) = (
            texture.and_then(|t| t.texture.as_ref()),
            pictures.words.lend(),
        ) else {
            return;
        };
        let row = pictures.row_bytes();
        let (width, height) = (pictures.width, pictures.height);
        for (i, [x, y]) in arrival.places.iter().copied().enumerate() {
            let from = wgpu::TexelCopyBufferInfo {
                buffer: &buffer,
                layout: wgpu::TexelCopyBufferLayout {
                    offset: i as u64 * u64::from(row) * u64::from(height),
                    bytes_per_row: Some(row),
                    rows_per_image: None,
                },
            };
            let to = wgpu::TexelCopyTextureInfo {
                origin: wgpu::Origin3d { x, y, z: 0 },
                ..texture.as_image_copy()
            };
            let size = wgpu::Extent3d {
                width,
                height,
                depth_or_array_layers: 1,
            };
            encoder.copy_buffer_to_texture(from, to, size);
        }
    }

    /// The next image of the surface; `None` when the window shows nothing now.
    fn target(&mut self, size: [u32; 2]) -> anyhow::Result<Option<wgpu::SurfaceTexture>> {
        use wgpu::CurrentSurfaceTexture as Current;
        if self.size != size {
            self.configure(size)?;
        }
        for _ in 0..2 {
            match self.surface.get_current_texture() {
                Current::Success(texture) => return Ok(Some(texture)),
                Current::Suboptimal(texture) => {
                    // Shown as it is; the next one fits again.
                    self.size = [0, 0];
                    return Ok(Some(texture));
                }
                Current::Outdated | Current::Lost => self.configure(size)?,
                Current::Timeout | Current::Occluded | Current::Validation => return Ok(None),
            }
        }
        Ok(None)
    }

    fn configure(&mut self, size: [u32; 2]) -> anyhow::Result<()> {
        let mut config = self
            .surface
            .get_default_config(&self.lent.adapter, size[0], size[1])
            .context("the device cannot show on this window any more")?;
        config.format = self.format;
        config.present_mode = wgpu::PresentMode::AutoVsync;
        config.desired_maximum_frame_latency = 1;
        // wgpu waits for the device, which the engine keeps busy from its own thread, and may give up: then once more. A surface that
        // is left unconfigured would make the next call panic.
        for tries in 1.. {
            let scope = (self.lent.device).push_error_scope(wgpu::ErrorFilter::Validation);
            self.surface.configure(&self.lent.device, &config);
            match pollster::block_on(scope.pop()) {
                None => break,
                Some(e) if tries < CONFIGURE_TRIES => log::debug!("window of {size:?}: {e}"),
                Some(e) => anyhow::bail!("the window's surface: {e}"),
            }
            std::thread::sleep(CONFIGURE_PAUSE);
        }
        self.size = size;
        Ok(())
    }

    fn draw(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        target: &wgpu::Texture,
        meshes: &[ClippedPrimitive],
        screen: &ScreenDescriptor,
    ) {
        let view = target.create_view(&Default::default());
        let pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("window"),
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations {
                    load: wgpu::LoadOp::Clear(wgpu::Color::BLACK),
                    store: wgpu::StoreOp::Store,
                },
            })],
            ..Default::default()
        });
        self.renderer
            .render(&mut pass.forget_lifetime(), meshes, screen);
    }

    /// Draws once more, into a texture that can be read.
    fn capture(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        meshes: &[ClippedPrimitive],
        screen: &ScreenDescriptor,
    ) -> Shot {
        let [width, height] = screen.size_in_pixels;
        let size = wgpu::Extent3d {
            width,
            height,
            depth_or_array_layers: 1,
        };
        let texture = self.lent.device.create_texture(&wgpu::TextureDescriptor {
            label: Some("screenshot"),
            size,
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: self.format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        self.draw(encoder, &texture, meshes, screen);
        let stride = (4 * width).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
        let buffer = self.lent.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("screenshot"),
            size: u64::from(stride) * u64::from(height),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        encoder.copy_texture_to_buffer(
            texture.as_image_copy(),
            wgpu::TexelCopyBufferInfo {
                buffer: &buffer,
                layout: wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(stride),
                    rows_per_image: None,
                },
            },
            size,
        );
        Shot {
            buffer,
            width,
            height,
            stride,
        }
    }

    fn save(&self, shot: &Shot, path: &std::path::Path) -> anyhow::Result<()> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        shot.buffer
            .slice(..)
            .map_async(wgpu::MapMode::Read, move |r| {
                let _ = tell.send(r.is_ok());
            });
        // In pieces, so that the engine's thread is not kept from its own submits.
        let mapped = loop {
            let piece = self.lent.device.poll(wgpu::PollType::Wait {
                submission_index: None,
                timeout: Some(Duration::from_millis(4)),
            });
            if let Err(e) = &piece
                && !matches!(e, wgpu::PollError::Timeout)
            {
                anyhow::bail!("waiting for the screenshot: {e}");
            }
            match told.try_recv() {
                Ok(ok) => break ok,
                Err(std::sync::mpsc::TryRecvError::Empty) => {}
                Err(std::sync::mpsc::TryRecvError::Disconnected) => break false,
            }
        };
        anyhow::ensure!(mapped, "reading the screenshot back failed");
        let view = shot
            .buffer
            .slice(..)
            .get_mapped_range()
            .context("reading the screenshot back")?;
        let is_bgr = matches!(
            self.format,
            wgpu::TextureFormat::Bgra8Unorm | wgpu::TextureFormat::Bgra8UnormSrgb
        );
        let mut rgb = Vec::with_capacity(3 * (shot.width * shot.height) as usize);
        for row in view.chunks_exact(shot.stride as usize) {
            for p in row[..4 * shot.width as usize].chunks_exact(4) {
                rgb.extend(if is_bgr {
                    [p[2], p[1], p[0]]
                } else {
                    [p[0], p[1], p[2]]
                });
            }
        }
        let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), shot.width, shot.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::High);
        encoder.write_header()?.write_image_data(&rgb)?;
        Ok(())
    }

    /// Books the window's device bytes: textures, vertices and indices, and three images of the surface. What egui-wgpu
    /// keeps beside (uniforms, growth of its buffers) is not counted.
    fn book(&mut self, meshes: &[ClippedPrimitive], size: [u32; 2]) {
        let of = |m: &ClippedPrimitive| match &m.primitive {
            egui::epaint::Primitive::Mesh(m) => {
                size_of::<egui::epaint::Vertex>() * m.vertices.len() + 4 * m.indices.len()
            }
            egui::epaint::Primitive::Callback(_) => 0,
        };
        let meshes: usize = meshes.iter().map(of).sum();
        let images = 3 * 4 * u64::from(size[0]) * u64::from(size[1]);
        let bytes =
            self.textures.values().sum::<u64>() + meshes.next_power_of_two() as u64 + images;
        self.booked.set(bytes);
    }
}

/// A screenshot on its way.
struct Shot {
    buffer: wgpu::Buffer,
    width: u32,
    height: u32,
    stride: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::{Color32, ColorImage, TextureOptions};

    #[test]
    fn copies_of_textures_follow_their_changes() {
        let id = TextureId::Managed(3);
        let mut copies = Textures::default();
        let mut delta = TexturesDelta::default();
        let whole = ColorImage::filled([4, 3], Color32::BLACK);
        let part = ColorImage::filled([2, 2], Color32::RED);
        let set = |delta: &mut TexturesDelta, d| delta.set.entry(id).or_default().push(d);
        set(
            &mut delta,
            egui::epaint::ImageDelta::full(whole, TextureOptions::NEAREST),
        );
        // The last column of the part lies outside.
        set(
            &mut delta,
            egui::epaint::ImageDelta::partial([3, 1], part, TextureOptions::NEAREST),
        );
        copies.take(&delta);
        let red: Vec<usize> = copies.0[&id]
            .0
            .pixels
            .iter()
            .enumerate()
            .filter(|(_, c)| **c == Color32::RED)
            .map(|(i, _)| i)
            .collect();
        assert_eq!(red, [7, 11]);
        let mut gone = TexturesDelta::default();
        gone.free.insert(id);
        copies.take(&gone);
        assert!(copies.0.is_empty());
    }
}
