"""Metadata as values, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from xarray_nd2.metadata.experiment import Experiment, read_experiment
from xarray_nd2.metadata.tree import Branch, Oddities


def branch(**values: Any) -> Branch:
    """A branch of the metadata that is called "part"."""
    return Branch(values, "part", Oddities())


def listed(*items: Any) -> dict[str, Any]:
    """A list as nd2 decodes it."""
    return {f"i{number:010}": item for number, item in enumerate(items)}


def level(kind: Any, *inner: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    """A level of an experiment with others inside of it."""
    return {
        "eType": kind,
        "uLoopPars": parameters,
        "uiNextLevelCount": len(inner),
        "ppNextLevelEx": listed(*inner),
    }


def experiment(root: dict[str, Any]) -> tuple[Experiment, Oddities]:
    """What is read of an experiment, and what was odd."""
    oddities = Oddities()
    return read_experiment(Branch(root, "experiment", oddities)), oddities
