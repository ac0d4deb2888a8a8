"""Files that programs keep to themselves, by their names and places: who names one means it, but a
folder that holds one was hardly meant to have it read."""

import os
import re
from pathlib import PurePath

_NAMES = {
    "passwords": ".netrc _netrc .pgpass .git-credentials .htpasswd .my.cnf .mylogin.cnf .authinfo",
    "keys of package registries": ".npmrc .pypirc .dockercfg .yarnrc.yml",
    "what was typed into a shell": ".bash_history .zsh_history .sh_history .ksh_history .histfile "
    ".python_history .psql_history .mysql_history .sqlite_history .node_repl_history fish_history",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_FOLDERS = {
    ".ssh": "keys and hosts of ssh",
    ".gnupg": "keys of GnuPG",
    ".aws": "access to a cloud",
    ".azure": "access to a cloud",
    ".gcloud": "access to a cloud",
    ".kube": "access to a cluster",
    ".docker": "access to registries",
    ".password-store": "passwords",
}
_PLACES = (
    (re.compile(r".*/etc/(?:g?shadow|master\.passwd|opasswd)-?"), "a system's password hashes"),
    (re.compile(r".*/etc/sudoers(?:\.d/.*)?"), "who may do what on a system"),
    (re.compile(r"/proc/(?:\d+|self|thread-self)/.*"), "a running program's own"),
)


def private_kind(path: str) -> str:
    """What a file at `path` holds that is private; "" for all others."""
    where = PurePath(os.path.abspath(path))  # noqa: PTH100, links are not to be followed
    if kind := _KINDS.get(where.name):
        return kind
    if kind := next(filter(None, map(_FOLDERS.get, where.parts[:-1])), ""):
        return kind
    return next((kind for form, kind in _PLACES if form.fullmatch(where.as_posix())), "")
