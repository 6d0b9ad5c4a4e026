"""Commands for the feature store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fade.errors import FadeError, StoreError, counted
from pipeline.cli.app import cache_app
from pipeline.cli.options import Json, StorePlace, echo, echo_aside, write_json

if TYPE_CHECKING:
    from cache.maintenance import SpaceCheck
    from cache.store import Store


def _place(given: str) -> Path | str:
    from cache.location import located, refuse_half_url

    refuse_half_url(given)
    return located(given)


def _store_root(given: str | None) -> Path | str:
    from pipeline.artefacts.catalogue import store_root
    from pipeline.config.load import load_params
    from pipeline.config.values import PARAMS_FILE

    if given is not None:
        return _place(given)
    return store_root(load_params().features.store if PARAMS_FILE.exists() else None)


def _is_ours(store: Store) -> bool:
    """Whether a store is the one whose rows this project's receipts vouch for."""
    try:
        own = _store_root(None)
    except FadeError:  # receipts of a project that cannot be read are left alone
        return False
    if isinstance(own, Path) and isinstance(store.root, Path):
        return own.resolve() == store.root.resolve()
    return own == store.root


@cache_app.command(epilog="Example: fade cache info --json")
def info(store: StorePlace = None, as_json: Json = False) -> None:
    """List what the feature store holds."""
    from dataclasses import asdict

    from cache.maintenance import describe, open_store

    spaces = describe(open_store(_store_root(store)))
    if as_json:
        write_json([asdict(space) for space in spaces])
        return
    form = "{:<20}  {:<8}  {:>10}  {:>8}  {:>15}".format
    echo(form("label", "space", "rows", "segments", "bytes"))
    for space in spaces:
        echo(
            form(space.label, space.fingerprint[:8], space.rows, space.segments, f"{space.bytes:,}")
        )
    total = (
        sum(getattr(space, name) for space in spaces) for name in ("rows", "segments", "bytes")
    )
    rows, segments, size = total
    echo(form("total", "", rows, segments, f"{size:,}"))


