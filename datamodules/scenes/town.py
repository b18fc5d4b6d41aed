"""Draws aerial scenes: a piece of a town or of the country from straight above, and all that stands in it.

Positions are in metres, in a frame that is centred on the image and turned against it. The canvas is
`SUPERSAMPLING` times as large as the image. Every canvas pixel has an owner, the thing that it shows; boxes,
areas and visible shares are counted from the owners, so shadows are no part of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.scenes.sprites import (
    CARS,
    LEAVES,
    LIKE_PEOPLE,
    LIKE_VEHICLES,
    ON_ROOFS,
    PEOPLE,
    RUBBLE,
    TAR,
    TILES,
    TRUCKS,
    WHITE,
    Colour,
    Maker,
    Palette,
    Points,
    bush,
    container,
    crate,
    ellipse,
    parasol,
    patch,
    pick,
    rectangle,
    shade,
    shed,
    skip,
    stall,
    walker,
)

PERSON, CAR, TRUCK, CROWD, LOOK_ALIKE = 0, 1, 2, -1, -2
"""Labels. Riders count as people, vans as cars, buses as trucks; a crowd is one thing of many people."""
SUPERSAMPLING = 3

_SHIFT = 4  # fractional bits of the coordinates that OpenCV draws
_UNIT = 1 << _SHIFT
GROUND, ROOF, CROWN = 0, -1, -2  # owners of what shows no thing

_NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / 256) for k in range(256)], np.float32)
"""Quantiles that turn random bytes into normal noise, at a tenth of the time that a generator takes."""

GRASS: Palette = (  # by season, as LEAVES are: two summers, late summer, autumn, winter, snow
    (98, 120, 62), (84, 108, 60), (130, 130, 82), (150, 132, 92), (114, 112, 84), (206, 210, 214),
)  # fmt: skip
CROPS: Palette = (
    (150, 134, 80), (112, 92, 66), (176, 156, 96), (92, 118, 58), (120, 130, 70), (138, 112, 84),
)  # fmt: skip
PAVING: Palette = ((166, 160, 150), (150, 140, 128), (178, 168, 152), (138, 138, 140), (160, 128, 108))
FLAT_ROOFS: Palette = ((142, 142, 142), (168, 166, 160), (112, 114, 118), (96, 92, 88), (186, 184, 180))

Outline = NDArray[np.int32]  # (k, 2) canvas pixels, fixed point
Block = tuple[float, float, float, float]  # x0, y0, x1, y1 metres
RIGHT_ANGLE = math.pi / 2


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


def draw_scene(seed: str, size: tuple[int, int]) -> Scene:
    """Draw the scene of a seed.

    Args:
        seed: any text; the same text and size give the same scene.
        size: (H, W) of the image in pixels.
    """
    town = Town(Random(seed), size)
    town.lay_out()
    town.paint()
    return town.scene()


@dataclass(slots=True)
class _Thing:
    """A placed sprite: outlines on the canvas."""

    outlines: list[Outline]
    colours: list[Colour]
    height: float
    position: tuple[float, float]
    surface: int


class Town:
    """A scene in the making.

    Args:
        rng: decides everything.
        size: (H, W) of the image in pixels.
        scale: image pixels per metre; by default drawn from 4.2 to 6.4.
        angle: of the town's x axis in the image, radians; drawn by default.
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
        self.unit = self.scale * SUPERSAMPLING * _UNIT  # fixed-point canvas pixels per metre
        self.centre = np.array((width, height)) * _UNIT / 2 - _UNIT / 2  # pixels count at their centres

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

    # --- drawing and placing

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
        cv2.fillConvexPoly(self.colour, self.outline(points, x, y, heading), colour, shift=_SHIFT)

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
        right, bottom = ((left + width) >> _SHIFT) + 2, ((top + height) >> _SHIFT) + 2
        left, top = left >> _SHIFT, top >> _SHIFT
        height, width = self.owner.shape
        x0, y0, x1, y1 = window = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
        if x0 >= x1 or y0 >= y1:
            return False
        local, outlines, end = corners - np.array((left * _UNIT, top * _UNIT), np.int32), [], 0
        silhouette = np.zeros((bottom - top, right - left), np.uint8)
        for points, _ in sprite.parts:
            start, end = end, end + len(points)
            outlines.append(corners[start:end])
            cv2.fillConvexPoly(silhouette, local[start:end], 1, shift=_SHIFT)
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

    # --- layout

    def lay_out(self) -> None:
        """Roads on a grid with gaps, and something in every block between them."""
        rng, reach = self.rng, self.radius + 10
        share = rng.choice((0.5, 0.8, 0.9))
        rows, columns = self._cuts(28, 42, share), self._cuts(32, 56, share * 0.6)
        roads = [(0.0, row, half) for row, half in rows if half > 0]
        roads += [(RIGHT_ANGLE, column, half) for column, half in columns if half > 0]
        self.block((-reach, -reach, reach, reach), self.grass)
        for margin, colour in ((2.2, self.paving), (0.0, self.tar)):
            for heading, offset, half in roads:
                self.ground(
                    rectangle(2 * reach, 2 * (half + margin)), colour, *_along(heading, offset, 0, 0), heading
                )
        zones = rng.choice(
            (
                (self.houses, self.houses, self.park, self.car_park),
                (self.square, self.flats, self.car_park, self.park),
                (self.yard, self.square, self.flats, self.yard),
                (self.field, self.field, self.houses, self.yard),
                (self.square, self.park, self.houses, self.car_park),
            )
        )
        for (x0, left), (x1, right) in pairwise(columns):
            for (y0, top), (y1, bottom) in pairwise(rows):
                block = (x0 + left + 2.4, y0 + top + 2.4, x1 - right - 2.4, y1 - bottom - 2.4)
                if self._in_sight(block):
                    rng.choice(zones)(block)
        for heading, offset, half in roads:
            crossings = [(other, width) for turn, other, width in roads if turn != heading]
            self._road(heading, offset, half, crossings)
        self._complete()

    def _cuts(self, low: float, high: float, share: float) -> list[tuple[float, float]]:
        """Borders between blocks: (position, half width of the road; negative for no road)."""
        rng = self.rng
        cuts: list[tuple[float, float]] = []
        position = -self.radius - rng.uniform(0, high)
        while not cuts or cuts[-1][0] < self.radius:
            cuts.append((position, rng.uniform(3.2, 5.2) if rng.random() < share else -1.8))
            position += rng.uniform(low, high)
        return cuts

    def _in_sight(self, block: Block) -> bool:
        x0, y0, x1, y1 = block
        corners = self.outline(np.array(((x0, y0), (x0, y1), (x1, y0), (x1, y1)))) / _UNIT
        return bool((corners.max(axis=0) > 0).all() and (corners.min(axis=0) < self.owner.shape[::-1]).all())

    def _steps(self, step: float) -> Iterator[float]:
        """Positions along a road, `step` metres apart on average."""
        t = -self.radius + self.rng.uniform(-step, 0)
        while (t := t + step * self.rng.uniform(0.8, 1.2)) < self.radius:
            yield t

    def _road(
        self, heading: float, offset: float, half: float, crossings: Sequence[tuple[float, float]]
    ) -> None:
        """Markings, traffic, parked cars, trees and people of one road."""
        rng = self.rng

        def at(t: float, d: float) -> tuple[float, float]:
            return _along(heading, offset, t, d)

        def crossed(t: float, margin: float) -> bool:
            return any(abs(t - other) < width + margin for other, width in crossings)

        for k in range(int(self.radius / 3)):
            t = -self.radius + 6 * k
            if not crossed(t, 1.5):
                self.mark(rectangle(2.6, 0.2), WHITE, *at(t, 0.0), heading)
        for other, width in crossings:
            for k in range(int(2 * half / 1.1)):
                self.mark(rectangle(2.6, 0.5), WHITE, *at(other + width + 2.0, 0.8 - half + 1.1 * k), heading)
        gap, parking = rng.choice((12.0, 20.0, 40.0)), half > 4.2 and rng.random() < 0.6
        tree_gap = rng.choice((12.0, 20.0, 1000.0))
        for side in (-1, 1):
            forward = heading if side > 0 else heading + math.pi
            for t in self._steps(gap + 5):
                vehicle = (TRUCKS, TRUCK) if rng.random() < 0.25 else (CARS, CAR)
                lane = side * half * (0.36 if parking else 0.48)
                self.place(*vehicle, *at(t + rng.uniform(-3, 3), lane), forward + rng.gauss(0, 0.03))
            for t in self._steps(6.2):
                if parking and not crossed(t, 4.0) and rng.random() < 0.4:
                    self.place(CARS, CAR, *at(t, side * (half - 1.15)), forward + rng.gauss(0, 0.04))
            for t in self._steps(rng.choice((12.0, 20.0, 40.0))):
                way = heading + rng.choice((0, math.pi)) + rng.gauss(0, 0.3)
                self.place(PEOPLE, PERSON, *at(t, side * (half + rng.uniform(0.6, 1.8))), way)
            for t in self._steps(tree_gap):
                if not crossed(t, 1.0):
                    self.crowns.append((*at(t, side * (half + 1.6)), rng.uniform(1.2, 2.4)))

    def _spot(self, block: Block, margin: float = 1.0) -> tuple[float, float]:
        x0, y0, x1, y1 = block
        return self.rng.uniform(x0 + margin, x1 - margin), self.rng.uniform(y0 + margin, y1 - margin)

    def _scatter(self, makers: Sequence[Maker], label: int, block: Block, density: float) -> None:
        """Place things all over a block: `density` for 1000 square metres."""
        x0, y0, x1, y1 = block
        for _ in range(round((x1 - x0) * (y1 - y0) * density / 1000 + self.rng.random() - 0.5)):
            self.place(makers, label, *self._spot(block))

    def car_park(self, block: Block) -> None:
        """Rows of bays, more or less full."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.block(block, pick(rng, TAR, 45))
        full = rng.choice((0.15, 0.35, 0.65))
        y, facing = y0 + 3.2, 1
        while y < y1 - 2.5:
            for k in range(int((x1 - x0 - 0.5) / 2.7)):
                x = x0 + 0.5 + 2.7 * k
                self.mark(rectangle(0.16, 4.8), WHITE, x, y)
                heading = facing * RIGHT_ANGLE + rng.choice((0, 0, math.pi)) + rng.gauss(0, 0.04)
                if rng.random() < full:
                    self.place(CARS, CAR, x + 1.35, y + rng.gauss(0, 0.2), heading)
                elif rng.random() < 0.1:
                    self.place(LIKE_VEHICLES, LOOK_ALIKE, x + 1.35, y, heading)
            y += 5.1 if facing < 0 else 11.5
            facing = -facing
        self._scatter(PEOPLE, PERSON, block, 3)

    def houses(self, block: Block) -> None:
        """Gabled houses with gardens and driveways, facing the road above or below."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.block(block, shade(self.grass, rng.uniform(0.9, 1.08)))
        x, middle = x0, (y0 + y1) / 2
        while (plot := rng.uniform(13, 17)) < x1 - x:
            length, width = rng.uniform(8, 10), rng.uniform(7, 9)
            drive = (x + length + 0.8, y0, x + length + 3.8, middle)
            garden = (x, middle + 5, x + plot, y1)
            if rng.random() < 0.5:
                drive, garden = (drive[0], middle, drive[2], y1), (x, y0, x + plot, middle - 5)
            self.block(drive, self.paving)
            self.building(x + length / 2 + 0.4, middle, length, width, rng.gauss(0, 0.05), flat=False)
            if rng.random() < 0.7:
                self.place(CARS, CAR, drive[0] + 1.5, self._spot(drive, 2.5)[1], RIGHT_ANGLE)
            for _ in range(rng.randint(0, 3)):
                self.crowns.append((*self._spot(garden), rng.uniform(1.2, 2.8)))
            self._scatter(PEOPLE, PERSON, garden, 6)
            self._scatter((shed, stall, parasol, bush), LOOK_ALIKE, garden, 4)
            x += plot

    def flats(self, block: Block) -> None:
        """One large flat roof, cars in front."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.block(block, self.paving)
        length, width = (x1 - x0) * rng.uniform(0.45, 0.75), (y1 - y0) * rng.uniform(0.35, 0.6)
        self.building((x0 + x1) / 2, (y0 + y1) / 2, length, width, rng.gauss(0, 0.03), flat=True)
        for k in range(int((x1 - x0) / 3)):
            if rng.random() < 0.3:
                self.place(CARS, CAR, x0 + 1.6 + 3 * k, y0 + 2.8, RIGHT_ANGLE)
        self._scatter(PEOPLE, PERSON, block, 3)

    def building(self, x: float, y: float, length: float, width: float, heading: float, flat: bool) -> None:
        """A roof with things on it; nothing else can be placed there."""
        rng = self.rng
        roof, whole = pick(rng, FLAT_ROOFS if flat else TILES, 35), rectangle(length, width)
        if flat:
            self.ground(whole, shade(roof, 1.15), x, y, heading)
            self.ground(rectangle(length - 0.8, width - 0.8), roof, x, y, heading)
        else:
            slope = 0.25 * math.sin(self.sun - self.angle - heading)
            self.ground(whole, shade(roof, 1 + slope), x, y, heading)
            self.ground(rectangle(length, width / 2, 0, width / 4), shade(roof, 1 - slope), x, y, heading)
        footprint = self.outline(whole, x, y, heading)
        cv2.fillConvexPoly(self.owner, footprint, ROOF, shift=_SHIFT)
        self.roofs.append((footprint, rng.uniform(6, 12) if flat else rng.uniform(4, 6)))
        cos, sin = math.cos(heading), math.sin(heading)
        for _ in range(rng.randint(1, 5) if flat else rng.randint(0, 2)):
            u = rng.uniform(-0.38, 0.38) * length
            v = rng.choice((-1, 1)) * rng.uniform(0.2, 0.36) * width
            self.place(
                ON_ROOFS[: 4 if flat else 2],
                LOOK_ALIKE,
                x + u * cos - v * sin,
                y + u * sin + v * cos,
                heading,
                ROOF,
            )

    def square(self, block: Block) -> None:
        """Paved square: people, sometimes a market, sometimes a crowd."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.block(block, self.paving)
        joints = shade(self.paving, 0.88)
        for k in range(1, int((x1 - x0) / 3)):
            self.ground(rectangle(0.2, y1 - y0), joints, x0 + 3 * k, (y0 + y1) / 2)
        for k in range(1, int((y1 - y0) / 3)):
            self.ground(rectangle(x1 - x0, 0.2), joints, (x0 + x1) / 2, y0 + 3 * k)
        if rng.random() < 0.25:
            self.crowd(*self._spot(block, 8.0))
        if rng.random() < 0.4:
            for k in range(int((x1 - x0 - 3) / 7)):
                self.place((stall,), LOOK_ALIKE, x0 + 3 + 7 * k, y0 + (y1 - y0) * 0.3, rng.gauss(0, 0.05))
        self._scatter(PEOPLE, PERSON, block, rng.choice((4, 8, 12)))
        self._scatter(LIKE_PEOPLE, LOOK_ALIKE, block, 3)

    def crowd(self, x: float, y: float) -> None:
        """People shoulder to shoulder, all one thing."""
        rng, crowd = self.rng, 0
        a, b = rng.uniform(4, 8), rng.uniform(3, 6)
        for _ in range(round(a * b * 1.6)):
            reach, turn = math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
            spot = x + a * reach * math.cos(turn), y + b * reach * math.sin(turn)
            if self.place((walker,), CROWD, *spot, crowd=crowd):
                crowd = crowd or len(self.labels)

    def park(self, block: Block) -> None:
        """Grass, a path, trees, people."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.block(block, shade(self.grass, rng.uniform(0.88, 1.1)))
        path = rectangle((x1 - x0) * 0.95, 2.4)
        self.ground(path, self.paving, (x0 + x1) / 2, (y0 + y1) / 2, rng.uniform(-0.5, 0.5))
        for _ in range(rng.randint(2, 9)):
            self.crowns.append((*self._spot(block, 2.0), rng.uniform(1.4, 3.6)))
        self._scatter(PEOPLE, PERSON, block, rng.choice((2, 4, 8)))
        self._scatter(LIKE_PEOPLE, LOOK_ALIKE, block, 3)

    def field(self, block: Block) -> None:
        """Furrows, and people at work."""
        rng = self.rng
        x0, y0, x1, y1 = block
        crop = pick(rng, CROPS, 100)
        self.block(block, crop)
        furrow, step = shade(crop, rng.uniform(0.7, 0.9)), rng.uniform(0.9, 2.2)
        for k in range(int((y1 - y0) / step)):
            self.ground(rectangle(x1 - x0, step * 0.4), furrow, (x0 + x1) / 2, y0 + (k + 0.5) * step)
        self._scatter(PEOPLE, PERSON, block, rng.choice((2, 8)))
        self._scatter((container, crate, bush, shed), LOOK_ALIKE, block, 1.5)

    def yard(self, block: Block) -> None:
        """Depot: trucks in a row, containers, skips."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.block(block, pick(rng, (*TAR, *RUBBLE), 80))
        row = y0 + rng.uniform(0.25, 0.4) * (y1 - y0)
        for k in range(int((x1 - x0 - 2) / 4.2)):
            if rng.random() < 0.45:
                x, y = x0 + 2.6 + 4.2 * k, row + rng.gauss(0, 0.4)
                self.place(TRUCKS, TRUCK, x, y, RIGHT_ANGLE + rng.gauss(0, 0.03))
        self._scatter((container, skip, patch), LOOK_ALIKE, block, 4)
        self._scatter(CARS, CAR, block, 3)
        self._scatter(PEOPLE, PERSON, block, 3)

    def _complete(self) -> None:
        """Look-alikes near things until there is one for three objects, and trees over a few things."""
        rng = self.rng
        things = [thing for thing in self.things if thing.surface == GROUND]
        missing = sum(label >= 0 for label in self.labels) * rng.uniform(0.4, 0.7)
        missing -= self.labels.count(LOOK_ALIKE)
        for _ in range(6 * max(math.ceil(missing), 0)):
            x, y = rng.choice(things).position
            turn, distance = rng.uniform(0, 2 * math.pi), rng.uniform(2.5, 8)
            makers = rng.choice((LIKE_VEHICLES, LIKE_PEOPLE))
            if missing > 0:
                missing -= self.place(
                    makers, LOOK_ALIKE, x + distance * math.cos(turn), y + distance * math.sin(turn)
                )
        for thing in rng.sample(things, len(things) // 20):
            x, y = thing.position
            self.crowns.append((x + rng.uniform(-2, 2), y + rng.uniform(-2, 2), rng.uniform(1.4, 2.4)))

    # --- light

    def paint(self) -> None:
        """Paint things, shadows and tree crowns on the ground."""
        low, tall = np.zeros_like(self.owner, np.uint8), np.zeros_like(self.owner, np.uint8)
        cast = np.array((math.cos(self.sun), math.sin(self.sun))) * self.shadow_length * self.unit
        for thing in self.things:
            if thing.height:
                _shadow(low, np.concatenate(thing.outlines), cast * thing.height)
            for outline, colour in zip(thing.outlines, thing.colours, strict=True):
                cv2.fillConvexPoly(self.colour, outline, colour, shift=_SHIFT)
        low[self.owner > 0] = 0
        self.crowns = [crown for crown in self.crowns if self.near(*crown[:2])]
        for footprint, height in self.roofs:
            _shadow(tall, footprint, cast * height)
        for x, y, radius in self.crowns:
            _shadow(tall, self.outline(ellipse(radius, radius), x, y), cast * radius * 2.2)
        for footprint, _ in self.roofs:
            cv2.fillConvexPoly(tall, footprint, 0, shift=_SHIFT)
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
            cv2.circle(self.colour, spot, round(clump * size), shade(leaves, light), -1, shift=_SHIFT)
            cv2.circle(self.owner, spot, round(clump * size), CROWN, -1, shift=_SHIFT)
            cv2.circle(self.shadow, spot, round(clump * size), 0.0, -1, shift=_SHIFT)

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


def _along(heading: float, offset: float, t: float, d: float) -> tuple[float, float]:
    """Position t metres along a road and d to its right; its heading is 0 or a right angle."""
    return (offset - d, t) if heading else (t, offset + d)


def _shadow(mask: NDArray[np.uint8], outline: Outline, cast: NDArray[np.float64]) -> None:
    """Add the shadow of an outline, raised so that its shadow falls `cast` away."""
    corners = np.concatenate((outline, outline + cast.astype(np.int32)))
    cv2.fillConvexPoly(mask, cv2.convexHull(corners), 255, shift=_SHIFT)
