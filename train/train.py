"""Trains the network of the demo world.

    python train.py --out OUT --minutes 240                                        from nothing
    python train.py --out OUT --minutes 120 --init ../assets/worlds/rooms          from weights at hand

The same command goes on from OUT/state.pt when it was stopped, by whatever means. OUT/weights.safetensors and
OUT/config.json are always the best so far, ready to be shipped.
"""

import argparse
import json
import math
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import start
from clips import FIRST_SEED, make_batch
from model import Config, Model, load, save, settings
from optim import Average, Optimiser

FLOOR = 4e-4
"""Of a frame's squared error in the loss, in units of [-1, 1]: 40 dB; better frames weigh less and less."""
UNSEEN = 0.3
"""Weight of frames whose pose was not seen: most of their error cannot be learned away."""
SAVE_EVERY = 150
"""Seconds."""


def curriculum(position, draw):
    """(clips, frames) of a batch: longer films the further the training is."""
    u = draw.random()
    if position < 0.12:
        return 4, 8
    if position < 0.6:
        return (2, 16) if u < 0.75 else (4, 8)
    return (1, 48) if u < 0.3 else (1, 32) if u < 0.7 else (2, 16)


def rate(position, step):
    """Share of the full learning rate: a short rise, then full, then a straight line down."""
    return min(1, (step + 1) / 30) * min(1.0, max(0.02, (1 - position) / 0.45))


def noisy_frames(pictures, t, scale):
    return (1 - t) * pictures + t * scale * torch.randn_like(pictures)


def psnr(error):
    """Of a mean squared error in units of [-1, 1]."""
    return 10 * math.log10(4 / max(error, 1e-9))


class Feed:
    """Batches in the order of their seeds. On a GPU they are drawn ahead by threads."""

    def __init__(self, ahead, clips_factor):
        self.ahead, self.factor = ahead, clips_factor
        self.pool = ThreadPoolExecutor(os.cpu_count()) if ahead else None
        self.waiting = []

    def _start(self, run, position):
        clips, frames = curriculum(position, run.draw)
        args = run.seed, clips * self.factor, frames, 0.4
        run.seed += clips * self.factor
        return args

    def next(self, run, position):
        if not self.pool:
            return make_batch(*self._start(run, position))
        while len(self.waiting) <= self.ahead:
            self.waiting.append(self.pool.submit(make_batch, *self._start(run, position)))
        return self.waiting.pop(0).result()


