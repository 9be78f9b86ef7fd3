"""The command ``info``."""

from __future__ import annotations

from typing import Final

from xarray_nd2.cli.options import AsJSON, SourceOptions, SourceURL, parse_storage_options

INFO_EXAMPLES: Final = (
    "xarray-nd2 info run42.nd2",
    "xarray-nd2 info s3://bucket/run42.nd2 -o anon=true",
    "xarray-nd2 info https://data.example.org/run42.nd2 --json",
)


def info(url: SourceURL, /, *, option: SourceOptions = None, json: AsJSON = False) -> None:
    """Tell what is in a file, and what opening it costs.

    Reads the index and the metadata, no pixels.
    """
    from xarray_nd2.cli.console import print_json, print_rows
    from xarray_nd2.cli.opening import CommandFile
    from xarray_nd2.cli.summary import summarize
    from xarray_nd2.cli.summary_rows import summary_rows

    file = CommandFile(url, parse_storage_options(option))
    summary = summarize(file)
    if json:
        print_json(summary)
    else:
        print_rows(summary_rows(summary))
