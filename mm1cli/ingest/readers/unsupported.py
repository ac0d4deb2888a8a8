"""Formats we know and do not read, by what their files start with and how they are called."""

_EXTENSIONS = {
    "image": "png jpg jpeg gif bmp tif tiff webp ico heic heif avif psd",
    "archive": "zip gz tgz bz2 xz zst 7z rar tar jar whl",
    "audio": "mp3 wav flac ogg m4a aac",
    "video": "mp4 mkv mov avi webm mpg mpeg",
    "font": "ttf otf woff woff2",
    "PowerPoint presentation": "pptx ppt pptm",
    "Excel workbook": "xlsx xls xlsm",
    "Word 97-2003 document": "doc",
    "OpenDocument file": "odt ods odp",
    "e-book": "epub mobi azw3",
    "rich text": "rtf",
    "database": "sqlite sqlite3 db",
    "model weights": "safetensors gguf pt pth ckpt onnx",
    "table of columns": "parquet arrow feather",
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
    (b"\x1f\x8b", "archive"),
    (b"BZh", "archive"),
    (b"\xfd7zXZ\0", "archive"),
    (b"(\xb5/\xfd", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "archive"),
    (b"Rar!\x1a\x07", "archive"),
    (b"PK\x03\x04", "archive"),
    (b"PK\x05\x06", "archive"),
    (b"ID3", "audio"),
    (b"fLaC", "audio"),
    (b"OggS", "audio"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"{\\rtf", "rich text"),
    (b"\xd0\xcf\x11\xe0", "old Office file"),
    (b"SQLite format 3\0", "database"),
    (b"GGUF", "model weights"),
    (b"PAR1", "table of columns"),
)


def kind_by_content(head: bytes, extension: str) -> str:
    """The kind of a file that starts with `head`, or "". The extension only makes it finer."""
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")
    return kind and _KIND_OF_EXTENSION.get(extension, kind)


def kind_by_extension(extension: str) -> str:
    return _KIND_OF_EXTENSION.get(extension, "")
