"""What the controller's package clients are configured with is found where they look for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.plugins import load

if TYPE_CHECKING:
    from pathlib import Path

config = load("plugins/lookup/client_config.py")

DEBIAN = 'ID=debian\nVERSION_CODENAME=bookworm\nVERSION_ID="12"\n'
UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\nVERSION_ID="24.04"\n'
DEB822 = """\
# The archive
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
# a comment between the fields
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


class Machine:
    """A controller: its files below a root, its environment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {"HOME": str(root / "home")}

    def put(self, name: str, text: str) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = config.read(self.env, self.root)
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_that_is_configured_with_nothing_gives_no_address_at_all(machine: Machine) -> None:
    assert machine.read() == {
        "apt_mirror": "",
        "apt_security_mirror": "",
        "pip_index_url": "",
        "npm_registry": "",
        "ca_file": "",
        "proxies": {},
    }


# --- apt --------------------------------------------------------------------------------------------------


def test_deb822_sources_give_the_archive_and_its_security_archive(machine: Machine) -> None:
    machine.put("etc/os-release", DEBIAN)
    machine.put("etc/apt/sources.list.d/debian.sources", DEB822)
    found = machine.read()
    assert found["apt_mirror"] == "http://mirror.example/debian"
    assert found["apt_security_mirror"] == "http://mirror.example/debian-security"


def test_one_line_sources_with_options_give_the_same(machine: Machine) -> None:
    machine.put("etc/os-release", DEBIAN)
    machine.put(
        "etc/apt/sources.list",
        "# deb http://commented.example/debian bookworm main\n"
        "deb-src http://source.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main # why\n"
        "deb http://mirror.example/debian-security bookworm-security main\n",
    )
    found = machine.read()
    assert found["apt_mirror"] == "http://mirror.example/debian"
    assert found["apt_security_mirror"] == "http://mirror.example/debian-security"


@pytest.mark.parametrize("word", ["no", "No", "false"])
def test_a_disabled_stanza_is_no_source(machine: Machine, word: str) -> None:
    machine.put("etc/os-release", DEBIAN)
    machine.put("etc/apt/sources.list.d/a.sources", f"Enabled: {word}\n{DEB822}")
    found = machine.read()
    assert found["apt_mirror"] == ""
    assert found["apt_security_mirror"] == "http://mirror.example/debian-security"


def test_a_source_of_source_packages_alone_is_no_mirror(machine: Machine) -> None:
    machine.put("etc/os-release", DEBIAN)
    machine.put("etc/apt/sources.list.d/a.sources", DEB822.replace("deb deb-src", "deb-src"))
    assert machine.read()["apt_mirror"] == ""


def test_fields_of_a_stanza_may_go_on_in_the_next_line(machine: Machine) -> None:
    machine.put("etc/os-release", DEBIAN)
    text = "Types: deb\nURIs:\n http://mirror.example/debian\nSuites: bookworm-updates\n bookworm\n"
    machine.put("etc/apt/sources.list.d/a.sources", text + "Components: main\n")
    assert machine.read()["apt_mirror"] == "http://mirror.example/debian"


def test_files_that_apt_passes_over_are_passed_over(machine: Machine) -> None:
    machine.put("etc/os-release", DEBIAN)
    machine.put("etc/apt/sources.list.d/old.list.save", "deb http://old.example/debian bookworm main\n")
    assert machine.read()["apt_mirror"] == ""


def test_another_vendor_with_the_same_suite_is_not_taken_for_the_archive(machine: Machine) -> None:
    machine.put("etc/os-release", DEBIAN)
    machine.put(
        "etc/apt/sources.list.d/another.sources",
        "Types: deb\nURIs: https://vendor.example/tool\nSuites: bookworm\nComponents: main\n",
    )
    machine.put("etc/apt/sources.list.d/debian.sources", DEB822)
    assert machine.read()["apt_mirror"] == "http://mirror.example/debian"


def test_a_list_of_mirrors_gives_the_first_of_them(machine: Machine) -> None:
    """Debian's cloud images name a file of mirrors, which no container has."""
    machine.put("etc/os-release", DEBIAN)
    machine.put(
        "etc/apt/mirrors/debian.list", "# one a line\n\nhttp://mirror.example/debian\thttp\nhttp://b/\n"
    )
    machine.put("etc/apt/mirrors/security.list", "http://mirror.example/debian-security\n")
    machine.put(
        "etc/apt/sources.list.d/debian.sources",
        DEB822.replace("http://mirror.example/debian/", "mirror+file:///etc/apt/mirrors/debian.list").replace(
            "http://mirror.example/debian-security", "mirror+file:/etc/apt/mirrors/security.list"
        ),
    )
    found = machine.read()
    assert found["apt_mirror"] == "http://mirror.example/debian"
    assert found["apt_security_mirror"] == "http://mirror.example/debian-security"


