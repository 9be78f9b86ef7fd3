"""Which worker of a loader this process is."""

from __future__ import annotations

import sys
from typing import Any

from xarray_nd2.sampling.epoch_order import whole_number


def worker_of_loader() -> tuple[int, int] | None:
    """Number of this worker process of a PyTorch loader and how many there are; None in any other."""
    torch_data = sys.modules.get("torch.utils.data")
    info = None if torch_data is None else torch_data.get_worker_info()
    return None if info is None else (info.id, info.num_workers)


def checked_worker(index: Any, count: Any) -> tuple[int, int]:
    """The number of a worker and how many there are, if they can be that.

    Raises
    ------
    TypeError, ValueError
        They cannot.
    """
    count = whole_number("the number of workers", count, 1)
    index = whole_number("the number of the worker", index, 0)
    if index >= count:
        raise ValueError(f"the number of the worker must be below {count}, not {index}")
    return index, count
