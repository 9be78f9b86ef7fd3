"""Which regions are in which batch, for a seed, an epoch and a rank. Pure."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class EpochOrder:
    """How regions are dealt out to the ranks of a training, anew in each epoch.

    All regions are put in an order that depends on the seed and the epoch alone. The first `size`
    of them are the first batch of rank 0, the next those of rank 1, and so on, round after round.
    What is left when there is not a batch more for every rank is not dealt out in that epoch.

    Attributes
    ----------
    regions : int
        Number of all regions.
    size : int
        Regions of a batch.
    seed : int or None
        Of the permutations; with None all epochs have the order of the table.
    rank, world_size : int
        Whose batches these are, and among how many.

    Raises
    ------
    ValueError
        There is no such rank, or not a batch for every rank.
    """

    regions: int
    size: int
    seed: int | None
    rank: int
    world_size: int

    def __post_init__(self) -> None:
        if self.rank >= self.world_size:
            raise ValueError(f"rank must be below world_size, {self.world_size}, not {self.rank}")
        if not self.batches:
            raise ValueError(
                f"{self.regions} regions are fewer than one batch of {self.size} for each of "
                f"{self.world_size} ranks"
            )

    @property
    def batches(self) -> int:
        """Number of batches of each rank in each epoch."""
        return self.regions // (self.size * self.world_size)

    def rows(self, epoch: int) -> NDArray[np.int64]:
        """Positions in the table of all batches of the rank, with the shape (batch, region)."""
        dealt = self.batches * self.size * self.world_size
        if self.seed is None:
            order = np.arange(self.regions)
        else:
            # The epoch goes in as a key of its own, so that no other seed and epoch make the same.
            source = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
            order = np.random.default_rng(source).permutation(self.regions)
        return order[:dealt].reshape(self.batches, self.world_size, self.size)[:, self.rank]


def whole_number(name: str, value: Any, least: int) -> int:
    """A number that must be whole and not below the least that it may be.

    Raises
    ------
    TypeError, ValueError
        It is not; `name` says what it is of.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    return number
