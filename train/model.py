"""The network: a causal Wan 2.1 DiT without cross-attention over 8x8 patches of pixels.

A frame is `rows * cols` tokens. It attends to itself and to the cached keys and values of earlier frames, so a film is
made frame by frame. `Model.step` is that pass; `Model.teach` is the training pass over whole clips. Both use the same
blocks. Names of parameters are those of the published network, so the runtime reads the file without a mapping.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

WAVELENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Of a position's sines and cosines, in cells."""
HARMONICS = (1, 2, 3, 4, 5, 6, 8)
"""Of a heading's sines and cosines."""
POSE_FEATURES = 4 * len(WAVELENGTHS) + 2 * len(HARMONICS)
THETA = 10000.0
NEW_POSE = dict(ts=[1.0, 0.987, 0.967, 0.922, 0.826, 0.653, 0.43, 0.23, 0.0], fresh_noise=0.3, noise_gain=1.015)
"""How frames at new poses are sampled: shares of noise of even ratios, how much of it is drawn anew, and how much
stronger the rest gets in every step."""


@dataclass(frozen=True)
class Config:
    """Sizes of a network, as `config.json` holds them under `model`."""

    dim: int = 256
    layers: int = 6
    heads: int = 4
    ffn_dim: int = 768
    freq_dim: int = 256
    height: int = 48
    width: int = 64
    patch: int = 8
    pose_dim: int = POSE_FEATURES
    eps: float = 1e-6

    @property
    def rows(self):
        return self.height // self.patch

    @property
    def cols(self):
        return self.width // self.patch

    @property
    def tokens(self):
        """Of a frame."""
        return self.rows * self.cols

    @property
    def head_dim(self):
        return self.dim // self.heads


def pose_features(poses):
    """Integer poses `[..., 3]` (x, y in 1/16 cell, k in 22.5 degrees) as `[..., POSE_FEATURES]`."""
    p = torch.as_tensor(np.asarray(poses), dtype=torch.float64)
    cells, angle = p[..., :2] / 16, p[..., 2] * (2 * math.pi / 16)
    phases = [2 * math.pi * cells[..., axis] / length for axis in (0, 1) for length in WAVELENGTHS]
    phases += [h * angle for h in HARMONICS]
    phase = torch.stack(phases, -1)
    return torch.stack([phase.sin(), phase.cos()], -1).flatten(-2).float()


def sinusoid(t, dim):
    """Noise shares `[...]` in [0, 1] as `[..., dim]`: the cosines of `1000 t`, then its sines."""
    half = dim // 2
    rate = THETA ** (-torch.arange(half, dtype=torch.float64, device=t.device) / half)
    phase = t.double().unsqueeze(-1) * 1000.0 * rate
    return torch.cat([phase.cos(), phase.sin()], -1).float()


def to_patches(x, p):
    """Pixels `[..., H, W, 3]` as `[..., tokens, 3 p p]`, a patch in the order (channel, row, column)."""
    *lead, h, w, c = x.shape
    n = len(lead)
    x = x.reshape(*lead, h // p, p, w // p, p, c)
    return x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*lead, -1, c * p * p)


def from_patches(y, c):
    """`[..., tokens, p p 3]`, a patch in the order (row, column, channel), as pixels `[..., H, W, 3]`."""
    *lead, _, _ = y.shape
    n = len(lead)
    y = y.reshape(*lead, c.rows, c.cols, c.patch, c.patch, 3)
    return y.permute(*range(n), n, n + 2, n + 1, n + 3, n + 4).reshape(*lead, c.height, c.width, 3)


def to_float(pictures):
    """Bytes as pixels in [-1, 1]."""
    return torch.as_tensor(np.asarray(pictures)).float() / 127.5 - 1


