"""Files appear whole, whoever writes, fails or dies meanwhile; pipes are not waited for."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from fade import files
from fade.files import atomic_write, open_plain, read_plain, read_text, write_file
from tests.projects import ROOT


def test_nobody_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    with atomic_write(path) as part:
        part.write_bytes(b"half")
        assert not path.exists()
        assert part.parent == path.parent
    assert path.read_bytes() == b"half"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as part:
        part.write_bytes(b"%d" % (1 // 0))
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


def test_several_writers_of_one_name(tmp_path: Path) -> None:
    """In one process and in several: the last one's file stays, and it is whole."""
    path = tmp_path / "a"
    contents = {bytes([number]) * 100_000 for number in range(8)}
    threads = [threading.Thread(target=write_file, args=(path, c)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    with atomic_write(path) as part:
        part.write_bytes(b"last")
        code = f"from fade.files import *; write_file(Path({str(path)!r}), b'first')"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"last"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_writers_go(tmp_path: Path) -> None:
    code = (
        "import os, signal; from fade.files import *\n"
        f"with atomic_write(Path({str(tmp_path / 'weights')!r})) as part:\n"
        "    part.write_bytes(b'x'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    (left,) = tmp_path.iterdir()
    host, process, end = left.name.removeprefix(".weights.").split("-")
    living = tmp_path / f".a.{host}-{os.getppid()}-{end}"
    elsewhere = tmp_path / f".a.{'0' * 8}-{process}-{end}"
    stale = tmp_path / f".b.{'0' * 8}-{process}-{end}"
    own = tmp_path / f".a.{process}.part"
    for file in (living, elsewhere, stale, own):
        file.touch()
    os.utime(stale, (time.time() - 2 * files._DAY,) * 2)
    write_file(tmp_path / "other", "x")
    assert set(tmp_path.iterdir()) == {tmp_path / "other", living, elsewhere, own}


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 127)
    write_file(path, "x")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device"])
def test_what_is_no_plain_file_is_neither_read_nor_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "device":
        path = Path("/dev/null")
    else:
        os.mkfifo(path)
    if kind.startswith("link"):
        path.with_name("link").symlink_to(path)
        path = path.with_name("link")
    for touch in (open_plain, read_plain, read_text, lambda file: write_file(file, "x")):
        with pytest.raises(OSError, match="no plain file") as caught:
            touch(path)
        assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="directory"):
        read_plain(tmp_path)


def test_folders_are_not_replaced_and_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory") as caught:
        write_file(tmp_path / "a", "x")
    assert caught.value.filename == str(tmp_path / "a")
    assert not [path for path in tmp_path.iterdir() if path.name != "a"]


@pytest.mark.parametrize(
    ("free", "number", "words"),
    [(0, errno.ENOSPC, "No space left on device"), (9, errno.EIO, "12 requested and 4 written")],
)
def test_errors_without_a_number_keep_their_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, number: int, words: str
) -> None:
    """NumPy's of a short write; with a file's name Python shows nothing but [Errno None] None."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    path = tmp_path / "map.tiff"

    def write() -> None:
        with atomic_write(path) as part:
            part.write_bytes(b"half")
            raise OSError("12 requested and 4 written")

    with pytest.raises(OSError, match=words) as caught:
        write()
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert not list(tmp_path.iterdir())


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    write_file(tmp_path / "a", "four")
    tracemalloc.start()
    try:
        assert read_plain(tmp_path / "a") == b"four"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "a", "twelve bytes")
    known = os.stat_result([stat.S_IFREG, *[0] * 5, 3, *[0] * 3])
    monkeypatch.setattr(files.os, "fstat", lambda _: known)
    assert read_plain(tmp_path / "a") == b"twelve bytes"
    assert read_plain(tmp_path / "a", most=7) == b"twelve "


def test_endless_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)
    with pytest.raises(OSError, match=r"4,294,967,297 bytes, at most 4,294,967,296 are read"):
        read_plain(tmp_path / "sparse")
