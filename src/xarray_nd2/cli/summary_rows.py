"""What ``info`` prints for people."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from xarray_nd2.cli.console import in_bytes, in_requests, in_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN_POSITIONS: Final = 6
_WORD_OF_DIMENSION: Final = {
    "T": "times",
    "P": "positions",
    "Z": "planes",
    "C": "channels",
    "S": "colours",
}


def summary_rows(summary: dict[str, Any]) -> Iterator[tuple[str, Text | str]]:
    """Labels and values, the most important first.

    Parameters
    ----------
    summary : dict
        As `summarize` makes it.
    """
    yield "file", summary["url"]
    form = f", {summary['format']}" if summary["format"] else ""
    yield "size", f"{in_bytes(summary['file_bytes'])}{form}"
    yield "image", _sizes(summary["sizes"])
    bits = summary["bits_significant"]
    kind = f"{summary['dtype']}" + (f", {bits} bits used" if bits else "")
    compression = summary["compression"] or "not compressed"
    yield "pixels", f"{kind}, {in_bytes(summary['image_bytes'])}, {compression}"
    for number, channel in enumerate(summary["channels"]):
        yield ("channels" if number == 0 else ""), _channel(channel)
    yield "pixel size", _pixel_size(summary)
    if summary["z_step_um"] is not None:
        yield "Z step", f"{summary['z_step_um']:.4g} µm"
    if (times := _times(summary["time"])) is not None:
        yield "time", times
    if positions := summary["positions"]:
        more = len(positions) - _SHOWN_POSITIONS
        names = ", ".join(positions[:_SHOWN_POSITIONS])
        yield "positions", names + (f" and {more} more" if more > 0 else "")
    if (optics := _optics(summary)) is not None:
        yield "objective", optics
    if summary["missing_frames"]:
        yield "missing", f"{summary['missing_frames']} frames, which read as zeros"
    yield "groups", ", ".join(summary["groups"])
    opening = summary["opening"]
    cost = [in_requests(opening["requests"]), in_bytes(opening["bytes"])]
    yield "opening", ", ".join([*cost, in_seconds(opening["seconds"])])


def _sizes(sizes: dict[str, int]) -> str:
    pixels = f"{sizes['X']} × {sizes['Y']} pixels (X × Y)"
    loops = [
        f"{count} {_WORD_OF_DIMENSION.get(dim[0], 'steps')} ({dim})"
        for dim, count in sizes.items()
        if dim not in ("Y", "X")
    ]
    words = [re.sub(r"^1 (\w+)s ", r"1 \1 ", each) for each in loops]
    return ", ".join([pixels, *words])


def _channel(channel: dict[str, Any]) -> Text:
    color = channel.get("color") or ""
    text = Text()
    if re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        text.append("■ ", style=color)
    text.append(channel["name"])
    told = [
        f"{word}{channel[fact]:.4g} {unit}"
        for fact, word, unit in (
            ("excitation_nm", "excitation ", "nm"),
            ("emission_nm", "emission ", "nm"),
            ("exposure_ms", "", "ms"),
        )
        if channel.get(fact) is not None and math.isfinite(channel[fact])
    ]
    return text.append("".join(f", {each}" for each in [*told, color] if each))


def _pixel_size(summary: dict[str, Any]) -> str:
    size = summary["pixel_size_um"]
    if size is None:
        return "not calibrated"
    x, y = size
    each = f"{x:.4g} µm" if math.isclose(x, y, rel_tol=1e-6) else f"{x:.4g} × {y:.4g} µm (X × Y)"
    field = f"{x * summary['sizes']['X']:.4g} × {y * summary['sizes']['Y']:.4g} µm"
    return f"{each}; field {field}"


def _times(time: dict[str, Any]) -> str | None:
    parts = []
    if time["start"]:
        parts.append(f"from {time['start'].partition('.')[0].replace('T', ' ')} UTC")
    if time["seconds"]:
        parts.append(f"over {in_seconds(time['seconds'])}")
    if time["period_seconds"]:
        parts.append(f"every {in_seconds(time['period_seconds'])}")
    return ", ".join(parts) or None


def _optics(summary: dict[str, Any]) -> str | None:
    parts = [summary["objective"]] if summary["objective"] else []
    if summary["magnification"]:
        parts.append(f"{summary['magnification']:.4g}×")
    if summary["numerical_aperture"]:
        parts.append(f"NA {summary['numerical_aperture']:.3g}")
    return ", ".join(parts) or None
