"""What stands in generated scenes: people, vehicles, and the look-alikes that share their colours and sizes.

A sprite is a list of coloured convex outlines in metres about its origin, facing +x, painted in order.
Objects and look-alikes take their colours from the same palettes; what tells them apart is how the parts are
arranged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(k, 2) convex outline, metres."""
Colour = tuple[float, float, float, float]
"""Red, green, blue and roughness, that is how strongly the texture of the ground shows; 0 to 255."""
Palette = Sequence[tuple[int, int, int]]

PAINTS: Palette = (
    (234, 234, 230), (234, 234, 230), (190, 193, 196), (160, 163, 166), (116, 118, 122), (70, 73, 78),
    (40, 41, 45), (146, 50, 44), (52, 70, 112), (96, 116, 140), (58, 82, 66), (178, 164, 136),
)  # fmt: skip
CLOTHES: Palette = (
    (156, 58, 54), (58, 78, 132), (228, 224, 216), (40, 42, 50), (190, 164, 92), (84, 112, 86),
    (138, 100, 130), (186, 122, 78), (120, 122, 126), (128, 158, 178),
)  # fmt: skip
HAIR: Palette = ((40, 30, 24), (88, 60, 38), (196, 162, 106), (26, 24, 26), (224, 214, 200), (206, 166, 136))
TROUSERS: Palette = ((40, 46, 66), (34, 34, 38), (92, 84, 70), (66, 82, 112), (150, 138, 116))
RUBBLE: Palette = ((150, 134, 80), (112, 92, 66), (176, 156, 96), (92, 88, 84), (138, 112, 84))
TAR: Palette = ((92, 92, 94), (76, 77, 82), (112, 110, 108), (126, 124, 122))
TILES: Palette = ((150, 82, 62), (124, 70, 56), (98, 92, 92), (84, 78, 76), (140, 126, 112), (70, 76, 88))
LEAVES: Palette = ((58, 88, 42), (74, 98, 46), (108, 104, 44), (160, 100, 42), (104, 92, 64), (92, 100, 84))

WHITE: Colour = (228, 228, 222, 40)
BLACK: Colour = (30, 30, 32, 0)
GLASS: Colour = (32, 40, 50, 0)
HEADLAMP: Colour = (250, 244, 214, 0)
TAIL_LAMP: Colour = (170, 24, 20, 0)

PEOPLE_SCALE = 1.55
"""People and what people carry are drawn this much larger than life, or they would have 3 pixels."""


@dataclass(slots=True)
class Sprite:
    """Something to place.

    Attributes:
        parts: outlines and their colours, in the order of painting.
        height: metres, casts the shadow; 0 for paint on the ground.
    """

    parts: list[tuple[Points, Colour]]
    height: float

    def scaled(self, factor: float) -> Sprite:
        """The sprite, larger in plan but not in height."""
        return Sprite([(points * factor, colour) for points, colour in self.parts], self.height)


def rectangle(length: float, width: float, x: float = 0.0, y: float = 0.0, bevel: float = 0.0) -> Points:
    """Rectangle about (x, y) with corners cut by `bevel` metres."""
    a, b = length / 2, width / 2
    if not bevel:
        return np.array(((x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b)))
    left, right, top, bottom = x - a, x + a, y - b, y + b
    return np.array(
        (
            (left, top + bevel), (left + bevel, top), (right - bevel, top), (right, top + bevel),
            (right, bottom - bevel), (right - bevel, bottom), (left + bevel, bottom), (left, bottom - bevel),
        )
    )  # fmt: skip


_TURNS = np.arange(12) * (np.pi / 6)
_CIRCLE = np.stack((np.cos(_TURNS), np.sin(_TURNS)), axis=1)


def ellipse(a: float, b: float, x: float = 0.0, y: float = 0.0) -> Points:
    """Ellipse about (x, y) with half axes a and b."""
    return _CIRCLE * (a, b) + (x, y)


