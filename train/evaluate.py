"""Measures a network on films of worlds that it was never trained on, all in closed loop.

    python evaluate.py FOLDER [--films 100] [--to results.json]      the numbers
    python evaluate.py FOLDER --sheet sheet.png                      a contact sheet of revisits
    python evaluate.py FOLDER --new-sheet new.png                    one of frames at poses never seen
    python evaluate.py FOLDER --far-sheet far.png                    one of walks into the unknown
    python evaluate.py FOLDER --long 600 [--to long.json]            one long film
    python evaluate.py FOLDER --walks walks.json [--films 100]       the walks of the revisits, for examples/revisits.rs

FOLDER holds `config.json` and `weights.safetensors`. Held-out seeds are below `clips.FIRST_SEED`. The same seeds give
the same films and the same noise to every network.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clips import FIRST_SEED, same_poses
from film import make
from model import load, to_float
from rooms import World, stroll, there_and_back, walk

GIVEN = 24
AWAY = 8
"""A revisited pose was not seen in this many frames before."""
BATCH = 10
"""Films made side by side."""


def film(seed, actions):
    """True frames and poses of the walk that `actions(world)` gives."""
    assert seed < FIRST_SEED, "held-out seeds only"
    world = World(seed)
    poses = walk(actions(world))
    return world.film(poses), poses


def returning(n):
    """24 frames of exploring, then 23 that undo the walk."""
    seed = 900_100 + n
    return film(seed, lambda world: there_and_back(world, np.random.default_rng(seed + 5 * 10**8), GIVEN))


def write_walks(path, count):
    films = [dict(seed=900_100 + n, poses=returning(n)[1].tolist()) for n in range(count)]
    Path(path).write_text(json.dumps(dict(given=GIVEN, away=AWAY, films=films)) + "\n")


def ordinary(n):
    """An ordinary walk, one frame longer than what is given."""
    seed = 901_000 + n
    return film(seed, lambda world: stroll(world, np.random.default_rng(seed), GIVEN + 1))


def psnr(a, b):
    """By frame, of pixels `[.., H, W, 3]` in [-1, 1]."""
    return 10 * torch.log10(4 / (a - b).square().mean((-3, -2, -1)).clamp_min(1e-9))


def edges(x):
    """Mean step between neighbouring pixels, by frame, in grey levels of 255."""
    across, down = x.diff(dim=-2).abs().mean((-3, -2, -1)), x.diff(dim=-3).abs().mean((-3, -2, -1))
    return (across + down) / 2 * 127.5


def spread(x):
    """Standard deviation of the values of a frame, by frame, in levels of 255."""
    return x.flatten(-3).std(-1) * 127.5


def revisited(poses, given):
    """Frames after the given ones whose exact pose is among these and was not seen in the last `AWAY` frames."""
    same = (poses[:, None] == poses[None]).all(-1)
    return [i for i in range(given, len(poses)) if same[i, :given].any() and not same[i, i - AWAY : i].any()]


def stack(films):
    return tuple(np.stack(x) for x in zip(*films))


def batches(kind, count):
    for first in range(0, count, BATCH):
        numbers = range(first, min(count, first + BATCH))
        yield numbers, *stack([kind(n) for n in numbers])


def mean(values):
    return round(float(np.mean(values)), 2) if len(values) else None


def revisits(model, settings, count, window=None):
    """PSNR of revisited frames: their mean, their number, and the mean of every film."""
    by_film = []
    for numbers, true, poses in batches(returning, count):
        made = make(model, settings, true, poses, GIVEN, window, numbers)
        likeness = psnr(made, to_float(true[:, GIVEN:]))
        by_film += [[float(p[i - GIVEN]) for i in revisited(q, GIVEN)] for p, q in zip(likeness, poses)]
    every = np.concatenate(by_film)
    return dict(psnr=mean(every), frames=len(every), by_film=[mean(f) for f in by_film])


def next_frame(model, settings, count):
    """The first made frame of ordinary walks: PSNR and edges, apart for poses seen before and never."""
    likeness, seen, ours, truth = [], [], [], []
    for numbers, true, poses in batches(ordinary, count):
        made = make(model, settings, true, poses, GIVEN, seeds=numbers)[:, 0]
        last = to_float(true[:, GIVEN])
        likeness += psnr(made, last).tolist()
        ours += edges(made).tolist()
        truth += edges(last).tolist()
        seen += (poses[:, GIVEN:] == poses[:, :GIVEN]).all(-1).any(1).tolist()
    likeness, seen, ours, truth = (np.array(v) for v in (likeness, seen, ours, truth))
    out = dict(psnr=mean(likeness), walks=len(seen))
    for name, mask in (("seen", seen), ("never_seen", ~seen)):
        out[name] = dict(
            psnr=mean(likeness[mask]), walks=int(mask.sum()), edges=mean(ours[mask]), edges_of_truth=mean(truth[mask])
        )
    return out


def onward(n):
    """A walk of 64 frames that seldom retraces its steps."""
    seed = 904_000 + n
    return film(seed, lambda world: stroll(world, np.random.default_rng(seed + 7), GIVEN + 40, 0.15))


def into_the_unknown(model, settings, count):
    """By thirds of what is made of such walks, at poses that are new: edges and spread of colours beside the truth's."""
    parts, new = [], []
    for numbers, true, poses in batches(onward, count):
        made = make(model, settings, true, poses, GIVEN, seeds=numbers)
        truth = to_float(true[:, GIVEN:])
        parts.append([f(x).numpy() for f in (edges, spread) for x in (made, truth)])
        new.append(~same_poses(poses).any(2)[:, GIVEN:])
    new = np.concatenate(new)
    thirds = np.array_split(np.arange(new.shape[1]), 3)
    names = "edges", "edges_of_truth", "spread", "spread_of_truth"
    values = (np.concatenate(v) for v in zip(*parts))
    return dict(walks=count) | {name: [mean(v[:, at][new[:, at]]) for at in thirds] for name, v in zip(names, values)}


