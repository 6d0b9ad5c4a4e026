"""Results of a method that are kept, and that do not keep its object."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakMethod

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

T = TypeVar("T")


def kept(most: int, method: Callable[..., T]) -> _lru_cache_wrapper[T]:
    """A method of which the last results are kept, to hang on its object.

    By :func:`lru_cache` alone both would hold each other, until Python collects its garbage: a server
    would hold several runs of a project that runs again and again.

    >>> class Sum:
    ...     def __init__(self) -> None:
    ...         self.of = kept(2, self._of)
    ...
    ...     def _of(self, *numbers: int) -> int:
    ...         return sum(numbers)
    >>> Sum().of.cache_info().maxsize, (one := Sum()).of(1, 2)
    (2, 3)
    """
    known = WeakMethod(method)

    def call(*given: object) -> T:
        bound = known()
        assert bound is not None  # who calls it holds the object
        found: T = bound(*given)
        return found

    return lru_cache(most)(call)
