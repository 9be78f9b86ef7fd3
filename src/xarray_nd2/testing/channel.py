"""What a file says about one channel, in the words of the user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from xarray_nd2.testing.checks import raise_unless

__all__ = ["MODALITY_BITS", "Channel"]

MODALITY_BITS = {  # of `uiModalityMask`, by the words of the reader
    "fluorescence": 0x1,
    "brightfield": 0x2,
    "phase contrast": 0x10,
    "DIC": 0x20,
    "camera": 0x100,
    "laser scanning confocal": 0x200,
    "spinning disk confocal": 0x400,
    "SIM": 0x4000,
    "multiphoton": 0x10000,
    "TIRF": 0x20000,
    "PMT": 0x100000,
    "spectral": 0x200000,
    "transmitted light detector": 0x1000000,
    "non-descanned detector": 0x2000000,
    "GaAsP": 0x8000000,
    "SoRa": 0x40000000,
}


@dataclass(frozen=True)
class Channel:
    """What a file says about one channel.

    Parameters
    ----------
    name : str
        As the microscope names it; names need not be unique.
    emission : float, optional
        Peak wavelength in nm.
    excitation : float or sequence of float, optional
        The laser line or lamp that was on, or several; in whole nm. All lines of a file belong to
        one laser, and each channel tells which of them were on.
    color : str, optional
        Display colour as ``"#rrggbb"``, white unless given.
    components : {1, 3, 4}, optional
        Positions of the C axis that the channel takes: 3 or 4 for Red, Green, Blue(, Alpha) beside
        channels of one component. 1 in images with an S axis.
    exposure : float, optional
        Exposure time in ms.
    pinhole : float, optional
        Diameter of the pinhole in µm.
    laser_power : float, optional
        Of the lines that were on, in %.
    modality : str or sequence of str, optional
        How the image was made, e.g. ``["fluorescence", "laser scanning confocal"]``. Unless given, a
        camera in fluorescence, or in brightfield for colour.
    camera : str, optional
        Name of the camera.
    binning : float, optional
        Camera pixels along an edge of a pixel of the image.
    optical_configuration : str, optional
        Name of the settings of the microscope.

    Raises
    ------
    ValueError
        If an argument has a value that ND2 files cannot hold.
    """

    name: str
    emission: float | None = None
    excitation: float | Sequence[float] | None = None
    color: str | None = None
    components: int = 1
    exposure: float | None = None
    pinhole: float | None = None
    laser_power: float | None = None
    modality: str | Sequence[str] | None = None
    camera: str | None = None
    binning: float | None = None
    optical_configuration: str | None = None

    def __post_init__(self) -> None:
        raise_unless(
            self.color is None or re.fullmatch("#[0-9a-fA-F]{6}", self.color) is not None,
            f"color must look like '#rrggbb', not {self.color!r}",
        )
        raise_unless(
            self.components in (1, 3, 4), f"components must be 1, 3 or 4, not {self.components}"
        )
        raise_unless(
            all(line > 0 and line == int(line) for line in self._excitations),
            f"excitation must be in whole nm, not {self.excitation}",
        )
        raise_unless(
            self.laser_power is None or bool(self.lines), "laser_power is given without excitation"
        )
        unknown = sorted(set(self._modalities) - set(MODALITY_BITS))
        raise_unless(not unknown, f"modality is of {sorted(MODALITY_BITS)}, not {unknown}")

    @property
    def bgr(self) -> int:
        """The colour as the file has it: red in the lowest byte."""
        return int.from_bytes(bytes.fromhex((self.color or "#ffffff")[1:]), "little")

    @property
    def lines(self) -> tuple[int, ...]:
        """Wavelengths of the lines that were on, in nm."""
        return tuple(int(line) for line in self._excitations)

    def modality_mask(self, components: int) -> int:
        """Bits of the modality, where the channel has that many components."""
        light = "fluorescence" if components == 1 else "brightfield"
        words = (light, "camera") if self.modality is None else self._modalities
        return sum({MODALITY_BITS[word] for word in words})

    @property
    def _excitations(self) -> Sequence[float]:
        if self.excitation is None:
            return ()
        return self.excitation if isinstance(self.excitation, Sequence) else (self.excitation,)

    @property
    def _modalities(self) -> Sequence[str]:
        if self.modality is None:
            return ()
        return (self.modality,) if isinstance(self.modality, str) else self.modality
