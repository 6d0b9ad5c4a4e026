"""Nothing is sent where it is refused, however libraries would send it."""

from __future__ import annotations

import socket
import threading
import urllib.request

import pytest

from fade.network import NoNetworkError, wanted_network, without_network
from tests.webserver import counting_server


def test_urls_and_hubs() -> None:
    from huggingface_hub import hf_hub_download

    with counting_server() as (url, calls):
        with without_network():
            for call in (
                lambda: urllib.request.urlopen(url),
                lambda: hf_hub_download("org/none", "config.json", endpoint=url),
            ):
                with pytest.raises(Exception, match=r"\w") as caught:
                    call()
                assert wanted_network(caught.value)
        assert not calls
        with pytest.raises(Exception, match="404") as caught:
            urllib.request.urlopen(url)
        assert not wanted_network(caught.value)
        with pytest.raises(Exception, match=r"\w"):
            hf_hub_download("org/none", "config.json", endpoint=url)
        assert len(calls) > 1


def test_names_are_not_looked_up_and_this_machine_is_free() -> None:
    with without_network():
        with pytest.raises(NoNetworkError):
            socket.getaddrinfo("localhost", 80)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out, pytest.raises(NoNetworkError):
            out.sendto(b"x", ("127.0.0.1", 9))
        one, other = socket.socketpair()
        one.send(b"x")
        assert other.recv(1) == b"x"
        one.close()
        other.close()
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.extend(socket.getaddrinfo("127.0.0.1", 80)))
        thread.start()
        thread.join()
        assert found  # other threads go on
    assert socket.getaddrinfo("127.0.0.1", 80)
