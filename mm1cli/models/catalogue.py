"""Models worth fetching: what they are for, and what was measured of them here, if it was."""

from dataclasses import dataclass
from typing import Final

from mm1cli.models import library, packaged


@dataclass(frozen=True, slots=True)
class Entry:
    """`repository` is ORG/NAME[:QUANT] of the hub, "" for what comes through pip alone.

    `num_bytes` is what is fetched, rounded where no `sha256` pins it; `measured` what our own
    benchmarks say, "" where none was run; `architecture` that of the GGUF file, or, of what has
    none, the model_type of its folder.
    """

    name: str
    machine: str
    licence: str
    context_tokens: int
    num_bytes: int
    architecture: str
    repository: str = ""
    sha256: str = ""
    measured: str = ""

    @property
    def command(self) -> str:
        return f"mm1 models pull {self.name}"


# Right answers are out of 26 answerable questions about passages that mm1 chose, read by hand.
CATALOGUE: Final = (
    Entry(
        "mini",
        "trying mm1, tests, long contexts",
        "Apache-2.0",
        8192,
        library.MINI.size_bytes,
        "llama",
        sha256=library.MINI.sha256,
        measured="12 of 26 right, 14 wrong; it cannot tell what no document answers",
    ),
    Entry(
        "small",
        "the default: 2 GB of memory",
        packaged.SMALL.licence,
        32_768,
        packaged.SMALL.num_bytes,
        "qwen2",
        packaged.SMALL.repository,
        sha256=packaged.SMALL.sha256,
        measured="17 of 26 right, 2 wrong, 7 not found; llama.cpp on two AVX2 cores reads 113 and "
        "writes 32 tok/s at 512 tokens",
    ),
    Entry(
        "coder",
        "work and reviews: 4 GB of memory",
        packaged.CODER.licence,
        32_768,
        packaged.CODER.num_bytes,
        "qwen2",
        packaged.CODER.repository,
        sha256=packaged.CODER.sha256,
        measured="18 of 26 right, 6 wrong, 2 not found; llama.cpp on two AVX2 cores reads 59 and "
        "writes 18 tok/s at 512 tokens",
    ),
    Entry(
        "granite-3.3-2b",
        "4 GB of memory",
        "Apache-2.0",
        131_072,
        1_550_000_000,
        "granite",
        "ibm-granite/granite-3.3-2b-instruct-GGUF:Q4_K_M",
    ),
    Entry(
        "smollm3-3b",
        "4 GB of memory",
        "Apache-2.0",
        65_536,
        1_920_000_000,
        "smollm3",
        "ggml-org/SmolLM3-3B-GGUF:Q4_K_M",
    ),
    Entry(
        "phi-4-mini",
        "6 GB of memory",
        "MIT",
        131_072,
        2_490_000_000,
        "phi3",
        "unsloth/Phi-4-mini-instruct-GGUF:Q4_K_M",
    ),
    Entry(
        "gemma-3-4b",
        "6 GB of memory",
        "Gemma terms",
        131_072,
        2_490_000_000,
        "gemma3",
        "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M",
    ),
    Entry(
        "qwen3-4b",
        "6 GB of memory",
        "Apache-2.0",
        262_144,
        2_500_000_000,
        "qwen3",
        "unsloth/Qwen3-4B-Instruct-2507-GGUF:Q4_K_M",
    ),
    Entry(
        "qwen-coder-7b",
        "code, 8 GB of memory",
        "Apache-2.0",
        32_768,
        4_680_000_000,
        "qwen2",
        "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M",
    ),
    Entry(
        "minicpm-sala",
        "a million tokens; 16 GB of memory once it is int4",
        "Apache-2.0",
        524_288,
        18_950_000_000,
        "minicpm_sala",
        "openbmb/MiniCPM-SALA",
    ),
    Entry(
        "ring-mini-linear",
        "long contexts, thinks; 16 GB of memory once it is int4",
        "MIT",
        131_072,
        32_800_000_000,
        "bailing_moe_linear",
        "inclusionAI/Ring-mini-linear-2.0",
    ),
    Entry(
        "ling-2.6-flash",
        "long contexts; 64 GB of memory once it is int4",
        "MIT",
        262_144,
        208_000_000_000,
        "bailing_hybrid",
        "inclusionAI/Ling-2.6-flash",
    ),
)


def named(name: str) -> Entry | None:
    return next((entry for entry in CATALOGUE if entry.name == name), None)
