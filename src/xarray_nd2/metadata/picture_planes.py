"""The planes of a picture: what a frame's components are, and the settings they were taken with.

A plane is what NIS-Elements shows as a channel. It has one component, or three or four if it is in
colour. Some values are of the plane itself, others of its sample setting: the state of the camera and
the microscope while it was taken, which planes taken together share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_nd2.metadata.tree import Branch

COLOR_SAMPLES: Final = ("Red", "Green", "Blue", "Alpha")
"""Samples of a pixel in colour, as they are delivered."""
# Files store blue first: the screenshot of Laboratory Imaging's GA3 example, its limnd2 on export and
# import, and https://github.com/ome/bioformats/issues/4321. Where alpha would be is not known.
_STORED_SAMPLES: Final = {3: (2, 1, 0), 4: (2, 1, 0, 3)}
_MAX_PLANES: Final = 4096


@dataclass(frozen=True, eq=False)
class PicturePlane:
    """One plane.

    Attributes
    ----------
    name : str
        As the file has it, "" where it has none.
    components : int
        Values of one of its pixels.
    picture, sample : Branch
        What the file says of the plane, and of its sample setting.
    """

    name: str
    components: int
    picture: Branch
    sample: Branch

    @property
    def in_color(self) -> bool:
        """Whether it has red, green and blue."""
        return self.components in _STORED_SAMPLES


@dataclass(frozen=True)
class Components:
    """How the components of a pixel are delivered.

    Attributes
    ----------
    channels, samples : int
        Sizes of C and S.
    channel_order, sample_order : tuple of int
        Where a pixel has each channel, and a channel each sample, as stored; empty where in order.
    """

    channels: int
    samples: int
    channel_order: tuple[int, ...] = ()
    sample_order: tuple[int, ...] = ()


def read_picture_planes(picture: Branch, components: int) -> list[PicturePlane]:
    """The planes of frames of so many components.

    Parameters
    ----------
    picture : Branch
        The picture metadata.
    components : int
        Of a stored pixel.

    Returns
    -------
    list of PicturePlane
        Empty where the file does not tell, or what it tells does not amount to the components.
    """
    described = picture.below("sPicturePlanes", needed=bool(picture))
    listed = described.below("sPlaneNew") or described.below("sPlane")
    found = listed.branches()[: _MAX_PLANES + 1]
    if not found:  # what is left may still say that there is one, in colour
        count, total = described.whole("uiCount"), described.whole("uiCompCount")
        if count == 1 and total == components and components in _STORED_SAMPLES:
            found = [described.with_values({})]
    counts = _components_of(found, components)
    if not counts:
        if picture:
            picture.oddities.note(
                f"{picture.path} does not tell what the {components} components of a pixel are"
            )
        return []
    settings = described.below("sSampleSetting")
    planes = []
    for number, (plane, count) in enumerate(zip(found, counts, strict=True)):
        setting = plane.whole("uiSampleIndex")
        key = f"a{number if setting is None else setting}"
        sample = settings.below(key)
        planes.append(PicturePlane(plane.text("sDescription") or "", count, plane, sample))
    return planes


def _components_of(planes: list[Branch], components: int) -> list[int]:
    """Components of each plane; empty where they are not known."""
    if not planes or len(planes) > components:
        return []
    said = [plane.whole("uiCompCount") for plane in planes]
    known = [count if count is not None and 0 < count <= components else None for count in said]
    for plane, count in zip(planes, known, strict=True):
        if count is None:
            plane.note_odd("uiCompCount")
    lacking = known.count(None)
    rest = components - sum(count or 0 for count in known)
    if not lacking and rest == 0:
        return [count or 0 for count in known]
    if lacking and rest > 0 and rest % lacking == 0:  # those that do not tell share what is left
        return [count or rest // lacking for count in known]
    return []


def arranged_components(planes: Sequence[PicturePlane], components: int) -> Components:
    """How components are delivered: colour as red, green, blue and alpha.

    Where some planes are in colour and others not, each component is a channel.

    Examples
    --------
    >>> from xarray_nd2.metadata.tree import Branch, Oddities
    >>> branch = Branch({}, "", Oddities())
    >>> color, mono = PicturePlane("Brightfield", 3, branch, branch), PicturePlane("DAPI", 1, branch, branch)
    >>> arranged_components([color, color], 6)
    Components(channels=2, samples=3, channel_order=(), sample_order=(2, 1, 0))
    >>> arranged_components([color, mono], 4).channel_order
    (2, 1, 0, 3)
    """
    counts = {plane.components for plane in planes}
    if len(counts) == 1 and planes[0].in_color:
        samples = planes[0].components
        return Components(len(planes), samples, (), _STORED_SAMPLES[samples])
    order: list[int] = []
    for plane in planes:
        own = _STORED_SAMPLES.get(plane.components, range(plane.components))
        order += [len(order) + place for place in own]
    return Components(components, 1, () if order == sorted(order) else tuple(order))


def planes_of_channels(planes: Sequence[PicturePlane], channels: int) -> list[PicturePlane | None]:
    """The plane of each channel; None for one that the file does not describe."""
    if len(planes) == channels:
        return list(planes)
    spread: list[PicturePlane | None] = [plane for plane in planes for _ in range(plane.components)]
    return spread if len(spread) == channels else [None] * channels


def channel_names(planes: Sequence[PicturePlane], channels: int) -> list[str]:
    """Names of the channels, of the components of planes where each of them is a channel.

    Examples
    --------
    >>> from xarray_nd2.metadata.tree import Branch, Oddities
    >>> branch = Branch({}, "", Oddities())
    >>> channel_names([PicturePlane("Dia", 3, branch, branch), PicturePlane("", 1, branch, branch)], 4)
    ['Dia Red', 'Dia Green', 'Dia Blue', 'C3']
    """
    if len(planes) == channels:
        return [plane.name or f"C{number}" for number, plane in enumerate(planes)]
    names: list[str] = []
    for plane in planes:
        for number in range(plane.components):
            name = plane.name or f"C{len(names)}"
            if plane.in_color:
                name = f"{plane.name} {COLOR_SAMPLES[number]}".strip()
            elif plane.components > 1:
                name = f"{name} {number + 1}"
            names.append(name)
    return names if len(names) == channels else [f"C{number}" for number in range(channels)]
