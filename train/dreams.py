"""Clips to train on whose later frames are the network's own, made from the cache as in a film.

A walk into the unknown rests on frames that were made up. These are never as crisp as true ones, and a network that has
only learned from true ones may take what is lost for the look of the place, so that the walk fades.
"""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from clips import Batch, jump, make_films, same_poses
from film import denoise, make_up
from model import Cache, pose_features, to_float
from rooms import stroll

CLIPS, FRAMES = 4, 48
KEPT = 120
"""Dreamt clips that are kept for use."""


def aimless(world, draw, frames):
    """Actions of a walk that goes back seldom or often."""
    return stroll(world, draw, frames, draw.uniform(0.05, 0.5))


@torch.no_grad()
def dream(model, settings, seed):
    """`CLIPS` dreams as (batch, context), each of one clip, whose batch has for pictures what the frames are to become.

    The first frames, 3 to half of all, are true. A frame at a new pose is sampled from noise or, in three of five calls, from the true
    frame under some noise: dreams that have much, little or nothing of the truth. It is to become the true frame.
    A frame at a pose seen before is to become what was there.
    """
    draw = np.random.default_rng(seed + 2 * 10**9)
    generator = torch.Generator().manual_seed(seed)
    films, poses = make_films(seed, CLIPS, FRAMES, aimless)
    same = same_poses(poses)
    seen, features, true = torch.from_numpy(same.any(2)), pose_features(poses), to_float(films)
    ids = jump(draw, FRAMES, 0.3)
    given = int(draw.integers(3, FRAMES // 2 + 1))
    ts = settings["new_pose"]["ts"]
    begin = 0 if draw.random() < 0.4 else int(draw.integers(1, len(ts) - 2))
    new_pose = settings["new_pose"] | dict(ts=ts[begin:])

    def noise():
        return settings["noise_scale"] * torch.randn(true[:, 0].shape, generator=generator)

    cache = Cache(model.config, CLIPS, FRAMES, dtype=torch.bfloat16)
    context, target = true.clone(), true.clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for i in range(FRAMES):
            at = features[:, i], int(ids[i])
            if given <= i:
                made, old = true[:, i], seen[:, i, None, None, None]
                if not old.all():
                    start = (1 - ts[begin]) * made + ts[begin] * noise()
                    made = make_up(model, cache, *at, start, new_pose, noise)
                if old.any():
                    made = torch.where(old, denoise(model, cache, *at, noise(), settings["sampler_ts"]), made)
                context[:, i] = made
                for clip in np.flatnonzero(seen[:, i]):
                    target[clip, i] = context[clip, same[clip, i].argmax()]
            model.step(context[:, i], 0, *at, cache, write=True)
    clips = [slice(clip, clip + 1) for clip in range(CLIPS)]
    return [(Batch(target[c], features[c], seen[c], ids), context[c]) for c in clips]


class Dreamer:
    """Dreams of the newest weights, made by a thread beside the training."""

    def __init__(self, model, settings):
        self.model, self.settings = copy.deepcopy(model).to("cpu").eval(), settings
        self.pool = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self.waiting, self.kept = None, []

    def next(self, run):
        """One of the dreams, or None as long as there is none."""
        if self.waiting and self.waiting.done():
            self.kept = (self.kept + self.waiting.result())[-KEPT:]
            self.waiting = None
        if not self.waiting:
            self.model.load_state_dict(run.average.weights)
            self.waiting = self.pool.submit(dream, self.model, self.settings, run.seed)
            run.seed += CLIPS
        return self.kept[int(run.draw.integers(len(self.kept)))] if self.kept else None
