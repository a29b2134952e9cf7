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
from dreams import Dreamer
from model import NEW_POSE, Config, Model, load, save, settings
from optim import Average, Optimiser

FLOOR = 4e-4
"""Of a frame's squared error in the loss, in units of [-1, 1]: 40 dB; better frames weigh less and less."""
ALONE = 0.4
"""Share of steps on frames without a past: what places look like, cheaply."""
DREAMT = 0.5
"""Share of the other steps that is on dreams, from the second part of the schedule on."""
FRESH = 0.3
"""Share of batches that are drawn anew; the others are old ones under other noise, since drawing one takes half as long as a step."""
NOISE = 0.4
"""Standard deviation of the noise, `noise_scale` of the settings."""
KEPT = 300
"""Batches of a size that are kept for that."""
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


def noise_shares(shape, device):
    """Shares t whose ratio of noise to picture, `NOISE t / (1 - t)`, lies evenly between 0.1 and 30 on a scale of logarithms."""
    ratio = 0.1 * 300 ** torch.rand(shape, device=device)
    return ratio / (ratio + NOISE)


def noisy_frames(pictures, t):
    return (1 - t) * pictures + t * NOISE * torch.randn_like(pictures)


def psnr(error):
    """Of a mean squared error in units of [-1, 1]."""
    return 10 * math.log10(4 / max(error, 1e-9))


