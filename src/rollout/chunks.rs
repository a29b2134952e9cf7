//! How the latent frames of a film are cut into chunks. Pure. Source: SELF-FORCING 5.6.

use std::ops::Range;

/// How long a model's chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunking {
    /// Latent frames of a chunk, at least one.
    pub frames: usize,
    /// The film's first frame is a chunk of its own, as models are trained that also begin with a given picture.
    pub first_alone: bool,
}

/// The chunks of a film, in frames counted from its first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// Chunks whose latents are given: each is run once at timestep 0, which leaves its keys and values.
    pub given: Vec<Range<i64>>,
    /// Chunks to make.
    pub made: Vec<Range<i64>>,
}

impl Chunking {
    /// Cuts a film of `given` latent frames and `made` ones after them.
    ///
    /// # Errors
    /// Frames that are no whole chunks, or nothing to make; the text names what would be right.
    pub fn cut(&self, given: usize, made: usize) -> Result<Cut, String> {
        if made == 0 {
            return Err("no frames to make; ask for at least one chunk".to_owned());
        }
        self.check("given latent frames", given)?;
        self.check(
            match given {
                0 => "latent frames",
                _ => "latent frames, the given ones counted,",
            },
            given + made,
        )?;
        let mut cut = Cut::default();
        let mut at = 0;
        while at < given + made {
            let n = match self.first_alone && at == 0 {
                true => 1,
                false => self.frames,
            };
            let side = if at < given {
                &mut cut.given
            } else {
                &mut cut.made
            };
            side.push(at as i64..(at + n) as i64);
            at += n;
        }
        Ok(cut)
    }

    /// Refuses a film that would end inside a chunk.
    fn check(&self, what: &str, n: usize) -> Result<(), String> {
        let alone = usize::from(self.first_alone && n > 0);
        let rest = (n - alone) % self.frames;
        if rest == 0 {
            return Ok(());
        }
        let below = n - rest;
        let (above, rule) = (
            below + self.frames,
            match self.first_alone {
                true => format!("one and then chunks of {}", self.frames),
                false => format!("chunks of {}", self.frames),
            },
        );
        let near = match below {
            0 => above.to_string(),
            _ => format!("{below} or {above}"),
        };
        Err(format!(
            "{n} {what} are no whole chunks: this model takes {rule}; make it {near}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(chunks: &[Range<i64>]) -> Vec<i64> {
        chunks.iter().map(|c| c.end - c.start).collect()
    }

    #[test]
    fn chunks_follow_each_other_from_the_first_frame() {
        for (frames, first_alone, given, made, want_given, want_made) in [
            (3, false, 0, 6, vec![], vec![3, 3]),
            (3, false, 6, 3, vec![3, 3], vec![3]),
            (1, false, 1, 2, vec![1], vec![1, 1]),
            (3, true, 0, 4, vec![], vec![1, 3]),
            (3, true, 1, 6, vec![1], vec![3, 3]),
            (3, true, 4, 3, vec![1, 3], vec![3]),
            (1, true, 0, 2, vec![], vec![1, 1]),
        ] {
            let chunking = Chunking {
                frames,
                first_alone,
            };
            let cut = chunking.cut(given, made).unwrap();
            assert_eq!(lengths(&cut.given), want_given, "{chunking:?}");
            assert_eq!(lengths(&cut.made), want_made, "{chunking:?}");
            let all: Vec<i64> = cut.given.into_iter().chain(cut.made).flatten().collect();
            assert_eq!(all, (0..(given + made) as i64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn films_that_end_inside_a_chunk_are_refused_with_what_would_be_right() {
        let refused = |first_alone, given, made| {
            Chunking {
                frames: 3,
                first_alone,
            }
            .cut(given, made)
            .unwrap_err()
        };
        assert!(refused(false, 0, 7).contains("make it 6 or 9"));
        // One given picture takes a model whose first frame stands alone.
        assert!(refused(false, 1, 3).contains("make it 3"));
        assert!(refused(true, 0, 3).contains("make it 1 or 4"));
        assert!(refused(true, 2, 3).contains("make it 1 or 4"));
        assert!(refused(false, 3, 0).contains("no frames to make"));
    }
}
