//! Prompts: listed over a film, cleaned, cut into tokens, encoded by UMT5 on the device, kept in files.
//!
//! What is left out: what the network makes of the embeddings, which is `model`'s.

mod charsmap;
mod clean;
mod embeddings;
mod entities;
mod error;
mod names;
mod prompts;
mod proto;
mod tokenizer;
mod umt5;

pub use clean::{clean_prompt, fix_text, unescape_and_strip};
pub use embeddings::{
    EmbeddingCache, Embeddings, MergedPadding, Prompted, Source, embed, merge_padding,
};
pub use error::Error;
pub use prompts::{MAX_PROMPTS, Placed, Prompts, Shot, When};
pub use tokenizer::{MAX_PROMPT, Tokenizer, Tokens};
pub use umt5::{Umt5, Umt5Bytes, Umt5Config, Watch, bias_by_distance, bucket};
