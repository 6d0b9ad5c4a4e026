"""Who may ask: names of this server, pages of this server, and the token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie

from fade.errors import ParameterError

COOKIE = "fade_session"
MIN_TOKEN = 16
"""Characters of a token at least."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str | None:
    """The name or address in a Host header, without its port; None if it is none.

    >>> host_name("localhost:8000"), host_name("[::1]:80"), host_name("a b")
    ('localhost', '::1', None)
    """
    if header.startswith("["):
        name, closed, port = header[1:].partition("]")
        port = port.removeprefix(":") if not port or port.startswith(":") else "x"
        if not closed or ("." in name and ":" not in name):
            return None
    else:
        name, _, port = header.partition(":")
    if not name or (port and not port.isdecimal()):
        return None
    allowed = name.replace("-", "").replace(".", "").replace(":", "").replace("_", "")
    return name.lower().removesuffix(".") if allowed.isalnum() and allowed.isascii() else None


class Access:
    """Decides whether a request comes from somebody who may ask.

    A web page elsewhere could lead its own name to this machine (DNS rebinding): requests must name
    this server by an address or by one of its names. It could send forms: requests that say where they
    come from must come from a page of this server.

    Args:
        host: that the server listens on.
        token: that requests must bring; None where everyone on this machine may ask.
        names: further names of this server, as a proxy in front of it has.

    Raises:
        ParameterError: another machine reaches the address, and there is no token; or it is too short.
    """

    def __init__(self, host: str, token: str | None = None, names: Iterable[str] = ()) -> None:
        if token is None and not is_loopback(host):
            raise ParameterError(
                f"--host {host} can be reached from other machines: give --token, a secret of "
                f"{MIN_TOKEN} characters or more that clients must know"
            )
        if token is not None and (
            len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token
        ):
            raise ParameterError(
                f"--token must have {MIN_TOKEN} ASCII characters or more, and no spaces"
            )
        self._token = token
        self._key = secrets.token_bytes(32)
        own = {"localhost", host.lower(), *(name.lower() for name in names)}
        if not is_loopback(host):
            own |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self._names = own

    @property
    def needs_token(self) -> bool:
        """Whether requests must bring a token."""
        return self._token is not None

    def knows_host(self, header: str | None) -> bool:
        """Whether a Host header names this server. An address always does: no page can rebind it."""
        name = None if header is None else host_name(header)
        if name is None:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def same_site(self, origin: str | None, host: str, fetch_site: str | None) -> bool:
        """Whether a request that says where it comes from comes from a page of this server."""
        if origin is not None:
            scheme, found, place = origin.partition("://")
            return bool(found) and scheme in ("http", "https") and place.lower() == host.lower()
        return fetch_site in (None, "same-origin", "none")

    def is_token(self, given: str) -> bool:
        """Whether a token is the right one, in a time that does not tell how much of it is."""
        known = self._token or ""
        return hmac.compare_digest(_digest(given), _digest(known)) and self.needs_token

    def session(self) -> str:
        """The value of the cookie of somebody who brought the token. It ends with the server."""
        return hmac.new(self._key, (self._token or "").encode(), hashlib.sha256).hexdigest()

    def admits(self, authorization: str | None, cookie: str | None) -> bool:
        """Whether a request brings the token, or the cookie of somebody who did."""
        if not self.needs_token:
            return True
        kind, _, given = (authorization or "").partition(" ")
        if kind.lower() == "bearer":
            return self.is_token(given.strip())
        try:
            found = SimpleCookie(cookie or "").get(COOKIE)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(
            _digest(found.value), _digest(self.session())
        )


def _digest(text: str) -> bytes:
    """Texts of one length to compare, whatever characters they have."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
