"""Formats we know and do not read, by what their files start with and how they are called."""

_EXTENSIONS = {
    "image": "png jpg jpeg gif bmp tif tiff webp ico heic heif avif psd",
    "archive; unpack it first": "zst 7z rar lz lzma cab arj ace",
    "program": "jar whl apk deb rpm exe dll so dmg iso msi",
    "audio": "mp3 wav flac ogg m4a aac",
    "video": "mp4 mkv mov avi webm mpg mpeg",
    "font": "ttf otf woff woff2",
    "PowerPoint 97-2003; --convert reads it (by LibreOffice), or save it as .pptx": "ppt pps pot",
    "Word 97-2003 document; --convert reads it (by LibreOffice), or save it as .docx": "doc dot",
    "Outlook mailbox; export it as .mbox": "pst ost",
    "e-book; convert it to .epub": "mobi azw azw3 lit",
    "Apple document; export it as .docx or .pdf": "pages numbers key",
    "a table that is not read; convert it to Parquet or .csv": (
        "orc avro dbf dta sav sas7bdat xpt rds rdata h5 hdf5 mat"
    ),
    "database": "sqlite sqlite3 db",
    "model weights": "safetensors gguf pt pth ckpt onnx",
}
_KIND_OF_EXTENSION = {
    f".{name}": kind for kind, names in _EXTENSIONS.items() for name in names.split()
}
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF87a", "image"),
    (b"GIF89a", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
    (b"(\xb5/\xfd", "archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "archive; unpack it first"),
    (b"Rar!\x1a\x07", "archive; unpack it first"),
    (b"ID3", "audio"),
    (b"fLaC", "audio"),
    (b"OggS", "audio"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"\xd0\xcf\x11\xe0", "old Office file; save it in a newer format"),
    (b"ORC\n", "a table that is not read; convert it to Parquet or .csv"),
    (b"Obj\x01", "a table that is not read; convert it to Parquet or .csv"),
    (b"SQLite format 3\0", "database"),
    (b"GGUF", "model weights"),
)


def kind_by_content(head: bytes, extension: str) -> str:
    """The kind of a file that starts with `head`, or "". The extension only makes it finer."""
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")
    return kind and _KIND_OF_EXTENSION.get(extension, kind)


def kind_by_extension(extension: str) -> str:
    return _KIND_OF_EXTENSION.get(extension, "")
