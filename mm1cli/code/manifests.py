"""Files that declare a project: its name, what it installs as commands, what `make` can do.

Each reader takes a file's text as UTF-8 and never raises for its content; a file that cannot be
read has `first_error`. Like the grammars, they run in the child process.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError

from mm1cli.code.parsed import MAX_NAME_CHARS, Parsed, RawEntry
from mm1cli.ingest.display_names import one_line

_MAX_BYTES = 1 << 20
_MAX_ENTRIES = 500
_TARGET = re.compile(r"^([A-Za-z0-9][\w./-]*(?:[ \t]+[\w./-]+)*)[ \t]*::?(?!=)", re.MULTILINE)
_DOCKER = re.compile(r"^[ \t]*(ENTRYPOINT|CMD)[ \t]+(.*)$", re.MULTILINE | re.IGNORECASE)
_MODULE = re.compile(r"^[ \t]*module[ \t]+\"?([^\s\"]+)", re.MULTILINE)


def read_pyproject(text: str) -> Parsed:
    data = tomllib.loads(text)
    project, tool = _table(data, "project"), _table(data, "tool")
    groups = {
        "console script": _table(project, "scripts"),
        "gui script": _table(project, "gui-scripts"),
        "poetry script": _table(_table(tool, "poetry"), "scripts"),
    }
    plugins = _table(project, "entry-points")
    groups |= {f"entry point {group}": _table(plugins, group) for group in plugins}
    entries = [
        _entry(kind, f"{name} = {_told(value)}", text, name)
        for kind, table in groups.items()
        for name, value in table.items()
    ]
    return Parsed(entries=_kept(entries))


def read_setup_cfg(text: str) -> Parsed:
    config = ConfigParser(interpolation=None, strict=False)
    config.read_string(text)
    if not config.has_section("options.entry_points"):
        return Parsed()
    entries = []
    for group, value in config.items("options.entry_points"):
        kind = {"console_scripts": "console script", "gui_scripts": "gui script"}.get(
            group, f"entry point {group}"
        )
        for line in value.splitlines():
            name = line.partition("=")[0].strip()
            if name:
                entries.append(_entry(kind, line.strip(), text, name))
    return Parsed(entries=_kept(entries))


def read_package_json(text: str) -> Parsed:
    data = json.loads(text)
    if not isinstance(data, dict):
        return Parsed()
    name = data.get("name")
    declares = [("package", name)] if isinstance(name, str) else []
    for key in ("source", "module", "main", "types"):
        if isinstance(data.get(key), str):
            declares.append(("main", data[key]))
    entries = []
    if isinstance(data.get("main"), str):
        entries.append(_entry("main", data["main"], text, "main"))
    commands = data.get("bin")
    if isinstance(commands, str):
        entries.append(_entry("console script", f"{_told(name)} = {commands}", text, "bin"))
    for key, target in _table(data, "bin").items():
        entries.append(_entry("console script", f"{key} = {_told(target)}", text, key))
    for key, command in _table(data, "scripts").items():
        entries.append(_entry("npm script", f"{key} = {_told(command)}", text, key))
    return Parsed(entries=_kept(entries), declares=_declares(declares))


def read_cargo(text: str) -> Parsed:
    data = tomllib.loads(text)
    package, library = _table(data, "package"), _table(data, "lib")
    name = library.get("name") or package.get("name")
    declares = [("crate", name.replace("-", "_"))] if isinstance(name, str) else []
    if isinstance(library.get("path"), str):
        declares.append(("lib", str(library["path"])))
    programs = data.get("bin")
    entries = []
    for program in programs if isinstance(programs, list) else ():
        if isinstance(program, dict):
            where = _told(program.get("path", "src/main.rs"))
            title = f"{_told(program.get('name'))} = {where}"
            entries.append(_entry("program", title, text, ""))
    return Parsed(entries=_kept(entries), declares=_declares(declares))


def read_go_mod(text: str) -> Parsed:
    found = _MODULE.search(text)
    return Parsed(declares=_declares([("module", found[1])]) if found else ())


def read_makefile(text: str) -> Parsed:
    entries = [
        RawEntry("make target", _short(match[1]), text.count("\n", 0, match.start()) + 1)
        for match in _at_most(_TARGET.finditer(text))
    ]
    return Parsed(entries=_kept(entries))


def read_dockerfile(text: str) -> Parsed:
    entries = [
        RawEntry("docker", _short(match[0].strip()), text.count("\n", 0, match.start()) + 1)
        for match in _at_most(_DOCKER.finditer(text))
    ]
    return Parsed(entries=_kept(entries))


def read_gitmodules(text: str) -> Parsed:
    """`declares` the paths of submodules, as they stand in the file."""
    paths = []
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() == "path":
            paths.append(("submodule", value.strip().strip('"')))
    return Parsed(declares=_declares(paths))


def _safely(read: Callable[[str], Parsed]) -> Callable[[bytes], Parsed]:
    def read_bytes(data: bytes) -> Parsed:
        if len(data) > _MAX_BYTES:
            return Parsed(first_error=1)
        try:
            return read(data.decode("utf-8", "replace"))
        except (ValueError, ConfigError, RecursionError):
            return Parsed(first_error=1)

    return read_bytes


DECLARED = {
    name: _safely(read)
    for name, read in {
        "pyproject.toml": read_pyproject,
        "setup.cfg": read_setup_cfg,
        "package.json": read_package_json,
        "cargo.toml": read_cargo,
        "go.mod": read_go_mod,
        "makefile": read_makefile,
        "dockerfile": read_dockerfile,
        ".gitmodules": read_gitmodules,
    }.items()
}


def _table(data: dict[str, object], key: str) -> dict[str, object]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _entry(kind: str, name: str, text: str, key: str) -> RawEntry:
    """On the first line that begins with `key`, quoted or not."""
    line = 1
    if key:
        found = re.search(rf"^[\s{{,]*[\"']?{re.escape(key)}[\"']?\s*[:=]", text, re.MULTILINE)
        line = text.count("\n", 0, found.end()) + 1 if found else 1
    return RawEntry(_short(kind), _short(name), line)


def _told(value: object) -> str:
    return value if isinstance(value, str) else "..."


def _short(text: str) -> str:
    return one_line(text[:MAX_NAME_CHARS])


def _kept(entries: list[RawEntry]) -> tuple[RawEntry, ...]:
    return tuple(entries[:_MAX_ENTRIES])


def _declares(pairs: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, _short(name)) for key, name in pairs[:_MAX_ENTRIES])


def _at_most(matches: Iterator[re.Match[str]]) -> Iterator[re.Match[str]]:
    for _, match in zip(range(_MAX_ENTRIES), matches, strict=False):
        yield match
