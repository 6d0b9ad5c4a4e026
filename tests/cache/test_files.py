"""Files below a folder, in memory and in a bucket behave alike; URLs are checked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import cache.objects
from cache.files import Files, LocalFiles, reason
from cache.location import open_files
from fade.errors import ParameterError
from tests.objectstore import SECRET, Bucket, Fault, always


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    if request.param == "s3":
        yield open_files(request.getfixturevalue("bucket").url + "/pre fix/ä")
    else:
        place: Path | str = tmp_path / "deep" / "folder"
        if request.param == "file":
            place = f"file://{place}"
        elif request.param == "memory":
            cache.objects._client.cache_clear()
            place = "memory://test"
        yield open_files(place)


NAMES = ("a", "b/c", "b/d e", "b/ü/x", "bb/#1%20[2]?.png")


def test_what_was_written_is_read(files: Files) -> None:
    for name in NAMES:
        files.write(name, name.encode())
    again = open_files(files.location)
    for name in NAMES:
        assert again.read(name, 100) == name.encode()
        assert again.exists(name)
    files.write("a", memoryview(b"other"))
    assert again.read("a", 5) == b"other"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        again.read("a", 4)


def test_what_is_not_there(files: Files) -> None:
    files.write("a/b", b"x")
    for name in ("b", "a/c", "a"):
        assert not files.exists(name)
    for name in ("b", "a/c"):
        with pytest.raises(FileNotFoundError) as error:
            files.read(name, 9)
        assert error.value.errno
        with pytest.raises(FileNotFoundError):
            files.read_into(name, [(0, memoryview(bytearray(2)))])
    assert list(files.sizes("a", ["b", "c", "b/c"])) == [1, -1, -1]
    assert files.names("none") == ([], [])
    assert list(files.list("none")) == []
    files.delete(["none", "none/x"])


def test_parts_are_read(files: Files) -> None:
    data = bytes(range(256)) * 10
    files.write("a", data)
    buffers = [bytearray(n) for n in (3, 1, 500)]
    pieces = [(offset, memoryview(b)) for offset, b in zip((2559 - 3, 0, 7), buffers, strict=True)]
    files.read_into("a", pieces)
    for (offset, _), buffer in zip(pieces, buffers, strict=True):
        assert bytes(buffer) == data[offset : offset + len(buffer)]
    for offset in (2559, 2560, 9999):
        with pytest.raises(ValueError, match="cut short"):
            files.read_into("a", [(offset, memoryview(bytearray(2)))])


def test_folders_are_listed(files: Files) -> None:
    for name in reversed(NAMES):
        files.write(name, name.encode())
    assert files.names("") == (["a"], ["b", "bb"])
    assert files.names("b") == (["c", "d e"], ["ü"])
    assert sorted(f.name for f in files.list("")) == sorted(NAMES)
    found = list(files.list("b"))
    assert {file.name: file.bytes for file in found} == {n: len(n.encode()) for n in NAMES[1:4]}
    assert all(abs(file.changed - os.stat(__file__).st_atime) < 10**9 for file in found)


def test_what_was_deleted_is_gone(files: Files) -> None:
    for name in NAMES:
        files.write(name, b"x")
    files.delete(["b/c", "b/ü/x", "b/c"])
    assert sorted(file.name for file in files.list("")) == ["a", "b/d e", "bb/#1%20[2]?.png"]
    files.delete(NAMES)
    assert list(files.list("")) == []
    files.write("b/c", b"x")
    assert files.names("b") == (["c"], [])


def test_calls_keep_their_order(files: Files) -> None:
    assert list(files.map(lambda n: n * n, range(50))) == [n * n for n in range(50)]

    def fail(n: int) -> int:
        raise KeyError(n)

    with pytest.raises(KeyError, match="3"):
        list(files.map(fail, [3, 4]))


def test_pages_of_a_listing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    monkeypatch.setattr(cache.objects, "PAGE", 10)
    files = open_files(f"{bucket.url}/x")
    names = [f"n/{n:02}" for n in range(35)]
    list(files.map(lambda name: files.write(name, b""), names))
    bucket.proxy.seen.clear()
    assert [file.name for file in files.list("n")] == names
    assert len(bucket.proxy.seen) == 4
    assert len(files.names("n").files) == 35
    lost: Iterator[Fault] = iter([None, "cut answer", None, "cut answer"])
    bucket.proxy.faults = lambda method, path: next(lost, None)
    assert [file.name for file in files.list("n")] == names
    assert next(lost, 0) == 0
    monkeypatch.setattr(cache.objects, "DELETE", 20)
    files.delete(names)
    assert bucket.names() == []


def test_neighbours_take_one_request(bucket: Bucket) -> None:
    files = open_files(f"{bucket.url}/x")
    files.write("a", bytes(4 << 20))
    bucket.proxy.seen.clear()
    files.read_into("a", [(n * 9000, memoryview(bytearray(4000))) for n in range(40)])
    assert len(bucket.proxy.seen) == 1


def test_a_kill_leaves_an_empty_folder_that_can_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "a" / "c" / "0").mkdir(parents=True)
    files = LocalFiles(tmp_path)
    (found,) = files.list("")
    assert found.name == "a/c/0/"
    files.delete([found.name])
    assert not list(tmp_path.iterdir())


# URLs and credentials


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("ftp://host/x", "starts with none of s3://"), ("https://b/x", "starts with none of"),
        ("s3:///x", "names no bucket"), ("s3://", "names no bucket"), ("gs://", "names no bucket"),
        ("file://host/x", "is not file:///path"), ("file:///", "is not file:///path"),
        ("s3://b/../x", "has .. in it"), ("s3://b/%2e%2e/x", "has .. in it"),
        ("s3://[x/y", "is s3://bucket/prefix"),
    ],
)  # fmt: skip
def test_bad_urls_are_refused(url: str, line: str) -> None:
    with pytest.raises(ParameterError, match=line):
        open_files(url)


@pytest.mark.parametrize(
    "url",
    [f"s3://key:{SECRET}@b/x", f"s3://{SECRET}@b", f"az://c/x?sig={SECRET}", f"s3://b/x?{SECRET}",
     f"s3://b/x#{SECRET}"],
)  # fmt: skip
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ParameterError, match="without user, password") as error:
        open_files(url)
    assert SECRET not in str(error.value)


def refusal(files: Files) -> str:
    with pytest.raises(OSError, match=r".") as error:
        files.read("a", 9)
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)
    return reason(error.value)


def test_no_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    files = open_files(bucket.url)
    assert refusal(files).startswith("no credentials: set AWS_ACCESS_KEY_ID and")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert refusal(files).startswith("no credentials (ProfileNotFound): set AWS_ACCESS_KEY_ID")
    (tmp_path / "keys").write_text(
        f"[nobody]\naws_access_key_id = x\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    files.write("a", b"from a profile")
    assert files.read("a", 99) == b"from a profile"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half")
    cache.objects._client.cache_clear()
    assert refusal(files).startswith("no credentials: set AWS_ACCESS_KEY_ID and")


@pytest.mark.parametrize(
    ("status", "line"),
    [(403, "access denied (403)"), (401, "access denied (401)"), (501, "error 501"),
     (503, "error 503, after 4 retries"), (429, "error 429, after 4 retries"),
     ("cut request", "no connection to the server, after 4 retries"),
     ("cut answer", "no connection to the server")],
)  # fmt: skip
def test_refusals_are_lines(bucket: Bucket, status: Fault, line: str) -> None:
    files = open_files(bucket.url)
    files.write("a", b"xyz")
    bucket.proxy.faults = always(status)
    assert line in refusal(files)


def test_no_server_and_no_bucket(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no bucket none: make it" in refusal(open_files("s3://none/x"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    cache.objects._client.cache_clear()
    assert "no connection to the server, after 4 retries" in refusal(open_files(bucket.url))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ParameterError, match=r"pip install 'fade-pipeline\[cloud\]'"):
        open_files("gs://bucket/x")


def test_folders_that_others_delete_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `fade cache prune` deletes empty folders while a run begins to write into them."""
    mkdir = os.mkdir
    deleted: list[Path] = []

    def and_delete(path: Path, mode: int = 0o777) -> None:
        mkdir(path, mode)
        if len(deleted) < 5:
            os.rmdir(path)
            deleted.append(path)

    monkeypatch.setattr(os, "mkdir", and_delete)
    LocalFiles(tmp_path).write("spaces/one/index/entry.json", b"{}")
    assert (tmp_path / "spaces/one/index/entry.json").read_bytes() == b"{}"
    assert len(deleted) == 5


def test_a_file_where_a_folder_must_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "spaces").touch()
    with pytest.raises(OSError, match="spaces"):
        LocalFiles(tmp_path).write("spaces/one", b"")
