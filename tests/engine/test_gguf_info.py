"""Red here means that a listing calls a cut file whole."""

import pytest
from mini import write_tiny_gguf

from engine.errors import GgufError
from engine.gguf.info import read_info


def test_a_file_that_ends_before_its_tensors_do_is_cut(tmp_path):
    """Its header is whole, and only sums of sizes tell."""
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    content = path.read_bytes()
    assert read_info(path).num_bytes == len(content)
    for end in (len(content) - 33, len(content) // 2):  # the file ends in up to 31 bytes of nothing
        path.write_bytes(content[:end])
        with pytest.raises(GgufError, match=rf"cut short: {end} bytes, at least \d+ are announced"):
            read_info(path)