def test_an_ubuntu_controller_gives_no_debian_mirror(machine: Machine) -> None:
    machine.put("etc/os-release", UBUNTU)
    machine.put(
        "etc/apt/sources.list.d/ubuntu.sources",
        "Types: deb\nURIs: http://mirror.example/ubuntu\nSuites: noble noble-security\nComponents: main\n",
    )
    found = machine.read()
    assert (found["apt_mirror"], found["apt_security_mirror"]) == ("", "")


# --- pip --------------------------------------------------------------------------------------------------


def pip_conf(index: str) -> str:
    return f"[global]\nindex-url = {index}\n[install]\nno-deps = true\n"


def test_each_file_of_pip_is_laid_over_the_one_before_and_the_environment_over_all(machine: Machine) -> None:
    steps = []
    for name in ("etc/xdg/pip/pip.conf", "etc/pip.conf", "home/.pip/pip.conf", "home/.config/pip/pip.conf"):
        machine.put(name, pip_conf(f"http://{name}/simple"))
        steps.append((f"http://{name}/simple", machine.read()["pip_index_url"]))
    own = machine.put("own.conf", pip_conf("http://own/simple"))
    machine.env["PIP_CONFIG_FILE"] = str(own)
    steps.append(("http://own/simple", machine.read()["pip_index_url"]))
    machine.env["PIP_INDEX_URL"] = "http://environment/simple"
    steps.append(("http://environment/simple", machine.read()["pip_index_url"]))
    assert [found for _, found in steps] == [wanted for wanted, _ in steps]


def test_a_config_file_named_in_the_environment_stands_in_for_the_users_as_in_pip(machine: Machine) -> None:
    machine.put("home/.config/pip/pip.conf", pip_conf("http://user/simple"))
    machine.env["PIP_CONFIG_FILE"] = str(machine.put("own.conf", "[global]\ntimeout = 5\n"))
    assert machine.read()["pip_index_url"] == ""


def test_pip_told_to_read_no_file_has_none_read(machine: Machine) -> None:
    machine.put("etc/pip.conf", pip_conf("http://machine/simple"))
    machine.env["PIP_CONFIG_FILE"] = "/dev/null"
    assert machine.read()["pip_index_url"] == ""


def test_a_password_with_a_percent_sign_is_read_as_it_is(machine: Machine) -> None:
    machine.put("etc/pip.conf", pip_conf("http://user:p%40ss%2F@index.example/simple"))
    assert machine.read()["pip_index_url"] == "http://user:p%40ss%2F@index.example/simple"


# --- npm --------------------------------------------------------------------------------------------------


def test_npm_takes_the_users_file_over_the_machines_and_the_environment_over_both(machine: Machine) -> None:
    machine.put("etc/npmrc", "registry=http://machine/\n")
    assert machine.read()["npm_registry"] == "http://machine/"
    machine.put("home/.npmrc", '; a comment\n# registry=http://commented/\nregistry = "http://user/"\n')
    assert machine.read()["npm_registry"] == "http://user/"
    machine.env["NPM_CONFIG_USERCONFIG"] = str(machine.put("own.npmrc", "registry=http://own/\n"))
    assert machine.read()["npm_registry"] == "http://own/"
    machine.env["npm_config_registry"] = "http://environment/"
    assert machine.read()["npm_registry"] == "http://environment/"


