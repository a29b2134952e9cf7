"""Says in which layers errors of cached keys and values do most harm: what `kv_fine` in `config.json` should name.

    python sensitivity.py FOLDER [--films 16]

FOLDER holds `config.json` and `weights.safetensors`. A codec of few bits leaves errors in proportion to how far rows lie from
the mean of their span; what such an error does to a made frame is told by gradients. The product of both, summed over
heads, is printed by layer, as a share of all. Measured on worlds of the training's seeds.
"""

import argparse

import numpy as np
import torch

from clips import FIRST_SEED
from film import give
from model import Cache, load, pose_features, rotate, to_float
from rooms import World, there_and_back, walk

GIVEN = 24
SPAN = 16
"""Frames of a span."""
PROBES = 6
"""Frames of a film that are looked at, all on the way back."""


class Leaves:
    """The first `end` frames of a cache, keys before RoPE, as leaves that gradients reach."""

    def __init__(self, cache, end, model):
        rows = slice(0, end * cache.tokens)
        self.k, self.v = (u[:, :, rows].clone().requires_grad_(True) for u in (cache.k, cache.v))
        self.rope = model.rope(cache.ids[:end])
        self.own = {}

    def place(self, layer, k, turned, v):
        self.own[layer] = turned, v

    def read(self, layer, window=None):
        turned, v = self.own[layer]
        return torch.cat([rotate(self.k[layer], self.rope), turned], 1), torch.cat([self.v[layer], v], 1)


def spread(rows, tokens):
    """Mean square of rows' distance from the mean of their span, `[layers, heads]`; rows `[layers, tokens, heads, head_dim]`."""
    spans = rows[:, tokens:].split(SPAN * tokens, 1)
    parts = [(s - s.mean(1, keepdim=True)).square().sum(-1).mean(1) for s in spans if s.shape[1] == SPAN * tokens]
    return torch.stack(parts).mean(0)


def harm(model, settings, seed):
    """Of keys and of values, `[2, layers, heads]`, in one film."""
    world = World(seed)
    poses = walk(there_and_back(world, np.random.default_rng(seed + 5 * 10**8), GIVEN))
    pictures, features = to_float(world.film(poses)[None]), pose_features(poses[None])
    cache = Cache(model.config, 1, len(poses))
    give(model, cache, pictures, features)
    felt = 0
    for i in np.linspace(GIVEN, len(poses) - 1, PROBES).astype(int):
        leaves = Leaves(cache, i, model)
        noise = torch.randn_like(pictures[:, i]) * settings["noise_scale"]
        made = model.step(noise, 1.0, features[:, i], int(i), leaves)
        # The mean square of a random sum's gradient is that of the whole Jacobian.
        slopes = torch.autograd.grad((made * torch.randn_like(made)).sum(), (leaves.k, leaves.v))
        felt += torch.stack([g[:, 0].square().sum((1, 3)) for g in slopes])
    tokens = model.config.tokens
    return felt * torch.stack([spread(u[:, 0], tokens) for u in (cache.k, cache.v)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--films", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, settings = load(args.folder)
    model.requires_grad_(False)
    every = sum(harm(model, settings, FIRST_SEED * 3 + n) for n in range(args.films))
    shares = 100 * every.sum(2) / every.sum()
    print("layer   keys  values   % of the harm")
    for layer, (k, v) in enumerate(shares.T.tolist()):
        print(f"{layer:5} {k:6.1f}  {v:6.1f}")


if __name__ == "__main__":
    main()
