#!/usr/bin/python
"""Install Debian packages with apt-get alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_get
short_description: Install Debian packages with apt-get alone
description:
  - Installs packages that are missing, without what they only recommend, and fetches the lists only then.
  - M(ansible.builtin.apt) needs python3-apt on the target, which brings the distribution's own Python into an
    image that has another one. This needs nothing but apt-get and dpkg-query.
options:
  name:
    description: Packages to install.
    type: list
    elements: str
    default: []
  upgrade:
    description: Whether packages that are installed are brought to the newest version of the sources, too.
    type: bool
    default: false
  commands:
    description: >-
      Commands to have, each with the packages that bring it in one release or another. Where the command is
      missing, the first of these packages that the release has is installed.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Fetches nothing. Says that packages would be installed when some are missing.
"""

EXAMPLES = r"""
- name: Packages and a docker client
  apt_get:
    name: [curl, git]
    commands:
      docker: [docker-cli, docker.io]
"""

RETURN = r"""
installed:
  description: What was asked of apt-get, in addition to what was there.
  returned: always
  type: list
  elements: str
"""

import os
import re
import shutil
import time

from ansible.module_utils.basic import AnsibleModule

# A machine that has just booted upgrades itself, and keeps dpkg for a while.
LOCK_SECONDS = 300
WAIT = ("-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}")
CANDIDATE = re.compile(r"^(\S+):\n.*\n  Candidate: (?!\(none\))", re.MULTILINE)


def first_available(packages: list[str], policy: str) -> str | None:
    """Return the first of the packages that has a candidate in the output of ``apt-cache policy``."""
    available = set(CANDIDATE.findall(policy))
    return next((package for package in packages if package in available), None)


def complaints(stderr: str) -> str:
    """Return what apt complains of, on one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    return " ".join(dict.fromkeys(lines)) or stderr.strip() or "no reason given"


def missing_packages(module: AnsibleModule) -> list[str]:
    """Return those of the wanted packages that are not installed, in the order of the wish."""
    if not module.params["name"]:
        return []
    _, out, _ = module.run_command(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *module.params["name"]]
    )
    installed = {line.split()[0] for line in out.splitlines() if line.endswith(" installed")}
    return [name for name in module.params["name"] if name not in installed]


def read_sources(module: AnsibleModule) -> tuple[int, str]:
    """Fetch the lists; return apt's exit code and what it said. apt itself waits for no other apt here."""
    last = time.monotonic() + LOCK_SECONDS
    while True:
        status, _, stderr = module.run_command(
            ["apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any"]
        )
        if status == 0 or "Could not get lock" not in stderr or time.monotonic() > last:
            return status, stderr
        time.sleep(2)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "default": []},
            "upgrade": {"type": "bool", "default": False},
            "commands": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    # The locale, so that apt's output can be read; the rest of the environment, since APT_CONFIG is in it.
    os.environ.update(LC_ALL="C", DEBIAN_FRONTEND="noninteractive")
    packages = module.params["name"] if module.params["upgrade"] else missing_packages(module)
    commands = {
        name: choices for name, choices in module.params["commands"].items() if not shutil.which(name)
    }
    if not packages and not commands:
        module.exit_json(changed=False, installed=[])
    if module.check_mode:
        module.exit_json(changed=True, installed=packages + [choices[0] for choices in commands.values()])

    status, stderr = read_sources(module)
    if status != 0:
        module.fail_json(
            msg=f"apt could not read its sources: {complaints(stderr)} For an image, set "
            "codex_workspace_build_apt_mirror to a mirror that answers; on a host, correct /etc/apt. "
            "If it is NodeSource's, codex_workspace_nodejs_source=npm does without."
        )
    for name, choices in commands.items():
        _, policy, _ = module.run_command(["apt-cache", "policy", *choices])
        package = first_available(choices, policy)
        if package:
            packages.append(package)
        else:
            module.fail_json(
                msg=f"No package of this release brings {name!r}: asked for {', '.join(choices)}."
            )
    status, out, stderr = module.run_command(
        ["apt-get", "install", "-q", "-y", *WAIT, "--no-install-recommends", *packages]
    )
    if status != 0:
        module.fail_json(
            msg=f"apt-get did not install {' '.join(packages)}: {complaints(stderr)}", stdout=out
        )
    module.exit_json(changed=True, installed=packages)


if __name__ == "__main__":
    main()
