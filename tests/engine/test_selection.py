"""Red here means that a question about a long context sees other text than it selected, or sees it
elsewhere: needles are not found, or not copied."""

import json
from dataclasses import replace

import pytest
import torch
from measure import relative_rms
from tiny import llama_config, load_model, write_checkpoint

from engine import api, cuda_graph
from engine.config import ModelConfig
from engine.context import Context
from engine.engine import Engine
from engine.errors import ConfigError, StoreError
from engine.layers import kv_cache
from engine.selection import Selection, selecting
from engine.store import manifest, state_tensors, writer
from kernels.linear import fp16_weight
from kernels.rotary import naive

SELECTION = Selection(
    scan_layer=2,
    scan_kv_head=1,
    distance=23,
    far_layers=(1, 2, 3),
    window_tokens=5,
    sink_tokens=2,
    sink_distance=9,
    block_tokens=4,
    margin_tokens=1,
    num_blocks=2,
)
CHUNK, SEGMENT = 4, 8
IDS = torch.randint(4, 290, (90,), generator=torch.Generator().manual_seed(3)).tolist()
DOCUMENT, QUESTION, ANSWER = IDS[:61], IDS[61:81], IDS[81:90]
END = len(DOCUMENT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = llama_config(num_hidden_layers=4)
    return write_checkpoint(tmp_path_factory.mktemp("selection"), config, seed=3)


@pytest.fixture(scope="module")
def plain(folder):
    return load_model(folder)


@pytest.fixture(scope="module")
def model(plain):
    return plain.with_options(selecting(plain.config, SELECTION))


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", SEGMENT)
    for module in (manifest, writer, state_tensors):
        monkeypatch.setattr(module, "SEGMENT_TOKENS", SEGMENT)


def asked(model, chunk_tokens=CHUNK, document=DOCUMENT):
    """After the question: the context, what it selected, and its logits token by token."""
    context = Context(model, chunk_tokens)
    context.extend(document)
    blocks = context.select(QUESTION)
    logits = []
    for piece in (QUESTION, *([token] for token in ANSWER)):
        for _, hidden in context.chunks(piece):
            logits.append(model.logits(hidden))
    return context, blocks, torch.cat(logits)


class Definition:
    """Layer by layer and query by query, each key turned back by the distance it is given."""

    def __init__(self, model):
        self.model, self.config = model, model.config

    def logits(self, blocks):
        """Of question and answer, whose far layers see `blocks` (pairs of start and end)."""
        hidden = self.model.embed.weight[torch.tensor(IDS[:90])]
        for index in range(self.config.num_layers):
            hidden = self.layer(index, hidden, blocks)
        return self.model.logits(hidden[END:])

    def mass(self, first):
        """Of each block of 4 tokens of documents that begin at `first`, with a question that sees
        its window only."""
        hidden = self.model.embed.weight[torch.tensor([*DOCUMENT, *QUESTION])]
        for index in range(SELECTION.scan_layer):
            hidden = self.layer(index, hidden, [])
        keys = torch.arange(max(first, SELECTION.sink_tokens), END)
        total = torch.zeros(-(-END // 4), dtype=torch.float64)
        return total.index_add_(0, keys // 4, self.shares(hidden, keys))

    def shares(self, hidden, keys):
        """Of `keys`, of the attention of the question by KV head 1 of the layer that scans, which
        `hidden` is read by next."""
        q, k, _ = self.projected(SELECTION.scan_layer, hidden)
        total = torch.zeros(len(keys), dtype=torch.float64)
        for row in range(END, END + len(QUESTION)):
            heads = self.turned(q[row, 2:], [SELECTION.distance])[0]  # those of KV head 1
            total += (heads @ k[keys, 1].T * self.scale).softmax(-1).mean(0) / len(QUESTION)
        return total

    def layer(self, index, hidden, blocks):
        layer = self.model.layers[index]
        q, k, v = self.projected(index, hidden)
        rows = []
        for row in range(len(hidden)):
            seen = self.seen(index, row, blocks)
            keys = torch.tensor([key for key, _ in seen])
            turned = self.turned(q[row], [distance for _, distance in seen])  # [n, H, D]
            own = k[keys].repeat_interleave(2, dim=1)
            shares = ((turned * own).sum(-1) * self.scale).softmax(0)  # [n, H]
            values = v[keys].repeat_interleave(2, dim=1)
            rows.append((shares[..., None] * values).sum(0).flatten())
        mixed = torch.stack(rows).float() @ layer.mixer.out.T
        hidden = hidden + mixed
        return hidden + layer.mlp(layer.mlp_norm(hidden))

    def seen(self, index, row, blocks):
        """Position and distance of each key that `row` sees."""
        chosen = SELECTION
        first_near = row - chosen.window_tokens + 1
        is_far_question = index in chosen.far_layers and row >= END
        if is_far_question:
            first_near = END if blocks else END - chosen.window_tokens
        sinks = range(min(chosen.sink_tokens, max(first_near, 0)))
        found = {j: min(row, chosen.sink_distance) - j for j in sinks}
        if is_far_question:
            found |= {j: chosen.distance for start, end in blocks for j in range(start, end)}
        found |= {j: row - j for j in range(max(first_near, 0), row + 1)}
        return list(found.items())

    def projected(self, index, hidden):
        layer = self.model.layers[index]
        qkv = (layer.mixer_norm(hidden) @ layer.mixer.qkv.T).double().view(len(hidden), 8, 8)
        return qkv[:, :4], qkv[:, 4:6], qkv[:, 6:]

    def turned(self, q, distances):
        """q [H, D] as seen from each of `distances`: [n, H, D]."""
        frequencies = torch.tensor(self.config.rotary_frequencies, dtype=torch.float64)
        angles = torch.tensor(distances)[:, None, None] * frequencies
        return naive.rotate(q.expand(len(distances), *q.shape), angles.cos(), angles.sin())

    @property
    def scale(self):
        return self.config.head_dim**-0.5


@torch.inference_mode()
def test_question_and_answer_see_what_the_definition_says(model):
    """Red at: another distance, no margin, sinks where they are, a choice for each token."""
    _, blocks, logits = asked(model)
    assert len(blocks) == 2
    want = Definition(model).logits([(block.start, block.end) for block in blocks])
    assert relative_rms(logits, want) < 1e-4
    assert relative_rms(logits, Definition(model).logits([])) > 1e-2  # and it matters


@torch.inference_mode()
@pytest.mark.parametrize("first", [0, 21])
def test_the_scan_is_its_definition(model, first):
    """Red where keys are scanned as they were rotated, or at another distance, or instructions
    before the documents draw it to themselves."""
    context = Context(model, CHUNK)
    context.extend(DOCUMENT)
    context.end_of_documents()
    tokens = context.search(QUESTION, first)
    assert len(tokens) == END
    mass = torch.nn.functional.pad(tokens, (0, -END % 4)).view(-1, 4).sum(1)
    want = Definition(model).mass(first)
    assert relative_rms(mass, want) < 1e-4 and float(mass.sum()) == pytest.approx(1)
    blocks = context.select(QUESTION, first)
    # What another question selected is not seen.
    context.select(IDS[:9], first)
    assert torch.equal(context.search(QUESTION, first), tokens)
    for block, index in zip(blocks, want.topk(2).indices.tolist(), strict=True):
        assert block.start == max(4 * index - 1, 2) and block.end == min(4 * index + 5, END)


@torch.inference_mode()
@pytest.mark.parametrize("chunk_tokens", [1, 7, 256])
def test_a_judgement_tells_where_the_question_looks(plain, chunk_tokens):
    """Red: another sentence than the one that answers is shown as evidence."""
    context = Context(plain, chunk_tokens)
    context.extend(DOCUMENT[:13])
    judged = context.judge(QUESTION, DOCUMENT[13:], SELECTION.head)
    hidden, states = plain.embedded(torch.tensor([*DOCUMENT, *QUESTION])), plain.empty_states()
    for layer, state in list(zip(plain.layers, states, strict=True))[: SELECTION.scan_layer]:
        hidden = layer(hidden, state, 0)
    want = Definition(plain).shares(hidden, torch.arange(13, END))
    assert relative_rms(judged.shares, want) < 1e-4
    assert relative_rms(judged.log_p, context.score(QUESTION, DOCUMENT[13:])) < 1e-5
    assert len(context) == 13


@pytest.mark.parametrize("chunk_tokens", [1, 7, 256])
def test_where_the_documents_are_cut_does_not_matter(model, chunk_tokens):
    _, blocks, logits = asked(model)
    _, found, got = asked(model, chunk_tokens)
    assert [(b.start, b.end) for b in found] == [(b.start, b.end) for b in blocks]
    assert relative_rms(got, logits) < 1e-4


def test_only_far_layers_grow(model):
    sizes = []
    for count in (61, 90):
        context = Context(model, CHUNK)
        context.extend(IDS[:count])
        sizes.append([state.num_bytes for state in context.states])
    assert [a == b for a, b in zip(*sizes, strict=True)] == [True, False, False, False]


def test_a_restored_context_selects_and_answers_as_it_did(folder, tmp_path):
    """Red: what is not saved is what decides the answer."""
    engine = Engine(folder, chunk_tokens=CHUNK, selection=SELECTION)
    engine.build_context(tmp_path / "saved", api.ContextPlan(DOCUMENT))
    cold = engine.new_context(is_saved_kind=True)
    cold.extend(DOCUMENT)
    blocks = []
    contexts = (engine.open_context(tmp_path / "saved"), cold)
    for context in contexts:
        blocks.append(context.select(QUESTION))
        context.extend(QUESTION)
    assert blocks[0] == blocks[1]
    assert torch.equal(contexts[0].logits, contexts[1].logits)


def test_contexts_that_were_read_otherwise_are_not_mixed(folder, tmp_path):
    """Red: keys that a far layer lacks are scanned, or a new distance costs a whole prefill."""
    engine = Engine(folder, chunk_tokens=CHUNK, selection=SELECTION)
    engine.build_context(tmp_path / "saved", api.ContextPlan(DOCUMENT))
    other = Engine(folder, chunk_tokens=CHUNK, selection=replace(SELECTION, window_tokens=6))
    with pytest.raises(StoreError, match="read for another selection"):
        other.open_context(tmp_path / "saved")
    asked_otherwise = Engine(folder, chunk_tokens=CHUNK, selection=replace(SELECTION, distance=24))
    assert len(asked_otherwise.open_context(tmp_path / "saved")) == len(DOCUMENT)


def test_forks_keep_their_own_choice(model):
    context = Context(model, CHUNK)
    context.extend(DOCUMENT)
    one, other = context.fork(), context.fork()
    one.select(QUESTION)
    other.end_of_documents()  # chooses nothing
    for twin in (one, other):
        twin.extend(QUESTION)
    assert not torch.equal(one.logits, other.logits)
    twin = context.fork()
    twin.select(QUESTION)
    twin = twin.fork()
    twin.extend(QUESTION)
    assert torch.equal(twin.logits, one.logits)
    assert all(not state.selected for state in context.states[1:])


def test_int8_keys_are_selected_by_what_they_stand_for(model):
    contexts = [Context(model, CHUNK, kv_dtype=dtype) for dtype in (None, torch.int8)]
    for context in contexts:
        context.extend(DOCUMENT)
        context.select(QUESTION)
        context.extend(QUESTION)
    assert relative_rms(contexts[1].logits, contexts[0].logits) < 0.1


def test_about_little_a_question_sees_everything(plain, model):
    """Up to the distance of sinks nothing is far, and nothing is selected."""
    context = Context(model, CHUNK)
    context.extend(DOCUMENT[:8])
    assert context.select(QUESTION) == []
    context.extend(QUESTION)
    assert not torch.isnan(context.logits).any()


def test_without_the_option_nothing_changes(plain, folder):
    """Red: models that do not select pay for those that do."""
    assert plain.config.selection is None
    again = load_model(folder)
    contexts = [Context(one, CHUNK) for one in (plain, again)]
    for context in contexts:
        context.extend(DOCUMENT)
        assert context.select(QUESTION) == []
        context.extend(QUESTION)
    assert torch.equal(contexts[0].logits, contexts[1].logits)


def test_the_engine_reads_both_ways_with_one_set_of_weights(folder, tmp_path):
    plain = Engine(folder, chunk_tokens=CHUNK)
    engine = Engine(folder, chunk_tokens=CHUNK, selection=SELECTION)
    assert engine.max_tokens == api.MOST_TOKENS > engine.max_positions == plain.max_tokens
    contexts = [plain.new_context(), engine.new_context(), engine.new_context(is_saved_kind=True)]
    for context in contexts:
        context.extend(DOCUMENT)
    assert torch.equal(contexts[0].logits, contexts[1].logits)
    assert not torch.equal(contexts[0].logits, contexts[2].logits)
    built = engine.build_context(tmp_path / "c", api.ContextPlan(DOCUMENT))
    assert torch.equal(built.context.logits, contexts[2].logits)
    saved = api.saved_context(tmp_path / "c")
    assert Selection.loads(saved.selection) == SELECTION
    with pytest.raises(StoreError, match="read by windows"):
        plain.open_context(tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"distance": 0}, "distance is 0"),
        ({"block_tokens": 48}, "no power of 2"),
        ({"sink_distance": 6}, "inside the window"),
        ({"far_layers": [1, 3]}, "scan_layer 2 keeps no keys"),
        ({"far_layers": []}, "far_layers must list"),
        ({"far_layers": [1, 2, 9]}, "layer 9 of 4"),
        ({"scan_kv_head": 2}, "KV head 2 of 2"),
        ({"distance": 1.5}, "no integer"),
        ({"distance": True}, "no integer"),
        ({"distance": 2**40}, "distance is"),
        ({"sink_distance": 5000}, "more than the 4,096 positions"),
        ({"other": 1}, "not an object of its options"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(plain, change, words):
    raw = json.loads(SELECTION.dumps()) | change
    with pytest.raises(ConfigError, match=words):
        selecting(plain.config, Selection.loads(json.dumps(raw)))


@pytest.mark.parametrize("text", ["", "[1]", "{", '"x"', "{}", '{"far_layers": [0]}'])
def test_what_is_no_calibration_is_refused(text):
    with pytest.raises(ConfigError):
        Selection.loads(text)


def test_a_layer_without_keys_cannot_be_far(plain):
    assert isinstance(plain.config, ModelConfig)
    forgetful = selecting(plain.config, SELECTION)  # layer 0 keeps a window
    with pytest.raises(ConfigError, match="layer 0 keeps a window only"):
        selecting(forgetful, Selection(0, 0, 9, (0, 1, 2, 3), sink_tokens=2))


def test_streamed_layers_select_alike(folder, monkeypatch):
    """Red: a model that does not fit the memory selects or answers otherwise."""
    # A streamed model has no copies of its weights in float16.
    monkeypatch.setattr(fp16_weight, "is_usable", lambda: False)
    answers = []
    for pool_bytes in (None, 200_000):
        engine = Engine(folder, chunk_tokens=CHUNK, selection=SELECTION, pool_bytes=pool_bytes)
        assert engine.is_streamed == (pool_bytes is not None) and engine.capabilities.selects
        context = engine.new_context(is_saved_kind=True)
        context.extend(DOCUMENT)
        blocks = context.select(QUESTION)
        context.extend(QUESTION)
        answers.append((blocks, context.logits))
    (blocks, logits), (found, got) = answers
    assert [(b.start, b.end) for b in found] == [(b.start, b.end) for b in blocks]
    assert relative_rms(got, logits) < 1e-5


def test_recorded_steps_are_not_for_models_that_select(folder):
    """Red: a GPU records steps that see everything where a question selected."""
    every = replace(SELECTION, far_layers=(0, 1, 2, 3))
    plain, engine = Engine(folder), Engine(folder, selection=every)
    assert cuda_graph.can_step(plain.new_context())
    assert not cuda_graph.can_step(engine.new_context(is_saved_kind=True))


def test_a_scan_is_float32_whatever_the_matmuls_run_in(folder):
    """Red: a GPU, whose matmuls run in bfloat16, cannot select."""
    plain = load_model(folder).to(torch.bfloat16)
    context = Context(plain.with_options(selecting(plain.config, SELECTION)), CHUNK)
    context.extend(DOCUMENT)
    assert context.select(QUESTION)
    context.extend(QUESTION)
    assert context.logits.isfinite().all()
