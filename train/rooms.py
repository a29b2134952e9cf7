"""The world `rooms`: layout, colours and pictures drawn at random from one integer, walks through it, and its renderer.

A pose is three integers (x, y, k): x and y in 1/16 cell from the first frame's, k the heading in steps of 22.5 degrees,
counter-clockwise. A film starts at (0, 0, 0), in the middle of a cell. The runtime has the same world; the order of the
draws and the arithmetic of the renderer are part of its definition, so both give the same pictures.
"""

import math

import numpy as np
from numba import njit

WIDTH, HEIGHT, UNIT, HEADINGS = 64, 48, 16, 16
CELLS = 25
"""Along a side of a world."""
REACH = 180
"""Furthest x and y of a walk, in 1/16 cell: pose features repeat at 16 cells."""
_QUARTER = [(4, 0), (4, 2), (3, 3), (2, 4)]
FORWARD = np.array([(c * x - s * y, s * x + c * y) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1)) for x, y in _QUARTER])
"""A step forward by heading, in 1/16 cell: whole numbers, so that a walk undone ends on exactly the first pose."""
SIDE = {"w": 0, "a": 4, "s": 8, "d": 12}
"""Heading of a step against the heading of the eye."""
INVERSE = {"w": "s", "s": "w", "a": "d", "d": "a", "left": "right", "right": "left", "stay": "stay"}


def step(pose, action):
    x, y, k = pose
    if action in SIDE:
        dx, dy = FORWARD[(k + SIDE[action]) % HEADINGS]
        return int(x + dx), int(y + dy), k
    return x, y, (k + {"left": 1, "right": -1, "stay": 0}[action]) % HEADINGS


def walk(actions, pose=(0, 0, 0)):
    """Poses `[len(actions) + 1, 3]`, the first one included."""
    poses = [pose]
    for action in actions:
        poses.append(step(poses[-1], action))
    return np.array(poses, np.int64)


def _rgb(h, s, v):
    h = (h % 1.0) * 6
    i, f = int(h), h - int(h)
    p, q, t = v * (1 - s), v * (1 - s * f), v * (1 - s * (1 - f))
    return ((v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q))[i % 6]


