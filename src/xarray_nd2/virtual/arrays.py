"""Arrays of VirtualiZarr: pixels as references into the file, labels as bytes in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.format.layout import MISSING_OFFSET

if TYPE_CHECKING:
    import xarray as xr
    from virtualizarr.manifests import ManifestArray

    from xarray_nd2.virtual.chunks import PixelChunks


def referenced_array(
    chunks: PixelChunks, url: str, dtype: np.dtype[Any], attrs: dict[str, Any]
) -> ManifestArray:
    """Pixels of an image as references; those of a missing frame are the fill value, 0.

    Parameters
    ----------
    chunks : PixelChunks
        Where the pixels are.
    url : str
        The file.
    dtype : numpy.dtype
        Of one component.
    attrs : dict
        Attributes of the array.
    """
    from virtualizarr.manifests import ChunkManifest, ManifestArray
    from virtualizarr.manifests.utils import create_v3_array_metadata

    present = chunks.offsets != MISSING_OFFSET
    text = np.dtypes.StringDType()
    manifest = ChunkManifest.from_arrays(
        paths=np.where(present, np.array(url, text), np.array("", text)).astype(text),
        offsets=np.where(present, chunks.offsets, 0).astype(np.uint64),
        lengths=np.where(present, chunks.lengths, 0).astype(np.uint64),
        validate_paths=False,  # that is a call for each, and there is one path, which is a URL
    )
    codecs: list[dict[str, Any]] = []
    if chunks.order:
        codecs.append({"name": "transpose", "configuration": {"order": chunks.order}})
    codecs.append({"name": "bytes", "configuration": {"endian": "little"}})
    if chunks.is_zlib:
        codecs.append({"name": "numcodecs.zlib", "configuration": {}})
    metadata = create_v3_array_metadata(
        shape=chunks.shape,
        data_type=dtype,
        chunk_shape=chunks.chunk_shape,
        fill_value=dtype.type(0),
        codecs=codecs,
        dimension_names=chunks.dims,
        attributes=attrs,
    )
    return ManifestArray(metadata=metadata, chunkmanifest=manifest)


def arrays_in_memory(dataset: xr.Dataset) -> tuple[dict[str, ManifestArray], dict[str, Any]]:
    """Variables of a dataset as arrays of one chunk each that is in memory, and its attributes.

    How dates, texts and attributes are encoded is left to xarray, and the bytes to zarr.

    Parameters
    ----------
    dataset : xarray.Dataset
        All of it is in memory.

    Returns
    -------
    arrays : dict of str to ManifestArray
        By name.
    attrs : dict
        Attributes of their group; "coordinates" names those that are.
    """
    import zarr
    from virtualizarr.manifests import ChunkManifest, ManifestArray

    variables = {name: _plain(each) for name, each in dataset.variables.items()}
    encoding = {}
    for name, variable in variables.items():
        encoding[name] = {"chunks": tuple(map(_at_least_1, variable.shape)), "compressors": None}
        if variable.dtype.kind != "M":  # NaT is the only one that needs one
            encoding[name]["_FillValue"] = None
    written: dict[str, Any] = {}
    # All as data, so that the names of the coordinates are in one place.
    plain = dataset.drop_vars(list(dataset.variables)).assign(variables).reset_coords()
    plain.to_zarr(
        zarr.storage.MemoryStore(written),
        zarr_format=3,
        consolidated=False,
        write_empty_chunks=True,
        encoding=encoding,
    )
    group = zarr.open_group(zarr.storage.MemoryStore(written), mode="r", zarr_format=3)
    arrays = {}
    for name, array in group.arrays():
        index = (0,) * array.ndim
        key = array.metadata.encode_chunk_key(index)
        entries = {}
        if f"{name}/{key}" in written:  # there is none of an empty array
            data = written[f"{name}/{key}"].to_bytes()
            place = ".".join(map(str, index)) or "0"
            entries[place] = {"path": "", "offset": 0, "length": len(data), "data": data}
        grid = tuple(min(1, size) for size in array.shape)
        arrays[name] = ManifestArray(array.metadata, ChunkManifest(entries, shape=grid))
    attrs = dict(group.attrs)
    attrs.pop("coordinates", None)
    if len(dataset.coords):
        attrs["coordinates"] = " ".join(map(str, dataset.coords))
    return arrays, attrs


def _plain(variable: xr.Variable) -> xr.Variable:
    """A variable whose texts are of any length, for which Zarr has one way that all agree about."""
    variable = variable.to_base_variable()
    return variable.astype(object) if variable.dtype.kind == "U" else variable


def _at_least_1(size: int) -> int:
    return max(1, size)
