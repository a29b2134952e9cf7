//! Reads protocol buffers: fields one after the other, every length checked against what is left.
//!
//! Source: Protocol Buffers, "Encoding".

/// What a field holds, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// An integer, a bool or an enum.
    Varint(u64),
    /// Four bytes.
    Fixed32(u32),
    /// Eight bytes, which nothing here uses.
    Fixed64,
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(b) => Some(b),
            _ => None,
        }
    }

    pub(super) fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn float(self) -> Option<f32> {
        match self {
            Value::Fixed32(bits) => Some(f32::from_bits(bits)),
            _ => None,
        }
    }

    /// An `int32`, whose negative values are written as 64 bits.
    pub(super) fn int(self) -> Option<i64> {
        match self {
            Value::Varint(v) => Some(v as i64),
            _ => None,
        }
    }

    pub(super) fn flag(self) -> Option<bool> {
        Some(self.int()? != 0)
    }
}

/// The fields of a message in their order.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// Bytes that are left: how far from its end a message is damaged.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next field's number and value; `None` at the end.
    ///
    /// # Errors
    /// A sentence about what cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let n = usize::try_from(self.varint()?).map_err(|_| "a length beyond the file")?;
                Value::Bytes(self.take(n)?)
            }
            5 => {
                let b = self.take(4)?;
                Value::Fixed32(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            }
            _ => return Err("a field of no known type"),
        };
        match key >> 3 {
            0 => Err("a field without a number"),
            number => Ok(Some((number, value))),
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], &'static str> {
        let Some((taken, rest)) = self.rest.split_at_checked(n) else {
            return Err("a field that ends after the file");
        };
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                return Err("a number beyond 64 bits");
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err("a number without an end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_their_order() {
        let bytes = [
            0x0a, 2, b'h', b'i', 0x15, 0, 0, 0x80, 0x3f, 0x18, 0xac, 0x02, 0x21, 1, 2, 3, 4, 5, 6,
            7, 8,
        ];
        let mut f = Fields::new(&bytes);
        assert_eq!(f.next(), Ok(Some((1, Value::Bytes(b"hi")))));
        let one = f.next().unwrap().unwrap();
        assert_eq!((one.0, one.1.float()), (2, Some(1.0)));
        assert_eq!(f.next(), Ok(Some((3, Value::Varint(300)))));
        assert_eq!(f.next(), Ok(Some((4, Value::Fixed64))));
        assert_eq!(f.next(), Ok(None));
    }

    #[test]
    fn negative_numbers_take_ten_bytes() {
        let mut bytes = vec![0x08];
        bytes.extend([0xff; 9]);
        bytes.push(1);
        assert_eq!(
            Fields::new(&bytes).next().unwrap().unwrap().1.int(),
            Some(-1)
        );
    }

    #[test]
    fn what_does_not_end_is_refused() {
        for bytes in [
            &[0x80][..],
            &[0x0a, 5, 1],
            &[
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
            &[0x15, 1, 2],
            &[0x21, 1],
            &[0x0b],
            &[0x0e],
            &[0x02, 0],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
            ],
            &[0xff; 12],
        ] {
            assert!(Fields::new(bytes).next().is_err(), "{bytes:x?}");
        }
    }
}
