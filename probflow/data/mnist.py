"""MNIST and its relatives (Fashion-MNIST, ...) from torchvision's folder layout, without torchvision.

    MNIST/raw/train-images-idx3-ubyte[.gz]   train-labels-idx1-ubyte[.gz]
              t10k-images-idx3-ubyte[.gz]    t10k-labels-idx1-ubyte[.gz]

An idx file is big-endian: two zero bytes, one byte for the type (8: unsigned byte), one for the number of dimensions, the
dimensions as 32-bit integers, then the values with the last dimension fastest.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from probflow.data.split import Split
from probflow.errors import DataError

NAMES = ("MNIST", "FashionMNIST")
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
UNSIGNED_BYTE = 8
MAX_RANK = 8


def load_mnist(folder: str | PathLike[str]) -> Split:
    """The training and test images below `folder`, in the order of the files.

    `folder` is the `raw` folder itself, the `MNIST` (or `FashionMNIST`) folder above it, or the one above that.

    Shapes: ``x`` (N, height * width) float32 in [0, 1], row by row from the top left; ``y`` (N,) int64.

    Errors: `DataError` when files are missing (it says which were looked for, and where), damaged, or do not belong together.

    Source: http://yann.lecun.com/exdb/mnist (the idx format); the layout is that of ``torchvision.datasets.MNIST``.

    >>> load_mnist("no/such/folder")
    Traceback (most recent call last):
        ...
    probflow.errors.DataError: There is no folder no/such/folder.
    Give the folder that holds MNIST/raw/ (torchvision's layout).
    """
    raw = _raw_folder(Path(folder).expanduser())
    parts = {}
    for part, (image_name, label_name) in FILES.items():
        image_path, label_path = (_existing(raw, name) for name in (image_name, label_name))
        images, labels = read_idx(image_path), read_idx(label_path)
        if images.dim() != 3:
            raise DataError(f"{image_path} holds {_shape(images)} values, not images: expected (N, height, width).")
        if labels.dim() != 1:
            raise DataError(f"{label_path} holds {_shape(labels)} values, not labels: expected (N,).")
        if len(images) != len(labels):
            raise DataError(
                f"The {part} part in {raw} has {len(images)} images ({image_path.name}) and "
                f"{len(labels)} labels ({label_path.name}).\nThey must be as many: the files are not of one data set."
            )
        parts[part] = {"x": images.flatten(1).to(torch.float32) / 255.0, "y": labels.long()}
    if (train := parts["train"]["x"].shape[1]) != (test := parts["test"]["x"].shape[1]):
        raise DataError(f"In {raw} the training images have {train} pixels and the test images {test}.")
    return Split(train=parts["train"], test=parts["test"])


def read_idx(path: str | PathLike[str]) -> Tensor:
    """The uint8 tensor in an idx file, gzipped or not (the first bytes tell, not the name).

    Errors: `DataError` for a file that is missing, not idx, not of unsigned bytes, or shorter or longer than its header says.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "labels-idx1-ubyte")
    >>> _ = file.write_bytes(bytes([0, 0, 8, 1,  0, 0, 0, 3,  7, 2, 1]))
    >>> read_idx(file)
    tensor([7, 2, 1], dtype=torch.uint8)
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}.\nFetch or copy the file again.") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != UNSIGNED_BYTE or not 1 <= data[3] <= MAX_RANK:
        raise DataError(
            f"{path} is not an idx file of unsigned bytes: it starts with {data[:4].hex(' ') or 'nothing'}, "
            f"expected 00 00 08 and the number of dimensions.\nFetch or copy the file again."
        )
    rank = data[3]
    header = 4 + 4 * rank
    if len(data) < header:
        raise DataError(f"{path} ends inside its header, after {len(data)} bytes.\nFetch or copy the file again.")
    shape = struct.unpack(f">{rank}I", data[4:header])
    if len(data) - header != prod(shape):
        raise DataError(
            f"{path} is {'cut short' if len(data) - header < prod(shape) else 'too long'}: its header says "
            f"{tuple(shape)}, which is {prod(shape)} bytes, but {len(data) - header} follow.\nFetch or copy the file again."
        )
    if prod(shape) == 0:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=header).view(shape)


def _raw_folder(folder: Path) -> Path:
    """The first place below `folder` that holds any of the four files."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.\nGive the folder that holds MNIST/raw/ (torchvision's layout).")
    places = [folder, folder / "raw", *(folder / name / "raw" for name in NAMES)]
    expected = [name for names in FILES.values() for name in names]
    for place in places:
        if any(_candidates(place, name) for name in expected):
            return place
    raise DataError(
        f"There is no MNIST in {folder}.\n"
        f"  looked for: {', '.join(expected)}, each with or without .gz\n"
        f"  in:         {', '.join(str(place) for place in places)}\n"
        f"Give the folder that holds MNIST/raw/ (torchvision's layout)."
    )


def _existing(raw: Path, name: str) -> Path:
    found = _candidates(raw, name)
    if not found:
        raise DataError(f"{raw} has some of MNIST's files, but neither {name} nor {name}.gz.")
    return found[0]


def _candidates(place: Path, name: str) -> list[Path]:
    return [path for path in (place / name, place / f"{name}.gz") if path.is_file()]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
