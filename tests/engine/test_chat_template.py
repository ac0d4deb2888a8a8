"""Chat templates: those of families render, hostile ones end."""

import time

import pytest
from tiny import write_tokenizer

from engine.chat_markers import THINKING, thinking_markers, thinks, tool_call_markers
from engine.chat_template import MAX_RENDER_S, ChatTemplate
from engine.errors import TokenizerError
from engine.tokenizer import Piece, Tokenizer, Turn

MESSAGES = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
GROW = "{% set ns = namespace(x=START) %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}"


def growing(start, step, end=""):
    return GROW.replace("START", start).replace("STEP", step) + end


LARGE = {
    "concatenation": growing("'a'", "ns.x ~ ns.x"),
    "addition": growing("'a'", "ns.x + ns.x"),
    "lists": growing("[1]", "ns.x + ns.x"),
    "numbers": growing("9", "ns.x * ns.x"),
    "a list in itself": growing("[1]", "[ns.x, ns.x]", "{{ ns.x }}"),
    "the same by a filter": growing("[1]", "[ns.x, ns.x] | list", "{{ ns.x | tojson }}"),
    "a dict in itself": growing("{}", "{'a': ns.x, 'b': ns.x}", "{{ ns.x }}"),
    "a dict by a call": growing("[1]", "dict(a=ns.x, b=ns.x)", "{{ ns.x }}"),
    "a macro": "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}" + growing("'a'", "f(ns.x)"),
    "repetition": "{{ 'x' * 10000000000 }}",
    "a list repeated": "{{ [1] * 10000000000 }}",
    "replacement": "{% set x = 'a' * 1000000 %}{{ x.replace('a', x) }}",
    "replacement by a filter": "{% set x = 'a' * 1000000 %}{{ x | replace('a', x) }}",
    "joining": "{% set x = 'a' * 1000000 %}{{ x.join(['a'] * 1000) }}",
    "joining by a filter": "{% set x = 'a' * 1000000 %}{{ ([x] * 1000) | join }}",
    "output": "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
}
FORBIDDEN = {
    "old formats": "{{ '%10000000000d' % 1 }}",
    "formats": "{{ '{:>10000000000}'.format(1) }}",
    "a method": "{{ 'a'.center(10000000000) }}",
    "a filter": "{{ 'a' | center(10000000000) }}",
    "bytes of a number": "{{ (5).to_bytes(10000000000, 'big') }}",
    "powers": "{{ 9 ** 9 ** 9 }}",
    "insides": "{{ ''.__class__.__mro__ }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "nesting": "{% if x %}" * 3000 + "{% endif %}" * 3000,
    "brackets": "{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}",
    "a date as wide as you like": "{{ strftime_now('%999999999d') }}",
}


UNSEEN = {  # 1 step of the template each, or texts that are not large one by one
    "digits of powers of ten": "{{ 7 | round(-100000000) }}",
    "ends that are as long as the text": "{{ ('a' * 900000).strip('b' * 400000 ~ 'a') }}",
    "the same by a filter": "{{ ('a' * 900000) | trim('b' * 400000 ~ 'a') }}",
    "a search from the right": "{{ ('a' * 999999).rfind('ab' ~ 'a' * 400000) }}",
    "sums of lists": "{{ ('ab' * 500000) | map('list') | sum(start=[]) | length }}",
    "texts that are kept": "{% set x = '😀' * 999999 %}"
    + "".join(f"{{% set a{i} = x ~ '' %}}" for i in range(80)),
    "slices that are kept": "{% set x = '😀' * 999999 %}"
    + "".join(f"{{% set a{i} = x[1:] %}}" for i in range(80)),
    "what a filter gives out": "{{ range(9999) | map('replace', '1', '😀' * 900000) | list }}",
    "ranges that loops keep": "{% for i in range(99999) %}{{ loop.length }}{% endfor %}",
}