class World:
    """One world.

    `grid` 1 = wall; `room` id by cell; `pillar` radius by cell, 0 = none; `style` by room: patterns of wall, floor and
    ceiling, then six colours; `deco` by wall face: kind, then three colours; `start` the first pose's place in cells.
    """

    def __init__(self, seed):
        draw = np.random.default_rng(int(seed))
        self.grid = np.ones((CELLS, CELLS), np.int8)
        self.room = np.zeros((CELLS, CELLS), np.int16)
        rooms = self._lay_rooms(draw)
        doors = len(rooms) + 1
        self._cut_doors(draw, rooms, doors)
        self.pillar = np.zeros((CELLS, CELLS), np.float32)
        for x0, x1, y0, y1 in rooms:
            if x1 - x0 >= 3 and y1 - y0 >= 3 and draw.random() < 0.6:
                radius = draw.uniform(0.15, 0.3)
                self.pillar[draw.integers(y0 + 1, y1 - 1), draw.integers(x0 + 1, x1 - 1)] = radius
        base = draw.random()
        self.style = np.array([self._draw_style(draw, base) for _ in range(len(rooms) + 2)], np.float32)
        self.deco = self._draw_pictures(draw)
        middle = [(y, x) for y in range(9, 16) for x in range(9, 16)]
        free = [(y, x) for y, x in middle if not self.grid[y, x] and not self.pillar[y, x] and self.room[y, x] != doors]
        y, x = free[int(draw.integers(len(free)))]
        self.start = (x + 0.5, y + 0.5)

    def _lay_rooms(self, draw):
        def cuts():
            at = [0]
            while at[-1] < CELLS - 3:
                at.append(at[-1] + int(draw.integers(3, 6)))
            at[-1] = CELLS - 1
            return at

        xs, ys, rooms = cuts(), cuts(), []
        for y0, y1 in zip(ys, ys[1:]):
            for x0, x1 in zip(xs, xs[1:]):
                if x1 > x0 + 1 and y1 > y0 + 1:
                    rooms.append((x0 + 1, x1, y0 + 1, y1))
                    self.grid[y0 + 1 : y1, x0 + 1 : x1] = 0
                    self.room[y0 + 1 : y1, x0 + 1 : x1] = len(rooms)
        return rooms

    def _cut_doors(self, draw, rooms, doors):
        for x0, x1, y0, y1 in rooms:
            for rightward in (True, False):
                edge = x1 if rightward else y1
                if edge >= CELLS - 1 or draw.random() < 0.1:
                    continue
                low, high = (y0, y1) if rightward else (x0, x1)
                width = 1 if draw.random() < 0.7 else 2
                first = int(draw.integers(low, max(low + 1, high - width + 1)))
                for c in range(first, min(first + width, high)):
                    y, x = (c, edge) if rightward else (edge, c)
                    if self.grid[(y, x + 1) if rightward else (y + 1, x)] == 0:
                        self.grid[y, x], self.room[y, x] = 0, doors

    @staticmethod
    def _draw_style(draw, base):
        hue = base + draw.choice([0.0, 0.08, 0.33, 0.5, 0.66]) + draw.normal(0, 0.04)
        wall = _rgb(hue, draw.uniform(0.2, 0.85), draw.uniform(0.5, 1.0))
        wall_too = _rgb(hue + draw.normal(0, 0.08), draw.uniform(0.1, 0.8), draw.uniform(0.3, 0.9))
        hue = draw.random()
        floor = _rgb(hue, draw.uniform(0.1, 0.6), draw.uniform(0.35, 0.8))
        floor_too = _rgb(hue + draw.normal(0, 0.05), draw.uniform(0.1, 0.6), draw.uniform(0.25, 0.6))
        ceiling = _rgb(draw.random(), draw.uniform(0.0, 0.35), draw.uniform(0.35, 0.95))
        pillar = _rgb(draw.random(), draw.uniform(0.4, 1.0), draw.uniform(0.5, 1.0))
        patterns = draw.integers(0, 6), draw.integers(0, 4), draw.integers(0, 3)
        return np.concatenate([patterns, wall, wall_too, floor, floor_too, ceiling, pillar])

    @staticmethod
    def _draw_pictures(draw):
        faces = (CELLS, CELLS, 4)
        deco = np.zeros((*faces, 10), np.float32)
        hung = draw.random(faces) < 0.5
        deco[..., 0] = hung * draw.integers(1, 4, faces)
        n = 3 * math.prod(faces)
        colours = [_rgb(*c) for c in zip(draw.random(n), draw.uniform(0.3, 1, n), draw.uniform(0.2, 1, n))]
        deco[..., 1:] = np.array(colours).reshape(*faces, 9)
        return deco

    def free(self, pose):
        """Whether the eye may stand here: about a quarter cell from walls and pillars."""
        x, y = self.start[0] + pose[0] / UNIT, self.start[1] + pose[1] / UNIT
        margin = 0.249
        corners = [(y + sy, x + sx) for sx in (-margin, margin) for sy in (-margin, margin)]
        if any(self.grid[int(math.floor(v)), int(math.floor(u))] for v, u in corners):
            return False
        around = [(cy, cx) for cy in range(int(y) - 1, int(y) + 2) for cx in range(int(x) - 1, int(x) + 2)]
        return not any(
            self.pillar[c] > 0 and math.hypot(x - c[1] - 0.5, y - c[0] - 0.5) < self.pillar[c] + 0.25 for c in around
        )

    def render(self, pose):
        """One frame, bytes `[48, 64, 3]`."""
        out = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        x, y = self.start[0] + pose[0] / UNIT, self.start[1] + pose[1] / UNIT
        _render(out, x, y, pose[2] * (2 * math.pi / HEADINGS), self.grid, self.room, self.pillar, self.style, self.deco)
        return (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)

    def film(self, poses):
        return np.stack([self.render(p) for p in poses])


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def _wall(style, deco, rid, hx, hy, side, u, z, shade):
    """Colour of a wall at u across and z up its face."""
    pattern, a = int(style[rid, 0]), 0.0
    if pattern == 1:  # bricks
        row = math.floor(z * 5)
        uu = u * 2 + 0.5 * (row % 2)
        if z * 5 - row < 0.18 or uu - math.floor(uu) < 0.09:
            a = 1.0
    elif pattern == 2:  # vertical stripes
        a = 1.0 if math.floor(u * 4) % 2 == 1 else 0.0
    elif pattern == 3:  # wainscot
        a = 1.0 if z < 0.36 else 0.0
    elif pattern == 4:  # checks
        a = 1.0 if (math.floor(u * 3) + math.floor(z * 3)) % 2 == 1 else 0.0
    elif pattern == 5:  # band
        a = 1.0 if 0.4 < z < 0.6 else 0.0
    r = style[rid, 3] * (1 - a) + style[rid, 6] * a
    g = style[rid, 4] * (1 - a) + style[rid, 7] * a
    b = style[rid, 5] * (1 - a) + style[rid, 8] * a
    kind, o = int(deco[hy, hx, side, 0]), 0
    if kind == 1 and 0.2 < u < 0.8 and 0.32 < z < 0.78:  # a framed picture of two halves
        o = 1 if u < 0.5 else 4
        if u < 0.26 or u > 0.74 or z < 0.37 or z > 0.73:
            o = 7
    elif kind == 2:  # a disc
        q = (u - 0.5) ** 2 + (z - 0.55) ** 2
        if q < 0.075:
            o = 1 if q < 0.025 else 4
    elif kind == 3 and 0.22 < u < 0.78 and z < 0.8:  # a panelled door
        o = 4 if 0.32 < u < 0.68 and 0.42 < z < 0.7 else 1
    if o > 0:
        r, g, b = deco[hy, hx, side, o], deco[hy, hx, side, o + 1], deco[hy, hx, side, o + 2]
    if z < 0.05:
        r, g, b = r * 0.5, g * 0.5, b * 0.5
    return r * shade, g * shade, b * shade


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def _ground(style, rid, gx, gy, d, is_floor):
    """Colour of the floor or the ceiling at (gx, gy), d away."""
    m = 1.0 / (1.0 + 0.05 * d * d)
    ux, uy = gx - math.floor(gx), gy - math.floor(gy)
    if is_floor:
        pattern, a = int(style[rid, 1]), 0.0
        if pattern == 1:  # checks
            a = 1.0 if (math.floor(gx * 2) + math.floor(gy * 2)) % 2 == 1 else 0.0
        elif pattern == 2:  # boards
            a = 1.0 if math.floor(gx * 3) % 2 == 1 else 0.0
        elif pattern == 3:  # tiles
            a = 1.0 if (ux < 0.12 or uy < 0.12) else 0.0
        return (
            (style[rid, 9] * (1 - a) + style[rid, 12] * a) * m,
            (style[rid, 10] * (1 - a) + style[rid, 13] * a) * m,
            (style[rid, 11] * (1 - a) + style[rid, 14] * a) * m,
        )
    pattern, k = int(style[rid, 2]), 0.8
    if pattern == 1 and abs(ux - 0.5) < 0.22 and abs(uy - 0.5) < 0.22:  # lamps
        k = 1.25
    elif pattern == 2 and (ux < 0.15 or uy < 0.15):  # beams
        k = 0.5
    return style[rid, 15] * m * k, style[rid, 16] * m * k, style[rid, 17] * m * k


