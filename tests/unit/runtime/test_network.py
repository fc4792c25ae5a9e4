"""The way out: which proxy an address has, whom to trust, and what is said about what cannot be used."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from molecule_runtime.network import NetworkError, client_options, header_value, proxy_for

if TYPE_CHECKING:
    from pathlib import Path

PROXY = "http://proxy.example:3128"


def through(url: str, **env: str) -> str | None:
    proxy = proxy_for(url, env)
    return None if proxy is None else str(proxy.url)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_each_spelling_of_a_proxy_counts(name: str) -> None:
    assert through("http://platform.example:8080", **{name: PROXY}) == PROXY
    assert through("http://platform.example:8080", **{name: "proxy.example:3128"}) == PROXY
    assert through("https://platform.example", **{name: PROXY}) == (PROXY if "ll" in name.lower() else None)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1:8080", "localhost:1", "[::1]:8080", "[0:0:0:0:0:0:0:1]", "LOCALHOST"]
)
def test_loopback_never_goes_through_a_proxy(host: str) -> None:
    assert through(f"http://{host}/x", HTTP_PROXY=PROXY, ALL_PROXY=PROXY) is None


@pytest.mark.parametrize(
    ("url", "no_proxy", "is_direct"),
    [
        ("http://platform.example", "platform.example", True),
        ("http://api.platform.example", " a.example , .platform.example", True),
        ("http://api.platform.example", "*.platform.example", True),
        ("http://otherplatform.example", "platform.example", False),
        ("http://platform.example", "*", True),
        ("http://platform.example:8080", "platform.example:8080", True),
        ("http://platform.example:8080", "platform.example:80", False),
        ("https://platform.example", "platform.example:443", True),
        ("http://10.1.2.3:8080", "10.0.0.0/8", True),
        ("http://10.1.2.3:8080", "[::1],10.1.2.3", True),
        ("http://11.1.2.3:8080", "10.0.0.0/8", False),
        ("http://[fd00::5]:8080", "fd00::/8", True),
        ("http://[fd00::5]:8080", "[fd00::5]", True),
        ("http://[fd00::5]:8080", "[fd00::5]:8080", True),
        ("http://[fd00::5]:8080", "[fd00::5]:81", False),
        ("http://platform.example", "[::1],fe80::%eth0/99,a:b:c,//,http://x,[", False),
        ("http://platform.example", ",, ,", False),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_exceptions_are_names_addresses_and_networks(
    url: str, no_proxy: str, is_direct: bool, name: str
) -> None:
    assert through(url, HTTP_PROXY=PROXY, HTTPS_PROXY=PROXY, **{name: no_proxy}) == (
        None if is_direct else PROXY
    )


@pytest.mark.parametrize(
    ("url", "env", "words"),
    [
        ("http://h:80a", {}, "'http://h:80a' is no address"),
        ("http://[::1", {}, "is no address"),
        ("http://user:pw-secret@h:80a", {}, "'http://h:80a' is no address"),
        ("http://h\udcff", {}, "is no address"),
        ("http://h", {"ALL_PROXY": "socks5://user:pw-secret@h:1"}, "ALL_PROXY is a SOCKS proxy"),
        ("http://h", {"http_proxy": "http://user:pw-secret@h:80a"}, "http_proxy is no address of a proxy"),
        ("https://h", {"HTTPS_PROXY": "ftp://h"}, "HTTPS_PROXY is no address of a proxy"),
        ("https://h", {"HTTPS_PROXY": "http://"}, "HTTPS_PROXY names no host"),
        ("https://h", {"SSL_CERT_FILE": "/nonexistent.pem"}, "SSL_CERT_FILE cannot be used (No such file"),
        ("https://h", {"SSL_CERT_FILE": "/dev/null"}, "SSL_CERT_FILE cannot be used"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_that_names_it(
    url: str, env: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.network.find_spec", lambda _: None)
    with pytest.raises(NetworkError) as caught:
        client_options(url, env)
    assert words in str(caught.value)
    assert "pw-secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_proxy_for_others_is_no_matter() -> None:
    assert through("https://h", HTTP_PROXY="http://h:80a", ALL_PROXY="socks5://h", NO_PROXY="h") is None


@pytest.mark.anyio
async def test_a_client_is_made_of_the_authorities_that_are_named(tmp_path: Path) -> None:
    assert client_options("https://h", {})["verify"] is True
    (tmp_path / "more").mkdir()
    context = client_options("https://h", {"SSL_CERT_DIR": f"/etc/ssl/certs:{tmp_path}/more"})["verify"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    await httpx.AsyncClient(**client_options("https://h", {"HTTPS_PROXY": PROXY})).aclose()


@pytest.mark.parametrize("text", ["\u0142", "\u00e9", "a\nb", "a\x00", "a\x7f", "\udcff"])
def test_what_no_header_can_hold_is_refused_by_name(text: str) -> None:
    with pytest.raises(NetworkError, match=r"^NAME has characters that cannot go into a header"):
        header_value(text, "NAME")


def test_line_ends_are_no_part_of_a_header() -> None:
    assert header_value("org-1\r\n", "NAME") == "org-1"
