"""Word and PowerPoint files of 1997 to 2003, by an installed LibreOffice, which is run only when
the user asks for it. What it makes of one is read as any file of today is, by another child."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.package import OLE_MAGIC
from mm1cli.ingest.readers.pdf_ocr import allow_files
from mm1cli.ingest.readers.reader import MAX_MEMBER_BYTES, MIB, Member, Reader, ReadError, Reading

PATIENCE = 3  # a first start lays out a profile
_FORMS = {  # extension, what to write, and by which of its filters
    b"W\0o\0r\0d\0D\0o\0c\0u\0m\0e\0n\0t\0": ("doc", "docx:MS Word 2007 XML"),
    b"P\0o\0w\0e\0r\0P\0o\0i\0n\0t\0 \0D\0o\0c\0": ("ppt", "pptx:Impress MS PowerPoint 2007 XML"),
}
_RESTART = 81  # what it ends with where it has made its profile and wants to be started again
_STARTS = 3


def program() -> str | None:
    """LibreOffice itself, not the script or the starter in front of it, which open sockets."""
    found = shutil.which("soffice") or shutil.which("libreoffice")
    if found is None:
        return None
    beside = Path(found).resolve().with_name("soffice.bin")
    return str(beside) if beside.is_file() else found


def convert(data: bytes) -> Reading:
    """One member: the file as .docx or .pptx. Raises ReadError: UNSUPPORTED, UNREADABLE."""
    form = next((form for sign, form in _FORMS.items() if sign in data), None)
    if not data.startswith(OLE_MAGIC) or form is None:
        raise ReadError(
            Reason.UNSUPPORTED, "no Word or PowerPoint document of 97-2003 in it, or cut"
        )
    extension, wanted = form
    above = os.environ.get("TMPDIR") or "/tmp"
    with tempfile.TemporaryDirectory(prefix="mm1-convert-", dir=above) as folder:
        given = Path(folder, f"given.{extension}")
        _write(given, data)
        _run(folder, given.name, wanted)
        made = given.with_suffix(f".{wanted.partition(':')[0]}")
        if not made.is_file():
            raise ReadError(Reason.UNREADABLE, "LibreOffice cannot open it")
        if made.stat().st_size > MAX_MEMBER_BYTES:
            raise ReadError(Reason.TOO_LARGE, f"more than {MAX_MEMBER_BYTES // MIB} MiB, converted")
        return Reading((), members=(Member(made.name, made.read_bytes()),))


def _write(path: Path, data: bytes) -> None:
    allow_files()
    path.write_bytes(data)


def _run(folder: str, name: str, wanted: str) -> None:
    command = [
        program() or "soffice", f"-env:UserInstallation={Path(folder, 'profile').as_uri()}",
        "--headless", "--norestore", "--nologo", "--nodefault", "--nolockcheck",
        "--convert-to", wanted, "--outdir", folder, str(Path(folder, name)),
    ]  # fmt: skip
    environment = {**os.environ, "HOME": folder, "TMPDIR": folder}
    try:
        for _ in range(_STARTS):
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
            if done.returncode != _RESTART:
                return
    except OSError as error:
        raise ReadError(Reason.UNREADABLE, f"LibreOffice: {error.strerror}") from None


OFFICE97 = Reader(
    name="office-97",
    version=1,
    kinds=dict.fromkeys((".doc", ".dot"), "docx") | dict.fromkeys((".ppt", ".pps", ".pot"), "pptx"),
    max_bytes=256 * MIB,
    sandboxed=True,
    read=convert,
    patience=PATIENCE,
    is_converter=True,
)
