"""Builds the Debian packages of ami2zammad: `make deb`.

Two flavours of one package. For Debian 12, whose libraries are too old, a private virtual environment with the locked
wheels of requirements/run.txt. For Debian 13 the bridge alone: the libraries are Debian's, and so are their security
updates.

dpkg-deb and this file instead of debhelper: what a build needs is on every Debian with dpkg and Python, both flavours
can be built on either release, and the wheels come from the package index by their hashes, which a build by debhelper
(without network, one release at a time) would have to be bent for.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PROJECT: Final = HERE.parents[1]

# What runs on Debian 12's C library (2.36), by the names that wheels carry.
_PLATFORMS: Final = ("manylinux2014", "manylinux_2_17", "manylinux_2_24", "manylinux_2_28", "manylinux_2_34")
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_PRIVATE: Final = "usr/lib/ami2zammad"
_PUBLIC: Final = "usr/lib/python3/dist-packages"
# Everywhere: certificates to check Zammad's, the user, and `kill` for a reload.
_COMMON: Final = ("ca-certificates", "procps", "systemd | systemd-standalone-sysusers | systemd-sysusers")
# As Debian's own tools take it.
_MAINTAINER: Final = "{} <{}>".format(
    os.environ.get("DEBFULLNAME", "The ami2zammad authors"), os.environ.get("DEBEMAIL", "root@localhost")
)
_DESCRIPTION: Final = """\
bridge from Asterisk to Zammad's caller log
 Tells the help desk Zammad of every call of an Asterisk telephone system: who
 calls, who took the call, what was missed. Reads Asterisk's manager interface
 (AMI) and posts to Zammad's endpoint "CTI (generic)".
 .
 {libraries}
"""


class BuildError(Exception):
    """The package cannot be built; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """One release of Debian and how its package is made."""

    release: str
    private_python: str | None
    """The version of Python that the private virtual environment is for; None: Debian's own libraries."""
    libraries: str
    """A sentence for the description."""


FLAVOURS: Final = {
    "12": Flavour("12", "3.11", "This package is for Debian 12; it brings the Python libraries that it needs along."),
    "13": Flavour("13", None, "This package is for Debian 13 and later; it uses Debian's Python libraries."),
}


def debian_version(version: str, flavour: Flavour) -> str:
    """Return the package's version: a newer Debian's is the newer one, a pre-release comes before its release."""
    return re.sub(r"\.?(a|b|rc|dev)(\d+)", r"~\1\2", version) + f"+deb{flavour.release}"


def debian_dependencies(requirements: Sequence[str], names: dict[str, str]) -> list[str]:
    """Translate pyproject.toml's `requirements` into Debian's words.

    `names` maps names on the package index to Debian's. Raises `BuildError` for what has no name there, and for
    anything but plain bounds.
    """
    relations = {">=": ">=", "<=": "<=", "<": "<<", ">": ">>"}
    translated = []
    for requirement in requirements:
        found = re.fullmatch(r"([A-Za-z0-9._-]+)(\[[^]]*\])?\s*([^;]*)", requirement)
        if found is None:
            raise BuildError(f"{requirement}: only names and bounds can be translated for Debian; extend build.py")
        name = re.sub(r"[-_.]+", "-", found[1]).lower()
        if name not in names:
            raise BuildError(f"{name}: name Debian's package of it in packaging/debian/dependencies.toml")
        for bound in [part.strip() for part in found[3].split(",") if part.strip()] or [""]:
            relation = re.fullmatch(r"(>=|<=|<|>)\s*([0-9.]+)", bound)
            if bound and relation is None:
                raise BuildError(f"{requirement}: '{bound}' cannot be translated for Debian; extend build.py")
            if relation is None:
                translated.append(names[name])
            else:
                # The tilde also keeps the pre-releases of an excluded version out.
                limit = relation[2] + ("~" if relation[1] == "<" else "")
                translated.append(f"{names[name]} ({relations[relation[1]]} {limit})")
    return translated


def dependencies(flavour: Flavour, project: Path = PROJECT) -> list[str]:
    """Return what the package of `flavour` depends on. Raises `BuildError`."""
    if flavour.private_python is not None:
        major, minor = flavour.private_python.split(".")
        # The wheels' own libraries are in every Debian that has this Python.
        python = [f"python3 (>= {flavour.private_python})", f"python3 (<< {major}.{int(minor) + 1})"]
        return sorted([*python, *_COMMON, "libc6 (>= 2.34)", "libgcc-s1"])
    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    names = tomllib.loads((HERE / "dependencies.toml").read_text(encoding="utf-8"))["packages"]
    python = ["python3 " + pyproject["project"]["requires-python"].replace(">=", "(>= ") + ")"]
    return sorted([*python, *_COMMON, *debian_dependencies(pyproject["project"]["dependencies"], names)])