class Feed:
    """Batches, new ones in the order of their seeds. On a GPU these are drawn ahead by threads."""

    def __init__(self, ahead, clips_factor):
        self.ahead, self.factor = ahead, clips_factor
        self.pool = ThreadPoolExecutor(os.cpu_count()) if ahead else None
        self.waiting, self.kept = [], {}

    def _start(self, run, clips, frames):
        args = run.seed, clips, frames, 0.4
        run.seed += clips
        return args

    def _new(self, run, clips, frames):
        if not self.pool:
            return make_batch(*self._start(run, clips, frames))
        while len(self.waiting) <= self.ahead:
            self.waiting.append(self.pool.submit(make_batch, *self._start(run, clips, frames)))
        return self.waiting.pop(0).result()

    def next(self, run, position):
        clips, frames = curriculum(position, run.draw)
        clips *= self.factor
        kept = self.kept.get((clips, frames), [])
        if 6 <= len(kept) and FRESH < run.draw.random():
            return kept[int(run.draw.integers(len(kept)))]
        batch = self._new(run, clips, frames)
        # One that was drawn ahead may have another size.
        kept = self.kept.setdefault(batch.poses.shape[:2], [])
        kept.append(batch)
        if KEPT < len(kept):
            kept.pop(0)
        return batch

    def alone(self, run, count, of_each=4):
        """Pictures and poses of single frames out of kept batches; None while these are few."""
        kept = [batch for batches in self.kept.values() for batch in batches]
        if len(kept) < 12:
            return None
        found = []
        for at in run.draw.integers(len(kept), size=count // of_each):
            pictures, poses = (u.flatten(0, 1) for u in (kept[at].pictures, kept[at].poses))
            frames = torch.from_numpy(run.draw.integers(len(poses), size=of_each))
            found.append((pictures[frames], poses[frames]))
        return tuple(torch.cat(u) for u in zip(*found))


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
        self.settings.setdefault("new_pose", NEW_POSE)
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

    def advance(self, position):
        """A step of the optimiser at this place in the schedule."""
        self.optimiser.step(rate(position, self.step))
        self.average.update(self.model)
        self.step += 1

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

    `context` are the clean frames it remembers; `source` what the noisy frames are made of; `whole` the share of frames at
    new poses that are noise alone.
    """

    def __init__(self, batch, context, source, whole=0.15):
        self.batch, self.context, self.source, self.whole = batch, context, source, whole

    @classmethod
    def of_truth(cls, batch):
        """True frames, as context with errors such as the network's own."""
        x = batch.pictures
        shape, device = (*x.shape[:2], 1, 1, 1), x.device
        spread = 0.16 * torch.rand(shape, device=device) * (torch.rand(shape, device=device) < 0.6)
        return cls(batch, x + spread * torch.randn_like(x), x)

    def again(self, guess, use):
        """Predictions take the place of true context, and where the pose was seen that of the source, which is what the
        sampler's second step starts from. Where it was not, the source stays true: what is there is to be made up from
        noise, not averaged."""
        x, seen, use = self.batch.pictures, self.batch.seen[..., None, None, None], use[..., None, None, None]
        return Lesson(self.batch, torch.where(use, guess, x), torch.where(seen, guess, x), 0.0)

    @classmethod
    def of_dream(cls, batch, context):
        return cls(batch, context, batch.pictures)

    def draw_noise(self):
        """Noise shares `[clips, frames]` and noisy frames. Where the pose was seen, mostly the sampler's 1 and 0.5."""
        seen = self.batch.seen
        t, kind = noise_shares(seen.shape, seen.device), torch.rand(seen.shape, device=seen.device)
        t[seen & (kind < 0.7)] = 0.5
        t[kind < torch.where(seen, 0.45, self.whole)] = 1
        return t, noisy_frames(self.source, t[..., None, None, None])


class Progress:
    """Mean errors of first looks (t above 0.8), where the pose was seen and where not, between two lines of the log."""

    def __init__(self):
        self.sums, self.told = np.zeros((4, 2)), 0

    def is_due(self, step):
        if step < self.told + 20:
            return False
        self.told = step
        return True

    def add(self, error, t, seen, dreamt):
        for row, mask in enumerate((seen & (t > 0.8), ~seen & (t > 0.8))):
            self.sums[row + 2 * dreamt] += float(error[mask].sum()), int(mask.sum())

    def line(self):
        values = tuple(psnr(e / max(n, 1)) for e, n in self.sums)
        self.sums[:] = 0
        return "seen %.2f new %.2f, in dreams %.2f and %.2f dB" % values


def train(args):
    run = Run(args)
    fast = run.device.type == "cuda"
    teach = torch.compile(run.model.teach) if fast else run.model.teach
    feed = Feed(ahead=8 if fast else 0, clips_factor=args.clips)
    stopped = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.append(True))
    dreamer, progress, second = Dreamer(run.model, run.settings), Progress(), None
    saved = last = time.monotonic()
    while not stopped:
        now = time.monotonic()
        run.elapsed, last = run.elapsed + now - last, now
        position = args.begin + (1 - args.begin) * run.elapsed / (args.minutes * 60)
        if position >= 1:
            break
        single = feed.alone(run, 64 * args.clips) if not second and run.draw.random() < ALONE else None
        if single:
            pictures, poses = (u.to(run.device) for u in single)
            t = noise_shares(len(poses), run.device)
            t[torch.rand(len(poses), device=run.device) < 0.08] = 1
            with torch.autocast(run.device.type, dtype=torch.bfloat16):
                guess = run.model.alone(noisy_frames(pictures, t[:, None, None, None]), t, poses).float()
            ((guess - pictures).square().mean((1, 2, 3)) + FLOOR).log().mean().backward()
            run.advance(position)
            continue
        dreamt = position > 0.35 and not second and run.draw.random() < DREAMT and dreamer.next(run)
        if second:
            lesson, second = second, None
        elif dreamt:
            lesson = Lesson.of_dream(*(u.to(run.device) for u in dreamt))
        else:
            lesson = Lesson.of_truth(feed.next(run, position).to(run.device))
        batch = lesson.batch
        frames = len(batch.ids)
        window = int(run.draw.integers(1, 9)) if frames >= 16 and not dreamt and run.draw.random() < 0.08 else None
        t, noisy = lesson.draw_noise()
        with torch.autocast(run.device.type, dtype=torch.bfloat16):
            guess = teach(lesson.context, noisy, t, batch.poses, batch.ids, window).float()
        error = (guess - batch.pictures).square().mean((2, 3, 4))
        (error + FLOOR).log().mean().backward()
        run.advance(position)
        if not window:
            progress.add(error.detach(), t, batch.seen, bool(dreamt))
            if lesson.whole and not dreamt and position > 0.35 and run.draw.random() < 0.4:
                # Whole guesses where nothing was seen are blurs: films are not to begin with many of these.
                u = torch.rand_like(error)
                sound = torch.where(batch.seen, error.detach() < 0.02, (t < 0.85) | (u < 0.15))
                use = (u < 0.6) & sound
                second = lesson.again(guess.detach(), use)
        if progress.is_due(run.step):
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
