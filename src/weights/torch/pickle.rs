//! A machine for the part of pickle that tensors need. It builds plain data and has nothing that it could call.
//!
//! Every instruction outside the list, and every name outside [`Global::named`], is refused when it is met, used or not.
//! Texts stay in the file, objects lie in one flat list, so that neither nesting nor dropping it needs the machine's stack.
//!
//! Source of the instructions: Python 3.13, `Lib/pickletools.py`; of the names: PyTorch 2.9, `torch/_utils.py`,
//! `torch/serialization.py`.

use std::collections::{BTreeMap, HashMap};

use safetensors::Dtype;

use super::fault::{Fault, shortened};

/// Instructions of one pickle. A tensor takes some 45, so this is 23,000 tensors and at most some 100 MiB of objects.
const MAX_STEPS: usize = 1 << 20;
/// Containers in containers. Checkpoints have four or five.
pub(super) const MAX_DEPTH: u32 = 64;
/// Sizes of a tensor.
const MAX_RANK: usize = 64;

/// A part of the pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    start: usize,
    len: u32,
}

/// A value on the machine's stack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number beyond 64 bits, little-endian.
    Long(Span),
    /// A float or bytes; tensors need neither, so their value is not kept.
    Other,
    Text(Span),
    Global(Global),
    /// An index into [`Machine::storages`].
    Storage(u32),
    /// An index into the list of objects.
    Object(u32),
}

/// The names that a checkpoint may ask for. They are data: what `REDUCE` makes of them is written in [`Machine::reduce`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    /// `torch.FloatStorage` and its like.
    Storage(Dtype),
    /// `torch.float32` and its like, as settings have them.
    Type,
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "Size") => Self::Size,
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "DoubleStorage") => Self::Storage(Dtype::F64),
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::BF16),
            ("torch", "LongStorage") => Self::Storage(Dtype::I64),
            ("torch", "IntStorage") => Self::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Self::Storage(Dtype::I16),
            ("torch", "CharStorage") => Self::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Self::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Self::Storage(Dtype::BOOL),
            (
                "torch",
                "float32" | "float64" | "float16" | "bfloat16" | "int64" | "int32" | "int16"
                | "int8" | "uint8" | "bool",
            ) => Self::Type,
            _ => return None,
        })
    }
}

/// A run of values that the file holds once and tensors are views of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) key: Span,
    pub(super) dtype: Dtype,
    /// Number of values.
    pub(super) count: u64,
}

/// A view of a storage, checked to lie inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) storage: u32,
    /// First value.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Values from one index to the next, for each size.
    pub(super) strides: Vec<usize>,
    /// Number of values; its bytes fit a `usize`.
    pub(super) count: usize,
}

impl Tensor {
    /// Whether the values lie one after the other, row-major.
    pub(super) fn is_contiguous(&self) -> bool {
        if self.count == 0 {
            return true;
        }
        let mut next = 1;
        self.shape
            .iter()
            .zip(&self.strides)
            .rev()
            .all(|(&size, &stride)| {
                let fits = size == 1 || stride == next;
                next *= size;
                fits
            })
    }
}

/// What a container holds.
#[derive(Debug)]
pub(super) enum Object {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict {
        items: Vec<(Value, Value)>,
        /// Whether it is an `OrderedDict`, which may be given attributes.
        is_ordered: bool,
    },
    /// What it holds is not kept.
    Set,
    Tensor(Box<Tensor>),
}

#[derive(Debug)]
struct Node {
    /// Containers inside, this one counted.
    depth: u32,
    object: Object,
}

/// A pickle that was read to its end.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Node>,
    /// Every storage that the pickle names.
    pub(super) storages: Vec<Storage>,
    by_key: BTreeMap<&'a str, u32>,
}

const ENDS: Fault = Fault::Truncated("its pickle");
const SHORT_STACK: Fault = Fault::Malformed("an instruction finds no value");

/// Runs the pickle at the start of `bytes`; what follows it is left alone. Gives the top value, the machine that holds what it
/// is made of, and the pickle's length.
///
/// # Errors
/// For whatever is outside the subset; never panics, on any bytes, and never takes more memory than a fixed multiple of the
/// instructions that are there, which are limited.
pub(super) fn read(bytes: &[u8]) -> Result<(Value, Machine<'_>, usize), Fault> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        nodes: Vec::new(),
        storages: Vec::new(),
        by_key: BTreeMap::new(),
    };
    for _ in 0..MAX_STEPS {
        if let Some(top) = machine.step()? {
            let len = machine.at;
            return Ok((top, machine, len));
        }
    }
    Err(Fault::TooMuch("over a million instructions"))
}

