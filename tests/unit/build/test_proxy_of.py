"""The proxy of an address is the one that clients with exceptions would take."""

from __future__ import annotations

import pytest

from support.plugins import load

proxy_of = load("plugins/lookup/proxy_of.py")

PROXIES = {
    "http_proxy": "http://plain:3128",
    "https_proxy": "http://user:s3cret@tls:3128",
    "no_proxy": "localhost, .inside.example,10.0.0.7",
}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://index.example/simple", "http://plain:3128"),
        ("https://index.example/simple", "http://user:s3cret@tls:3128"),
        ("https://user:pw@index.example:8443/simple", "http://user:s3cret@tls:3128"),
        ("https://localhost:8443/simple", ""),
        ("https://user:pw@mirror.inside.example/simple", ""),
        ("http://10.0.0.7:8080/simple", ""),
        ("https://notinside.example/simple", "http://user:s3cret@tls:3128"),
    ],
)
def test_an_address_has_the_proxy_of_its_scheme_unless_it_is_an_exception(url: str, expected: str) -> None:
    assert proxy_of.proxy_of(url, PROXIES) == expected


def test_a_proxy_for_all_is_taken_where_the_scheme_has_none() -> None:
    proxies = {"http_proxy": "http://plain", "all_proxy": "http://all"}
    urls = ["http://index.example", "https://index.example"]
    assert proxy_of.LookupModule().run(urls, proxies=proxies) == ["http://plain", "http://all"]


def test_without_proxies_or_with_an_exception_for_everything_there_is_none() -> None:
    assert proxy_of.proxy_of("https://index.example", {}) == ""
    assert proxy_of.proxy_of("https://index.example", {**PROXIES, "no_proxy": "*"}) == ""