@pytest.mark.parametrize("name", UNSEEN)
def test_no_step_of_a_template_is_long_and_all_that_it_makes_is_counted(name):
    """Red: a model's template stops mm1 for minutes, or takes the machine's memory in 2 s."""
    began = time.process_time()
    with pytest.raises(TokenizerError, match=r"too large|not allowed"):
        ChatTemplate(UNSEEN[name], {}).render(MESSAGES, reply=True)
    assert time.process_time() - began < MAX_RENDER_S


@pytest.mark.parametrize("name", [*LARGE, *FORBIDDEN])
def test_a_template_cannot_fill_the_memory(name):
    began = time.monotonic()
    with pytest.raises(TokenizerError) as caught:
        ChatTemplate((LARGE | FORBIDDEN)[name], {}).render(MESSAGES, reply=True)
    if name in LARGE:
        assert "too large" in str(caught.value)
    assert time.monotonic() - began < MAX_RENDER_S
    assert "\n" not in str(caught.value)


def test_a_template_cannot_run_for_ever():
    nested = "{% for a in range(19999) %}{% for b in range(19999) %}{% endfor %}{% endfor %}"
    began = time.monotonic()
    with pytest.raises(TokenizerError, match="takes over 2 s"):
        ChatTemplate(nested, {}).render(MESSAGES, reply=True)
    assert time.monotonic() - began < 3 * MAX_RENDER_S


def test_a_template_that_is_a_book_is_refused():
    with pytest.raises(TokenizerError, match="262,144 characters"):
        ChatTemplate("x" * 262_145, {})


def test_what_hugging_face_gives_templates_is_there():
    template = (
        "{{ strftime_now('%d %b %Y') }}|{{ tools is none }}|{{ documents is none }}|"
        "{{ enable_thinking is defined }}|{{ bos_token }}|{{ {'a': 'é'} | tojson(indent=1) }}|"
        "{% generation %}x{% endgeneration %}"
        "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.content }}{% endfor %}"
    )
    rendered = ChatTemplate(template, {"bos_token": "<s>"}).render(MESSAGES, reply=True)
    assert rendered == '26 Jul 2024|True|True|False|<s>|{\n "a": "é"\n}|xS'


# Of the shape of the families' own, shortened.
GEMMA_2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA_3 = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{%- if messages[0]['content'] is string -%}"
    "{%- set first = messages[0]['content'] + '\n\n' -%}{%- else -%}"
    "{%- set first = messages[0]['content'][0]['text'] + '\n\n' -%}{%- endif -%}"
    "{%- set rest = messages[1:] -%}{%- else -%}{%- set first = '' -%}"
    "{%- set rest = messages -%}{%- endif -%}{%- for m in rest -%}"
    "{{ '<start_of_turn>' + m['role'] + '\n' + (first if loop.first else '') }}"
    "{%- if m['content'] is string -%}{{ m['content'] | trim }}{%- endif -%}"
    "{{ '<end_of_turn>\n' }}{%- endfor -%}{{ '<start_of_turn>model\n' }}"
)
LING = (
    "{% set thinking = 'SWITCH' %}{% if messages[0].role == 'system' %}"
    "{{ '<role>SYSTEM</role>' + messages[0].content + '\n' }}{% else %}"
    "{{ '<role>SYSTEM</role>' }}{% endif %}{{ 'detailed thinking ' + thinking + '<|role_end|>' }}"
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '<role>HUMAN</role>' + m.content + '<|role_end|>' }}{% elif m.role == 'assistant' %}"
    "{{ '<role>ASSISTANT</role>' + m.content + '<|role_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<role>ASSISTANT</role>' }}{% endif %}"
)
SILENT = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% endif %}"
    "{% endfor %}"
)
QWEN_25 = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] "
    "+ '<|im_end|>\n' }}{%- else %}{{- '<|im_start|>system\nYou are Qwen.<|im_end|>\n' }}"
    "{%- endif %}{%- for message in messages %}{%- if (message.role == 'user') or "
    "(message.role == 'system' and not loop.first) %}{{- '<|im_start|>' + message.role + '\n' + "
    "message.content + '<|im_end|>' + '\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
