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
def denoise(model, cache, pose, frame_id, noise, shares, window=None, trace=None):
    """One frame from `noise` through the noise `shares` 1 .. 0. `trace` collects what every step leaves."""
    x = noise
    for now, then in zip(shares, shares[1:]):
        clean = model.step(x, now, pose, frame_id, cache, window)
        x = clean + then / now * (x - clean)
        if trace is not None:
            trace.append(x)
    return x.clamp(-1, 1)


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
    made = []
    for i in range(given, frames):
        shape = pictures.shape[2:]
        start = torch.stack([torch.randn(shape, generator=g) for g in noise]) * settings["noise_scale"]
        x = denoise(model, cache, features[:, i], i, start, settings["sampler_ts"], window)
        model.step(x, 0, features[:, i], i, cache, window, write=True)
        made.append(x)
    return torch.stack(made, 1)
