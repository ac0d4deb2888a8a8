"""Sequences as a safetensors file: tokens of 2 bytes, answers of 1 bit.

For machines without the text they were made from; read again in any length that divides theirs.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.data import Sequences


def write(path: Path, data: Sequences, held_out: Sequences) -> None:
    tensors: dict[str, Tensor] = {}
    for prefix, part in (("train", data), ("held_out", held_out)):
        ids = part.token_ids
        small = ids.max() < 2**16 and ids.min() >= 0
        tensors[f"{prefix}.token_ids"] = ids.to(torch.uint16 if small else torch.int32, copy=True)
        tensors[f"{prefix}.is_answer"] = torch.from_numpy(np.packbits(part.is_answer.numpy(), 1))
    save_file(tensors, path)


def read(path: Path, sequence_tokens: int) -> tuple[Sequences, Sequences]:
    """Those to train on and those held out, cut to `sequence_tokens`.

    Raises ValueError if the file is another or its sequences cannot be cut so.
    """
    try:
        tensors = load_file(path)
        return (_cut(tensors, "train", sequence_tokens), _cut(tensors, "held_out", sequence_tokens))
    except Exception as error:  # safetensors has its own, and every one means the same here
        raise ValueError(f"{path}: not sequences of {sequence_tokens:,} tokens ({error})") from None


def first(data: Sequences, count: int) -> Sequences:
    return replace(data, token_ids=data.token_ids[:count], is_answer=data.is_answer[:count])


def _cut(tensors: Mapping[str, Tensor], prefix: str, sequence_tokens: int) -> Sequences:
    token_ids = tensors[f"{prefix}.token_ids"].to(torch.int32)
    bits = tensors[f"{prefix}.is_answer"].numpy()
    is_answer = torch.from_numpy(np.unpackbits(bits, 1, count=token_ids.shape[1])).bool()
    if token_ids.shape[1] % sequence_tokens:
        raise ValueError(f"they have {token_ids.shape[1]:,}")
    return Sequences(token_ids.reshape(-1, sequence_tokens), is_answer.reshape(-1, sequence_tokens))
