"""Films in closed loop: true frames are given, the others are made from the cache."""

import torch

from model import Cache, pose_features, to_float


@torch.no_grad()
def give(model, cache, pictures, poses, window=None):
    """Writes true frames, pixels `[films, frames, H, W, 3]`, one by one into the cache. poses are features."""
    first = cache.first + len(cache.ids)
    for i in range(pictures.shape[1]):
        model.step(pictures[:, i], 0, poses[:, i], first + i, cache, window, write=True)


@torch.no_grad()
def denoise(model, cache, pose, frame_id, noise, shares, window=None, trace=None, fresh=0.0, gain=1.0, draw=None):
    """One frame from `noise` through the noise `shares` 1 .. 0. `trace` collects what every step leaves.

    A frame with the share t is `(1 - t) clean + t n`: of the n that a step leaves, the share `fresh` of the deviation is
    drawn anew by `draw`, and what is left is made `gain` times as strong: few steps lose some of what a picture is made of.
    """
    x = noise
    for now, then in zip(shares, shares[1:]):
        clean = model.step(x, now, pose, frame_id, cache, window)
        left = (x - (1 - now) * clean) / now * gain * (1 - fresh**2) ** 0.5
        x = (1 - then) * clean + then * (left + fresh * draw() if fresh else left)
        if trace is not None:
            trace.append(x)
    return x.clamp(-1, 1)


def make_up(model, cache, pose, frame_id, start, new_pose, draw, window=None):
    """A frame at a new pose, by the settings for these."""
    fresh, gain = new_pose.get("fresh_noise", 0.0), new_pose.get("noise_gain", 1.0)
    return denoise(model, cache, pose, frame_id, start, new_pose["ts"], window, None, fresh, gain, draw)


@torch.no_grad()
def make(model, settings, pictures, poses, given, window=None, seeds=None):
    """The frames after the first `given` ones of films that are made side by side.

    pictures: true frames, bytes `[films, at least given, H, W, 3]`; poses `[films, frames, 3]`; seeds of the films' noise,
    0, 1, .. if not named. Returns pixels `[films, frames - given, H, W, 3]`.
    """
    films, frames = poses.shape[:2]
    features = pose_features(poses)
    cache = Cache(model.config, films, frames)
    give(model, cache, to_float(pictures[:, :given]), features[:, :given], window)
    noise = [torch.Generator().manual_seed(int(s)) for s in (range(films) if seeds is None else seeds)]
    new_pose = settings.get("new_pose")

    def draw():
        return torch.stack([torch.randn(pictures.shape[2:], generator=g) for g in noise]) * settings["noise_scale"]

    made = []
    for i in range(given, frames):
        first = 0 if window is None else max(0, i - window)
        new = torch.from_numpy(~(poses[:, i : i + 1] == poses[:, first:i]).all(-1).any(1))
        start, x = draw(), None
        if not new_pose or not new.all():
            x = denoise(model, cache, features[:, i], i, start, settings["sampler_ts"], window)
        if new_pose and new.any():
            made_up = make_up(model, cache, features[:, i], i, start, new_pose, draw, window)
            x = made_up if x is None else torch.where(new[:, None, None, None], made_up, x)
        model.step(x, 0, features[:, i], i, cache, window, write=True)
        made.append(x)
    return torch.stack(made, 1)
