"""Clips to train on: short true films of worlds drawn at random, about half of them there and back."""

from dataclasses import dataclass

import numpy as np
import torch

from model import pose_features, to_float
from rooms import World, stroll, there_and_back, walk

FIRST_SEED = 1_000_000
"""Worlds with lower seeds are held out."""


@dataclass
class Batch:
    """`pictures` `[clips, frames, H, W, 3]` in [-1, 1], `poses` features `[clips, frames, 42]`, `seen` `[clips, frames]`
    whether an equal pose came earlier in the clip, frame `ids` `[frames]`."""

    pictures: torch.Tensor
    poses: torch.Tensor
    seen: torch.Tensor
    ids: np.ndarray

    def to(self, device):
        return Batch(self.pictures.to(device), self.poses.to(device), self.seen.to(device), self.ids)


def make_clip(seed, frames):
    draw = np.random.default_rng(seed + 10**9)
    world = World(seed)
    if draw.random() < 0.55:
        actions = there_and_back(world, draw, frames // 2 + 1, 0.1)[: frames - 1]
    else:
        actions = stroll(world, draw, frames, 0.45)
    poses = walk(actions)
    return world.film(poses), poses


def make_batch(first_seed, clips, frames, jumps):
    """`jumps`: the chance that time leaps between frames, so that memories are older than the clip is long."""
    films, poses = (np.stack(x) for x in zip(*(make_clip(first_seed + i, frames) for i in range(clips))))
    equal = (poses[:, :, None] == poses[:, None]).all(-1)
    seen = np.tril(equal, -1).any(2)
    draw = np.random.default_rng(first_seed)
    ids = np.arange(frames)
    if draw.random() < jumps:
        for _ in range(draw.integers(1, 4)):
            ids[draw.integers(1, frames) :] += int(np.exp(draw.uniform(0, np.log(400))))
    return Batch(to_float(films), pose_features(poses), torch.from_numpy(seen), ids)
