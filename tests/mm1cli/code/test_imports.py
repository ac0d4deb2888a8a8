"""Import rules, language by language, on the layouts that projects really have."""

from pathlib import PurePosixPath

import pytest

from mm1cli.code.imports import Tree, resolver_for
from mm1cli.code.manifests import DECLARED
from mm1cli.code.parse import parse

GRAMMARS = {
    ".py": "python",
    ".js": "javascript",
    ".ts": "typescript",
    ".go": "go",
    ".rs": "rust",
    ".java": "java",
    ".c": "c",
    ".cpp": "cpp",
    ".h": "cpp",
    ".rb": "ruby",
}


def resolved(files, path):
    """Module as written -> the files it leads to, or the word for where it leads instead."""
    parsed = {}
    for name, text in files.items():
        file = PurePosixPath(name.lower())
        if file.name in DECLARED:
            parsed[name] = DECLARED[file.name](text.encode())
        elif file.suffix in GRAMMARS:
            parsed[name] = parse(GRAMMARS[file.suffix], text.encode())
    empty = frozenset(name for name, text in files.items() if not text)
    tree = Tree(frozenset(files), parsed, empty)
    resolver = resolver_for(GRAMMARS[PurePosixPath(path).suffix], tree)
    found = {}
    for entry in parsed[path].imports:
        resolution = resolver.resolve(path, entry)
        found[entry.module] = list(resolution.targets) or resolution.status.value
    return found