class Run:
    """Everything that a stopped training needs to go on."""

    def __init__(self, args):
        self.out = Path(args.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(args.device)
        self.step, self.elapsed, self.seed = 0, 0.0, FIRST_SEED + args.seed * 10_000_000
        self.draw = np.random.default_rng(args.seed)
        torch.manual_seed(args.seed)
        kept = self.out / "state.pt"
        state = torch.load(kept, map_location=self.device, weights_only=False) if kept.exists() else None
        if state:
            self.settings = state["settings"]
            model = Model(Config(**self.settings["model"]))
        elif args.init:
            model, self.settings = load(args.init)
        else:
            model = Model(Config(dim=args.dim, layers=args.layers, heads=args.dim // 64, ffn_dim=args.ffn))
            self.settings = settings(model.config)
            start.recall(model)
        self.model = model.to(self.device).train()
        self.optimiser, self.average = Optimiser(self.model), Average(self.model)
        if state:
            self._load(state)

    def _load(self, state):
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        self.step, self.elapsed, self.seed = state["step"], state["elapsed"], state["seed"]
        self.draw.bit_generator.state = state["draw"]
        torch.set_rng_state(state["noise"].cpu())

    def save(self):
        state = dict(
            settings=self.settings,
            model=self.model.state_dict(),
            optimiser=self.optimiser.state_dict(),
            average=self.average.state_dict(),
            step=self.step,
            elapsed=self.elapsed,
            seed=self.seed,
            draw=self.draw.bit_generator.state,
            noise=torch.get_rng_state(),
        )
        part = self.out / "state.part"
        torch.save(state, part)
        part.replace(self.out / "state.pt")
        (self.out / "config.json").write_text(json.dumps(state["settings"], indent=1) + "\n")
        save(self.average.weights, self.out / "weights.safetensors")


class Lesson:
    """One batch: what the network is given and asked for.

    `context` are the clean frames it remembers, with errors such as its own; `source` what the noisy frames are made
    of. In a `second` lesson on a batch, well predicted frames of the first one take the place of true context and all
    predictions that of the source, which is what the sampler's second step starts from.
    """

    def __init__(self, batch, first=None, use=None):
        self.batch, self.second = batch, first is not None
        x = batch.pictures
        if self.second:
            self.source, self.context = first, torch.where(use[..., None, None, None], first, x)
            return
        shape, device = (*x.shape[:2], 1, 1, 1), x.device
        spread = 0.16 * torch.rand(shape, device=device) * (torch.rand(shape, device=device) < 0.6)
        self.source, self.context = x, x + spread * torch.randn_like(x)

    def draw_noise(self):
        """Noise shares `[clips, frames]`, the sampler's 1 and 0.5 most often, and noisy frames."""
        shape, device = self.batch.pictures.shape[:2], self.source.device
        kind, t = torch.rand(shape, device=device), 0.03 + 0.97 * torch.rand(shape, device=device)
        t[kind < 0.8] = 0.5
        t[kind < 0.55] = 1
        scale = torch.where(torch.rand(shape, device=device) < 0.75, 0.4, 1.0)
        return t, noisy_frames(self.source, *(u[..., None, None, None] for u in (t, scale)))


class Progress:
    """Mean errors of first looks (t above 0.8), where the pose was seen and where not, between two lines of the log."""

    def __init__(self):
        self.sums = np.zeros((2, 2))

    def add(self, error, t, seen):
        for row, mask in enumerate((seen & (t > 0.8), ~seen & (t > 0.8))):
            self.sums[row] += float(error[mask].sum()), int(mask.sum())

    def line(self):
        seen, new = (psnr(e / max(n, 1)) for e, n in self.sums)
        self.sums[:] = 0
        return f"seen {seen:.2f} new {new:.2f} dB"


def train(args):
    run = Run(args)
    fast = run.device.type == "cuda"
    teach = torch.compile(run.model.teach) if fast else run.model.teach
    feed = Feed(ahead=8 if fast else 0, clips_factor=args.clips)
    stopped = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.append(True))
    progress, second = Progress(), None
    saved = last = time.monotonic()
    while not stopped:
        now = time.monotonic()
        run.elapsed, last = run.elapsed + now - last, now
        position = args.begin + (1 - args.begin) * run.elapsed / (args.minutes * 60)
        if position >= 1:
            break
        lesson, second = second or Lesson(feed.next(run, position).to(run.device)), None
        batch = lesson.batch
        frames = len(batch.ids)
        window = int(run.draw.integers(1, 9)) if frames >= 16 and run.draw.random() < 0.08 else None
        t, noisy = lesson.draw_noise()
        with torch.autocast(run.device.type, dtype=torch.bfloat16):
            guess = teach(lesson.context, noisy, t, batch.poses, batch.ids, window).float()
        error = (guess - batch.pictures).square().mean((2, 3, 4))
        weight = torch.where(batch.seen, 1.0, UNSEEN)
        ((error + FLOOR).log() * weight).mean().backward()
        run.optimiser.step(rate(position, run.step))
        run.average.update(run.model)
        run.step += 1
        if not window:
            progress.add(error.detach(), t, batch.seen)
            if not lesson.second and position > 0.35 and run.draw.random() < 0.4:
                use = (torch.rand_like(error) < 0.6) & (error.detach() < 0.02)
                second = Lesson(batch, guess.detach(), use)
        if run.step % 20 == 0:
            print(f"{run.step:6d} {run.elapsed:6.0f} s at {position:.3f}: {progress.line()}", flush=True)
        if now - saved > SAVE_EVERY:
            saved = now
            run.save()
    run.save()
    print(f"{'stopped' if stopped else 'done'} after {run.step} steps, {run.elapsed / 60:.1f} minutes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of the checkpoint and the weights")
    parser.add_argument("--minutes", type=float, required=True, help="length of the whole schedule")
    parser.add_argument("--init", help="folder with the weights to begin with; without it, from nothing")
    parser.add_argument("--begin", type=float, help="place in the schedule to begin at: 0.4 with --init, else 0")
    parser.add_argument("--seed", type=int, default=0, help="another one for every run that adds to the same weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clips", type=int, default=1, help="times the clips of a batch")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--ffn", type=int, default=768)
    args = parser.parse_args()
    if args.begin is None:
        args.begin = 0.4 if args.init else 0.0
    if args.dim % 64:
        parser.error("--dim must be a multiple of 64, the size of a head")
    torch.set_num_threads(args.threads)
    train(args)


if __name__ == "__main__":
    main()