def long_film(model, settings, frames, seed=902_000):
    """A walk that keeps returning, by quarters of what is made: PSNR at given poses, edges and colours beside the truth's."""
    true, poses = film(seed, lambda world: stroll(world, np.random.default_rng(seed + 7 * 10**8), frames, 0.5))
    made = make(model, settings, true[None], poses[None], GIVEN, seeds=[seed])[0]
    truth = to_float(true[GIVEN:])
    known = (poses[GIVEN:, None] == poses[None, :GIVEN]).all(-1).any(1)
    likeness, quarters = psnr(made, truth), []
    for part in np.array_split(np.arange(len(made)), 4):
        a, b = made[part], truth[part]
        old = likeness[part][torch.from_numpy(known[part])]
        quarters.append(
            dict(
                at_given_poses=dict(psnr=mean(old), frames=len(old)),
                psnr=mean(likeness[part]),
                edges=[mean(edges(a)), mean(edges(b))],
                mean_rgb=[((x.mean((0, 1, 2)) + 1) * 127.5).round(decimals=1).tolist() for x in (a, b)],
                spread=[mean(spread(x)) for x in (a, b)],
            )
        )
    return dict(seed=seed, frames=frames, given=GIVEN, quarters_made_and_true=quarters), made, true


def to_bytes(x):
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def picture(rows, scale=2):
    """Rows of frames as one picture of few colours; None leaves a gap."""
    width = max(len(r) for r in rows if r is not None) * rows[0][0].shape[1]
    strips = [np.full((6, width, 3), 255, np.uint8) if r is None else np.concatenate(list(r), 1) for r in rows]
    whole = Image.fromarray(np.concatenate(strips))
    return whole.resize((whole.width * scale, whole.height * scale), Image.Resampling.NEAREST).quantize(256)


def sheet(model, settings, films=4, columns=12):
    """Three rows a film: true frames, made with the full history, made with a window of `AWAY` frames."""
    true, poses = stack([returning(n) for n in range(films)])
    rows = [true[:, GIVEN:]] + [to_bytes(make(model, settings, true, poses, GIVEN, w)) for w in (None, AWAY)]
    shown = np.linspace(0, rows[0].shape[1] - 1, columns).astype(int)
    return picture([r for f in range(films) for r in [*(row[f][shown] for row in rows), None]][:-1])


def new_sheet(model, settings, columns=12, blocks=2):
    """Three rows a block: the last given frames of ordinary walks, the next true ones at poses never seen, and made ones."""
    last, next_, made, n = [], [], [], 0
    while len(made) < columns * blocks:
        true, poses = ordinary(n)
        if not (poses[GIVEN] == poses[:GIVEN]).all(-1).any():
            made.append(to_bytes(make(model, settings, true[None], poses[None], GIVEN, seeds=[n])[0, 0]))
            last.append(true[GIVEN - 1])
            next_.append(true[GIVEN])
        n += 1
    parts = [slice(first, first + columns) for first in range(0, len(made), columns)]
    return picture([r for part in parts for r in (last[part], next_[part], made[part], None)][:-1])


def far_sheet(model, settings, films=6, columns=12):
    """Two rows a walk into the unknown: true frames and made ones."""
    true, poses = stack([onward(n) for n in range(films)])
    made = to_bytes(make(model, settings, true, poses, GIVEN))
    shown = np.linspace(0, made.shape[1] - 1, columns).astype(int)
    return picture([r for f in range(films) for r in (true[f, GIVEN:][shown], made[f][shown], None)][:-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--films", type=int, default=100)
    parser.add_argument("--to", help="JSON file for the numbers")
    parser.add_argument("--sheet", help="PNG file for a contact sheet")
    parser.add_argument("--new-sheet", help="PNG file for a contact sheet of poses never seen")
    parser.add_argument("--far-sheet", help="PNG file for a contact sheet of walks into the unknown")
    parser.add_argument("--walks", help="JSON file for the walks")
    parser.add_argument("--long", type=int, help="frames of a long film")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, settings = load(args.folder)
    results = {}

    def add(name, value):
        results[name] = value
        print(name, json.dumps({k: v for k, v in value.items() if k != "by_film"}), flush=True)
        if args.to:
            Path(args.to).write_text(json.dumps(results, indent=1) + "\n")

    if args.walks:
        write_walks(args.walks, args.films)
    elif args.sheet:
        sheet(model, settings).save(args.sheet, optimize=True)
    elif args.new_sheet:
        new_sheet(model, settings).save(args.new_sheet, optimize=True)
    elif args.far_sheet:
        far_sheet(model, settings).save(args.far_sheet, optimize=True)
    elif args.long:
        numbers, made, true = long_film(model, settings, args.long)
        add("long_film", numbers)
        if args.to:
            every = np.linspace(0, len(made) - 1, 24).astype(int)
            rows = [r for at in np.array_split(every, 2) for r in (true[GIVEN:][at], to_bytes(made[at]), None)][:-1]
            picture(rows).save(Path(args.to).with_suffix(".png"), optimize=True)
    else:
        add("revisits", revisits(model, settings, args.films))
        add("next_frame", next_frame(model, settings, args.films))
        add("into_the_unknown", into_the_unknown(model, settings, min(20, args.films)))
        add("revisits_window_8", revisits(model, settings, args.films, AWAY))


if __name__ == "__main__":
    main()
