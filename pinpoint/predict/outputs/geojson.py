"""GeoJSON: boxes of georeferenced images as polygons on the map.

Longitude and latitude of WGS 84, as RFC 7946 has it: whatever the projection of an image, every map
shows them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.exported import need
from pinpoint.predict.found import Found

FILE = "detections.geojson"

CORNERS = ((0, 3), (2, 3), (2, 1), (0, 1), (0, 3))
"""Columns of x1 y1 x2 y2 around a box, counter-clockwise where y points down and north is up."""

DECIMALS = 8
"""Of a degree: a millimetre."""


def write(images: Iterable[Found], class_names: Sequence[str], strangers: list[str]) -> Iterator[str]:
    """A collection of polygons with class, score, image and pixels of each, by parts.

    Args:
        images: all that was found.
        class_names: name of each class index.
        strangers: takes what to say of each image that has no place on a map; nothing of it is written.

    Raises:
        ValueError: rasterio is not installed.
    """
    yield '{"type": "FeatureCollection", "features": ['
    first = True
    for found in images:
        if found.frame is not None:
            continue
        place = georeference(found.path)
        if place is None:
            strangers.append(f"{found.path} is not georeferenced: it has no place in {FILE}")
            continue
        rings = to_map(found.boxes, *place)
        if rings is None:
            strangers.append(
                f"{found.path} has a projection without longitude and latitude: it has no place in {FILE}"
            )
            continue
        tracks = [-1] * len(found.scores) if found.tracks is None else found.tracks.tolist()
        for ring, box, score, label, track in zip(
            rings.tolist(),
            found.boxes.tolist(),
            found.scores.tolist(),
            found.labels.tolist(),
            tracks,
            strict=True,
        ):
            properties = {"class": class_names[label], "score": score, "image": found.path, "pixels": box}
            feature = {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": properties | ({"track": track} if track >= 0 else {}),
            }
            yield ("\n" if first else ",\n") + json.dumps(feature)
            first = False
    yield "]}\n"


def require() -> None:
    """Raise a ValueError now if rasterio is not installed."""
    need("rasterio", "geo")


def georeference(path: str) -> tuple[Any, Any] | None:
    """Map projection of an image, and the transformation of its pixels to it; None if it has none."""
    rasterio = need("rasterio", "geo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as file:
                if file.crs is None or file.transform.is_identity:
                    return None
                return file.crs, file.transform
        except (rasterio.errors.RasterioError, UnicodeError):  # GDAL takes no names beyond UTF-8
            return None


def to_map(
    boxes: NDArray[np.float32],
    projection: Any,  # noqa: ANN401  # of rasterio
    transform: Any,  # noqa: ANN401
) -> NDArray[np.float64] | None:
    """Corners of boxes on the map.

    Args:
        boxes: (n, 4) xyxy pixels of the image.
        projection: of rasterio, see `georeference`.
        transform: an affine one of pixels.

    Returns:
        (n, 5, 2) longitude and latitude in degrees, counter-clockwise, the first corner again at the end;
        None if the projection has none there.
    """
    warp = need("rasterio.warp", "geo")
    corners = boxes.astype(np.float64)[:, np.array(CORNERS)]  # (n, 5, 2)
    columns, rows = corners[..., 0].ravel(), corners[..., 1].ravel()
    x = transform.a * columns + transform.b * rows + transform.c
    y = transform.d * columns + transform.e * rows + transform.f
    try:
        longitude, latitude = warp.transform(projection, "EPSG:4326", x, y)
    except Exception:  # of GDAL, whose errors have no public base in rasterio
        return None
    if not np.isfinite([longitude, latitude]).all():
        return None
    rings = np.stack((longitude, latitude), axis=1).reshape(corners.shape).round(DECIMALS)
    if transform.determinant > 0:  # mirrored: y does not point down on the map
        rings = rings[:, ::-1]
    return rings
