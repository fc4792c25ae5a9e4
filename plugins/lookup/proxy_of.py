"""Say through which proxy an address is reached, for package clients that know no exceptions themselves."""

from __future__ import annotations

DOCUMENTATION = r"""
name: proxy_of
short_description: The proxy that leads to an address
options:
  _terms:
    description: URLs.
    required: true
  proxies:
    description: >-
      The proxy variables by their names in lower case - C(http_proxy), C(https_proxy), C(all_proxy),
      C(no_proxy).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the proxy of an index
  ansible.builtin.debug:
    msg: "{{ lookup('proxy_of', 'https://index.example/simple', proxies={'all_proxy': 'http://proxy'}) }}"
"""

RETURN = r"""
_list:
  description: For each URL the address of its proxy; empty where it is reached without one.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed has it not

from ansible.plugins.lookup import LookupBase


def proxy_of(url: str, proxies: Mapping[str, str]) -> str:
    """Return the address of the proxy for a URL, or an empty string."""
    parts = urlsplit(url)
    if proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": proxies.get("no_proxy", "")}):
        return ""
    return proxies.get(f"{parts.scheme}_proxy") or proxies.get("all_proxy", "")


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the proxy of each URL."""
        return [proxy_of(str(term), kwargs["proxies"]) for term in terms]