impl<'a> Machine<'a> {
    /// The object at `index`, which this machine gave.
    pub(super) fn object(&self, index: u32) -> Option<&Object> {
        self.nodes.get(index as usize).map(|node| &node.object)
    }

    /// The text of `span`.
    pub(super) fn text(&self, span: Span) -> &'a str {
        // Checked when the value was made.
        str::from_utf8(self.raw(span)).unwrap_or_default()
    }

    /// The bytes of `span`.
    pub(super) fn raw(&self, span: Span) -> &'a [u8] {
        self.bytes
            .get(span.start..span.start + span.len as usize)
            .unwrap_or_default()
    }

    /// One instruction; the top value at the end.
    fn step(&mut self) -> Result<Option<Value>, Fault> {
        let opcode = self.u8()?;
        match opcode {
            // PROTO, FRAME: a frame is only a hint how much to read at once.
            0x80 => match self.u8()? {
                2..=4 => {}
                other => return Err(Fault::Protocol(other)),
            },
            0x95 => {
                let len = self.u64()?;
                self.has(len)?;
            }
            b'.' => {
                let top = self.pop()?;
                if !self.stack.is_empty() || !self.marks.is_empty() {
                    return Err(Fault::Malformed("values are left over at its end"));
                }
                return Ok(Some(top));
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(self.take_array()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = self.u8()?;
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take_array()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => {
                let len = self.u8()?;
                self.long(len.into())?;
            }
            0x8b => {
                let len = self.length()?;
                self.long(len)?;
            }
            b'G' => {
                self.span(8)?;
                self.stack.push(Value::Other);
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, BINSTRING, SHORT_BINSTRING
            b'X' => {
                let len = self.u32()?;
                self.push_text(len.into())?;
            }
            0x8c | b'U' => {
                let len = self.u8()?;
                self.push_text(len.into())?;
            }
            0x8d => {
                let len = self.u64()?;
                self.push_text(len)?;
            }
            b'T' => {
                let len = self.length()?;
                self.push_text(len)?;
            }
            // SHORT_BINBYTES, BINBYTES
            b'C' => {
                let len = self.u8()?;
                self.span(len.into())?;
                self.stack.push(Value::Other);
            }
            b'B' => {
                let len = self.u32()?;
                self.span(len.into())?;
                self.stack.push(Value::Other);
            }
            b'q' => {
                let at = self.u8()?;
                self.remember(at.into())?;
            }
            b'r' => {
                let at = self.u32()?;
                self.remember(at)?;
            }
            0x94 => {
                let at = u32::try_from(self.memo.len())
                    .map_err(|_| Fault::TooMuch("too long a memo"))?;
                self.remember(at)?;
            }
            b'h' => {
                let at = self.u8()?;
                self.recall(at.into())?;
            }
            b'j' => {
                let at = self.u32()?;
                self.recall(at)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err(Fault::Malformed("a name is no text"));
                };
                self.global(self.text(module), self.text(name))?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.stack.push(storage);
            }
            b'R' => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let made = self.reduce(callable, args)?;
                self.stack.push(made);
            }
            b'b' => self.build()?,
            _ => return self.container(opcode).map(|()| None),
        }
        Ok(None)
    }

    /// Instructions that make or fill a container; the rest is refused.
    fn container(&mut self, opcode: u8) -> Result<(), Fault> {
        match opcode {
            b')' => self.make(1, Object::Tuple(Vec::new())),
            b']' => self.make(1, Object::List(Vec::new())),
            b'}' => self.make(
                1,
                Object::Dict {
                    items: Vec::new(),
                    is_ordered: false,
                },
            ),
            0x8f => self.make(1, Object::Set),
            b't' => {
                let items = self.since_mark()?;
                self.tuple(items)
            }
            0x85..=0x87 => {
                let n = usize::from(opcode - 0x84);
                self.check_room(n)?;
                let items = self.stack.split_off(self.stack.len() - n);
                self.tuple(items)
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)
            }
            b's' => {
                self.check_room(2)?;
                let items = self.stack.split_off(self.stack.len() - 2);
                self.set(&items)
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&items)
            }
            // ADDITEMS
            0x90 => {
                self.since_mark()?;
                match self.stack.last() {
                    Some(&Value::Object(at)) if matches!(self.object(at), Some(Object::Set)) => {
                        Ok(())
                    }
                    _ => Err(Fault::Malformed(
                        "items are added to something that is no set",
                    )),
                }
            }
            other => Err(Fault::Opcode(opcode_name(other))),
        }
    }

    /// Pushes a new object.
    fn make(&mut self, depth: u32, object: Object) -> Result<(), Fault> {
        let made = self.object_of(depth, object)?;
        self.stack.push(made);
        Ok(())
    }

    fn object_of(&mut self, depth: u32, object: Object) -> Result<Value, Fault> {
        if MAX_DEPTH < depth {
            return Err(Fault::TooMuch("containers nested more than 64 deep"));
        }
        let at = u32::try_from(self.nodes.len()).map_err(|_| Fault::TooMuch("too many objects"))?;
        self.nodes.push(Node { depth, object });
        Ok(Value::Object(at))
    }

    fn depth(&self, value: Value) -> u32 {
        match value {
            Value::Object(at) => self.nodes.get(at as usize).map_or(0, |node| node.depth),
            _ => 0,
        }
    }

    fn tuple(&mut self, items: Vec<Value>) -> Result<(), Fault> {
        let depth = items
            .iter()
            .map(|&item| self.depth(item))
            .max()
            .unwrap_or(0);
        self.make(depth + 1, Object::Tuple(items))
    }

    fn append(&mut self, new: Vec<Value>) -> Result<(), Fault> {
        let depth = new.iter().map(|&item| self.depth(item)).max().unwrap_or(0);
        match self.target()? {
            Node {
                depth: own,
                object: Object::List(items),
            } => {
                items.extend(new);
                *own = (*own).max(depth + 1);
                Ok(())
            }
            _ => Err(Fault::Malformed(
                "items are added to something that is no list",
            )),
        }
    }

    fn set(&mut self, new: &[Value]) -> Result<(), Fault> {
        let (pairs, rest) = new.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Fault::Malformed("a key has no value"));
        }
        let depth = new.iter().map(|&item| self.depth(item)).max().unwrap_or(0);
        match self.target()? {
            Node {
                depth: own,
                object: Object::Dict { items, .. },
            } => {
                items.extend(pairs.iter().map(|&[key, value]| (key, value)));
                *own = (*own).max(depth + 1);
                Ok(())
            }
            _ => Err(Fault::Malformed(
                "a key is set in something that is no dictionary",
            )),
        }
    }

    /// The object on top of the stack, to be filled. Containers nested beyond the limit this way are found when they are walked.
    fn target(&mut self) -> Result<&mut Node, Fault> {
        self.check_room(1)?;
        match self.stack.last() {
            Some(&Value::Object(at)) => self.nodes.get_mut(at as usize).ok_or(SHORT_STACK),
            _ => Err(Fault::Malformed("something that is no container is filled")),
        }
    }

    /// `BUILD` gives an `OrderedDict` of a module its `_metadata`, which is for training; anything else is refused.
    fn build(&mut self) -> Result<(), Fault> {
        self.pop()?;
        match self.target()?.object {
            Object::Dict {
                is_ordered: true, ..
            } => Ok(()),
            _ => Err(Fault::Opcode(
                "BUILD on something that is no OrderedDict".to_owned(),
            )),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        let global = Global::named(module, name)
            .ok_or_else(|| Fault::Global(shortened(&format!("{module}.{name}"))))?;
        self.stack.push(Value::Global(global));
        Ok(())
    }

    /// The storage that a persistent id `("storage", type, key, place, count[, None])` stands for.
    fn storage(&mut self, id: Value) -> Result<Value, Fault> {
        const BAD: Fault = Fault::Malformed("a persistent id is not that of a storage");
        let items = match id {
            Value::Object(at) => match self.object(at) {
                Some(Object::Tuple(items)) => items,
                _ => return Err(BAD),
            },
            _ => return Err(BAD),
        };
        let (&[tag, class, key, _place, count], rest) =
            items.split_first_chunk::<5>().ok_or(BAD)?;
        if !matches!(rest, [] | [Value::None]) {
            return Err(Fault::Malformed("a storage is a view of another"));
        }
        let (
            Value::Text(tag),
            Value::Global(Global::Storage(dtype)),
            Value::Text(key),
            Value::Int(count),
        ) = (tag, class, key, count)
        else {
            return Err(BAD);
        };
        let count = u64::try_from(count).map_err(|_| BAD)?;
        if self.text(tag) != "storage" {
            return Err(BAD);
        }
        let name = self.text(key);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
            return Err(Fault::Malformed("a storage's key is no plain name"));
        }
        let new = Storage { key, dtype, count };
        if let Some(&at) = self.by_key.get(name) {
            let old = self.storages[at as usize];
            return match (old.dtype, old.count) == (dtype, count) {
                true => Ok(Value::Storage(at)),
                false => Err(Fault::Malformed("one storage has two forms")),
            };
        }
        let at =
            u32::try_from(self.storages.len()).map_err(|_| Fault::TooMuch("too many storages"))?;
        self.by_key.insert(name, at);
        self.storages.push(new);
        Ok(Value::Storage(at))
    }

    /// What calling `callable` would give. Nothing is called: the four names that may stand here are built by hand.
    fn reduce(&mut self, callable: Value, args: Value) -> Result<Value, Fault> {
        let Value::Global(callable) = callable else {
            return Err(Fault::Opcode(
                "REDUCE of something that is no name".to_owned(),
            ));
        };
        let Some(Object::Tuple(args)) = (match args {
            Value::Object(at) => self.object(at),
            _ => None,
        }) else {
            return Err(Fault::Malformed("the arguments of a call are no tuple"));
        };
        match (callable, args.as_slice()) {
            (Global::OrderedDict, []) => self.object_of(
                1,
                Object::Dict {
                    items: Vec::new(),
                    is_ordered: true,
                },
            ),
            (
                Global::RebuildTensor,
                &[storage, offset, size, stride, _, _] | &[storage, offset, size, stride, _, _, _],
            ) => {
                let tensor = self.tensor(storage, offset, size, stride)?;
                self.object_of(1, Object::Tensor(Box::new(tensor)))
            }
            (Global::RebuildParameter, &[Value::Object(at), _, _])
                if matches!(self.object(at), Some(Object::Tensor(_))) =>
            {
                Ok(Value::Object(at))
            }
            (Global::Size, &[Value::Object(at)])
                if matches!(self.object(at), Some(Object::Tuple(_))) =>
            {
                Ok(Value::Object(at))
            }
            _ => Err(Fault::Malformed("a call has the wrong arguments")),
        }
    }

    /// A view of a storage, if it lies inside.
    fn tensor(
        &self,
        storage: Value,
        offset: Value,
        size: Value,
        stride: Value,
    ) -> Result<Tensor, Fault> {
        const ARGS: Fault = Fault::Malformed("a tensor's arguments are of the wrong kind");
        let Value::Storage(storage) = storage else {
            return Err(ARGS);
        };
        let base = self.storages[storage as usize];
        let fault = |why| Fault::Tensor {
            key: shortened(self.text(base.key)),
            why,
        };
        let (shape, strides) = (self.sizes(size)?, self.sizes(stride)?);
        let (Some(shape), Some(strides)) = (shape, strides) else {
            return Err(fault("a size or a stride is negative or too large"));
        };
        let Value::Int(offset) = offset else {
            return Err(ARGS);
        };
        let offset = usize::try_from(offset).map_err(|_| fault("its offset is negative"))?;
        if shape.len() != strides.len() {
            return Err(fault("it has more sizes than strides, or fewer"));
        }
        let bytes = base.dtype.bitsize() / 8;
        let count = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size))
            .filter(|count| count.checked_mul(bytes).is_some())
            .ok_or_else(|| fault("its size overflows"))?;
        let last = shape
            .iter()
            .zip(&strides)
            .try_fold(offset, |last, (&size, &stride)| {
                last.checked_add(size.saturating_sub(1).checked_mul(stride)?)
            });
        let ends_inside = last.is_some_and(|last| (last as u64) < base.count);
        if 0 < count && !ends_inside {
            return Err(fault("it reaches beyond the storage"));
        }
        Ok(Tensor {
            storage,
            offset,
            shape,
            strides,
            count,
        })
    }

    /// A tuple of whole numbers; `None` where one is negative.
    fn sizes(&self, value: Value) -> Result<Option<Vec<usize>>, Fault> {
        const BAD: Fault = Fault::Malformed("a tensor's sizes are no tuple of whole numbers");
        let Some(Object::Tuple(items)) = (match value {
            Value::Object(at) => self.object(at),
            _ => None,
        }) else {
            return Err(BAD);
        };
        if MAX_RANK < items.len() {
            return Err(Fault::TooMuch("a tensor of over 64 dimensions"));
        }
        let mut sizes = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Value::Int(size) => match usize::try_from(*size) {
                    Ok(size) => sizes.push(size),
                    Err(_) => return Ok(None),
                },
                Value::Long(_) => return Ok(None),
                _ => return Err(BAD),
            }
        }
        Ok(Some(sizes))
    }

    fn remember(&mut self, at: u32) -> Result<(), Fault> {
        self.check_room(1)?;
        if let Some(&top) = self.stack.last() {
            self.memo.insert(at, top);
        }
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<(), Fault> {
        let value = *self
            .memo
            .get(&at)
            .ok_or(Fault::Malformed("a value is recalled that was never kept"))?;
        self.stack.push(value);
        Ok(())
    }

    /// Refuses unless `n` values lie above the last mark.
    fn check_room(&self, n: usize) -> Result<(), Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match floor.saturating_add(n) <= self.stack.len() {
            true => Ok(()),
            false => Err(SHORT_STACK),
        }
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        self.check_room(1)?;
        self.stack.pop().ok_or(SHORT_STACK)
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, Fault> {
        let mark = self
            .marks
            .pop()
            .ok_or(Fault::Malformed("an instruction finds no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn long(&mut self, len: u64) -> Result<(), Fault> {
        let span = self.span(len)?;
        let bytes = self.raw(span);
        let value = match bytes.last() {
            None => Value::Int(0),
            Some(last) if bytes.len() <= 8 => {
                let fill = if last & 0x80 == 0 { 0 } else { 0xff };
                let mut wide = [fill; 8];
                wide[..bytes.len()].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            Some(_) => Value::Long(span),
        };
        self.stack.push(value);
        Ok(())
    }

    fn push_text(&mut self, len: u64) -> Result<(), Fault> {
        let span = self.span(len)?;
        if str::from_utf8(self.raw(span)).is_err() {
            return Err(Fault::Malformed("a text in it is not UTF-8"));
        }
        self.stack.push(Value::Text(span));
        Ok(())
    }

    /// Refuses unless `len` more bytes are there.
    fn has(&self, len: u64) -> Result<usize, Fault> {
        let left = self.bytes.len() - self.at;
        usize::try_from(len)
            .ok()
            .filter(|len| *len <= left)
            .ok_or(ENDS)
    }

    /// The next `len` bytes.
    fn span(&mut self, len: u64) -> Result<Span, Fault> {
        let taken = self.has(len)?;
        let start = self.at;
        self.at += taken;
        let len = u32::try_from(len).map_err(|_| Fault::TooMuch("a text of over 4 GiB"))?;
        Ok(Span { start, len })
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>());
        let bytes = *bytes.ok_or(ENDS)?;
        self.at += N;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, Fault> {
        self.take_array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.take_array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.take_array().map(u64::from_le_bytes)
    }

    /// A signed 32-bit length.
    fn length(&mut self) -> Result<u64, Fault> {
        let len = i32::from_le_bytes(self.take_array()?);
        u64::try_from(len).map_err(|_| Fault::Malformed("a length is negative"))
    }

    /// A text up to the next line end.
    fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == b'\n').ok_or(ENDS)?;
        self.at += len + 1;
        str::from_utf8(&rest[..len]).map_err(|_| Fault::Malformed("a name in it is not UTF-8"))
    }
}

/// An instruction's name in Python's own list, for the refusal.
fn opcode_name(opcode: u8) -> String {
    let name = match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        b'P' => "PERSID",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'I' => "INT",
        b'L' => "LONG",
        b'F' => "FLOAT",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'd' => "DICT",
        b'l' => "LIST",
        b'p' => "PUT",
        b'g' => "GET",
        0x8e => "BINBYTES8",
        0x91 => "FROZENSET",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return format!("the unknown opcode {opcode:#04x}"),
    };
    format!("{name} ({opcode:#04x})")
}