@njit(cache=True, fastmath=True, nogil=True)
def _render(out, px, py, yaw, grid, room, pillar, style, deco):
    """Casts a ray per column, four samples a pixel. 90 degrees wide, the eye at half the height of a wall."""
    samples = 2
    w, h = WIDTH * samples, HEIGHT * samples
    fx, fy = math.cos(yaw), math.sin(yaw)
    focal = 32.0 * samples
    n = grid.shape[0]
    for c in range(w):
        s = (c + 0.5 - w / 2) / focal
        dx, dy = fx + fy * s, fy - fx * s
        mx, my = int(math.floor(px)), int(math.floor(py))
        stepx = 1 if dx > 0 else -1
        stepy = 1 if dy > 0 else -1
        ddx = abs(1.0 / dx) if abs(dx) > 1e-9 else 1e9
        ddy = abs(1.0 / dy) if abs(dy) > 1e-9 else 1e9
        tx = ((mx + 1 - px) if dx > 0 else (px - mx)) * ddx
        ty = ((my + 1 - py) if dy > 0 else (py - my)) * ddy
        dist, side, u, rid, hx, hy, is_pillar = 0.0, 0, 0.0, 0, 0, 0, False
        for _ in range(64):
            if pillar[my, mx] > 0:
                ox, oy = px - (mx + 0.5), py - (my + 0.5)
                a = dx * dx + dy * dy
                b = ox * dx + oy * dy
                cc = ox * ox + oy * oy - pillar[my, mx] ** 2
                disc = b * b - a * cc
                if disc > 0:
                    t = (-b - math.sqrt(disc)) / a
                    if t > 0.01:
                        dist, is_pillar = t, True
                        nx = (ox + t * dx) / pillar[my, mx]
                        ny = (oy + t * dy) / pillar[my, mx]
                        u = 0.55 + 0.45 * (0.8 * nx + 0.6 * ny)
                        rid = room[my, mx]
                        break
            lx, ly = mx, my
            if tx < ty:
                dist = tx
                tx += ddx
                mx += stepx
                side = 0 if stepx > 0 else 1
            else:
                dist = ty
                ty += ddy
                my += stepy
                side = 2 if stepy > 0 else 3
            if mx < 0 or my < 0 or mx >= n or my >= n or grid[my, mx]:
                rid = room[ly, lx]
                hx, hy = min(max(mx, 0), n - 1), min(max(my, 0), n - 1)
                u = (py + dist * dy) if side < 2 else (px + dist * dx)
                u -= math.floor(u)
                if side == 0 or side == 3:
                    u = 1 - u
                break
        dist = max(dist, 1e-3)
        shade = 1.0 / (1.0 + 0.035 * dist * dist)
        if not is_pillar and side >= 2:
            shade *= 0.78
        for rr in range(h):
            v = (rr + 0.5 - h / 2) / focal  # down is positive; the wall spans |v| < 0.5 / dist
            if abs(v) * dist < 0.5:
                z = 0.5 - v * dist
                if is_pillar:
                    m = shade * (0.35 + 0.65 * u)
                    if z < 0.08 or z > 0.92:
                        m *= 0.6
                    r, g, b = style[rid, 18] * m, style[rid, 19] * m, style[rid, 20] * m
                else:
                    r, g, b = _wall(style, deco, rid, hx, hy, side, u, z, shade)
            else:
                d = 0.5 / abs(v)
                gx, gy = px + d * dx, py + d * dy
                ix, iy = int(math.floor(gx)), int(math.floor(gy))
                ix, iy = min(max(ix, 0), n - 1), min(max(iy, 0), n - 1)
                r, g, b = _ground(style, room[iy, ix], gx, gy, d, v > 0)
            y, x = rr // samples, c // samples
            out[y, x, 0] += r / (samples * samples)
            out[y, x, 1] += g / (samples * samples)
            out[y, x, 2] += b / (samples * samples)


