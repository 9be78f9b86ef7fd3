"""The command ``doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from cyclopts import Parameter

from xarray_nd2.cli.failing import UsageError
from xarray_nd2.cli.options import AsJSON, SourceOptions, SourceURL, parse_storage_options

DOCTOR_EXAMPLES: Final = (
    "xarray-nd2 doctor https://data.example.org/run42.nd2",
    "xarray-nd2 doctor s3://bucket/run42.nd2 -o profile=lab -o endpoint_url=https://s3.example.org",
)


def doctor(
    url: SourceURL,
    /,
    *,
    patience: Annotated[
        float, Parameter(help="Seconds after which what does not answer is given up.")
    ] = 20.0,
    option: SourceOptions = None,
    json: AsJSON = False,
) -> int:
    """Check what matters for reading a file from here, and say what to do about it.

    Exit code 1 if the file cannot be read, 0 if it can, be it with warnings.
    """
    if not 0 < patience < 1e6:
        raise UsageError(f"--patience must be above 0, not {patience:g}")
    from xarray_nd2.cli.console import print_json
    from xarray_nd2.cli.doctor.checks import examine
    from xarray_nd2.cli.doctor.findings import OUTCOME_FAILED
    from xarray_nd2.cli.doctor.report import print_findings
    from xarray_nd2.io.source import ByteSource

    source = ByteSource.of(url, parse_storage_options(option), patience)
    findings = examine(source)
    failed = any(each.outcome == OUTCOME_FAILED for each in findings)
    if json:
        print_json(
            {"url": source.name, "ok": not failed, "checks": [asdict(each) for each in findings]}
        )
    else:
        print_findings(source.name, findings)
    return 1 if failed else 0
