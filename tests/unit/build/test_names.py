"""Names of images, and what an engine says of registries, are read as Docker means them."""

from __future__ import annotations

import re

import jinja2
import pytest
import yaml

from support.plugins import ROOT

VARIABLES = yaml.safe_load((ROOT / "inventory/group_vars/all.yml").read_text())
NAME = re.compile(jinja2.Template(VARIABLES["_codex_workspace_name"]).render(VARIABLES))
UNREACHABLE = re.compile(VARIABLES["_codex_workspace_unreachable"])


@pytest.mark.parametrize(
    "name",
    [
        *("a", "codex-workspace", "a__b", "a--b", "a.b", "a_b", "a---b", "team/image", "1/2/3"),
        *("host:5000/a/b", "localhost/a", "localhost:5000/a", "registry.example/a__b/c--d"),
        *("Registry.example/a", "[::1]:5000/a", "my-host:5000/a"),
    ],
)
def test_a_name_that_docker_takes_is_taken(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "x:dev",
            "Upper/case",
            "Upper",
            "a/Upper",
            "a___b",
            "a..b",
            "a._b",
            "-a",
            "a-",
            "_a",
            "a_",
            "a/",
        ),
        *("/a", "a//b", "a b", "a\n", "host:5000", "a@sha256:0", "https://host/a", "host:port/a", "a:1/b:2"),
        *(".a", "é", "a/b:tag", "user@host/a"),
    ],
)
def test_a_name_that_docker_refuses_or_that_has_a_tag_is_refused(name: str) -> None:
    assert not NAME.fullmatch(name)


@pytest.mark.parametrize(
    "said",
    [
        'Get "https://r.example/v2/": dial tcp: lookup r.example: no such host',
        'Get "https://r.example/v2/": dial tcp: lookup r.example on 10.0.0.1:53: server misbehaving',
        'Get "https://r.example/v2/": net/http: TLS handshake timeout',
        'Get "https://r.example/v2/": context deadline exceeded (Timeout exceeded)',
        'Get "https://r.example/v2/": net/http: request canceled while waiting for connection',
        'Get "https://r.example/v2/": read tcp 10.0.0.2:5->10.0.0.3:443: read: connection reset by peer',
        'Get "https://r.example/v2/": read tcp 10.0.0.2:5->10.0.0.3:443: read: connection timed out',
        'Get "https://r.example/v2/": write: broken pipe',
        'Get "https://r.example/v2/": EOF',
        "received unexpected HTTP status: 503 Service Unavailable",
        "error parsing HTTP 502 response body: invalid character '<' looking for beginning of value",
        "unexpected status from HEAD request to https://r.example/v2/a: 500 Internal Server Error",
        'Get "https://r.example/v2/": proxyconnect tcp: dial tcp 127.0.0.1:9: connect: connection refused',
        'Get "https://r.example/v2/": x509: certificate signed by unknown authority',
        "failed to do request: dial tcp 10.0.0.3:443: connect: network is unreachable",
    ],
)
def test_a_registry_that_does_not_answer_as_itself_is_not_reached(said: str) -> None:
    assert UNREACHABLE.search(said)


@pytest.mark.parametrize(
    "said",
    [
        "manifest for r.example:5000/a:1 not found: manifest unknown: manifest unknown",
        "pull access denied for a, repository does not exist or may require 'docker login'",
        "unauthorized: authentication required",
        "denied: requested access to the resource is denied",
        "toomanyrequests: You have reached your pull rate limit.",
        "received unexpected HTTP status: 403 Forbidden",
        "manifest verification failed for digest sha256:5020",
        "no matching manifest for linux/amd64 in the manifest list entries",
    ],
)
def test_a_registry_that_says_no_is_reached(said: str) -> None:
    assert not UNREACHABLE.search(said)
