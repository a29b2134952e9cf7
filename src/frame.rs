//! The picture type that decoders make and writers take.

/// One RGB frame: 8 bits a channel, rows from the top, `rgb.len() == width * height * 3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `[row, column, channel]`, channel fastest, red first.
    pub rgb: Vec<u8>,
}
