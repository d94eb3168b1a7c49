"""What the packages are made of: dependencies in Debian's words, versions that sort as they should, the manual page."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.packaging.conftest import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_debian", ROOT / "packaging/debian/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build = _load()


def test_every_dependency_has_a_package_in_debian() -> None:
    depends = build.dependencies(build.FLAVOURS["13"])
    assert len([one for one in depends if one.startswith("python3-")]) >= len(PYPROJECT["project"]["dependencies"])
    assert "python3 (>= 3.11)" in depends


def test_bounds_are_translated() -> None:
    names = {"panoramisk": "python3-panoramisk", "tls-of-it": "python3-tls"}
    assert build.debian_dependencies(["panoramisk>=1.4,<2", "TLS.of_it[fast]"], names) == [
        "python3-panoramisk (>= 1.4)",
        "python3-panoramisk (<< 2~)",
        "python3-tls",
    ]


@pytest.mark.parametrize(
    ("requirement", "complaint"),
    [
        ("brandnew>=1", "packaging/debian/dependencies.toml"),
        ("rich~=13.9", "cannot be translated"),
        ("rich>=13; python_version < '3.12'", "only names and bounds"),
    ],
)
def test_what_cannot_be_translated_stops_the_build(requirement: str, complaint: str) -> None:
    with pytest.raises(build.BuildError, match=complaint):
        build.debian_dependencies([requirement], {"rich": "python3-rich"})


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="not a Debian machine")
def test_versions_sort_as_upgrades_go() -> None:
    old, new = build.FLAVOURS["12"], build.FLAVOURS["13"]
    order = [
        build.debian_version("1.0.0.dev1", new),
        build.debian_version("1.0.0rc1", new),
        build.debian_version("1.0.0", old),
        build.debian_version("1.0.0", new),
        build.debian_version("1.0.1", old),
    ]
    for lower, higher in itertools.pairwise(order):
        done = subprocess.run(["dpkg", "--compare-versions", lower, "lt", higher], check=False)
        assert done.returncode == 0, (lower, higher)


def test_the_manual_page_has_every_command() -> None:
    page = build.manual("1.0.0").splitlines()
    commands = {line.removeprefix(".SS ") for line in page if line.startswith(".SS ")}
    assert {"run", "check", "demo", "dial", "replay", "record"} <= commands
    # What begins with a dot or an apostrophe is an order to the formatter.
    orders = {line.split()[0] for line in page if line[:1] in {".", "'"}}
    assert orders <= {".TH", ".SH", ".SS", ".TP", ".I", ".nf", ".fi"}


def test_all_that_is_locked_for_debian_12_is_a_dependency_of_somebody() -> None:
    locked = (ROOT / "requirements/run.txt").read_text(encoding="utf-8").lower()
    for requirement in PYPROJECT["project"]["dependencies"]:
        name = requirement.partition(">")[0].strip()
        assert f"\n{name}==" in f"\n{locked}"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="not a Debian machine")
def test_two_builds_are_the_same(tmp_path: Path) -> None:
    packages = [build.build(build.FLAVOURS["13"], tmp_path / name) for name in ("one", "two")]
    assert packages[0].read_bytes() == packages[1].read_bytes()