def build(flavour: Flavour, output: Path) -> Path:
    """Build the package of `flavour` into the folder `output`; return its file. Raises `BuildError`."""
    version = debian_version(_version(), flavour)
    architecture = _run("dpkg", "--print-architecture").strip() if flavour.private_python is not None else "all"
    # Two builds of the same commit are the same, byte for byte.
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or _run("git", "-C", str(PROJECT), "log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory(prefix="ami2zammad-deb-") as folder:
        tree = Path(folder) / "tree"
        _install_python(flavour, tree, Path(folder), architecture)
        _install_files(tree, version, epoch)
        _control(flavour, tree, version, architecture)
        _settle(tree, epoch)
        output.mkdir(parents=True, exist_ok=True)
        package = output / f"ami2zammad_{version}_{architecture}.deb"
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
        # Packed lightly: a megabyte more, and a quarter of the time.
        packing = ("--root-owner-group", "-Zxz", "-z1")
        _run("dpkg-deb", *packing, "--build", str(tree), str(package), environment=environment)
    return package


def _version() -> str:
    text = (PROJECT / "src/ami2zammad/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    if found is None:
        raise BuildError("src/ami2zammad/__init__.py names no __version__")
    return found[1]


def _install_python(flavour: Flavour, tree: Path, folder: Path, architecture: str) -> None:
    """Put the bridge, and what it needs if the flavour is to bring it, where its Python finds it."""
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(PROJECT))
    (wheel,) = folder.glob("ami2zammad-*.whl")
    if flavour.private_python is not None:
        interpreter = f"/{_PRIVATE}/bin/python3"
        library = tree / _PRIVATE / f"lib/python{flavour.private_python}/site-packages"
        _install_locked(flavour.private_python, library, architecture)
        # Names of the places of all area codes, never looked up here: they would be half of what is installed.
        shutil.rmtree(library / "phonenumbers/geodata")
        # All that makes a virtual environment; Python's own venv would want the release's Python here.
        (tree / _PRIVATE / "bin").mkdir()
        (tree / _PRIVATE / "bin/python3").symlink_to(f"/usr/bin/python{flavour.private_python}")
        (tree / _PRIVATE / "pyvenv.cfg").write_text(
            f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {flavour.private_python}\n"
        )
    else:
        interpreter = "/usr/bin/python3"
        library = tree / _PUBLIC
    _pip("install", "--target", str(library), "--no-compile", "--no-deps", str(wheel))
    # pip's notes on where it took things from, and the commands of libraries.
    for note in [*library.glob("*.dist-info/direct_url.json"), *library.glob("*.dist-info/REQUESTED")]:
        note.unlink()
    for record in library.glob("ami2zammad-*.dist-info/RECORD"):
        record.unlink()
    shutil.rmtree(library / "bin")
    command = tree / "usr/bin/ami2zammad"
    command.parent.mkdir(parents=True)
    # Nothing of the caller's own Python can get into it: neither the folder in which it is called nor the user's
    # packages (-sP) nor other places. Not -I: it would not heed PYTHONMALLOC either, which the unit sets.
    isolated = f"/usr/bin/env -S -u PYTHONPATH -u PYTHONHOME {interpreter} -sP"
    command.write_text(f"#!{isolated}\nimport sys\n\nfrom ami2zammad.cli import main\n\nsys.exit(main())\n")
    command.chmod(0o755)


def _install_locked(python: str, library: Path, architecture: str) -> None:
    locked = PROJECT / "requirements/run.txt"
    if " ; " in locked.read_text(encoding="utf-8") and python != f"{sys.version_info.major}.{sys.version_info.minor}":
        raise BuildError(f"{locked.name} has markers, which pip takes from its own Python: build with Python {python}")
    machine = _MACHINES.get(architecture)
    if machine is None:
        raise BuildError(f"no wheels are known for {architecture}; known are {', '.join(_MACHINES)}")
    platforms = [word for name in _PLATFORMS for word in ("--platform", f"{name}_{machine}")]
    _pip(
        *("install", "--target", str(library), "--no-compile", "--no-deps", "--require-hashes"),
        *("--only-binary", ":all:", "--implementation", "cp", "--python-version", python, *platforms),
        *("-r", str(locked)),
    )


def _install_files(tree: Path, version: str, epoch: int) -> None:
    """Put units, settings and documentation where Debian has them."""
    for unit in (PROJECT / "systemd").glob("*.service"):
        _copy(unit, tree / "usr/lib/systemd/system" / unit.name)
    _copy(PROJECT / "systemd/ami2zammad.sysusers", tree / "usr/lib/sysusers.d/ami2zammad.conf")
    (tree / "etc/ami2zammad").mkdir(parents=True)
    documents = tree / "usr/share/doc/ami2zammad"
    for name in ("README.md", "CHANGELOG.md"):
        _copy(PROJECT / name, documents / name)
    # Where the README and the pages link to.
    for folder in ("docs", "config"):
        shutil.copytree(PROJECT / folder, documents / folder)
    text = (HERE / "copyright").read_text(encoding="utf-8")
    licence = (PROJECT / "LICENSE").read_text(encoding="utf-8").strip().split("\n\n", 2)[2]
    words = "\n".join(f" {line}" if line else " ." for line in licence.splitlines())
    (documents / "copyright").write_text(f"{text}License: Expat\n{words}\n", encoding="utf-8")
    changes = (
        f"ami2zammad ({version}) stable; urgency=medium\n\n  * See CHANGELOG.md beside this file.\n\n"
        f" -- {_MAINTAINER}  {formatdate(epoch)}\n"
    )
    _compress(documents / "changelog.gz", changes)
    _compress(tree / "usr/share/man/man1/ami2zammad.1.gz", manual(version.partition("+")[0]))


def manual(version: str) -> str:
    """Return the manual page: what `--help` says, of each command as well."""
    overview = _help()
    commands = re.findall(r"^ {4}([a-z]+) ", overview, flags=re.MULTILINE)
    sections = [
        f'.TH AMI2ZAMMAD 1 "" "ami2zammad {version}" "User Commands"',
        ".SH NAME",
        r"ami2zammad \- bridge from Asterisk (AMI) to Zammad's caller log",
        ".SH DESCRIPTION",
        _verbatim(overview),
        ".SH COMMANDS",
        *(part for command in commands for part in (f".SS {command}", _verbatim(_help(command)))),
        ".SH FILES",
        ".TP\n.I /etc/ami2zammad/ami2zammad.toml\nThe settings.",
        ".TP\n.I /var/lib/ami2zammad\nWhat Zammad does not have yet.",
        ".TP\n.I /usr/share/doc/ami2zammad\nThe documentation.",
    ]
    return "\n".join(sections) + "\n"


def _help(*command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "COLUMNS": "78", "NO_COLOR": "1"}
    return _run(sys.executable, "-m", "ami2zammad", *command, "--help", environment=environment)


def _verbatim(text: str) -> str:
    """Return `text` for a manual page, to be shown as it is."""
    escaped = text.strip("\n").replace("\\", r"\e").replace("-", r"\-")
    return ".nf\n" + re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE) + "\n.fi"


