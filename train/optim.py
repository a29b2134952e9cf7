"""Optimisers: orthogonalised momentum for the blocks' matrices, Adam for all else, and an average of the weights."""

import torch

MUON = 0.012
"""Step of the blocks' matrices."""
MATCH = 0.3
"""Share of it for those of q and k: the match of poses is lost when they move fast."""
EMBEDDINGS = 1.5e-4
"""Adam's step for what feeds the first block and reads the last one; ten times as much breaks the recall."""
OTHERS = 1e-3
"""Adam's step for norms, biases and modulations."""


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal by four Newton-Schulz turns, so that every direction moves alike."""

    def __init__(self, groups, momentum=0.95, decay=0.01):
        super().__init__(groups, dict(momentum=momentum, decay=decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                m = state.setdefault("momentum", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                x = orthogonal(p.grad.lerp(m, group["momentum"]))
                tall = max(1, p.shape[0] / p.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["decay"]).add_(x, alpha=-group["lr"] * tall)


def orthogonal(g):
    """A matrix with g's singular vectors and all singular values near 1."""
    x = g / (g.norm() + 1e-7)
    x = x.T if g.shape[0] > g.shape[1] else x
    for _ in range(4):
        a = x @ x.T
        x = 3.4445 * x + (2.0315 * a @ a - 4.7750 * a) @ x
    return x.T if g.shape[0] > g.shape[1] else x


class Optimiser:
    """Both optimisers of a network under one schedule."""

    def __init__(self, model):
        match, mix, slow, rest = [], [], [], []
        for name, p in model.named_parameters():
            if name.startswith("blocks.") and p.ndim == 2:
                (match if ".q." in name or ".k." in name else mix).append(p)
            elif name.startswith(("time_", "pose_", "patch_", "head.head.weight")):
                slow.append(p)
            else:
                rest.append(p)
        self.muon = Muon([dict(params=match, lr=0, rate=MUON * MATCH), dict(params=mix, lr=0, rate=MUON)])
        self.adam = torch.optim.AdamW(
            [dict(params=slow, lr=0, rate=EMBEDDINGS), dict(params=rest, lr=0, rate=OTHERS)], betas=(0.9, 0.97), weight_decay=0.0
        )
        self.clipped = slow + rest

    def step(self, scale):
        """One step at `scale` times the rates; gradients are used up."""
        torch.nn.utils.clip_grad_norm_(self.clipped, 1.0)
        for optimiser in (self.muon, self.adam):
            for group in optimiser.param_groups:
                group["lr"] = group["rate"] * scale
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state_dict(self):
        return dict(muon=self.muon.state_dict(), adam=self.adam.state_dict())

    def load_state_dict(self, state):
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


class Average:
    """Running average of a network's weights: these are the ones that are shipped."""

    def __init__(self, model, keep=0.99):
        self.keep, self.steps = keep, 0
        self.weights = {name: w.detach().clone() for name, w in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model):
        self.steps += 1
        keep = min(self.keep, self.steps / (self.steps + 9))
        for name, w in model.state_dict().items():
            self.weights[name].lerp_(w, 1 - keep)

    def state_dict(self):
        return dict(weights=self.weights, steps=self.steps)

    def load_state_dict(self, state):
        self.weights, self.steps = state["weights"], state["steps"]
