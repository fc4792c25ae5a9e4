"""Check the types of settings against their description, and say in one sentence what is wrong."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.validation import check_type_bool
from ansible.plugins.action import ActionBase

NEEDED = {
    "str": "text is needed: quote it",
    "path": "a path is needed: quote it",
    "int": "an int (a whole number) is needed",
    "bool": "true or false is needed",
    "list": "a list is needed. With -e, give it as JSON: -e '{%s: [...]}'",
}


def canonical(value: Any, kind: str) -> Any:
    """Return the one form of a value, whichever way it was written: 20 as well as "20", true as well as yes.

    Args:
        value: A value of YAML, JSON or the command line.
        kind: The ``type`` of its description: str, path, int, bool, list or dict.

    Raises:
        ValueError: it is not of that type.
    """
    if kind in ("str", "path") and isinstance(value, str):
        return str(value)
    if kind == "str" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # a version that looks like a number
    if kind == "int" and isinstance(value, (int, str)) and not isinstance(value, bool):
        return int(value)
    if kind == "bool" and isinstance(value, (bool, int, str)):
        try:
            return check_type_bool(value)
        except TypeError as error:
            raise ValueError(str(error)) from error
    if kind == "list" and isinstance(value, list):
        return [canonical(element, "str") for element in value]
    if kind == "dict":
        return value  # the preflight's rules speak of these
    raise ValueError(kind)


def complaint(name: str, value: Any, option: dict[str, Any]) -> str:
    """Return what is wrong with a value, in one sentence; empty where nothing is."""
    kind = option["type"]
    needed = NEEDED.get(kind, "").replace("%s", json.dumps(name))
    try:
        form = canonical(value, kind)
    except ValueError:
        # A mapping or a list may hold anything, secrets too, and is long.
        shown = json.dumps(value) if isinstance(value, (str, int, float, bool)) else ""
        shown = shown or ("empty (null)" if value is None else f"a {type(value).__name__.lower()}")
        return f"{name} is {shown.replace('_ansibletagged', '')}, and {needed}."
    if form not in option.get("choices", [form]):
        return f"{name} is {json.dumps(form)}. Allowed are {' and '.join(option['choices'])}."
    return ""


class ActionModule(ActionBase):
    """Check settings.

    Arguments: ``options``, the descriptions by the names of the variables, as in meta/argument_specs.yml. One
    that is not set is passed over.

    Fails with one sentence for each value that is not of its type or not one of its choices.
    """

    _requires_connection = False
    _VALID_ARGS = frozenset(("options",))
    canonical = staticmethod(canonical)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check all of them."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = task_vars or {}
        options = self._task.args["options"].items()
        found = [
            complaint(name, self._templar.template(given[name]), option)
            for name, option in options
            if name in given
        ]
        if any(found):
            raise AnsibleActionFail(" ".join(filter(None, found)))
        result["changed"] = False
        return result
