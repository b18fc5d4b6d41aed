"""Lays out a piece of a town or of the country: roads, blocks between them, and all that stands there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

import cv2
import numpy as np

from datamodules.scenes.canvas import (
    CAR,
    CROWD,
    GROUND,
    LOOK_ALIKE,
    PERSON,
    ROOF,
    SHIFT,
    TRUCK,
    UNIT,
    Block,
    Canvas,
    Scene,
)
from datamodules.scenes.sprites import (
    CARS,
    LIKE_PEOPLE,
    LIKE_VEHICLES,
    ON_ROOFS,
    PEOPLE,
    RUBBLE,
    TAR,
    TILES,
    TRUCKS,
    WHITE,
    Maker,
    Palette,
    bush,
    container,
    crate,
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

CROPS: Palette = (
    (150, 134, 80), (112, 92, 66), (176, 156, 96), (92, 118, 58), (120, 130, 70), (138, 112, 84),
)  # fmt: skip
FLAT_ROOFS: Palette = ((142, 142, 142), (168, 166, 160), (112, 114, 118), (96, 92, 88), (186, 184, 180))
RIGHT_ANGLE = math.pi / 2


def draw_scene(seed: str, size: tuple[int, int]) -> Scene:
    """Draw the scene of a seed.

    Args:
        seed: any text; the same text and size give the same scene.
        size: (H, W) of the image in pixels.
    """
    canvas = Canvas(Random(seed), size)
    Town(canvas).lay_out()
    canvas.paint()
    return canvas.scene()


class Town:
    """Fills a canvas with roads and blocks.

    Args:
        canvas: an empty canvas; its generator decides everything.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas, self.rng = canvas, canvas.rng

    def lay_out(self) -> None:
        """Roads on a grid with gaps, and something in every block between them."""
        rng, reach = self.rng, self.canvas.radius + 10
        share = rng.choice((0.5, 0.8, 0.9))
        rows, columns = self._cuts(28, 42, share), self._cuts(32, 56, share * 0.6)
        roads = [(0.0, row, half) for row, half in rows if half > 0]
        roads += [(RIGHT_ANGLE, column, half) for column, half in columns if half > 0]
        self.canvas.block((-reach, -reach, reach, reach), self.canvas.grass)
        for margin, colour in ((2.2, self.canvas.paving), (0.0, self.canvas.tar)):
            for heading, offset, half in roads:
                self.canvas.ground(
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
        position = -self.canvas.radius - rng.uniform(0, high)
        while not cuts or cuts[-1][0] < self.canvas.radius:
            cuts.append((position, rng.uniform(3.2, 5.2) if rng.random() < share else -1.8))
            position += rng.uniform(low, high)
        return cuts

    def _in_sight(self, block: Block) -> bool:
        x0, y0, x1, y1 = block
        corners = self.canvas.outline(np.array(((x0, y0), (x0, y1), (x1, y0), (x1, y1)))) / UNIT
        return bool(
            (corners.max(axis=0) > 0).all() and (corners.min(axis=0) < self.canvas.owner.shape[::-1]).all()
        )

    def _steps(self, step: float) -> Iterator[float]:
        """Positions along a road, `step` metres apart on average."""
        t = -self.canvas.radius + self.rng.uniform(-step, 0)
        while (t := t + step * self.rng.uniform(0.8, 1.2)) < self.canvas.radius:
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

        for k in range(int(self.canvas.radius / 3)):
            t = -self.canvas.radius + 6 * k
            if not crossed(t, 1.5):
                self.canvas.mark(rectangle(2.6, 0.2), WHITE, *at(t, 0.0), heading)
        for other, width in crossings:
            for k in range(int(2 * half / 1.1)):
                self.canvas.mark(
                    rectangle(2.6, 0.5), WHITE, *at(other + width + 2.0, 0.8 - half + 1.1 * k), heading
                )
        gap, parking = rng.choice((12.0, 20.0, 40.0)), half > 4.2 and rng.random() < 0.6
        tree_gap = rng.choice((12.0, 20.0, 1000.0))
        for side in (-1, 1):
            forward = heading if side > 0 else heading + math.pi
            for t in self._steps(gap + 5):
                vehicle = (TRUCKS, TRUCK) if rng.random() < 0.25 else (CARS, CAR)
                lane = side * half * (0.36 if parking else 0.48)
                self.canvas.place(*vehicle, *at(t + rng.uniform(-3, 3), lane), forward + rng.gauss(0, 0.03))
            for t in self._steps(6.2):
                if parking and not crossed(t, 4.0) and rng.random() < 0.4:
                    self.canvas.place(CARS, CAR, *at(t, side * (half - 1.15)), forward + rng.gauss(0, 0.04))
            for t in self._steps(rng.choice((12.0, 20.0, 40.0))):
                way = heading + rng.choice((0, math.pi)) + rng.gauss(0, 0.3)
                self.canvas.place(PEOPLE, PERSON, *at(t, side * (half + rng.uniform(0.6, 1.8))), way)
            for t in self._steps(tree_gap):
                if not crossed(t, 1.0):
                    self.canvas.crowns.append((*at(t, side * (half + 1.6)), rng.uniform(1.2, 2.4)))

    def _spot(self, block: Block, margin: float = 1.0) -> tuple[float, float]:
        x0, y0, x1, y1 = block
        return self.rng.uniform(x0 + margin, x1 - margin), self.rng.uniform(y0 + margin, y1 - margin)

    def _scatter(self, makers: Sequence[Maker], label: int, block: Block, density: float) -> None:
        """Place things all over a block: `density` for 1000 square metres."""
        x0, y0, x1, y1 = block
        for _ in range(round((x1 - x0) * (y1 - y0) * density / 1000 + self.rng.random() - 0.5)):
            self.canvas.place(makers, label, *self._spot(block))

    def car_park(self, block: Block) -> None:
        """Rows of bays, more or less full."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.canvas.block(block, pick(rng, TAR, 45))
        full = rng.choice((0.15, 0.35, 0.65))
        y, facing = y0 + 3.2, 1
        while y < y1 - 2.5:
            for k in range(int((x1 - x0 - 0.5) / 2.7)):
                x = x0 + 0.5 + 2.7 * k
                self.canvas.mark(rectangle(0.16, 4.8), WHITE, x, y)
                heading = facing * RIGHT_ANGLE + rng.choice((0, 0, math.pi)) + rng.gauss(0, 0.04)
                if rng.random() < full:
                    self.canvas.place(CARS, CAR, x + 1.35, y + rng.gauss(0, 0.2), heading)
                elif rng.random() < 0.1:
                    self.canvas.place(LIKE_VEHICLES, LOOK_ALIKE, x + 1.35, y, heading)
            y += 5.1 if facing < 0 else 11.5
            facing = -facing
        self._scatter(PEOPLE, PERSON, block, 3)

    def houses(self, block: Block) -> None:
        """Gabled houses with gardens and driveways, facing the road above or below."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.canvas.block(block, shade(self.canvas.grass, rng.uniform(0.9, 1.08)))
        x, middle = x0, (y0 + y1) / 2
        while (plot := rng.uniform(13, 17)) < x1 - x:
            length, width = rng.uniform(8, 10), rng.uniform(7, 9)
            drive = (x + length + 0.8, y0, x + length + 3.8, middle)
            garden = (x, middle + 5, x + plot, y1)
            if rng.random() < 0.5:
                drive, garden = (drive[0], middle, drive[2], y1), (x, y0, x + plot, middle - 5)
            self.canvas.block(drive, self.canvas.paving)
            self.building(x + length / 2 + 0.4, middle, length, width, rng.gauss(0, 0.05), flat=False)
            if rng.random() < 0.7:
                self.canvas.place(CARS, CAR, drive[0] + 1.5, self._spot(drive, 2.5)[1], RIGHT_ANGLE)
            for _ in range(rng.randint(0, 3)):
                self.canvas.crowns.append((*self._spot(garden), rng.uniform(1.2, 2.8)))
            self._scatter(PEOPLE, PERSON, garden, 6)
            self._scatter((shed, stall, parasol, bush), LOOK_ALIKE, garden, 4)
            x += plot

    def flats(self, block: Block) -> None:
        """One large flat roof, cars in front."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.canvas.block(block, self.canvas.paving)
        length, width = (x1 - x0) * rng.uniform(0.45, 0.75), (y1 - y0) * rng.uniform(0.35, 0.6)
        self.building((x0 + x1) / 2, (y0 + y1) / 2, length, width, rng.gauss(0, 0.03), flat=True)
        for k in range(int((x1 - x0) / 3)):
            if rng.random() < 0.3:
                self.canvas.place(CARS, CAR, x0 + 1.6 + 3 * k, y0 + 2.8, RIGHT_ANGLE)
        self._scatter(PEOPLE, PERSON, block, 3)

    def building(self, x: float, y: float, length: float, width: float, heading: float, flat: bool) -> None:
        """A roof with things on it; nothing else can be placed there."""
        rng = self.rng
        roof, whole = pick(rng, FLAT_ROOFS if flat else TILES, 35), rectangle(length, width)
        if flat:
            self.canvas.ground(whole, shade(roof, 1.15), x, y, heading)
            self.canvas.ground(rectangle(length - 0.8, width - 0.8), roof, x, y, heading)
        else:
            slope = 0.25 * math.sin(self.canvas.sun - self.canvas.angle - heading)
            self.canvas.ground(whole, shade(roof, 1 + slope), x, y, heading)
            self.canvas.ground(
                rectangle(length, width / 2, 0, width / 4), shade(roof, 1 - slope), x, y, heading
            )
        footprint = self.canvas.outline(whole, x, y, heading)
        cv2.fillConvexPoly(self.canvas.owner, footprint, ROOF, shift=SHIFT)
        self.canvas.roofs.append((footprint, rng.uniform(6, 12) if flat else rng.uniform(4, 6)))
        cos, sin = math.cos(heading), math.sin(heading)
        for _ in range(rng.randint(1, 5) if flat else rng.randint(0, 2)):
            u = rng.uniform(-0.38, 0.38) * length
            v = rng.choice((-1, 1)) * rng.uniform(0.2, 0.36) * width
            self.canvas.place(
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
        self.canvas.block(block, self.canvas.paving)
        joints = shade(self.canvas.paving, 0.88)
        for k in range(1, int((x1 - x0) / 3)):
            self.canvas.ground(rectangle(0.2, y1 - y0), joints, x0 + 3 * k, (y0 + y1) / 2)
        for k in range(1, int((y1 - y0) / 3)):
            self.canvas.ground(rectangle(x1 - x0, 0.2), joints, (x0 + x1) / 2, y0 + 3 * k)
        if rng.random() < 0.25:
            self.crowd(*self._spot(block, 8.0))
        if rng.random() < 0.4:
            for k in range(int((x1 - x0 - 3) / 7)):
                self.canvas.place(
                    (stall,), LOOK_ALIKE, x0 + 3 + 7 * k, y0 + (y1 - y0) * 0.3, rng.gauss(0, 0.05)
                )
        self._scatter(PEOPLE, PERSON, block, rng.choice((4, 8, 12)))
        self._scatter(LIKE_PEOPLE, LOOK_ALIKE, block, 3)

    def crowd(self, x: float, y: float) -> None:
        """People shoulder to shoulder, all one thing."""
        rng, crowd = self.rng, 0
        a, b = rng.uniform(4, 8), rng.uniform(3, 6)
        for _ in range(round(a * b * 1.6)):
            reach, turn = math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
            spot = x + a * reach * math.cos(turn), y + b * reach * math.sin(turn)
            if self.canvas.place((walker,), CROWD, *spot, crowd=crowd):
                crowd = crowd or len(self.canvas.labels)

    def park(self, block: Block) -> None:
        """Grass, a path, trees, people."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.canvas.block(block, shade(self.canvas.grass, rng.uniform(0.88, 1.1)))
        path = rectangle((x1 - x0) * 0.95, 2.4)
        self.canvas.ground(path, self.canvas.paving, (x0 + x1) / 2, (y0 + y1) / 2, rng.uniform(-0.5, 0.5))
        for _ in range(rng.randint(2, 9)):
            self.canvas.crowns.append((*self._spot(block, 2.0), rng.uniform(1.4, 3.6)))
        self._scatter(PEOPLE, PERSON, block, rng.choice((2, 4, 8)))
        self._scatter(LIKE_PEOPLE, LOOK_ALIKE, block, 3)

    def field(self, block: Block) -> None:
        """Furrows, and people at work."""
        rng = self.rng
        x0, y0, x1, y1 = block
        crop = pick(rng, CROPS, 100)
        self.canvas.block(block, crop)
        furrow, step = shade(crop, rng.uniform(0.7, 0.9)), rng.uniform(0.9, 2.2)
        for k in range(int((y1 - y0) / step)):
            self.canvas.ground(rectangle(x1 - x0, step * 0.4), furrow, (x0 + x1) / 2, y0 + (k + 0.5) * step)
        self._scatter(PEOPLE, PERSON, block, rng.choice((2, 8)))
        self._scatter((container, crate, bush, shed), LOOK_ALIKE, block, 1.5)

    def yard(self, block: Block) -> None:
        """Depot: trucks in a row, containers, skips."""
        rng = self.rng
        x0, y0, x1, y1 = block
        self.canvas.block(block, pick(rng, (*TAR, *RUBBLE), 80))
        row = y0 + rng.uniform(0.25, 0.4) * (y1 - y0)
        for k in range(int((x1 - x0 - 2) / 4.2)):
            if rng.random() < 0.45:
                x, y = x0 + 2.6 + 4.2 * k, row + rng.gauss(0, 0.4)
                self.canvas.place(TRUCKS, TRUCK, x, y, RIGHT_ANGLE + rng.gauss(0, 0.03))
        self._scatter((container, skip, patch), LOOK_ALIKE, block, 4)
        self._scatter(CARS, CAR, block, 3)
        self._scatter(PEOPLE, PERSON, block, 3)

    def _complete(self) -> None:
        """Look-alikes near things until there is one for three objects, and trees over a few things."""
        rng = self.rng
        things = [thing for thing in self.canvas.things if thing.surface == GROUND]
        missing = sum(label >= 0 for label in self.canvas.labels) * rng.uniform(0.4, 0.7)
        missing -= self.canvas.labels.count(LOOK_ALIKE)
        for _ in range(6 * max(math.ceil(missing), 0)):
            x, y = rng.choice(things).position
            turn, distance = rng.uniform(0, 2 * math.pi), rng.uniform(2.5, 8)
            makers = rng.choice((LIKE_VEHICLES, LIKE_PEOPLE))
            if missing > 0:
                missing -= self.canvas.place(
                    makers, LOOK_ALIKE, x + distance * math.cos(turn), y + distance * math.sin(turn)
                )
        for thing in rng.sample(things, len(things) // 20):
            x, y = thing.position
            self.canvas.crowns.append((x + rng.uniform(-2, 2), y + rng.uniform(-2, 2), rng.uniform(1.4, 2.4)))


def _along(heading: float, offset: float, t: float, d: float) -> tuple[float, float]:
    """Position t metres along a road and d to its right; its heading is 0 or a right angle."""
    return (offset - d, t) if heading else (t, offset + d)
