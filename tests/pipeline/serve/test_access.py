"""Who may ask the server."""

from __future__ import annotations

import socket

import pytest

from fade.errors import ParameterError
from pipeline.serve.access import COOKIE, Access, host_name, is_loopback

TOKEN = "a secret of enough length".replace(" ", "-")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8080", "localhost"), ("127.0.0.1", "127.0.0.1"), ("[::1]:80", "::1"),
        ("LINE3.factory.", "line3.factory"), ("[::1", None), ("a b", None), ("", None),
        ("localhost:x", None), ("[::1]x", None), ("evil.test/127.0.0.1", None), ("a@b", None),
    ],
)  # fmt: skip
def test_host_headers(header: str, name: str | None) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.0.7", False), ("line3", False)],
)  # fmt: skip
def test_other_machines_need_a_token(host: str, here: bool) -> None:
    assert is_loopback(host) == here
    if here:
        assert not Access(host).needs_token
    else:
        with pytest.raises(ParameterError, match="give --token"):
            Access(host)
    assert Access(host, TOKEN).needs_token


@pytest.mark.parametrize("token", ["short", "", "with spaces in it and long", "ünïcodeünïcodeünï"])
def test_weak_tokens_are_refused(token: str) -> None:
    with pytest.raises(ParameterError, match="16 ASCII characters"):
        Access("127.0.0.1", token)


def test_names_of_others_are_unknown() -> None:
    access = Access("127.0.0.1", names=["Line3.factory"])
    assert all(map(access.knows_host, ("localhost:1", "127.0.0.1:99", "[::1]", "line3.factory:80")))
    assert not any(
        map(access.knows_host, ("evil.test", "localhost.evil.test", "127.0.0.1.nip.io", None))
    )
    assert Access("0.0.0.0", TOKEN).knows_host(socket.gethostname())


def test_pages_of_others_are_kept_out() -> None:
    access = Access("127.0.0.1")
    assert access.same_site("http://127.0.0.1:8080", "127.0.0.1:8080", None)
    assert access.same_site(None, "127.0.0.1:8080", None)  # no browser
    assert not access.same_site("http://127.0.0.1:8081", "127.0.0.1:8080", None)
    assert not access.same_site("http://127.0.0.1:8080", "127.0.0.1:80", None)
    assert not access.same_site("ftp://127.0.0.1:8080", "127.0.0.1:8080", None)
    assert not access.same_site("null", "127.0.0.1:8080", None)
    assert not access.same_site(None, "127.0.0.1:8080", "cross-site")
    assert not access.same_site(None, "127.0.0.1:8080", "same-site")


def test_the_token_and_its_cookie_admit() -> None:
    access, other = Access("0.0.0.0", TOKEN), Access("0.0.0.0", TOKEN)
    assert access.admits(f"Bearer {TOKEN}", None)
    assert access.admits(f"bearer  {TOKEN}", None)
    assert not access.admits(f"Bearer {TOKEN}x", None)
    assert not access.admits(f"Basic {TOKEN}", None)
    assert not access.admits(None, None)
    assert access.admits(None, f"a=b; {COOKIE}={access.session()}")
    assert not access.admits(None, f"{COOKIE}={other.session()}")  # of another server
    assert not access.admits(None, f"{COOKIE}={TOKEN}")
    assert not Access("127.0.0.1").is_token("")