def test_variables_in_npms_files_are_those_of_the_environment(machine: Machine) -> None:
    machine.env["MIRROR"] = "http://mirror.example"
    machine.put("home/.npmrc", "registry=${MIRROR}/${GONE?}npm/\n")
    assert machine.read()["npm_registry"] == "http://mirror.example/npm/"
    machine.put("home/.npmrc", "registry=http://${GONE}/\n")
    assert machine.read()["npm_registry"] == "http://${GONE}/"


def test_a_tilde_in_the_path_of_an_authority_is_the_users_home(machine: Machine) -> None:
    pem = machine.put("home/ca.pem", "pem")
    machine.put("home/.npmrc", "cafile=~/ca.pem\n")
    assert machine.read()["ca_file"] == str(pem)
    machine.put("home/.npmrc", "")
    machine.put("etc/pip.conf", "[global]\ncert = ~/ca.pem\n")
    assert machine.read()["ca_file"] == str(pem)


def test_what_pip_says_for_installations_goes_before_what_it_says_for_all_commands(machine: Machine) -> None:
    machine.put("etc/pip.conf", "[install]\nindex-url = http://install/\n[global]\nindex-url = http://all/\n")
    assert machine.read()["pip_index_url"] == "http://install/"


@pytest.mark.parametrize(
    "name", ["etc/pip.conf", "etc/npmrc", "etc/apt/sources.list", "etc/apt/sources.list.d/own.list"]
)
def test_a_file_that_this_user_cannot_read_is_passed_over(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    machine.put("etc/os-release", DEBIAN)
    machine.put("etc/apt/sources.list.d/debian.sources", DEB822)
    closed = machine.put(name, "[global]\nindex-url = http://closed/\nregistry = http://closed/\n")
    genuine = type(closed).read_text

    def read_text(file: Path, *args: Any, **options: Any) -> str:
        if file == closed:
            raise PermissionError(13, "Permission denied", str(file))  # also for root, who runs these tests
        return genuine(file, *args, **options)

    monkeypatch.setattr(type(closed), "read_text", read_text)
    found = machine.read()
    assert (found["apt_mirror"], found["pip_index_url"]) == ("http://mirror.example/debian", "")
    assert found["npm_registry"] == ""


# --- trust and proxies ------------------------------------------------------------------------------------


def test_the_extra_ca_is_the_first_configured_one_that_is_there(machine: Machine) -> None:
    files = {name: str(machine.put(name, "pem")) for name in ("ssl", "requests", "pip", "npm")}
    machine.put("home/.npmrc", f"cafile={files['npm']}\n")
    assert machine.read()["ca_file"] == files["npm"]
    machine.put("etc/pip.conf", f"[global]\ncert = {files['pip']}\n")
    assert machine.read()["ca_file"] == files["pip"]
    machine.env["REQUESTS_CA_BUNDLE"] = files["requests"]
    assert machine.read()["ca_file"] == files["requests"]
    machine.env["SSL_CERT_FILE"] = files["ssl"]
    assert machine.read()["ca_file"] == files["ssl"]
    machine.env["SSL_CERT_FILE"] = str(machine.root / "gone")
    assert machine.read()["ca_file"] == files["requests"]


def test_proxies_are_those_of_the_environment_in_one_spelling_and_no_empty_ones(machine: Machine) -> None:
    machine.env.update(https_proxy="http://proxy:3128", HTTPS_PROXY="http://other:3128")
    machine.env.update(NO_PROXY="localhost", HTTP_PROXY="", ALL_PROXY="http://all:3128")
    assert machine.read()["proxies"] == {
        "https_proxy": "http://proxy:3128",
        "no_proxy": "localhost",
        "all_proxy": "http://all:3128",
    }