TURNS = [Turn("system", ("sys",)), Turn("user", ("doc\n", "ask"))]


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            GEMMA_2,
            "<start_of_turn>user\nsys\n\ndoc\nask<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            GEMMA_3,
            "<start_of_turn>user\nsys\n\ndoc\nask<end_of_turn>\n<start_of_turn>model\n",
        ),
        (SILENT, "[INST] sys\n\ndoc\nask [/INST]"),
        (
            LING,
            "<role>SYSTEM</role>sys\ndetailed thinking SWITCH<|role_end|>"
            "<role>HUMAN</role>doc\nask<|role_end|><role>ASSISTANT</role>",
        ),
        (
            QWEN_25,
            "<|im_start|>system\nsys<|im_end|>\n<|im_start|>user\ndoc\nask<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
    ],
)
def test_families_read_the_system_turn(template, expected, tmp_path):
    """Red: a model that has no system turn is asked nothing, or not what we ask it."""
    pieces = Tokenizer(write_tokenizer(tmp_path, template=template)).chat(TURNS)
    assert text_of(pieces) == expected
    assert [piece.text for piece in pieces if not piece.is_markup] == ["sys", "doc\n", "ask"]


def test_a_refusal_that_is_not_about_the_system_turn_is_told(tmp_path):
    template = "{{ raise_exception('only with tools') }}"
    tokenizer = Tokenizer(write_tokenizer(tmp_path, template=template))
    with pytest.raises(TokenizerError, match="only with tools"):
        tokenizer.chat(TURNS)


@pytest.mark.parametrize(("markers"), THINKING)
def test_thinking_markers_are_those_of_the_template(markers, tmp_path):
    template = "{% for m in messages %}{{ m.content }}{% endfor %}" + markers.begin
    tokenizer = Tokenizer(write_tokenizer(tmp_path, template=template))
    assert thinking_markers(tokenizer) == markers and tokenizer.opens_with(markers.begin)


def test_who_says_nothing_of_thinking_is_watched_for_the_usual_tag(tmp_path):
    tokenizer = Tokenizer(write_tokenizer(tmp_path))
    assert thinking_markers(tokenizer).begin == "<think>"
    assert tool_call_markers(tokenizer) is None


def test_ring_thinks_by_what_its_template_says_and_ling_does_not(tmp_path):
    """Red: no room is set aside for Ring's thinking, whose markers are plain text."""
    for switch, expected in (("on", True), ("off", False)):
        template = LING.replace("SWITCH", switch)
        tokenizer = Tokenizer(write_tokenizer(tmp_path / switch, template=template))
        assert thinks(tokenizer) is expected
        assert thinking_markers(tokenizer).end == "</think>"


def test_calls_of_tools_are_those_of_the_template(tmp_path):
    template = "{# <tool_call> #}{% for m in messages %}{{ m.content }}{% endfor %}"
    markers = tool_call_markers(Tokenizer(write_tokenizer(tmp_path, template=template)))
    assert markers is not None and markers.end == "</tool_call>"


@pytest.mark.parametrize(
    ("told", "ids"), [([2, 1], (2, 1)), (1, (2, 1)), (None, (2,)), ([], (2,)), ([2], (2,))]
)
def test_generation_config_adds_ends_of_an_answer(told, ids, tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": {told or "null"}}}')
    assert Tokenizer(tmp_path).eos_ids() == ids


@pytest.mark.parametrize("told", ['"x"', "[true]", "[-1]", "[[1]]", "1.5"])
def test_ends_that_are_no_ids_are_refused(told, tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": {told}}}')
    with pytest.raises(TokenizerError, match="eos_token_id is"):
        Tokenizer(tmp_path)