def stroll(world, draw, frames, p_back=0.35):
    """Actions of a walk of `frames` poses through free space, which retraces its steps with a chance of `p_back`."""
    actions, pose = [], (0, 0, 0)

    def go(action, count=1):
        """Steps made of `count`: those that end in free space."""
        nonlocal pose
        made = 0
        for _ in range(count):
            to = step(pose, action)
            if max(abs(to[0]), abs(to[1])) < REACH and world.free(to):
                pose = to
                actions.append(action)
                made += 1
        return made

    while len(actions) < frames - 1:
        u = draw.random() if actions else draw.uniform(p_back, 1)
        if u < p_back:  # some steps undone
            m = int(draw.integers(1, min(len(actions), 2 + frames // 2) + 1))
            for action in actions[-m:][::-1]:
                go(INVERSE[action])
        elif u < p_back + 0.08:  # a look around
            turn = draw.choice(["left", "right"])
            go(turn, 16 if frames > 24 else int(draw.integers(2, 8)))
        elif u < p_back + 0.2:  # out, turn, back, turn
            k = go("w", int(draw.integers(1, 9)))
            turn = draw.choice(["left", "right"])
            go(turn, 8), go("w", k), go(turn, 8)
        else:
            action = draw.choice(["w", "left", "right", "a", "d", "s"], p=[0.45, 0.2, 0.2, 0.06, 0.06, 0.03])
            most = 9 if action == "w" else 6 if action in ("left", "right") else 4
            if go(action, int(draw.integers(1, most))) == 0:
                turn = draw.choice(["left", "right"])
                go(turn, int(draw.integers(2, 6)))
    return [str(a) for a in actions[: frames - 1]]


def there_and_back(world, draw, frames, p_back=0.0):
    """A walk of `frames` poses and the same steps undone: `2 frames - 1` poses."""
    out = stroll(world, draw, frames, p_back)
    return out + [INVERSE[a] for a in out[::-1]]
