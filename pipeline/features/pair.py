"""Two models in one run: CLIP for language, and another network for vision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fade.aspect import AspectRatio, Shape
from fade.types import Feature

if TYPE_CHECKING:
    from fade.encoder import Encoder
    from pipeline.features.patch_encoder import PatchEncoder


def of_vision(feature: Feature) -> bool:
    """Whether a feature is of the network for vision, not of CLIP's streams.

    Examples:
        >>> of_vision(Feature(448, "vision", "patch", (11,))), of_vision(Feature(448, "gem", "patch"))
        (True, False)
    """
    return feature.stream == "vision"


class EncoderPair:
    """Gives the features of both models, of which one is in memory at a time.

    What they say of a feature is kept, so that asking again loads nothing.

    Args:
        vision: loads the other network.
        device: where both compute.
        keep: whether both stay in memory.
    """

    def __init__(
        self,
        language: Callable[[], Encoder],
        vision: Callable[[], PatchEncoder],
        device: str,
        *,
        keep: bool = False,
    ) -> None:
        self._load: Mapping[bool, Callable[[], Any]] = {False: language, True: vision}
        self._loaded: dict[bool, Any] = {}
        self._said: dict[tuple[str, Feature, AspectRatio | None], Any] = {}
        self.device, self._keep = device, keep

    @property
    def name(self) -> str:
        """Of both."""
        return f"{self.language.name} and {self._model(True).name}"

    @property
    def language(self) -> Encoder:
        """CLIP."""
        found: Encoder = self._model(False)
        return found

    def of(self, feature: Feature) -> Encoder | PatchEncoder:
        """The model that gives a feature; the other one leaves the memory."""
        found: Encoder | PatchEncoder = self._model(of_vision(feature))
        return found

    def _model(self, vision: bool) -> Any:
        if vision not in self._loaded:
            if not self._keep:
                self._loaded.clear()
            self._loaded[vision] = self._load[vision]()
        return self._loaded[vision]

    def _ask(self, what: str, feature: Feature, aspect: AspectRatio | None) -> Any:
        asked = what, feature, aspect
        if asked not in self._said:
            model = self.of(feature)
            for each in ("pixels", "describe", "shape"):
                self._said[each, feature, aspect] = getattr(model, each)(feature, aspect)
        return self._said[asked]

    def pixels(self, feature: Feature, aspect: AspectRatio | None = None) -> Shape:
        """(height, width) in pixels that an image is resized to for a feature."""
        found: Shape = self._ask("pixels", feature, aspect)
        return found

    def describe(self, feature: Feature, aspect: AspectRatio | None = None) -> dict[str, Any]:
        """All that a feature's numbers depend on, besides the image."""
        return dict(self._ask("describe", feature, aspect))

    def shape(self, feature: Feature, aspect: AspectRatio | None = None) -> tuple[int, ...]:
        """Shape of one image's feature."""
        found: tuple[int, ...] = self._ask("shape", feature, aspect)
        return found
