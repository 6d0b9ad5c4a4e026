"""The nouns that the modules hand to each other."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from fade.transforms import NONE, Transform

ClipStream = Literal["clip", "gem"]
Stream = Literal["clip", "gem", "vision"]
"""``vision``: of an encoder for vision alone, see :mod:`fade.encoders`."""
Token = Literal["cls", "patch"]
Split = Literal["train", "test"]
Mode = Literal["none", "language", "vision", "both"]
Device = Literal["auto", "cuda", "cpu"]
Precision = Literal["fp32", "bf16", "fp16"]
DatasetFormat = Literal[
    "mvtec", "visa", "folder", "csv", "mvtec-ad-2", "mvtec-loco", "visa-2cls-highshot",
    "visa-2cls-fewshot", "btad", "mpdd", "ksdd2", "real-iad", "real-iad-sv",
]  # fmt: skip


class DataStat(Protocol):
    """What :class:`os.stat_result` says of a file, as far as all places know it."""

    @property
    def st_size(self) -> int:
        """Bytes."""

    @property
    def st_mtime_ns(self) -> int:
        """When it was last written, in nanoseconds since the epoch."""


class DataPath(Protocol):
    """A folder or file of a data set: the part of :class:`pathlib.Path` that readers need.

    Reading raises OSError. What is no ``pathlib.Path`` is a :class:`RemotePath`.
    """

    @property
    def name(self) -> str:
        """The last part."""

    @property
    def parent(self) -> "DataPath":
        """The folder that it lies in."""

    def __truediv__(self, part: str, /) -> "DataPath": ...

    def absolute(self) -> "DataPath":
        """The same, wherever the process works."""

    def resolve(self) -> "DataPath":
        """The same without links."""

    def exists(self) -> bool:
        """Whether it is a file or a folder."""

    def is_dir(self) -> bool:
        """Whether it is a folder."""

    def is_file(self) -> bool:
        """Whether it is a file."""

    def stat(self) -> "DataStat":
        """Size and time of a file."""

    def read_bytes(self) -> bytes:
        """The whole file."""


class Names(NamedTuple):
    """Names of the files and of the folders in a folder, each sorted.

    Examples:
        >>> Names(["0.png"], ["test", "train"]).folders
        ['test', 'train']
    """

    files: list[str]
    folders: list[str]


class RemotePath(DataPath, Protocol):
    """A folder or file that the operating system does not know, such as in an object store."""

    def children(self) -> Names:
        """What lies in it."""


GOOD = "good"
"""The ``defect`` of an image without one."""
UNLABELLED = ""
"""The ``defect`` of a test image of which nobody has said whether it has one."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a data set, as a reader in :mod:`fade.datasets` finds it.

    Paths are POSIX and relative to the data set's root. ``name`` is ``path`` without its suffix.
    ``mask`` ends in ``/`` where the files of a folder together are the mask.
    ``is_anomaly`` is None, and ``defect`` empty, where a test image has no label.
    ``unused_mask`` is a mask that was found for a good image, which has no defect to mark.

    Examples:
        >>> record = ImageRecord("test/crack/1", "test/crack/1.png", "bottle", "test", "crack", True)
        >>> record.defect, record.mask
        ('crack', None)
    """

    name: str
    path: str
    category: str
    split: Split
    defect: str
    is_anomaly: bool | None
    mask: str | None = None
    unused_mask: str | None = field(default=None, compare=False)

    @property
    def found_mask(self) -> str | None:
        """The mask that was found, used or not."""
        return self.mask or self.unused_mask


@dataclass(frozen=True, slots=True, order=True)
class Trial:
    """One experiment of a sweep: so many reference images, drawn with one seed.

    Examples:
        >>> Trial(shots=4, seed=1).label
        'shots4_seed1'
    """

    shots: int
    seed: int

    @property
    def label(self) -> str:
        """Name of the trial's array in ``maps.zarr``."""
        return f"shots{self.shots}_seed{self.seed}"


CategoryTrial = tuple[str, Trial]


@dataclass(frozen=True, slots=True, order=True)
class Feature:
    """One kind of image feature: the tokens of one stream at one input size (pixels a side).

    Attributes:
        layers: of an encoder for vision, as they were asked for; several are averaged.
        transform: of the image, before it is encoded.

    Examples:
        >>> Feature(448, "gem", "patch").label
        'gem-patch-448'
        >>> Feature(448, "vision", "patch", (11,), Transform("rotate", 45)).label
        'vision-patch-448-layer11-rotate-45'
    """

    size: int
    stream: Stream
    token: Token
    layers: tuple[int, ...] = ()
    transform: Transform = NONE

    @property
    def label(self) -> str:
        """Short readable name, e.g. ``gem-patch-448`` or ``vision-patch-448-layer11-rotate-45``."""
        parts = [f"{self.stream}-{self.token}-{self.size}"]
        if self.layers:
            parts.append("layer" + "+".join(map(str, self.layers)))
        if self.transform != NONE:
            parts.append(self.transform.label)
        return "-".join(parts)