@cache_app.command(epilog="Example: fade cache verify")
def verify(
    store: StorePlace = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Remove damaged segments from the index, and receipts whose rows are gone.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Read everything in the feature store back, and account for every row; nothing is changed."""
    from dataclasses import asdict

    from cache.maintenance import open_store, undescribed, withdraw_damaged
    from cache.maintenance import verify as verify_space
    from cache.store import Store
    from pipeline.artefacts.receipts import discard_receipts, lost_rows

    try:
        opened = open_store(_store_root(store))
    except StoreError:
        # a store that was deleted: receipts of its rows keep `fade run` from computing them anew
        opened = Store(_store_root(store))
        if not (_is_ours(opened) and lost_rows(opened, damaged={})):
            raise
    checks = []
    for space in opened.spaces():
        check = verify_space(opened, space)
        checks.append(check)
        if not as_json:
            _echo_check(check)
    orphans = undescribed(opened)
    ours = _is_ours(opened)
    known = {check.fingerprint: check.damaged for check in checks}
    lost = lost_rows(opened, damaged=known) if ours else []
    if repair:
        withdraw_damaged(opened, checks)
        if ours:
            discard_receipts(opened)
    if as_json:
        write_json(
            {
                "spaces": [
                    {
                        **asdict(check),
                        "damaged": list(check.damaged.values()),
                        "strange": check.unrecognized,  # as it was called before
                    }
                    for check in checks
                ],
                "nameless": orphans,
                "lost": [{"receipt": str(path), "reason": line} for path, line in lost],
                "repaired": repair,
            }
        )
    else:
        for name in orphans:
            echo(f"spaces/{name}: its space.json is gone or damaged, nobody reads its rows")
        for path, line in lost:
            echo(f"lost: {path}: {line}")
    damaged = sum(len(check.damaged) for check in checks)
    lost_ones = counted(len(lost), "receipt")
    found = f"{counted(damaged, 'damaged segment')}, {lost_ones} with rows that are gone"
    if repair and not as_json:
        echo(
            f"repaired: {found}: the segments were removed from the index and the receipts deleted; "
            "`fade run` computes what is needed again"
            if damaged or lost
            else "nothing to repair"
        )
    elif (damaged or lost) and not repair:
        raise StoreError(
            f"{found}: `fade cache verify --repair` removes them, then `fade run` computes what is "
            "needed again"
        )


def _echo_check(check: SpaceCheck) -> None:
    copies = f", and {counted(check.copies, 'copy')} of them" if check.copies else ""
    rows = counted(check.rows, "row", "is")
    echo_aside(f"{check.label} ({check.fingerprint[:8]}): {rows} sound{copies}")
    for line in check.damaged.values():
        echo_aside(f"damaged: {line}")
    for segment in check.unpublished:
        echo_aside(f"no index entry: segments/{segment} (of a killed or a running writer)")
    for name in check.unrecognized:
        echo_aside(f"publishes nothing: index/{name} (cut short, or no index entry)")


@cache_app.command("copy", epilog="Example: fade cache copy .fade/store s3://bucket/store")
def copy_rows(
    source: Annotated[str, typer.Argument(help="Folder or URL of the store to copy from.")],
    target: Annotated[str, typer.Argument(help="Folder or URL of the store to copy into.")],
    as_json: Json = False,
) -> None:
    """Copy what one feature store lacks from another one."""
    from dataclasses import asdict

    from cache.maintenance import copy, open_store
    from cache.store import Store

    copied = []
    for space in copy(open_store(_place(source)), Store(_place(target))):
        copied.append(space)
        if not as_json:
            echo_aside(
                f"{space.label} ({space.fingerprint[:8]}): {counted(space.rows, 'row')}, "
                f"{space.bytes:,} bytes"
            )
    if as_json:
        write_json([asdict(space) for space in copied])


@cache_app.command(epilog="Example: fade cache prune --dry-run")
def prune(
    store: StorePlace = None,
    unused: Annotated[
        bool, typer.Option("--unused", help="Also rows that this project's results do not need.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is younger than a day: only if nothing runs.")
    ] = False,
    keep: Annotated[
        list[Path] | None,
        typer.Option(
            "--keep", help="With --unused: another project that shares the store; may be repeated."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Delete leftovers of killed runs, and duplicates."""
    from cache.maintenance import open_store
    from cache.pruning import find_removable, remove
    from pipeline.artefacts.receipts import discard_receipts, needed_rows

    opened = open_store(_store_root(store))
    needed = needed_rows([Path(), *(keep or ())]) if unused else None
    removals = find_removable(opened, needed=needed, everything=everything)
    groups: dict[tuple[str, str], list[int]] = {}
    for removal in removals:
        groups.setdefault((removal.label, removal.reason), []).append(removal.bytes)
    total = sum(removal.bytes for removal in removals)
    receipts: list[Path] = []
    if not dry_run:
        remove(opened, removals)
        receipts = discard_receipts(opened) if _is_ours(opened) else []
    if as_json:
        write_json(
            {
                "dry_run": dry_run,
                "bytes": total,
                "removals": [
                    {"label": label, "reason": reason, "segments": len(sizes), "bytes": sum(sizes)}
                    for (label, reason), sizes in sorted(groups.items())
                ],
                "receipts": list(map(str, receipts)),
            }
        )
        return
    for (label, reason), sizes in sorted(groups.items()):
        echo(f"{label}: {len(sizes)} {reason}, {sum(sizes):,} bytes")
    if dry_run:
        echo(f"{total:,} bytes would be freed")
        return
    for receipt in receipts:
        echo(f"{receipt} deleted: rows of it are gone, `fade run` computes them anew")
    echo(f"{total:,} bytes freed")
