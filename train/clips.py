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


def wander(world, draw, frames):
    """Actions of a clip of `frames` poses."""
    if draw.random() < 0.55:
        return there_and_back(world, draw, frames // 2 + 1, 0.1)[: frames - 1]
    return stroll(world, draw, frames, 0.45)


def make_films(first_seed, clips, frames, actions):
    """True frames, bytes `[clips, frames, H, W, 3]`, and poses `[clips, frames, 3]` of walks by `actions(world, draw, frames)`."""
    films = []
    for seed in range(first_seed, first_seed + clips):
        world = World(seed)
        poses = walk(actions(world, np.random.default_rng(seed + 10**9), frames))
        films.append((world.film(poses), poses))
    return tuple(np.stack(u) for u in zip(*films))


def same_poses(poses):
    """Of poses `[clips, frames, 3]`: which earlier frames have the pose of frame i, `[clips, frames, frames]`."""
    return np.tril((poses[:, :, None] == poses[:, None]).all(-1), -1)


def jump(draw, frames, chance):
    """Ids `[frames]` that leap by chance, so that memories are older than the clip is long."""
    ids = np.arange(frames)
    if draw.random() < chance:
        for _ in range(draw.integers(1, 4)):
            ids[draw.integers(1, frames) :] += int(np.exp(draw.uniform(0, np.log(400))))
    return ids


def make_batch(first_seed, clips, frames, jumps):
    """`jumps`: the chance of leaps in time."""
    films, poses = make_films(first_seed, clips, frames, wander)
    seen = torch.from_numpy(same_poses(poses).any(2))
    return Batch(to_float(films), pose_features(poses), seen, jump(np.random.default_rng(first_seed), frames, jumps))
