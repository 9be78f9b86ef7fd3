"""The channels of an image as OME has them, and the instrument that they were taken with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.ome.values import along, known, number, positive, xml_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr
    from ome_types import model

INSTRUMENT_ID: Final = "Instrument:0"
_OBJECTIVE_ID: Final = "Objective:0"
# By the words of `modality`, the most specific first: of several the first counts.
_ACQUISITION_MODES: Final = {
    "STED": "STED",
    "multiphoton": "MultiPhotonMicroscopy",
    "SIM": "StructuredIllumination",
    "iSIM": "StructuredIllumination",
    "TIRF": "TotalInternalReflection",
    "light sheet": "SPIM",
    "SoRa": "SpinningDiskConfocal",
    "spinning disk confocal": "SpinningDiskConfocal",
    "swept field confocal, slit": "SlitScanConfocal",
    "swept field confocal, pinholes": "SweptFieldConfocal",
    "laser scanning confocal": "LaserScanningConfocalMicroscopy",
    "brightfield": "BrightField",
    "fluorescence": "WideField",
}
_CONTRAST_METHODS: Final = {
    "phase contrast": "Phase",
    "DIC": "DIC",
    "darkfield": "Darkfield",
    "brightfield": "Brightfield",
    "fluorescence": "Fluorescence",
}
_BINNING_WORDS: Final[dict[float, str]] = {1: "1x1", 2: "2x2", 4: "4x4", 8: "8x8"}


def channel_fields(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """What is told of each channel, under the names of the fields of `ome_types.model.Channel`.

    Where a channel has several samples of colour, its wavelengths and its display colour would be
    taken for those of each sample, and are left out.
    """
    samples = dataset["image"].sizes.get("S", 1)
    detectors = _camera_names(dataset)
    found = []
    for channel in range(dataset.sizes.get("C", 1)):
        told = _told(dataset, channel)
        modality = told.get("modality", "")
        fields = known(
            name=xml_text(told["C"]) if "C" in told else None,
            samples_per_pixel=samples,
            pinhole_size=positive(told.get("pinhole")),
            acquisition_mode=_first_of(_ACQUISITION_MODES, modality),
            contrast_method=_contrast_method(modality),
        )
        if samples == 1:
            fields |= known(
                color=told.get("color") or None,
                emission_wavelength=positive(told.get("emission")),
                excitation_wavelength=positive(told.get("excitation")),
            )
        if told.get("camera"):
            binning = positive(told.get("binning"))
            fields["detector_settings"] = known(
                id=_detector_id(detectors.index(told["camera"])),
                binning=None if binning is None else _BINNING_WORDS.get(binning, "Other"),
            )
        found.append(fields)
    return found


def instrument(dataset: xr.Dataset) -> model.Instrument | None:
    """The objective and the cameras; None where neither is known."""
    from ome_types import model

    attrs = dataset["image"].attrs
    objectives = []
    if objective_settings(attrs):
        fields = known(
            model=xml_text(attrs["objective"]) if "objective" in attrs else None,
            nominal_magnification=positive(attrs.get("magnification")),
            lens_na=positive(attrs.get("numerical_aperture")),
        )
        objectives.append(model.Objective(id=_OBJECTIVE_ID, **fields))
    detectors = [
        model.Detector(id=_detector_id(place), model=xml_text(name))
        for place, name in enumerate(_camera_names(dataset))
    ]
    if not objectives and not detectors:
        return None
    return model.Instrument(id=INSTRUMENT_ID, objectives=objectives, detectors=detectors)


def objective_settings(attrs: Mapping[str, Any]) -> model.ObjectiveSettings | None:
    """How the objective was used, by the attributes of the image; None if it is not known."""
    from ome_types import model

    if not attrs.keys() & {"objective", "magnification", "numerical_aperture", "refractive_index"}:
        return None
    index = positive(attrs.get("refractive_index"))
    return model.ObjectiveSettings(id=_OBJECTIVE_ID, **known(refractive_index=index))


def exposures_s(dataset: xr.Dataset) -> list[float | None]:
    """Exposure time of each channel, in seconds."""
    times = along(dataset, "exposure", {"C": dataset.sizes.get("C", 1)})
    if times is None:
        return [None] * dataset.sizes.get("C", 1)
    return [None if (ms := number(each)) is None else ms / 1000 for each in times]


def _told(dataset: xr.Dataset, channel: int) -> dict[str, Any]:
    """What the coordinates along C say of a channel."""
    names = ("C", "emission", "excitation", "pinhole", "modality", "color", "camera", "binning")
    found = {name: along(dataset, name, {"C": dataset.sizes.get("C", 1)}) for name in names}
    return {name: values[channel].item() for name, values in found.items() if values is not None}


def _camera_names(dataset: xr.Dataset) -> Sequence[str]:
    names = along(dataset, "camera", {"C": dataset.sizes.get("C", 1)})
    return [] if names is None else list(dict.fromkeys(name for name in names.tolist() if name))


def _detector_id(place: int) -> str:
    return f"Detector:{place}"


def _first_of(words: Mapping[str, str], modality: str) -> str | None:
    """The first value whose word a modality has, among those that stand between commas."""
    listed = f", {modality}, "
    return next((value for word, value in words.items() if f", {word}, " in listed), None)


def _contrast_method(modality: str) -> str | None:
    """None where both fluorescence and another method are named: which it was is not known."""
    found = {
        method for word, method in _CONTRAST_METHODS.items() if _first_of({word: method}, modality)
    }
    if found > {"Brightfield"}:  # of which the others are special cases
        found -= {"Brightfield"}
    return found.pop() if len(found) == 1 else None
