"""What thinking long costs: memory and speed after 1,000, 10,000, 40,000 and 80,000 tokens.

    python -m benchmarks.thinking [--budget 80000] [--layers 8] [--threads N]

A random model of MiniMax-M1's shape (seven Lightning layers, then one of softmax, and so on; four
experts, two at work), tiny, thinks as `mm1 chat` lets it: template, sampling of the card, thinking
told as it comes, until the budget forces the end and an answer follows. `states` are Lightning's,
which do not grow; `KV` are the keys and values of softmax layers, beside what `mm1 models plan`
says of a context of that length. `process` is all that is resident beyond what was before the
first token. Tokens are those of a second of CPU time, so that other work on the machine counts
little.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine

if TYPE_CHECKING:
    from engine.engine import Engine

MARKS = (1_000, 10_000, 40_000, 80_000)
_VOCAB, _HIDDEN, _HEADS, _KV_HEADS, _HEAD_DIM, _INNER, _EXPERTS = 320, 64, 4, 2, 32, 48, 4
_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ai: <think>\n' }}{% endif %}"
)


def config(num_layers: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model_type": "minimax_m1",
        "architectures": ["MiniMaxM1ForCausalLM"],
        "vocab_size": _VOCAB,
        "hidden_size": _HIDDEN,
        "intermediate_size": _INNER,
        "num_hidden_layers": num_layers,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KV_HEADS,
        "head_dim": _HEAD_DIM,
        "rotary_dim": _HEAD_DIM // 2,
        "rope_theta": 1e7,
        "num_local_experts": _EXPERTS,
        "num_experts_per_tok": 2,
        "attn_type_list": [int(index % 8 == 7) for index in range(num_layers)],
        "postnorm": True,
        "max_position_embeddings": 2**20,
        "hidden_act": "silu",
    }
    for name in ("full_attention", "linear_attention", "mlp"):
        found |= {f"layernorm_{name}_alpha": 3.5565588200778455, f"layernorm_{name}_beta": 1.0}
    return found


def _shapes(num_layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    query, rows = _HEADS * _HEAD_DIM, _KV_HEADS * _HEAD_DIM
    yield from (("model.embed_tokens", (_VOCAB, _HIDDEN)), ("lm_head", (_VOCAB, _HIDDEN)))
    yield "model.norm", (_HIDDEN,)
    for index in range(num_layers):
        layer: dict[str, tuple[int, ...]] = dict.fromkeys(
            ("input_layernorm", "post_attention_layernorm"), (_HIDDEN,)
        )
        if index % 8 == 7:
            layer |= {"self_attn.q_proj": (query, _HIDDEN), "self_attn.o_proj": (_HIDDEN, query)}
            layer |= {f"self_attn.{name}_proj": (rows, _HIDDEN) for name in "kv"}
        else:
            layer |= {"self_attn.qkv_proj": (3 * query, _HIDDEN), "self_attn.norm": (query,)}
            layer["self_attn.output_gate"] = (query, _HIDDEN)
            layer["self_attn.out_proj"] = (_HIDDEN, query)
        layer["block_sparse_moe.gate"] = (_EXPERTS, _HIDDEN)
        for expert in range(_EXPERTS):
            name = f"block_sparse_moe.experts.{expert}"
            layer |= {f"{name}.{one}": (_INNER, _HIDDEN) for one in ("w1", "w3")}
            layer[f"{name}.w2"] = (_HIDDEN, _INNER)
        yield from ((f"model.layers.{index}.{name}", shape) for name, shape in layer.items())


def write(folder: Path, num_layers: int) -> Path:
    """A checkpoint that never ends by itself: it has no token for that."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.dumps({"chat_template": _TEMPLATE})
    (folder / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config(num_layers)), encoding="utf-8")
    torch.manual_seed(0)
    weights = {
        f"{name}.weight": torch.ones(shape)
        if len(shape) == 1
        else torch.randn(shape) / shape[-1] ** 0.5
        for name, shape in _shapes(num_layers)
    }
    weights["model.embed_tokens.weight"][len(alphabet) :] = 0
    save_file(weights, folder / "model.safetensors")
    return folder


def measure(folder: Path, budget: int, threads: int | None) -> list[dict[str, float]]:
    from engine.api import Turn
    from engine.engine import Engine
    from engine.layers.kv_cache import KVCache
    from mm1cli.answering.generation import Generator
    from mm1cli.commands.chat import as_its_card_says
    from mm1cli.models.describe import describe
    from mm1cli.settings import Settings

    engine = Engine(folder, threads=threads)
    settings = Settings(max_thinking=budget, max_tokens=32, think="show")
    settings = as_its_card_says(settings, describe(folder).family)
    context = engine.new_context()
    context.extend(engine.tokenizer.encode_chat([Turn("user", ("Prove it.",))]))
    asked, before, began = len(context), machine.resident_bytes(), time.process_time()
    rows: list[dict[str, float]] = []

    def note(_: str) -> None:
        thought = len(context) - asked
        mark = MARKS[len(rows)] if len(rows) < len(MARKS) else budget + 1
        if thought < mark:
            return
        kv = sum(one.num_bytes for one in context.states if isinstance(one, KVCache))
        since = rows[-1] if rows else {"tokens": 0, "seconds": 0.0}
        seconds = time.process_time() - began
        rows.append(
            {
                "tokens": mark,
                "seconds": seconds,
                "tokens_per_s": (mark - since["tokens"]) / (seconds - since["seconds"]),
                "state_bytes": context.num_bytes - kv,
                "kv_bytes": kv,
                "planned_kv_bytes": _planned(engine, len(context)),
                "process_bytes": machine.resident_bytes() - before,
            }
        )
        print(_told(rows[-1]), flush=True)

    def ignore(*_: object) -> None: ...

    written = Generator(
        engine, settings, on_token=ignore, on_thinking=note, on_progress=ignore
    ).generate(context)
    assert written.num_thinking_tokens == budget and written.token_ids, "the budget, then an answer"
    print(f"temperature {settings.temperature}, top_p {settings.top_p}; an answer followed")
    return rows


def _planned(engine: "Engine", num_tokens: int) -> int:
    """Bytes of keys and values, as `mm1 models plan` has them."""
    import torch

    from engine import placement

    plan = placement.plan(engine.config, num_tokens, engine.chunk_tokens, torch.float32)
    return plan.kv_bytes


def _told(row: dict[str, float]) -> str:
    sizes = ("state_bytes", "kv_bytes", "planned_kv_bytes", "process_bytes")
    shown = "".join(f"{row[name] / 1e6:>11.2f}" for name in sizes)
    return f"{row['tokens']:>8,.0f}{row['tokens_per_s']:>11.0f}{shown}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=int, default=MARKS[-1])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    titles = ("states MB", "KV MB", "planned", "process")
    print(f"{'thought':>8}{'tok/CPU s':>11}" + "".join(f"{title:>11}" for title in titles))
    with tempfile.TemporaryDirectory() as folder:
        model = write(Path(folder), options.layers)
        rows = measure(model, options.budget, options.threads)
    print(json.dumps({"benchmark": "thinking", "rows": rows}))


if __name__ == "__main__":
    main()
