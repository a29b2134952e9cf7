"""Records what a network does with a short film, for the tests of the runtime.

    python golden.py FOLDER --to golden.safetensors [--seed 901500]

FOLDER holds `config.json` and `weights.safetensors`. Three given frames and two made ones, all in f32; the frame ids
begin with 7, so that a runtime that confuses ids and places is found out.
"""

import argparse

import numpy as np
import torch
from safetensors.torch import save_file

from film import give
from model import Cache, load, pose_features, rotate, sinusoid, to_float
from rooms import INVERSE, World, walk

GIVEN, MADE, FIRST_ID = 3, 2, 7
LAYERS = (0, 3)
"""Layers whose cache is recorded."""


def short_walk(world, draw):
    """Poses of a few free steps, one back, and a turn."""
    actions = []
    while len(actions) < GIVEN - 1:
        action = str(draw.choice(["w", "left", "right", "a", "d"]))
        if world.free(walk([*actions, action])[-1]):
            actions.append(action)
    return walk([*actions, INVERSE[actions[-1]], "left"])[: GIVEN + MADE]


@torch.no_grad()
def record(model, settings, seed):
    """Every tensor by name."""
    torch.manual_seed(seed)
    world = World(seed)
    poses = short_walk(world, np.random.default_rng(seed))
    pictures, features = world.film(poses), pose_features(poses)
    ids = [FIRST_ID + i for i in range(GIVEN + MADE)]
    shares = settings["sampler_ts"]
    c = model.config
    noise = torch.randn(MADE, c.height, c.width, 3) * settings["noise_scale"]
    t = torch.tensor([0.0, 0.25, 0.5, 1.0])
    e, e0 = model.condition(t, features[: len(t)])
    out = dict(
        given_frames=torch.as_tensor(pictures[:GIVEN]),
        poses=torch.as_tensor(poses),
        pose_features=features,
        frame_ids=torch.tensor(ids),
        noise=noise,
        ts=torch.tensor(shares),
        sinusoid_t=t,
        sinusoid=sinusoid(t, c.freq_dim),
        cond_e=e,
        cond_e0=e0,
        embed_frame0=model.embed(to_float(pictures[:1]))[0],
    )
    cache = Cache(c, 1, GIVEN + MADE, first=FIRST_ID)
    give(model, cache, to_float(pictures[None, :GIVEN]), features[None])
    finals = []
    for i in range(MADE):
        at = GIVEN + i
        pose = features[None, at]

        def step(x, share, **more):
            return model.step(x, share, pose, ids[at], cache, **more)

        tape = []
        x = noise[i : i + 1]
        out[f"x0_first_{i}"] = step(x, 1, tape=tape)[0]
        if i == 0:
            q, k, v = (u[0] for u in tape[0])
            rope = model.rope([ids[at]])
            out |= dict(layer0_q=q, layer0_k=k, layer0_v=v, layer0_q_rope=rotate(q, rope), layer0_k_rope=rotate(k, rope))
        if i == MADE - 1:
            out["x0_first_window2"] = step(x, 1, window=2)[0]
            last = [at - 2, at - 1]
            kept = [torch.cat([u[0] for u in side]) for side in zip(*(cache.frame(2, f) for f in last))]
            out |= dict(window2_layer2_k=kept[0], window2_layer2_v=kept[1], window2_ids=torch.tensor([ids[f] for f in last]))
        for n, (now, then) in enumerate(zip(shares, shares[1:]), 1):
            clean = step(x, now)
            x = clean + then / now * (x - clean)
            out[f"x_{i}_step{n}"] = x[0]
        x = x.clamp(-1, 1)
        step(x, 0, write=True)
        finals.append(x[0])
    out["final"] = torch.stack(finals)
    for layer in LAYERS:
        for frame in range(GIVEN + MADE):
            out[f"cache_k_layer{layer}_frame{frame}"], out[f"cache_v_layer{layer}_frame{frame}"] = (
                u[0] for u in cache.frame(layer, frame)
            )
    return {name: x.float().contiguous().clone() for name, x in out.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--to", required=True, help="file to write")
    parser.add_argument("--seed", type=int, default=901_500, help="of a world that was never trained on")
    args = parser.parse_args()
    save_file(record(*load(args.folder), args.seed), args.to)


if __name__ == "__main__":
    main()