@pytest.mark.parametrize(
    ("files", "path", "expected"),
    [
        (
            {
                "src/pkg/__init__.py": "",
                "src/pkg/json.py": "x = 1",
                "src/pkg/deep/__init__.py": "y = 1",
                "src/pkg/deep/a.py": "import json, pkg.json, pkg.gone\nfrom .. import json as j\n"
                "from . import y\nfrom ...up import z\nfrom .b import *\nimport numpy.linalg\n",
                "src/pkg/deep/b.pyi": "q: int",
            },
            "src/pkg/deep/a.py",
            {
                "json": "external",
                "pkg.json": ["src/pkg/json.py"],
                "pkg.gone": "unresolved",
                "..": ["src/pkg/json.py"],
                ".": ["src/pkg/deep/__init__.py"],
                "...up": "unresolved",
                ".b": ["src/pkg/deep/b.pyi"],
                "numpy.linalg": "external",
            },
        ),
        (
            {
                "pyproject.toml": "",
                "src/pkg/__init__.py": "x = 1",
                "src/pkg/a.py": "",
                "tests/test_a.py": "import pkg\nfrom pkg import a, x\nimport helper\n",
                "tests/helper.py": "h = 1",
            },
            "tests/test_a.py",
            {"pkg": ["src/pkg/a.py", "src/pkg/__init__.py"], "helper": ["tests/helper.py"]},
        ),
        (
            {
                "engine/engine.py": "from engine.config import C\nimport engine.config\n",
                "engine/config.py": "C = 1",
            },
            "engine/engine.py",
            {"engine.config": ["engine/config.py"]},
        ),
        (
            {
                "packages/ui/package.json": '{"name": "@us/ui", "main": "lib/start"}',
                "packages/ui/lib/start.ts": "",
                "packages/ui/src/button.tsx": "",
                "app/a.ts": 'import "@us/ui"; import "@us/ui/button"; import "@us/ui/no";\n'
                'import "./dir"; import "./b.js"; import "../../out"; import "@/alias";\n'
                'import "lodash"; export * from "./c?raw"; const x = require("./data");\n',
                "app/dir/index.js": "",
                "app/b.ts": "",
                "app/c.mts": "",
                "app/data.json": "{}",
            },
            "app/a.ts",
            {
                "@us/ui": ["packages/ui/lib/start.ts"],
                "@us/ui/button": ["packages/ui/src/button.tsx"],
                "@us/ui/no": "unresolved",
                "./dir": ["app/dir/index.js"],
                "./b.js": ["app/b.ts"],
                "../../out": "unresolved",
                "@/alias": "unresolved",
                "lodash": "external",
                "./c?raw": ["app/c.mts"],
                "./data": ["app/data.json"],
            },
        ),
        (
            {
                "go.mod": "// x\nmodule ex.org/m\n",
                "tool/go.mod": "module ex.org/m/tool\n",
                "tool/in/x.go": "package in",
                "in/x.go": "package in",
                "in/x_test.go": "package in",
                "vendor/gh.com/v/v.go": "package v",
                "a.go": 'package m\nimport _ "ex.org/m/tool/in"\nimport (\n i "ex.org/m/in"\n'
                ' "gh.com/v"\n `net/http`\n "ex.org/m/no"\n "ex.org/mx"\n)\n',
            },
            "a.go",
            {
                "ex.org/m/tool/in": ["tool/in/x.go"],
                "ex.org/m/in": ["in/x.go"],
                "gh.com/v": ["vendor/gh.com/v/v.go"],
                "net/http": "external",
                "ex.org/m/no": "unresolved",
                "ex.org/mx": "external",
            },
        ),
        (
            {
                "Cargo.toml": '[package]\nname = "one"\n',
                "two/Cargo.toml": '[package]\nname = "two-x"\n[lib]\npath = "code/t.rs"\n',
                "two/code/t.rs": "",
                "src/lib.rs": "",
                "src/a.rs": "mod b;\nuse b::T;\nuse super::c;\nuse two_x::Y;\n"
                "use serde::{De, Ser};\nuse crate::c::{self, d::E};\n"
                "mod tests { use super::*; use super::b::U as V; }\n",
                "src/a/b.rs": "",
                "src/c/mod.rs": "",
                "src/c/d.rs": "",
            },
            "src/a.rs",
            {
                "b": ["src/a/b.rs"],
                "b::T": ["src/a/b.rs"],
                "super::c": ["src/c/mod.rs"],
                "two_x::Y": ["two/code/t.rs"],
                "serde::De": "external",
                "serde::Ser": "external",
                "super::*": ["src/a.rs"],
                "super::b::U": ["src/a/b.rs"],
                "crate::c::self": ["src/c/mod.rs"],
                "crate::c::d::E": ["src/c/d.rs"],
            },
        ),
        (
            {
                "x/A.java": "package p.x;\nimport p.y.B;\nimport static p.y.B.Inner.m;\n"
                "import p.z.*;\nimport p.y.Gone;\nimport java.util.*;\nclass A {}",
                "elsewhere/B.java": "package p.y;\nclass B { class Inner {} }",
                "z/C.java": "package p.z;\nclass C {}",
                "z/D.java": "package p.z;\nenum D {}",
            },
            "x/A.java",
            {
                "p.y.B": ["elsewhere/B.java"],
                "p.y.B.Inner.m": ["elsewhere/B.java"],
                "p.z": ["z/C.java", "z/D.java"],
                "p.y.Gone": "unresolved",
                "java.util": "external",
            },
        ),
        (
            {
                "lib/one/src/a.cpp": '#include "util.h"\n#include "../x.h"\n#include <one/api.h>\n'
                '#include <vector>\n#include "../../../../etc/passwd"\n#include MACRO\n',
                "lib/one/util/util.h": "",
                "lib/two/util.h": "",
                "lib/one/x.h": "",
                "lib/one/include/one/api.h": "",
            },
            "lib/one/src/a.cpp",
            {
                "util.h": ["lib/one/util/util.h"],
                "../x.h": ["lib/one/x.h"],
                "one/api.h": ["lib/one/include/one/api.h"],
                "vector": "external",
                "../../../../etc/passwd": "unresolved",
                "MACRO": "unresolved",
            },
        ),
        (
            {
                "lib/a.rb": "require 'a/b'\nrequire 'json'\nrequire_relative '../x'\n",
                "lib/a/b.rb": "",
                "x.rb": "",
            },
            "lib/a.rb",
            {"a/b": ["lib/a/b.rb"], "json": "external", "../x": ["x.rb"]},
        ),
    ],
    ids=["package", "src", "namespace", "typescript", "go", "rust", "java", "cpp", "ruby"],
)
def test_imports_lead_where_the_language_says(files, path, expected):
    """Red: the graph, and with it the reading order, is wrong for projects of that layout."""
    assert resolved(files, path) == expected


def test_classes_behind_an_export_macro_are_classes():
    """Red: in C++ with macros before its names every class is called a function."""
    source = b"class API Tensor : public Base {\n  int f() { return 1; }\n};\n"
    found = [(d.name, d.kind, d.first, d.last, d.scope) for d in parse("cpp", source).definitions]
    assert found == [("Tensor", "class", 1, 3, ()), ("f", "method", 2, 2, ("Tensor",))]


def test_what_runs_later_is_deferred():
    """Red: an import that breaks a cycle counts like one that makes it."""
    source = (
        "import a\nif TYPE_CHECKING:\n    import b\nif typing.TYPE_CHECKING:\n    from c import d\n"
        "try:\n    import e\nexcept ImportError:\n    e = None\ndef f():\n    import g\n"
    )
    found = {entry.module: entry.is_deferred for entry in parse("python", source.encode()).imports}
    assert found == {"a": False, "b": True, "c": True, "e": False, "g": True}