class Rope(nn.Module):
    """Rotary positions over (frame, row, column): of a head's `c` pairs, `c // 3` each turn with row and column."""

    def __init__(self, config):
        super().__init__()
        pairs = config.head_dim // 2
        self.pairs = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
        rate = [THETA ** (-torch.arange(n, dtype=torch.float64) / n) for n in self.pairs]
        row = torch.arange(config.rows).repeat_interleave(config.cols)[:, None] * rate[1]
        col = torch.arange(config.cols).repeat(config.rows)[:, None] * rate[2]
        self.register_buffer("rate", rate[0], persistent=False)
        self.register_buffer("place", torch.cat([row, col], 1), persistent=False)

    def forward(self, ids):
        """Cosines and sines `[frames * tokens, pairs]` of frame ids `[frames]`."""
        time = torch.as_tensor(ids, dtype=torch.float64, device=self.rate.device)[:, None] * self.rate
        time = time[:, None].expand(-1, len(self.place), -1)
        phase = torch.cat([time, self.place.expand(len(time), -1, -1)], 2).flatten(0, 1)
        return phase.cos().float(), phase.sin().float()


def rotate(x, rope):
    """Turns the pairs `(2i, 2i + 1)` of `x` `[..., tokens, heads, head_dim]`."""
    cos, sin = (r.unsqueeze(-2) for r in rope)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


class RmsNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps)


class SelfAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.heads
        self.q, self.k, self.v, self.o = (nn.Linear(c.dim, c.dim) for _ in range(4))
        self.norm_q, self.norm_k = RmsNorm(c.dim, c.eps), RmsNorm(c.dim, c.eps)

    def forward(self, x):
        """`[..., dim]` to q, k (before RoPE), v `[..., heads, head_dim]`."""
        split = (*x.shape[:-1], self.heads, -1)
        return self.norm_q(self.q(x)).view(split), self.norm_k(self.k(x)).view(split), self.v(x).view(split)


