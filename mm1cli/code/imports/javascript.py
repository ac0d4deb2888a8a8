"""JavaScript and TypeScript: relative paths as bundlers read them, packages of the workspace."""

from functools import cached_property

from mm1cli.code.imports.resolver import EXTERNAL, UNRESOLVED, Resolution, internal
from mm1cli.code.imports.tree import Tree, folder_of, joined
from mm1cli.code.parsed import RawImport

_SUFFIXES = (".ts", ".tsx", ".d.ts", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json", ".vue")
# What TypeScript writes for the file it will compile to.
_COMPILED = {".js": (".ts", ".tsx"), ".jsx": (".tsx",), ".mjs": (".mts",), ".cjs": (".cts",)}
_ALIASES = ("@/", "~/", "#")  # of a build's own settings; no package is called so


class JavaScriptResolver:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def resolve(self, path: str, entry: RawImport) -> Resolution:
        module = entry.module.partition("?")[0]
        if entry.kind == "dynamic" or module.startswith("/"):
            return UNRESOLVED
        if module in (".", "..") or module.startswith(("./", "../")):
            base = joined(folder_of(path), module)
            target = None if base is None else self._file(base)
            return internal(target) if target else UNRESOLVED
        if module.startswith(_ALIASES):
            return UNRESOLVED
        return self._package(module)

    def _file(self, base: str) -> str | None:
        stem, dot, extension = base.rpartition(".")
        candidates = [base]
        candidates += [f"{stem}{suffix}" for suffix in _COMPILED.get(f"{dot}{extension}", ())]
        candidates += [f"{base}{suffix}" for suffix in _SUFFIXES]
        inside = f"{base}/index" if base else "index"
        candidates += [f"{inside}{suffix}" for suffix in _SUFFIXES]
        return self._tree.first(candidates)

    def _package(self, module: str) -> Resolution:
        words = module.split("/")
        size = 2 if module.startswith("@") else 1
        name, rest = "/".join(words[:size]), "/".join(words[size:])
        if name not in self._packages:
            return EXTERNAL
        folder, mains = self._packages[name]
        for inner in [rest, f"src/{rest}"] if rest else [*mains, "src", ""]:
            base = joined(folder, inner or ".")
            target = None if base is None else self._file(base)
            if target:
                return internal(target)
        return UNRESOLVED

    @cached_property
    def _packages(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Folder and main files of each package of the corpus, installed ones aside."""
        found: dict[str, tuple[str, tuple[str, ...]]] = {}
        for path, name in self._tree.declaring("package"):
            if path.endswith("package.json") and "node_modules" not in path.split("/"):
                found.setdefault(name, (folder_of(path), self._tree.parsed[path].declared("main")))
        return found
