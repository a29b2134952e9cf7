"""First weights from which recall is learned within minutes: the network starts as "copy what was seen at this pose".

The residual stream is divided in three: A the patch's pixels as low DCT frequencies, B the recalled pixels, which the
head reads, C constants that the modulation turns into a code of the pose. In the first two layers some heads get equal
W_q and W_k on C, with constants in the fast row and column pairs, so that they look at the same patch at the same pose
at any distance in time, and copy A to B. Everything else is ordinary noise, or zero where a branch joins the stream.
"""

import math

import numpy as np
import torch

from model import pose_features


def dct_rows(order, patch):
    """Orthonormal frequencies with `row + column < order` of every channel: `[order (order + 1) / 2 * 3, 3 patch patch]`."""
    k, n = np.arange(patch)[:, None], np.arange(patch)[None]
    basis = np.sqrt(2 / patch) * np.cos(math.pi * (2 * n + 1) * k / (2 * patch))
    basis[0] /= math.sqrt(2)
    low = [np.outer(basis[i], basis[j]) for i in range(patch) for j in range(patch) if i + j < order]
    rows = np.zeros((3, len(low), 3, patch, patch))
    for channel in range(3):
        rows[channel, :, channel] = low
    return torch.tensor(rows.reshape(3 * len(low), -1), dtype=torch.float32)


@torch.no_grad()
def recall(model):
    """Fills all weights."""
    c = model.config
    dim, head_dim = c.dim, c.head_dim
    order = max(n for n in range(1, c.patch + 1) if 3 * n * (n + 1) <= 0.7 * dim)
    pixels = dct_rows(order, c.patch)
    a = len(pixels)
    code, n_code = slice(2 * a, dim), dim - 2 * a
    _inputs(model, pixels, code, n_code)
    constants = _constants(model, code)

    pick = pixels.view(a, 3, c.patch, c.patch).permute(0, 2, 3, 1).reshape(a, -1)
    model.head.head.weight.zero_()
    model.head.head.weight[:, a : 2 * a] = 1.1 * pick.T
    model.head.head.bias.zero_()

    heads = min(c.heads, math.ceil(a / head_dim))
    width = heads * head_dim
    time, row, _ = model.rope.pairs

    def profile(pose, space, noise):
        """Norm weights: damped in the fast time pairs, sharp in the fast pairs of row and column."""
        pairs = [0.2] * 4 + [0.8] * 4 + [pose] * (time - 9) + [noise] + 2 * ([space] * 2 + [pose] * (row - 2))
        return torch.tensor(pairs).repeat_interleave(2).repeat(heads)

    for layer, block in enumerate(model.blocks):
        s = block.self_attn
        for linear in (s.q, s.k, s.v, s.o, block.ffn[0], block.ffn[2]):
            linear.weight.normal_(0, linear.in_features**-0.5)
            linear.bias.zero_()
        s.o.weight.zero_()
        block.ffn[2].weight.zero_()
        block.modulation.zero_()
        block.modulation[0, 2] = block.modulation[0, 5] = 1
        s.q.weight[:width] = 0
        for head in range(heads):
            _match(s, slice(head * head_dim, (head + 1) * head_dim), constants, code, n_code, model.rope.pairs)
        for norm in (s.norm_q, s.norm_k):
            norm.weight.fill_(1.2)
            norm.weight[:width] = profile(2.8, 8.0, 6.0) if layer < 2 else profile(1.3, 2.5, 4.5)
        if layer < 2:
            s.v.weight[:width] = 0
            s.v.weight[:a, :a] = torch.eye(a)
            s.o.weight[:, :width] = 0
            s.o.weight[a : 2 * a, :a] = 0.5 * torch.eye(a)


def _inputs(model, pixels, code, n_code):
    """Embeddings. One unit of e, and one channel of the attention's shift, tell how noisy a frame is."""
    dim, a = model.config.dim, len(pixels)
    patch = model.patch_embedding
    patch.weight.zero_()
    patch.weight[:a] = pixels.view(a, *patch.weight.shape[1:])
    patch.weight[code].normal_(0, 0.02)
    patch.bias.zero_()
    patch.bias[code] = 1.5 * torch.sign(torch.randn(n_code))
    patch.weight[dim - 1] = patch.bias[dim - 1] = 0

    quiet = torch.full((dim, 1), 0.03)  # e is also the head's shift and scale: little of it where pixels live
    quiet[code] = 1
    model.pose_embedding.weight.normal_(0, (model.config.pose_dim / 2) ** -0.5).mul_(quiet)
    model.pose_embedding.bias.zero_()
    first, second = model.time_embedding[0], model.time_embedding[2]
    half = model.config.freq_dim // 2
    first.weight.normal_(0, half**-0.5)
    second.weight.normal_(0, 0.5 * dim**-0.5).mul_(quiet)
    second.bias.zero_()
    model.pose_embedding.weight[0] = 0
    first.weight[0] = first.bias[0] = second.weight[0] = 0
    first.weight[0, half + round(half * math.log(1000 / 1.5) / math.log(10000))] = 4  # the sine of about 1.5 t
    second.weight[0, 0] = 1.5

    projection = model.time_projection[1]
    projection.bias.zero_()
    for i, gain in enumerate((1.5, 0.2, 0.05, 0.3, 0.1, 0.05)):
        part = projection.weight[i * dim : (i + 1) * dim].normal_(0, gain * n_code**-0.5)
        if i < 2:  # the attention's shift and scale carry the pose in C alone
            part.mul_(quiet)
    projection.weight[:, 0] = 0
    projection.weight[dim - 1] = projection.weight[2 * dim - 1] = 0
    projection.weight[dim - 1, 0] = 0.5


def _constants(model, code):
    """Directions of C that do not vary with the pose, as an orthonormal basis `[n_code, 4]`: no use for matching."""
    poses = torch.cat([torch.randint(-90, 91, (512, 2)), torch.randint(0, 16, (512, 1))], 1)
    features = pose_features(poses)
    shifts = [model.condition(torch.full((512,), t), features)[1][:, 0, code].mean(0) for t in (0.0, 0.3, 1.0)]
    return torch.linalg.qr(torch.stack([*shifts, model.patch_embedding.bias[code]], 1))[0]


def _match(attention, own, constants, code, n_code, pairs):
    """One head whose queries and keys are the same projection of the pose's code."""
    size, dim = own.stop - own.start, attention.q.in_features
    r = torch.randn(n_code, n_code)
    r -= r @ constants @ constants.T
    r[:, -1] = 0  # not the channel of noise
    w = torch.zeros(size, dim)
    w[:, code] = torch.linalg.svd(r)[2][:size] * 3.5
    q_bias, k_bias = torch.zeros(size), torch.zeros(size)
    row, col = 2 * pairs[0], 2 * (pairs[0] + pairs[1])
    for d in (row, row + 2, col, col + 2):  # the same for all poses: these pairs tell patches apart
        w[d : d + 2] = 0
        q_bias[d] = k_bias[d] = 2
    slowest = row - 2
    w[slowest : slowest + 2] = 0
    k_w = w.clone()
    q_bias[slowest], k_w[slowest, dim - 1] = 3, -1.5  # the noisier a key, the lower its score
    attention.q.weight[own], attention.k.weight[own] = w, k_w
    attention.q.bias[own], attention.k.bias[own] = q_bias, k_bias
