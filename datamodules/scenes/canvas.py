"""Draws on the canvas of an aerial scene: places things, paints them, and takes the photograph.

Positions are in metres, in a frame that is centred on the image and turned against it. The canvas is
`SUPERSAMPLING` times as large as the image. Every canvas pixel has an owner, the thing that it shows; boxes,
areas and visible shares are counted from the owners, so shadows are no part of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.scenes.sprites import (
    LEAVES,
    TAR,
    Colour,
    Maker,
    Palette,
    Points,
    ellipse,
    pick,
    rectangle,
    shade,
)

PERSON, CAR, TRUCK, CROWD, LOOK_ALIKE = 0, 1, 2, -1, -2
"""Labels. Riders count as people, vans as cars, buses as trucks; a crowd is one thing of many people."""
SUPERSAMPLING = 3
SHIFT = 4  # fractional bits of the coordinates that OpenCV draws
UNIT = 1 << SHIFT
GROUND, ROOF, CROWN = 0, -1, -2  # owners of what shows no thing
_NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / 256) for k in range(256)], np.float32)
"""Quantiles that turn random bytes into normal noise, at a tenth of the time that a generator takes."""
GRASS: Palette = (  # by season, as LEAVES are: two summers, late summer, autumn, winter, snow
    (98, 120, 62), (84, 108, 60), (130, 130, 82), (150, 132, 92), (114, 112, 84), (206, 210, 214),
)  # fmt: skip
PAVING: Palette = ((166, 160, 150), (150, 140, 128), (178, 168, 152), (138, 138, 140), (160, 128, 108))
Outline = NDArray[np.int32]  # (k, 2) canvas pixels, fixed point
Block = tuple[float, float, float, float]  # x0, y0, x1, y1 metres


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn scene of n things, those that ended up wholly hidden included.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (n,) int64.
        boxes: (n, 4) float64 xyxy pixels, tight around what is visible; zeros where nothing is.
        areas: (n,) float64 visible area, square pixels.
        visible: (n,) float64 share of the thing that is visible; what lies outside the image is not.
        owner: (SUPERSAMPLING * H, SUPERSAMPLING * W) int32: 1 + index of the thing on top,
            else `GROUND`, `ROOF` or `CROWN`.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    visible: NDArray[np.float64]
    owner: NDArray[np.int32]


@dataclass(slots=True)
class _Thing:
    """A placed sprite: outlines on the canvas."""

    outlines: list[Outline]
    colours: list[Colour]
    height: float
    position: tuple[float, float]
    surface: int


class Canvas:
    """A scene in the making: the canvas, the light and the season.

    Args:
        rng: decides everything.
        size: (H, W) of the image in pixels.
        scale: image pixels per metre; by default drawn from 4.2 to 6.4.
        angle: of the scene's x axis in the image, radians; drawn by default.
    """

    def __init__(
        self, rng: Random, size: tuple[int, int], scale: float | None = None, angle: float | None = None
    ) -> None:
        self.rng, self.size = rng, size
        height, width = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
        self.colour = np.zeros((height, width, 4), np.uint8)
        self.owner = np.zeros((height, width), np.int32)
        self.shadow = np.zeros((height, width), np.uint8)
        self.scale = scale or rng.uniform(4.2, 6.4)
        self.angle = rng.uniform(0, 2 * math.pi) if angle is None else angle
        self.radius = math.hypot(*size) / 2 / self.scale  # metres from the centre to a corner
        self.unit = self.scale * SUPERSAMPLING * UNIT  # fixed-point canvas pixels per metre
        self.centre = np.array((width, height)) * UNIT / 2 - UNIT / 2  # pixels count at their centres

        self.things: list[_Thing] = []
        self.labels: list[int] = []
        self.areas: list[int] = []  # canvas pixels, hidden and outside ones included
        self.windows: list[tuple[int, int, int, int]] = []  # canvas x0, y0, x1, y1 around each labelled thing
        self.roofs: list[tuple[Outline, float]] = []
        self.crowns: list[tuple[float, float, float]] = []  # x, y, radius

        self.season = rng.choices(range(6), (5, 4, 3, 2, 1, 1))[0]
        self.grass = pick(rng, GRASS[self.season : self.season + 1], 110)
        self.paving, self.tar = pick(rng, PAVING, 50), pick(rng, TAR, 45)
        self.sun = rng.uniform(0, 2 * math.pi)
        self.shadow_length = rng.uniform(0.3, 1.3)  # metres per metre of height

    def outline(self, points: Points, x: float = 0.0, y: float = 0.0, heading: float = 0.0) -> Outline:
        """Canvas coordinates of points about (x, y), turned by `heading`."""
        u, v = self.unit * math.cos(self.angle), self.unit * math.sin(self.angle)
        origin = self.centre + np.array((x * u - y * v, x * v + y * u))
        u, v = self.unit * math.cos(self.angle + heading), self.unit * math.sin(self.angle + heading)
        outline: Outline = np.rint(points @ np.array(((u, v), (-v, u))) + origin).astype(np.int32)
        return outline

    def near(self, x: float, y: float, margin: float = 3.0) -> bool:
        """Whether a position is in the image or at most `margin` metres outside."""
        cos, sin = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        reach_y, reach_x = self.size[0] / 2 + margin * self.scale, self.size[1] / 2 + margin * self.scale
        return abs(x * cos - y * sin) < reach_x and abs(x * sin + y * cos) < reach_y

    def ground(
        self, points: Points, colour: Colour, x: float = 0.0, y: float = 0.0, heading: float = 0.0
    ) -> None:
        """Paint a piece of the ground."""
        cv2.fillConvexPoly(self.colour, self.outline(points, x, y, heading), colour, shift=SHIFT)

    def mark(self, points: Points, colour: Colour, x: float, y: float, heading: float = 0.0) -> None:
        """Paint something small on the ground, if it is in sight."""
        if self.near(x, y):
            self.ground(points, colour, x, y, heading)

    def block(self, block: Block, colour: Colour) -> None:
        """Paint a block of ground."""
        x0, y0, x1, y1 = block
        self.ground(rectangle(x1 - x0, y1 - y0, (x0 + x1) / 2, (y0 + y1) / 2), colour)

    def place(
        self,
        makers: Sequence[Maker],
        label: int,
        x: float,
        y: float,
        heading: float | None = None,
        surface: int = GROUND,
        crowd: int = 0,
    ) -> bool:
        """Place one of several sprites where nothing else stands; a crowd may overlap a little.

        Args:
            makers: what to choose from.
            label: its label.
            x: metres.
            y: metres.
            heading: direction that its front points to, radians; drawn by default.
            surface: what it must stand on, `GROUND` or `ROOF`.
            crowd: owner number of the crowd that it joins; 0 for a thing of its own.

        Returns:
            Whether it was placed.
        """
        if not self.near(x, y):
            return False
        sprite = self.rng.choice(makers)(self.rng)
        heading = self.rng.uniform(0, 2 * math.pi) if heading is None else heading
        corners = self.outline(np.concatenate([points for points, _ in sprite.parts]), x, y, heading)
        left, top, width, height = cv2.boundingRect(corners)
        right, bottom = ((left + width) >> SHIFT) + 2, ((top + height) >> SHIFT) + 2
        left, top = left >> SHIFT, top >> SHIFT
        height, width = self.owner.shape
        x0, y0, x1, y1 = window = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
        if x0 >= x1 or y0 >= y1:
            return False
        local, outlines, end = corners - np.array((left * UNIT, top * UNIT), np.int32), [], 0
        silhouette = np.zeros((bottom - top, right - left), np.uint8)
        for points, _ in sprite.parts:
            start, end = end, end + len(points)
            outlines.append(corners[start:end])
            cv2.fillConvexPoly(silhouette, local[start:end], 1, shift=SHIFT)
        area = cv2.countNonZero(silhouette)
        inside = silhouette[y0 - top : y1 - top, x0 - left : x1 - left] > 0
        owner = self.owner[y0:y1, x0:x1]
        taken = np.count_nonzero(inside & (owner != surface))
        if taken > (0.35 * area if label == CROWD else 0):
            return False
        if crowd:
            left, top, right, bottom = self.windows[crowd - 1]
            self.windows[crowd - 1] = (min(left, x0), min(top, y0), max(right, x1), max(bottom, y1))
            self.areas[crowd - 1] += area
        else:
            self.labels.append(label)
            self.areas.append(area)
            self.windows.append(window)
        np.copyto(owner, crowd or len(self.labels), where=inside)
        colours = [colour for _, colour in sprite.parts]
        self.things.append(_Thing(outlines, colours, sprite.height, (x, y), surface))
        return True

    def paint(self) -> None:
        """Paint things, shadows and tree crowns on the ground."""
        low, tall = np.zeros_like(self.owner, np.uint8), np.zeros_like(self.owner, np.uint8)
        cast = np.array((math.cos(self.sun), math.sin(self.sun))) * self.shadow_length * self.unit
        for thing in self.things:
            if thing.height:
                _shadow(low, np.concatenate(thing.outlines), cast * thing.height)
            for outline, colour in zip(thing.outlines, thing.colours, strict=True):
                cv2.fillConvexPoly(self.colour, outline, colour, shift=SHIFT)
        low[self.owner > 0] = 0
        self.crowns = [crown for crown in self.crowns if self.near(*crown[:2])]
        for footprint, height in self.roofs:
            _shadow(tall, footprint, cast * height)
        for x, y, radius in self.crowns:
            _shadow(tall, self.outline(ellipse(radius, radius), x, y), cast * radius * 2.2)
        for footprint, _ in self.roofs:
            cv2.fillConvexPoly(tall, footprint, 0, shift=SHIFT)
        np.bitwise_or(low, tall, out=self.shadow)
        for crown in self.crowns:
            self._crown(*crown)

    def _crown(self, x: float, y: float, radius: float) -> None:
        """Crown of a tree: clumps of leaves, lighter towards the sun. It hides what stands below."""
        rng = self.rng
        leaves = pick(rng, LEAVES[self.season : self.season + 1], 90)
        centre_x, centre_y = self.outline(np.zeros((1, 2)), x, y)[0].tolist()
        size = radius * self.unit
        for k in range(14):
            clump, reach, light = 0.75, 0.0, 0.62
            turn = rng.uniform(0, 2 * math.pi)
            if k:
                clump, reach = rng.uniform(0.22, 0.4), 0.75 * math.sqrt(rng.random())
                light = 0.95 - 0.4 * reach * math.cos(turn - self.sun) + rng.gauss(0, 0.08)
            spot = (
                round(centre_x + reach * math.cos(turn) * size),
                round(centre_y + reach * math.sin(turn) * size),
            )
            cv2.circle(self.colour, spot, round(clump * size), shade(leaves, light), -1, shift=SHIFT)
            cv2.circle(self.owner, spot, round(clump * size), CROWN, -1, shift=SHIFT)
            cv2.circle(self.shadow, spot, round(clump * size), 0.0, -1, shift=SHIFT)

    def photograph(self) -> NDArray[np.uint8]:
        """Shrink the canvas, add texture, light, lens and sensor: (H, W, 3) uint8 RGB."""
        rng = self.rng
        noise = np.random.default_rng(rng.getrandbits(64))
        height, width = self.size
        *planes, rough = cv2.split(cv2.resize(self.colour, (width, height), interpolation=cv2.INTER_AREA))
        shadow = cv2.resize(self.shadow, (width, height), interpolation=cv2.INTER_AREA)
        dark = rng.choice((0.3, 0.42, 0.5, 0.58, 1.0))  # an overcast sky casts no shadows

        def normal(*shape: int) -> NDArray[np.float32]:
            levels = np.frombuffer(noise.bytes(math.prod(shape)), np.uint8).reshape(shape)
            return np.asarray(cv2.LUT(levels, _NORMAL), np.float32).reshape(shape)

        def clouds(cell: int) -> NDArray[np.float32]:  # smooth noise with patches of `cell` pixels: (H, W)
            grid = normal(height // cell + 2, width // cell + 2)
            return np.asarray(cv2.resize(grid, (width, height)), np.float32)

        grain = 0.1 * (clouds(1) + clouds(3) + clouds(9))
        roughness = rough * np.float32(1 / 255)
        brightness, haze = rng.uniform(0.75, 1.15), rng.uniform(0, 0.22)
        light = (1 + 0.06 * clouds(120)) * (1 - shadow * np.float32((1 - dark) / 255))
        image = cv2.merge(
            [
                plane
                * (1 + roughness * (grain + 0.1 * clouds(40)))
                * light
                * (tint * brightness * (1 - haze))
                + 190 * haze
                for plane, tint in zip(planes, [rng.gauss(1, 0.05) for _ in "rgb"], strict=True)
            ]
        )
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.25, 0.75))
        image = image + normal(height, width, 3) * np.float32(rng.uniform(1, 7))
        return np.clip(image, 0, 255).astype(np.uint8)

    def scene(self) -> Scene:
        """What was painted, and what can be seen of each thing."""
        boxes, areas = np.zeros((len(self.labels), 4)), np.zeros(len(self.labels))
        for k, (x0, y0, x1, y1) in enumerate(self.windows):
            seen = (self.owner[y0:y1, x0:x1] == k + 1).astype(np.uint8)
            x, y, width, height = cv2.boundingRect(seen)
            areas[k] = cv2.countNonZero(seen)
            if areas[k]:
                boxes[k] = x0 + x, y0 + y, x0 + x + width, y0 + y + height
        return Scene(
            image=self.photograph(),
            labels=np.array(self.labels, np.int64),
            boxes=boxes / SUPERSAMPLING,
            areas=areas / SUPERSAMPLING**2,
            visible=areas / np.maximum(self.areas, 1),
            owner=self.owner,
        )


def _shadow(mask: NDArray[np.uint8], outline: Outline, cast: NDArray[np.float64]) -> None:
    """Add the shadow of an outline, raised so that its shadow falls `cast` away."""
    corners = np.concatenate((outline, outline + cast.astype(np.int32)))
    cv2.fillConvexPoly(mask, cv2.convexHull(corners), 255, shift=SHIFT)
