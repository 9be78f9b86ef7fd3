"""Synthetic cells for the notebooks, in ND2 files on a loopback server.

The cells have a nucleus (channel DAPI) and a cytoplasm (GFP). After a drug is added, most of them
make more GFP. Some are dividing: their DNA is a bright, narrow plate. None of it needs a network.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from xarray_nd2.testing import Channel, Event, MaskLayer, Outline, RangeServer, Roi, write_nd2

PIXEL_SIZE_UM = 0.325
DRUG_SECONDS = 1000.0
CHANNELS = [
    Channel("DAPI", emission=461, excitation=405, color="#00a0ff", exposure=50),
    Channel("GFP", emission=509, excitation=488, color="#50ff50", exposure=100),
]
PERIOD_SECONDS = 300.0
PLANE_DISTANCE_UM = 2.0
REACH_UM = 21.0  # from the centre of a cell, as far as its light goes


@dataclass(frozen=True)
class _CellInView:
    """One cell at one time: where it is in the picture, and its shape there."""

    looks: dict[str, Any]
    pixels: tuple[slice, slice]
    inside_nucleus_um: np.ndarray  # below zero outside
    inside_body_um: np.ndarray
    texture: np.ndarray
    thickness: np.ndarray

    @classmethod
    def at(cls, place, side, looks) -> _CellInView:
        """The shape around a place (Y, X in µm of the picture)."""
        place = place.astype(np.float32)
        middle, reach = np.rint(place / PIXEL_SIZE_UM), round(REACH_UM / PIXEL_SIZE_UM)
        low, high = np.clip([middle - reach, middle + reach], 0, side).astype(int)
        y = (
            np.arange(low[0], high[0], dtype=np.float32)[:, None] * np.float32(PIXEL_SIZE_UM)
            - place[0]
        )
        x = (
            np.arange(low[1], high[1], dtype=np.float32)[None] * np.float32(PIXEL_SIZE_UM)
            - place[1]
        )
        sine, cosine = np.sin(looks["angle"]), np.cos(looks["angle"])
        along, across = cosine * x + sine * y, cosine * y - sine * x
        centre_um, angle = np.hypot(along, across), np.arctan2(across, along)
        (long, short), phases = looks["radii"], looks["phases"]

        # The nucleus is not quite an ellipse; its DNA is denser here and there, but in nucleoli.
        edge_um = long * short / np.hypot(short * np.cos(angle), long * np.sin(angle))
        edge_um *= 1 + 0.05 * np.sin(2 * angle + phases[0]) + 0.04 * np.sin(3 * angle + phases[1])
        texture = np.zeros_like(along)
        if not looks["dividing"]:
            for number, (a, b) in enumerate(looks["speckles"]):
                apart = np.hypot(along / long - a, across / short - b)
                depth, width = (-0.6, 0.17) if number < 3 else (0.22, 0.15)
                texture += depth * np.exp(-((apart / width) ** 2))

        # The body is stretched, with a few bulges; that of a dividing cell is round.
        body_um = np.full_like(angle, 9.5)
        if not looks["dividing"]:
            body_um = (
                12.5 + 3.2 * np.sin(2 * angle + phases[2]) + 1.5 * np.sin(3 * angle + phases[3])
            )
            body_um += 0.5 * np.sin(5 * angle + phases[0])
        return cls(
            looks,
            (slice(low[0], high[0]), slice(low[1], high[1])),
            edge_um - centre_um,
            body_um - centre_um,
            np.maximum(texture, -0.75),
            np.exp(-0.9 * (centre_um / body_um) ** 2),
        )

    def light(self, z):
        """What nucleus and body send at a height of the focus: counts, and parts of the GFP."""
        blur = np.hypot(1, (z - self.looks["z"]) / 2.5).astype(
            np.float32
        )  # out of focus: wide edges, less light
        nucleus = _soft_edge(self.inside_nucleus_um, 0.25 * blur**2) / blur
        body = _soft_edge(self.inside_body_um, 0.5 * blur**2) / blur * self.thickness
        brighter = 1.4 if self.looks["dividing"] else 1.0
        return (
            self.looks["dna"] * nucleus * (1 + self.texture / blur**2),
            brighter * body * (1 - 0.45 * nucleus),
        )


def _soft_edge(inside_um, width_um):
    return 1 / (1 + np.exp(np.clip(-inside_um / width_um, -40, 40)))


@dataclass(frozen=True)
class Field:
    """Cells side by side on a square of glass."""

    side_um: float
    seed: int
    dividing_fraction: float = 0.1

    @cached_property
    def centres(self) -> np.ndarray:
        """Y and X of each cell in µm, (cell, 2): no two are closer than 22 µm."""
        rng = np.random.default_rng(self.seed)
        kept = np.empty((0, 2))
        for centre in rng.uniform(0, self.side_um, (round(self.side_um**2 / 120), 2)):
            if not len(kept) or np.hypot(*(kept - centre).T).min() > 22:
                kept = np.vstack([kept, centre])
        return kept

    @cached_property
    def looks(self) -> dict[str, np.ndarray]:
        """What tells cells apart; one row for each."""
        rng = np.random.default_rng(self.seed + 1)
        count = len(self.centres)
        dividing = rng.random(count) < self.dividing_fraction
        looks = {
            "dividing": dividing,
            "radii": np.where(
                dividing[:, None],
                np.stack([rng.uniform(5.5, 7, count), rng.uniform(1.4, 1.9, count)], 1),
                np.stack([rng.uniform(6.5, 8, count), rng.uniform(4.8, 6, count)], 1),
            ),
            "angle": rng.uniform(0, np.pi, count),
            "phases": rng.uniform(0, 2 * np.pi, (count, 4)),
            "z": rng.uniform(-2, 2, count),
            "dna": np.where(
                dividing, rng.uniform(2400, 3000, count), rng.uniform(800, 1400, count)
            ),
            "gfp": rng.uniform(150, 350, count),
            "response": np.where(rng.random(count) < 0.7, rng.uniform(500, 1300, count), 0.0),
            "speckles": rng.uniform(-0.55, 0.55, (count, 12, 2)),
        }
        return {name: each.astype(np.float32) for name, each in looks.items()}

    def places(self, seconds: float) -> np.ndarray:
        """Y and X of each cell at a time, µm: each creeps around its centre."""
        turn = 2 * np.pi * seconds / 5400 + self.looks["phases"][:, :2]
        return self.centres + 1.5 * (np.sin(turn) - np.sin(self.looks["phases"][:, :2]))

    def gfp(self, seconds: float) -> np.ndarray:
        """GFP of each cell at a time: with the drug, most of them make more."""
        since = max(0.0, seconds - DRUG_SECONDS)
        return self.looks["gfp"] + self.looks["response"] * (1 - np.exp(-since / 1200))

    def frame(self, side, seconds=0.0, z=0.0, corner=(0.0, 0.0), noise_seed=0) -> np.ndarray:
        """Pixels of both channels, (C, Y, X), uint16, from a corner (Y, X in µm) on."""
        light = np.zeros((2, side, side), np.float32)
        light += np.array([[[40]], [[60]]])
        gfp = self.gfp(seconds)
        for view in _cells_in_view(self, side, seconds, corner):
            nucleus, body = view.light(z)
            light[0][view.pixels] += nucleus
            light[1][view.pixels] += gfp[view.looks["cell"]] * body
        noise = np.random.default_rng([self.seed, noise_seed]).standard_normal(
            light.shape, np.float32
        )
        return (100 + light + noise * np.sqrt(2 * light + 30)).clip(0, 4095).astype(np.uint16)

    def objects(self, side, seconds=0.0) -> np.ndarray:
        """Number of the nucleus of each pixel, (Y, X): from 1, and 0 beside them."""
        numbers = np.zeros((side, side), np.uint32)
        for view in _cells_in_view(self, side, seconds, (0.0, 0.0)):
            numbers[view.pixels][view.inside_nucleus_um > 0] = view.looks["cell"] + 1
        return numbers

    def inner_cells(self, side, margin_um=20.0) -> np.ndarray:
        """Numbers of the cells that are not near the edge."""
        ends = (margin_um, side * PIXEL_SIZE_UM - margin_um)
        return np.flatnonzero(((self.centres > ends[0]) & (self.centres < ends[1])).all(axis=1))


@lru_cache(maxsize=16)  # the planes of a stack share it, and the masks
def _cells_in_view(field, side, seconds, corner) -> list[_CellInView]:
    return [
        _CellInView.at(
            place, side, {name: each[cell] for name, each in field.looks.items()} | {"cell": cell}
        )
        for cell, place in enumerate(field.places(seconds) - np.array(corner))
        if (place > -REACH_UM).all() and (place < side * PIXEL_SIZE_UM + REACH_UM).all()
    ]


def write_timelapse(path, seed=3, start="2026-01-15T09:30:00", steps=13, with_rois=True) -> None:
    """Stacks over time, with the drug as an event, regions, masks and the temperature."""
    side, planes = 512, 5
    field = Field(side * PIXEL_SIZE_UM, seed)
    seconds = np.add.outer(np.arange(steps) * PERIOD_SECONDS, np.arange(planes) * 1.5).ravel()
    heights = (np.arange(planes) - 2) * PLANE_DISTANCE_UM
    inner = field.inner_cells(side)
    inner = inner[field.looks["dividing"][inner] == 0]
    responding = field.looks["response"][inner] > 0
    chosen = [*inner[responding][:4], *inner[~responding][:2]]
    write_nd2(
        path,
        lambda i: field.frame(side, seconds[i - i % planes], heights[i % planes], noise_seed=i),
        "TZCYX",
        sizes={"T": steps, "Z": planes, "C": 2, "Y": side, "X": side},
        dtype="uint16",
        channels=CHANNELS,
        pixel_size=PIXEL_SIZE_UM,
        z_step=PLANE_DISTANCE_UM,
        period=PERIOD_SECONDS,
        start=start,
        timestamps=seconds,
        bits_significant=12,
        recorded={"CameraTemp1": 37 + 0.3 * np.sin(np.arange(len(seconds)) / 9)},
        events=[Event(DRUG_SECONDS, kind=7, description="drug added")] if with_rois else None,
        rois=[
            Roi("circle", Outline(tuple(field.centres[cell][::-1] / PIXEL_SIZE_UM), (64, 64)), name)
            for cell, name in zip(chosen, "abcdef", strict=True)
        ]
        if with_rois
        else None,
        masks=[
            MaskLayer(
                "nuclei",
                lambda i: field.objects(side, seconds[i - 2]) if i % planes == 2 else None,
                component="DAPI",
            )
        ]
        if with_rois
        else (),
        text_info={"description": "Cells, and a drug after a quarter of an hour"},
    )


def write_tiles(path, tiles=3, side=256, overlap=0.1) -> None:
    """Neighbouring fields of one sample, each at a position of the stage."""
    field = Field(tiles * side * PIXEL_SIZE_UM, seed=8)
    step = side * PIXEL_SIZE_UM * (1 - overlap)
    corners = [(row * step, column * step) for row in range(tiles) for column in range(tiles)]
    write_nd2(
        path,
        lambda i: field.frame(side, DRUG_SECONDS + 900, corner=corners[i], noise_seed=i),
        "PCYX",
        sizes={"P": len(corners), "C": 2, "Y": side, "X": side},
        dtype="uint16",
        channels=CHANNELS,
        pixel_size=PIXEL_SIZE_UM,
        camera_to_stage=[1, 0, 0, 1],
        stage_positions=[(5000 + x, 2000 + y, 3000) for y, x in corners],
        bits_significant=12,
    )


def write_labelled(path, positions=12, side=512) -> None:
    """Many positions, on which somebody has marked cells as dividing or resting."""
    fields = [Field(side * PIXEL_SIZE_UM, 20 + p, dividing_fraction=0.4) for p in range(positions)]
    rois = [
        Roi(
            "square",
            Outline(tuple(np.rint(field.centres[cell][::-1] / PIXEL_SIZE_UM)), (64, 64)),
            "dividing" if field.looks["dividing"][cell] else "resting",
            position=position,
        )
        for position, field in enumerate(fields)
        for cell in field.inner_cells(side)
    ]
    write_nd2(
        path,
        lambda i: fields[i].frame(side, DRUG_SECONDS + 900, noise_seed=i),
        "PCYX",
        sizes={"P": positions, "C": 2, "Y": side, "X": side},
        dtype="uint16",
        channels=CHANNELS,
        pixel_size=PIXEL_SIZE_UM,
        bits_significant=12,
        rois=rois,
    )


WRITERS = {
    "timelapse.nd2": write_timelapse,
    "tiles.nd2": write_tiles,
    "labelled.nd2": write_labelled,
    "monday.nd2": lambda path: write_timelapse(path, 5, "2026-01-12T09:00:00", 3, False),
    "tuesday.nd2": lambda path: write_timelapse(path, 5, "2026-01-13T09:00:00", 3, False),
}


def serve(*names, latency=0.005) -> RangeServer:
    """Write files and serve them on this machine over HTTP, until the process ends."""
    folder = tempfile.TemporaryDirectory()
    for name in names:
        WRITERS[name](Path(folder.name) / name)
    server = RangeServer(folder.name, latency=latency)
    server.folder = folder  # kept as long as the server is
    return server.__enter__()