def pick(rng: Random, palette: Palette, roughness: float = 0.0) -> Colour:
    """A colour of the palette, varied."""
    r, g, b = rng.choice(palette)
    shift = rng.gauss(0, 10)
    return (r + shift + rng.gauss(0, 5), g + shift + rng.gauss(0, 5), b + shift + rng.gauss(0, 5), roughness)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour under more or less light."""
    r, g, b, roughness = colour
    return (r * factor, g * factor, b * factor, roughness)


# --- people


def walker(rng: Random) -> Sprite:
    """Someone on foot: legs in stride, swinging arms, shoulders, head."""
    clothes, trousers = pick(rng, CLOTHES), pick(rng, TROUSERS)
    stride = rng.choice((-1, 1)) * rng.uniform(0.15, 0.45)
    parts = [
        (rectangle(0.5, 0.24, stride, 0.16), trousers),
        (rectangle(0.5, 0.24, -stride, -0.16), trousers),
        (ellipse(0.2, 0.14, -stride * 0.7, 0.44), shade(clothes, 0.8)),
        (ellipse(0.2, 0.14, stride * 0.7, -0.44), shade(clothes, 0.8)),
        (ellipse(0.25, 0.5), clothes),
        (ellipse(0.22, 0.2, 0.06), pick(rng, HAIR)),
    ]
    return Sprite(parts, 1.7).scaled(PEOPLE_SCALE * rng.uniform(0.9, 1.1))


def rider(rng: Random) -> Sprite:
    """Someone on a cycle, leaning forward."""
    clothes = pick(rng, CLOTHES)
    parts = [
        (rectangle(0.6, 0.16, 0.2, 0.26), shade(clothes, 0.8)),
        (rectangle(0.6, 0.16, 0.2, -0.26), shade(clothes, 0.8)),
        (ellipse(0.36, 0.36, -0.08), clothes),
        (ellipse(0.2, 0.2, 0.16), pick(rng, HAIR)),
    ]
    return Sprite(cycle(rng).parts + Sprite(parts, 1.7).scaled(PEOPLE_SCALE).parts, 1.7)


# --- vehicles


def car(rng: Random) -> Sprite:
    """Saloon or hatchback: bonnet, windows all round, roof, lamps."""
    length, width = rng.uniform(3.9, 4.8), rng.uniform(1.8, 2.0)
    paint = pick(rng, PAINTS)
    rear = rng.choice((-0.32, -0.42)) * length  # saloons have a boot, hatchbacks do not
    front = 0.28 * length
    middle = (front + rear) / 2
    parts = [
        (rectangle(length, width, bevel=0.32), shade(paint, 0.78)),
        (rectangle(length - 0.2, width - 0.3, bevel=0.25), paint),
        (rectangle(front - rear, width * 0.86, middle, bevel=0.25), GLASS),
        (rectangle(front - rear - 1.2, width * 0.68, middle - 0.1), shade(paint, 1.1)),
    ]
    for y in (-0.32 * width, 0.32 * width):
        parts.append((rectangle(0.2, 0.4, length * 0.47, y), HEADLAMP))
        parts.append((rectangle(0.16, 0.4, -length * 0.475, y), TAIL_LAMP))
    return Sprite(parts, 1.4)


def van(rng: Random) -> Sprite:
    """Van: short bonnet, windscreen, long ribbed roof."""
    length, width = rng.uniform(4.9, 5.8), rng.uniform(2.0, 2.15)
    paint = pick(rng, PAINTS)
    parts = [
        (rectangle(length, width, bevel=0.28), shade(paint, 0.8)),
        (rectangle(length - 0.2, width - 0.3, bevel=0.2), paint),
        (rectangle(length * 0.12, width * 0.82, length * 0.34, bevel=0.1), GLASS),
    ]
    parts += [
        (rectangle(0.14, width * 0.62, length * (0.18 - 0.17 * k)), shade(paint, 0.84)) for k in range(4)
    ]
    return Sprite(parts, 2.1)


def lorry(rng: Random) -> Sprite:
    """Lorry: a cab with a windscreen, a dark gap, and a box or an open load."""
    length, width, cab = rng.uniform(6.6, 9.4), rng.uniform(2.4, 2.6), rng.uniform(1.8, 2.2)
    paint, body = pick(rng, PAINTS), pick(rng, PAINTS)
    bed = length - cab - 0.5
    front, middle = (length - cab) / 2, (bed - length) / 2
    parts = [
        (rectangle(length - 0.4, width * 0.6), BLACK),
        (rectangle(cab, width * 0.94, front, bevel=0.2), paint),
        (rectangle(0.5, width * 0.8, front + cab * 0.28), GLASS),
        (rectangle(cab * 0.4, width * 0.7, front - cab * 0.18), shade(paint, 1.12)),
        (rectangle(bed, width, middle), shade(body, 0.7)),
    ]
    if rng.random() < 0.6:
        parts.append((rectangle(bed - 0.4, width - 0.4, middle), body))
        parts.append((rectangle(bed - 0.4, 0.16, middle), shade(body, 0.86)))
    else:
        load = pick(rng, RUBBLE)
        parts.append((rectangle(bed - 0.4, width - 0.5, middle), shade(load, 0.6)))
        parts.append((ellipse(bed * 0.36, width * 0.3, middle + rng.uniform(-0.3, 0.3)), load))
    return Sprite(parts, 3.2)


def bus(rng: Random) -> Sprite:
    """Bus: windows all round, a light roof with hatches and a cooling unit."""
    length, width = rng.uniform(8.4, 10.2), rng.uniform(2.5, 2.65)
    paint = pick(rng, PAINTS)
    roof = rng.choice((shade(paint, 1.12), WHITE))
    parts = [
        (rectangle(length, width, bevel=0.25), paint),
        (rectangle(length - 0.35, width - 0.25, bevel=0.2), GLASS),
        (rectangle(length - 1.2, width - 0.65, -0.2), roof),
        (rectangle(1.8, 1.4, length * rng.uniform(-0.3, -0.1)), shade(roof, 0.72)),
    ]
    parts += [(rectangle(0.7, 0.7, length * x), shade(roof, 0.6)) for x in (-0.38, 0.08, 0.3)]
    return Sprite(parts, 3.0)


# --- look-alikes of vehicles


def patch(rng: Random) -> Sprite:
    """Paint or fresh tar on the ground."""
    outline = rectangle(rng.uniform(3.2, 5.2), rng.uniform(1.6, 2.2), bevel=rng.choice((0.0, 0.3)))
    parts = [(outline, pick(rng, PAINTS, roughness=70))]
    if rng.random() < 0.4:
        parts.append((outline * 0.72, pick(rng, TAR, roughness=70)))
    return Sprite(parts, 0.0)


def skip(rng: Random) -> Sprite:
    """Open skip with rubble."""
    length, width = rng.uniform(3.4, 4.6), rng.uniform(1.8, 2.1)
    paint = pick(rng, PAINTS)
    parts = [
        (rectangle(length, width, bevel=0.1), paint),
        (rectangle(length - 0.4, width - 0.4), shade(paint, 0.45)),
        (ellipse(length * 0.3, width * 0.3, rng.uniform(-0.4, 0.4)), pick(rng, RUBBLE)),
    ]
    return Sprite(parts, 1.2)


def container(rng: Random) -> Sprite:
    """Ribbed container, as long as a van or a lorry."""
    length, width = rng.choice((5.4, 8.0)) * rng.uniform(0.9, 1.1), rng.uniform(2.2, 2.5)
    paint, ribs = pick(rng, PAINTS), round(length / 0.8)
    parts = [(rectangle(length, width), paint)]
    for k in range(ribs):
        parts.append((rectangle(0.36, width - 0.2, length * ((k + 0.5) / ribs - 0.5)), shade(paint, 0.74)))
    return Sprite(parts, 2.5)


def stall(rng: Random) -> Sprite:
    """Market stall: a canopy of four slopes, or a striped one."""
    length, width = rng.uniform(2.8, 4.6), rng.uniform(2.0, 2.4)
    paint, outline = pick(rng, PAINTS), rectangle(length, width)
    if rng.random() < 0.5:
        slopes = [np.stack((outline[k], outline[k - 1], np.zeros(2))) for k in range(4)]
        return Sprite([(slopes[k], shade(paint, 0.7 + 0.15 * k)) for k in range(4)], 2.3)
    stripes = [(rectangle(length / 9, width, length * k / 9), WHITE) for k in (-3, -1, 1, 3)]
    return Sprite([(outline, paint), *stripes], 2.3)


def shed(rng: Random) -> Sprite:
    """Small gabled roof."""
    length, width = rng.uniform(3.0, 4.6), rng.uniform(1.9, 2.6)
    paint = pick(rng, PAINTS)
    return Sprite(
        [(rectangle(length, width), shade(paint, 0.72)), (rectangle(length, width / 2, 0, width / 4), paint)],
        2.2,
    )


def skylight(rng: Random) -> Sprite:
    """Row of panes: as dark and light as a car, but framed."""
    length, width = rng.uniform(3.0, 4.8), rng.uniform(1.5, 1.9)
    panes = [(rectangle(length * 0.2, width - 0.4, length * x), GLASS) for x in (-0.34, -0.115, 0.115, 0.34)]
    return Sprite([(rectangle(length, width), pick(rng, PAINTS)), *panes], 0.3)


# --- look-alikes of people


def cycle(rng: Random) -> Sprite:
    """Parked cycle."""
    frame = pick(rng, CLOTHES)
    parts = [
        (rectangle(0.66, 0.14, -0.52), BLACK),
        (rectangle(0.66, 0.14, 0.52), BLACK),
        (rectangle(1.0, 0.14), frame),
        (rectangle(0.12, 0.56, 0.4), frame),
        (rectangle(0.26, 0.22, -0.3), BLACK),
    ]
    return Sprite(parts, 0.8).scaled(PEOPLE_SCALE * rng.uniform(0.9, 1.1))


def bollard(rng: Random) -> Sprite:
    """Bollard or litter bin: two rings."""
    radius = rng.uniform(0.5, 0.8)
    rings = [(ellipse(radius * share, radius * share), pick(rng, CLOTHES)) for share in (1.0, 0.55)]
    return Sprite(rings, 1.1)


def parasol(rng: Random) -> Sprite:
    """Parasol: sectors in two colours."""
    rim, paints = _CIRCLE * rng.uniform(0.75, 1.1), (pick(rng, CLOTHES), pick(rng, CLOTHES))
    sectors = [np.stack((rim[k - 2], rim[k - 1], rim[k], np.zeros(2))) for k in range(0, 12, 2)]
    return Sprite([(sector, paints[k % 2]) for k, sector in enumerate(sectors)], 2.0)


def bush(rng: Random) -> Sprite:
    """Bush or flower bed: irregular clumps."""
    colour, parts = pick(rng, (*LEAVES, *CLOTHES)), []
    for _ in range(6):
        radius = rng.uniform(0.25, 0.5)
        clump = ellipse(radius, radius, rng.uniform(-0.45, 0.45), rng.uniform(-0.45, 0.45))
        parts.append((clump, shade(colour, rng.uniform(0.6, 1.2))))
    return Sprite(parts, 0.7)


def crate(rng: Random) -> Sprite:
    """Crate or cabinet: a square with four panels."""
    side, paint = rng.uniform(1.0, 1.5), pick(rng, CLOTHES)
    corners = [(x * side, y * side) for x in (-0.22, 0.22) for y in (-0.22, 0.22)]
    panels = [(rectangle(side * 0.36, side * 0.36, x, y), paint) for x, y in corners]
    return Sprite([(rectangle(side, side), shade(paint, 0.7)), *panels], 0.9)


def vent(rng: Random) -> Sprite:
    """Roof vent or chimney: a block with a hole."""
    side = rng.uniform(1.1, 1.7)
    block = rectangle(side, side * rng.uniform(0.75, 1.0))
    return Sprite([(block, pick(rng, (*CLOTHES, *TILES))), (ellipse(side * 0.24, side * 0.24), BLACK)], 0.9)


Maker = Callable[[Random], Sprite]
PEOPLE: Sequence[Maker] = (walker, walker, walker, rider)
CARS: Sequence[Maker] = (car, car, car, van)
TRUCKS: Sequence[Maker] = (lorry, lorry, bus)
LIKE_VEHICLES: Sequence[Maker] = (patch, patch, skip, container, stall, shed)
LIKE_PEOPLE: Sequence[Maker] = (bollard, parasol, bush, crate, vent, cycle)
ON_ROOFS: Sequence[Maker] = (skylight, vent, container, crate)
