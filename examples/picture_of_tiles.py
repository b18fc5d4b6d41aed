"""The picture of docs/tiling.md: python examples/picture_of_tiles.py detector/pretrained/scenes PICTURE.jpg.

Above a generated scene, whole and in tiles; below where tiles meet: what each found, and what became of it.
"""

import sys

import cv2
import numpy as np

from datamodules.drawing import draw_boxes
from datamodules.images.windows import Decoded
from datamodules.scenes.town import draw_scene
from detector import load
from detector.tiling.views import Tiling

SIZE, TILING, SHOWN, ENLARGED = (512, 640), Tiling(256), 0.25, 4


def main(weights: str, picture: str) -> None:
    """Look at a scene in both ways, and write the picture."""
    model, pixels = load(weights, device="cpu"), draw_scene("0", SIZE).image
    views = model.views(SIZE, TILING)
    found = list(model.look((Decoded(pixels), view) for view in views))
    merged = model.shown(model.merge(views, found, SIZE, TILING), model.thresholds(SHOWN), pixels)
    above = np.hstack((model.predict(pixels, thresholds=SHOWN).draw(), merged.draw()))
    x, y = views[0].window[2] - 80, views[0].window[3] - 40  # around the corner of the first
    left = pixels[y : y + 80, x : x + 160].repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
    right, corner = left.copy(), np.array([x, y, x, y], np.float32)
    for number, (view, one) in enumerate(zip(views, found, strict=True)):
        boxes = np.vstack((np.array([view.window], np.float32), one.boxes[one.scores >= SHOWN].numpy()))
        draw_boxes(left, (boxes - corner) * ENLARGED, np.full(len(boxes), number))
    draw_boxes(right, (merged.boxes.numpy() - corner) * ENLARGED, merged.labels.numpy())
    drawn = np.vstack((above, np.hstack((left, right))))[..., ::-1]
    cv2.imwrite(picture, drawn, [cv2.IMWRITE_JPEG_QUALITY, 75])


if __name__ == "__main__":
    main(*sys.argv[1:])
