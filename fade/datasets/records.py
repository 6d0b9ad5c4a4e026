"""Records of images: how they are made, chosen, and told apart."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from fade.datasets.leftovers import BEYOND_LIMIT, Note, ignore
from fade.datasets.names import check_category, few, other_form, stem
from fade.errors import DataError, ParameterError
from fade.types import GOOD, UNLABELLED, DataPath, ImageRecord, Split


def image_record(
    path: str, category: str, split: Split, defect: str, mask: str | None = None
) -> ImageRecord:
    """Return the record of an image; a mask of a good image is kept as unused.

    An empty ``defect`` says that nobody knows whether there is one.
    """
    name = stem(path)
    if defect == UNLABELLED:
        return ImageRecord(name, path, category, split, defect, None)
    if defect == GOOD:  # nothing to mark, so a (black) mask is of no use
        return ImageRecord(name, path, category, split, defect, False, None, mask)
    return ImageRecord(name, path, category, split, defect, True, mask)


def root_category(root: DataPath, categories: Sequence[str] | None) -> str:
    """Return the name of the one category that a root is: that of its folder."""
    name = root.resolve().name
    check_category(name, str(root))
    choose_categories([name], categories, root)
    return name


def refuse_same_names(records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
    """Refuse images that share a name, since results are listed by it; records sorted by path.

    Of files that differ only in suffix, others may come in between, such as a-b.png: those so far
    that start in the same way are remembered.
    """
    seen: dict[str, str] = {}
    for record in records:
        seen = {name: path for name, path in seen.items() if record.path.startswith(name)}
        if other := seen.get(record.name):
            raise same_name(other, record.path)
        seen[record.name] = record.path
        yield record


def same_name(one: str, other: str) -> DataError:
    """Return the error for two images that results could not tell apart."""
    return DataError(
        f"{other} is listed twice; remove one row"
        if one == other
        else f"{one} and {other} differ only in suffix; rename or remove one"
    )


def limit_tests(
    records: Iterable[ImageRecord], limit: int, note: Note = ignore
) -> Iterator[ImageRecord]:
    """Yield all training images, and the first ``limit`` test images of each kind and category."""
    count: Counter[tuple[str, str]] = Counter()
    for record in records:
        if record.split == "test":
            key = (record.category, record.defect)
            count[key] += 1
            if count[key] > limit:
                for path in filter(None, (record.path, record.found_mask)):
                    note(path, BEYOND_LIMIT)
                continue
        yield record


def choose_categories(
    found: Sequence[str], categories: Sequence[str] | None, source: DataPath
) -> list[str]:
    """Return the categories to read, in order: those asked for, or all that were found."""
    folded: dict[str, str] = {}
    for name in found:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(
                f"{source}: categories {other!r} and {name!r} differ only in case, which not every "
                "file system tells apart; rename one"
            )
    if not categories:
        return list(found)
    if isinstance(categories, str):
        raise ParameterError(f"categories is {categories!r}; give a list of names")
    twice = [name for name, n in Counter(categories).items() if n > 1]
    if twice:
        raise ParameterError(f"categories names {few(twice)} more than once; name each once")
    known = set(found)
    absent = [repr(name) for name in categories if name not in known]
    if absent:
        twins = [
            twin for name in categories if name not in known if (twin := other_form(name, found))
        ]
        written = f"; the same text in another Unicode form is {few(twins)}" if twins else ""
        raise DataError(f"{source} has no category {few(absent)}; there is {few(found)}{written}")
    return list(categories)
