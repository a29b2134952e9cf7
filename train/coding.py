"""What two bits do to cached keys and values, for training: the setting `int2` of the runtime in a few lines.

Rows lose the nearest of some centroids; the rest is coded in blocks of a head's width with four levels and a scale that is searched
(docs/METHOD.md, 10.2 without the released grid). Scales are not rounded, and one round of means makes the centroids: the error is of the
same kind and size as the runtime's, not the same.
"""

import torch

ROWS_A_CENTROID = 146.25
SHARES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4)
"""Of the largest scale, tried in turn."""


@torch.no_grad()
def coding_error(x):
    """What coding adds to rows `[clips, tokens, heads, head_dim]`; in f32."""
    rows = x.detach().float().transpose(1, 2)
    rest = rows - nearest_mean(rows)
    top = rest.abs().amax(-1, keepdim=True).clamp_min(1e-9) / 1.5
    best, least = None, None
    for share in SHARES:
        scale = top * share
        error = ((rest / scale + 1.5).round().clamp(0, 3) - 1.5) * scale - rest
        size = error.square().sum(-1, keepdim=True)
        best = error if best is None else torch.where(size < least, error, best)
        least = size if least is None else torch.minimum(size, least)
    return best.transpose(1, 2)


def nearest_mean(rows):
    """For rows `[clips, heads, tokens, head_dim]` the centroid of each."""
    tokens = rows.shape[2]
    count = max(8, round(tokens / ROWS_A_CENTROID))
    picks = ((torch.arange(count, device=rows.device) + 0.5) * tokens / count).long()
    means = rows[:, :, picks]
    for _ in range(2):
        ids = (means.square().sum(-1)[:, :, None] - 2 * rows @ means.transpose(2, 3)).argmin(-1)
        member = torch.nn.functional.one_hot(ids, count).to(rows.dtype)
        size = member.sum(2)[..., None]
        means = torch.where(size > 0, member.transpose(2, 3) @ rows / size.clamp_min(1), means)
    return torch.gather(means, 2, ids[..., None].expand_as(rows))
