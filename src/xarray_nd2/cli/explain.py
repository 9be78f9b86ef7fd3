"""The command ``explain``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from xarray_nd2.cli.options import (
    AsJSON,
    IndexSelections,
    LabelSelections,
    SourceOptions,
    SourceURL,
    parse_storage_options,
)

EXPLAIN_EXAMPLES: Final = (
    "xarray-nd2 explain run42.nd2 --sel T=120 --sel C=DAPI",
    "xarray-nd2 explain https://data.example.org/run42.nd2 --isel T=3 --isel Y=0:64",
    "xarray-nd2 explain s3://bucket/run42.nd2 -o anon=true --isel T=0,2,3 --json",
)


def explain(
    url: SourceURL,
    /,
    *,
    sel: LabelSelections = None,
    isel: IndexSelections = None,
    option: SourceOptions = None,
    json: AsJSON = False,
) -> None:
    """Tell what reading a selection costs, without reading it.

    Without a selection, what reading the whole image costs. The seconds are those of transfer, at the
    latency and rate that were seen while the file was opened.
    """
    from xarray_nd2.cli.console import in_bytes, in_requests, in_seconds, print_json, print_rows
    from xarray_nd2.cli.opening import CommandFile
    from xarray_nd2.cli.selections import select
    from xarray_nd2.explanation import explain as explain_selection

    file = CommandFile(url, parse_storage_options(option))
    selected = select(file.image.image, sel, isel)
    cost = explain_selection(selected)
    if json:
        print_json(
            {
                "url": file.name,
                "sizes": dict(selected.sizes),
                "dtype": str(selected.dtype),
                "requests": cost.requests,
                "bytes_needed": cost.bytes_needed,
                "bytes_fetched": cost.bytes_fetched,
                "frames": cost.frames,
                "seconds": cost.seconds,
                "exact": cost.exact,
                "link": cost.link
                and {"latency": cost.link.latency, "bandwidth": cost.link.bandwidth},
                "opening": asdict(file.opening_cost),
            }
        )
        return
    times = cost.bytes_fetched / cost.bytes_needed if cost.bytes_needed else 1.0
    sizes = ", ".join(f"{dim} {size}" for dim, size in selected.sizes.items())
    at = ""
    if cost.link is not None and cost.link.latency:
        latency, rate = in_seconds(cost.link.latency), in_bytes(cost.link.bandwidth)
        at = f", at {latency} a request and {rate}/s"
    print_rows(
        [
            ("file", file.name),
            ("selection", f"{sizes or 'one pixel'} of {selected.dtype}"),
            ("frames", f"{cost.frames:,}"),
            ("needed", in_bytes(cost.bytes_needed)),
            ("fetched", f"{in_bytes(cost.bytes_fetched)}, {times:.3g} times what is needed"),
            ("requests", in_requests(cost.requests)),
            ("transfer", f"about {in_seconds(cost.seconds)}{at}"),
            ("certain", "yes" if cost.exact else "no, an estimate"),
        ]
    )