def _control(flavour: Flavour, tree: Path, version: str, architecture: str) -> None:
    folder = tree / "DEBIAN"
    folder.mkdir()
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(-(-path.stat().st_size // 1024) for path in files)
    description = _DESCRIPTION.format(libraries="\n ".join(textwrap.wrap(flavour.libraries, 76)))
    fields = {
        "Package": "ami2zammad",
        "Version": version,
        "Architecture": architecture,
        "Maintainer": _MAINTAINER,
        "Installed-Size": str(size),
        "Depends": ", ".join(dependencies(flavour)),
        "Section": "comm",
        "Priority": "optional",
        "Description": description.strip(),
    }
    (folder / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()), encoding="utf-8")
    digests = [f"{_md5(path)}  {path.relative_to(tree)}\n" for path in files]
    (folder / "md5sums").write_text("".join(digests), encoding="utf-8")
    # A private environment has to be named to those who compile; Debian's own folder they know.
    compiled = f" /{_PRIVATE}" if flavour.private_python is not None else ""
    for script in ("postinst", "prerm", "postrm"):
        text = (HERE / script).read_text(encoding="utf-8").replace("@COMPILED@", compiled)
        (folder / script).write_text(text, encoding="utf-8")
        (folder / script).chmod(0o755)


def _md5(path: Path) -> str:
    # The form of the file, which dpkg --verify reads; it protects against accidents, not against people.
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _settle(tree: Path, epoch: int) -> None:
    """Give all files the modes and times that they have in a package, whatever the umask and the hour of the build."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    # Nobody may look into it before it has its group.
    (tree / "etc/ami2zammad").chmod(0o750)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _compress(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(text.encode(), mtime=0))


def _pip(*arguments: str) -> None:
    _run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def _run(*command: str, environment: dict[str, str] | None = None) -> str:
    """Run a program; return what it prints. Raises `BuildError` with its complaints."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command[:4])} … failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Build; return the exit code."""
    parser = argparse.ArgumentParser(prog="make deb", description="Build the Debian packages.")
    parser.add_argument("--release", choices=[*FLAVOURS, "all"], default="all", help="for which Debian (default: all)")
    parser.add_argument("--output", type=Path, default=PROJECT / "dist", metavar="FOLDER", help="default: dist")
    options = parser.parse_args(arguments)
    chosen = FLAVOURS.values() if options.release == "all" else [FLAVOURS[options.release]]
    try:
        for flavour in chosen:
            print(build(flavour, options.output))
    except BuildError as error:
        print(f"make deb: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
