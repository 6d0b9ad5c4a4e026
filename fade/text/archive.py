"""Arrays read from the bytes of files that may be damaged or made by strangers."""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np


def read_array(data: bytes) -> np.ndarray:
    """The array in the bytes of an ``.npy`` file; no memory is taken before they are enough for it.

    Raises:
        ValueError: they are no array, more or fewer than its header tells, or Python objects.

    Examples:
        >>> file = io.BytesIO()
        >>> np.save(file, np.arange(3))
        >>> read_array(file.getvalue()).tolist()
        [0, 1, 2]
        >>> read_array(file.getvalue()[:-1])
        Traceback (most recent call last):
            ...
        ValueError: an array's header tells of 24 bytes, there are 23
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0
        }[version]  # fmt: skip
        shape, _, dtype = read_header(file)
    except Exception as error:  # whatever a parser of Python raises
        raise ValueError(f"no header of an array ({type(error).__name__})") from error
    told, found = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if told != found:
        raise ValueError(f"an array's header tells of {told:,} bytes, there are {found:,}")
    file.seek(0)
    try:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except (OverflowError, TypeError) as error:  # of no bytes, but with an endless side
        raise ValueError(f"an array's header tells of the shape {shape}") from error


def read_archive(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file that is not compressed.

    Examples:
        >>> file = io.BytesIO()
        >>> np.savez(file, mean=np.zeros(2), count=np.array(4))
        >>> {name: array.shape for name, array in read_archive(file.getvalue()).items()}
        {'mean': (2,), 'count': ()}
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(
                entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size
                for entry in entries
            ):
                raise ValueError("it is compressed, and could unfold to any size")
            if sum(entry.file_size for entry in entries) > len(data):
                raise ValueError("its entries are longer than the file")
            return {
                entry.filename.removesuffix(".npy"): read_array(archive.read(entry))
                for entry in entries
            }
    except ValueError:
        raise
    except Exception as error:  # a damaged archive raises almost anything
        raise ValueError(str(error) or type(error).__name__) from error