class Block(nn.Module):
    """One layer. `m` are its six modulation vectors, each `[..., frames, 1, dim]`; x is `[..., frames, tokens, dim]`."""

    def __init__(self, c):
        super().__init__()
        self.shape, self.eps = (c.dim,), c.eps
        self.self_attn = SelfAttention(c)
        self.ffn = nn.Sequential(nn.Linear(c.dim, c.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(c.ffn_dim, c.dim))
        self.modulation = nn.Parameter(torch.zeros(1, 6, c.dim))

    def modulations(self, e0):
        return (self.modulation + e0).unsqueeze(-2).unbind(-3)

    def scaled(self, x, shift, scale):
        return F.layer_norm(x, self.shape, eps=self.eps) * (1 + scale) + shift

    def before(self, x, m):
        return self.self_attn(self.scaled(x, m[0], m[1]))

    def after(self, x, attended, m):
        x = x + self.self_attn.o(attended) * m[2]
        return x + self.ffn(self.scaled(x, m[3], m[4])) * m[5]


class Head(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.shape, self.eps = (c.dim,), c.eps
        self.head = nn.Linear(c.dim, 3 * c.patch * c.patch)
        self.modulation = nn.Parameter(torch.zeros(1, 2, c.dim))

    def forward(self, x, e):
        shift, scale = (self.modulation + e.unsqueeze(-2)).unsqueeze(-2).unbind(-3)
        return self.head(F.layer_norm(x, self.shape, eps=self.eps) * (1 + scale) + shift)


class Model(nn.Module):
    """Predicts clean frames, pixels in [-1, 1], from frames with the noise share t, poses and frame ids."""

    def __init__(self, config):
        super().__init__()
        c = self.config = config
        self.patch_embedding = nn.Conv3d(3, c.dim, (1, c.patch, c.patch), (1, c.patch, c.patch))
        self.time_embedding = nn.Sequential(nn.Linear(c.freq_dim, c.dim), nn.SiLU(), nn.Linear(c.dim, c.dim))
        self.pose_embedding = nn.Linear(c.pose_dim, c.dim)
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(c.dim, 6 * c.dim))
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.head = Head(c)
        self.rope = Rope(c)

    def embed(self, pictures):
        """Pixels `[..., H, W, 3]` as tokens `[..., tokens, dim]`."""
        weight = self.patch_embedding.weight.flatten(1)
        return F.linear(to_patches(pictures, self.config.patch), weight, self.patch_embedding.bias)

    def condition(self, t, pose):
        """t `[...]` and pose features `[..., 42]` as e `[..., dim]` and e0 `[..., 6, dim]`."""
        e = self.time_embedding(sinusoid(t, self.config.freq_dim)) + self.pose_embedding(pose)
        return e, self.time_projection(e).unflatten(-1, (6, self.config.dim))

    def step(self, picture, t, pose, frame_id, cache, window=None, write=False, tape=None):
        """One pass over one frame of each of a batch of films.

        picture `[films, H, W, 3]`, t a number, pose `[films, 42]`. `window` reads only that many cached frames, the
        last ones; `write` appends this pass's keys and values to the cache; `tape` collects (q, k, v) of the layers.
        """
        films = len(picture)
        x = self.embed(picture)[:, None]
        e, e0 = self.condition(torch.full((films, 1), float(t), device=picture.device), pose[:, None])
        rope = self.rope([frame_id])
        for layer, block in enumerate(self.blocks):
            m = block.modulations(e0)
            q, k, v = (u.flatten(1, 2) for u in block.before(x, m))
            if tape is not None:
                tape.append((q, k, v))
            cache.place(layer, k, rotate(k, rope), v)
            keys, values = cache.read(layer, window)
            heads_first = [u.transpose(1, 2) for u in (rotate(q, rope).to(keys.dtype), keys, values)]
            attended = attention(*heads_first).transpose(1, 2)
            x = block.after(x, attended.reshape(x.shape), m)
        if write:
            cache.ids.append(frame_id)
        return from_patches(self.head(x, e)[:, 0], self.config)

    def alone(self, noisy, t, pose):
        """Predictions for frames without a past. noisy `[frames, H, W, 3]`, t `[frames]`, pose `[frames, 42]`."""
        x = self.embed(noisy)
        e, e0 = self.condition(t, pose)
        rope = self.rope([0])
        for block in self.blocks:
            m = block.modulations(e0)
            q, k, v = block.before(x, m)
            q, k = rotate(q, rope).to(v.dtype), rotate(k, rope).to(v.dtype)
            q, k, v = (u.transpose(1, 2) for u in (q, k, v))
            attended = attention(q, k, v)
            x = block.after(x, attended.transpose(1, 2).reshape(x.shape), m)
        return from_patches(self.head(x, e), self.config)

    def teach(self, context, noisy, t, pose, ids, window=None):
        """Predictions for all noisy frames of clips in one pass (teacher forcing).

        Clean frame i (`context`, t = 0) sees the clean frames 0..i, noisy frame i the clean frames 0..i-1 and itself.
        context, noisy `[clips, frames, H, W, 3]`, t `[clips, frames]`, pose `[clips, frames, 42]`, ids `[frames]`.
        """
        clips, frames = t.shape
        x = self.embed(torch.cat([context, noisy], 1))
        e, e0 = self.condition(torch.cat([torch.zeros_like(t), t], 1), torch.cat([pose, pose], 1))
        rope = self.rope(np.concatenate([ids, ids]))
        for block in self.blocks:
            m = block.modulations(e0)
            q, k, v = (u.flatten(1, 2) for u in block.before(x, m))
            q, k = rotate(q, rope).to(v.dtype), rotate(k, rope).to(v.dtype)
            attended = taught_attention(*(u.transpose(1, 2) for u in (q, k, v)), frames, window)
            x = block.after(x, attended.transpose(1, 2).reshape(x.shape), m)
        return from_patches(self.head(x[:, frames:], e[:, frames:]), self.config)


def attention(q, k, v):
    """q, k, v `[.., heads, tokens, head_dim]`. In bf16 as two products: on a CPU these are several times faster than the fused kernel."""
    if q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q, k, v)
    return (q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)).softmax(-1) @ v


def taught_attention(q, k, v, frames, window, chunk=4):
    """Attention of `Model.teach`. q, k, v `[clips, heads, 2 * frames * tokens, head_dim]`, clean half first.

    A few frames at a time, clean and noisy together, over the keys that one of them may see: little work is masked
    away. As two products, see `attention`.
    """
    tokens = q.shape[2] // (2 * frames)
    clean, noisy = [], []
    for first in range(0, frames, chunk):
        end = min(frames, first + chunk)
        low = 0 if window is None else max(0, first - window)
        past = slice(low * tokens, end * tokens)
        own = slice(first * tokens, end * tokens)
        noise = slice((frames + first) * tokens, (frames + end) * tokens)
        keys, values = (torch.cat([u[:, :, past], u[:, :, noise]], 2) for u in (k, v))
        queries = torch.cat([q[:, :, own], q[:, :, noise]], 2) * q.shape[-1] ** -0.5
        mask = taught_mask(first, end, low, window, tokens, queries.dtype, queries.device)
        out = (queries @ keys.transpose(2, 3) + mask).softmax(-1) @ values
        a, b = out.chunk(2, 2)
        clean.append(a)
        noisy.append(b)
    return torch.cat(clean + noisy, 2)


_masks = {}


def taught_mask(first, end, low, window, tokens, dtype, device):
    """0 or -inf: what the clean and noisy frames `first..end` see of the clean frames `low..end` and the noisy ones."""
    key = (first, end, low, window, tokens, dtype, device)
    if key not in _masks:
        i, j = torch.arange(first, end)[:, None], torch.arange(low, end)
        near = i - j <= (10**9 if window is None else window)
        same = torch.eye(end - first, dtype=torch.bool)
        sees = torch.cat([torch.cat([(j <= i) & near, ~same & False], 1), torch.cat([(j < i) & near, same], 1)])
        sees = sees.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
        _masks[key] = torch.zeros(sees.shape).masked_fill_(~sees, -math.inf).to(device, dtype)
    return _masks[key]


class Cache:
    """Keys and values by layer, `[films, frames * tokens, heads, head_dim]`; ids of the frames, from `first` on.

    Keys are kept after RoPE, which saves turning them in every pass, and as the runtime stores them, before it. With bf16
    a pass is faster on a CPU.
    """

    def __init__(self, config, films, capacity, first=0, dtype=torch.float32):
        size = (config.layers, films, capacity * config.tokens, config.heads, config.head_dim)
        self.tokens, self.first, self.ids = config.tokens, first, []
        self.k, self.turned, self.v = (torch.zeros(size, dtype=dtype) for _ in range(3))

    def place(self, layer, k, turned, v):
        """Puts the frame that is being made after the cached ones; it stays when its id is appended to `ids`."""
        own = slice(len(self.ids) * self.tokens, (len(self.ids) + 1) * self.tokens)
        for store, value in ((self.k, k), (self.turned, turned), (self.v, v)):
            store[layer][:, own] = value

    def read(self, layer, window=None):
        """Turned keys and values of the placed frame and of the last `window` cached ones, or of all."""
        end = len(self.ids)
        start = 0 if window is None else max(0, end - window)
        seen = slice(start * self.tokens, (end + 1) * self.tokens)
        return self.turned[layer][:, seen], self.v[layer][:, seen]

    def frame(self, layer, index):
        """Keys (before RoPE) and values `[films, tokens, heads, head_dim]` of one frame."""
        own = slice(index * self.tokens, (index + 1) * self.tokens)
        return self.k[layer][:, own], self.v[layer][:, own]


def save(weights, path):
    """Writes a state dict in f16; a reader never sees half a file."""
    path = Path(path)
    part = path.with_suffix(".part")
    save_file({name: w.half().contiguous().cpu() for name, w in weights.items()}, part)
    part.replace(path)


def load(folder):
    """The network of a folder with `config.json` and `weights.safetensors`, in f32, and its settings."""
    folder = Path(folder)
    settings = json.loads((folder / "config.json").read_text())
    model = Model(Config(**settings["model"]))
    model.load_state_dict({name: w.float() for name, w in load_file(folder / "weights.safetensors").items()})
    return model.eval(), settings


def settings(config):
    """What `config.json` holds for a network trained here."""
    return dict(model=asdict(config), theta=THETA, sampler_ts=[1.0, 0.5, 0.0], new_pose=NEW_POSE, noise_scale=0.4, world="rooms", fps=8)
