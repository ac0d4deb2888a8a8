"""`mm1 models plan`: bytes, driver and time before any work, from config and index alone."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.placement import machine_rates
from engine.placement.machine_rates import Rates
from engine.quantized.forms import Form
from engine.quantized.quantize import quantize
from mm1cli.commands.models_plan import parse_size
from mm1cli.errors import UsageError

REAL = Path(__file__).parents[4] / "shared" / "golden" / "m1-real"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="the real index is not here")
EIGHT = ("--ram", "1T", *["--gpu", "80G"] * 8)


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """No test waits for a measurement; one says what was asked to be measured."""
    asked = []
    known = Rates(product=5e10, attention=2e10, memory=1e10, int8=9e9, int4=5e9)

    def of_device(device):
        asked.append(str(device))
        return known

    def of_disk(folder, shard=None):
        asked.append("disk")
        return Rates(read=2e9, write=1e9)

    monkeypatch.setattr(machine_rates, "of_device", of_device)
    monkeypatch.setattr(machine_rates, "of_disk", of_disk)
    return asked


@needs_real
@pytest.mark.parametrize(
    ("machine", "driver", "code"),
    [
        ((*EIGHT, "--weights", "int8"), "chunk-major", 0),
        (EIGHT, "layer-major", 0),
        (("--ram", "512G", "--gpu", "80G"), "layer-major", 0),
        (("--ram", "24G", "--disk", "1T", "--kv", "int8"), "layer-major", 0),
        (("--ram", "4G", "--disk", "1T"), "layer-major", 4),
    ],
    ids=["8x80G int8", "8x80G", "80G and 512G", "laptop", "too small"],
)
def test_the_real_model_on_four_machines(mm1, machine, driver, code):
    """Red: a table too wide for a terminal, or exit 0 for what cannot be done."""
    ran = mm1("models", "plan", REAL, "--context", "1M", *machine)
    assert ran.code == code
    assert "912,210,767,872 bytes" in ran.out and "8,243 tensors" in ran.out
    assert f"\n{driver}: " in ran.out
    assert max(map(len, ran.out.replace(str(REAL), "m1").splitlines())) <= 80
    told = mm1("models", "plan", REAL, "--context", "1M", *machine, "--json")
    plan = json.loads(told.out.splitlines()[0])
    assert told.code == code and plan["fits"] is (code == 0)
    for device in plan["devices"]:
        names = ("weights", "pool", "kv", "state", "activation")
        total = sum(device[f"{name}_bytes"] for name in names)
        assert total == device["total_bytes"]
        assert code == 4 or total <= device["room_bytes"]
    assert (plan["times"]["prefill_s"] is None) == ("--gpu" in machine)
    if code == 4:
        assert "needs" in ran.err and "= weights" in ran.err and "4.0 GB free" in ran.err
        assert "it fits with " in ran.err and plan["would_fit"]
        assert ran.err.count("\n") == 1


@needs_real
def test_rates_that_nobody_measured_are_asked_for_and_not_guessed(mm1, measured):
    """Red: a time is told for a GPU nobody has run."""
    run = ("models", "plan", REAL, "--context", "100k", "--ram", "64G", "--gpu", "80G")
    ran = mm1(*run)
    assert "unknown" in ran.out and "no rate is known for: product" in ran.out
    assert measured == ["disk"]
    given_rates = ("product=400T", "attention=200T", "memory=3T", "link=50G")
    told = mm1(*run, "--json", *[x for rate in given_rates for x in ("--rate", rate)]).json
    assert told["times"]["unknown"] == [] and told["rates"]["read"] == 2e9
    assert told["times"]["disk_s"] == pytest.approx(told["prefill_read_bytes"] / 2e9)


def test_a_model_that_is_here_is_planned_with_this_machine(mm1, llama, measured):
    """Red: the plan is of another machine, or measures it at each call."""
    told = mm1("models", "plan", llama, "--json").json
    assert (told["driver"], told["fits"], told["tokens"]) == ("chunk-major", True, 16_384)
    assert measured == ["disk", "cpu"] and told["rates_measured"]
    assert told["times"]["prefill_s"] > 0 and told["times"]["token_s"] > 0
    again = mm1("models", "plan", llama, "--json", "--kv", "int8").json
    assert len(measured) == 2
    assert again["devices"][0]["kv_bytes"] < 0.4 * told["devices"][0]["kv_bytes"]
    mm1("models", "plan", llama, "--measure")
    assert len(measured) == 4


def test_weights_in_fewer_bits_are_planned_before_and_after_they_are_written(mm1, llama, tmp_path):
    """Red: the plan promises another model than `quantize` writes, or tells wrong forms."""
    quantize(llama, tmp_path / "int4", Form.INT4_64)
    asked = mm1("models", "plan", llama, "--json", "--weights", "int4").json
    written = mm1("models", "plan", tmp_path / "int4", "--json").json
    assert asked["stored_precision"] == "float32"
    assert written["stored_precision"].startswith("int4/64, ")
    for key in ("token_memory_bytes", "load_bytes"):
        assert asked[key] == written[key]
    for key in ("weights_bytes", "activation_bytes", "total_bytes"):
        assert asked["devices"][0][key] == written["devices"][0][key]
    sizes = written["weights_bytes"]
    assert sizes["stored"] == sizes["int4"] == asked["weights_bytes"]["int4"] < sizes["int8"]
    plain = mm1("models", "plan", llama, "--json").json
    assert written["devices"][0]["weights_bytes"] < plain["devices"][0]["weights_bytes"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--context", "much"),
        ("--ram", "-1G"),
        ("--gpu", "80Q"),
        ("--rate", "speed=3G"),
        ("--rate", "read=fast"),
        ("--weights", "int2"),
    ],
)
def test_what_makes_no_sense_is_2(mm1, llama, arguments):
    """Red: a typing error plans another machine."""
    ran = mm1("models", "plan", llama, *arguments)
    assert (ran.code, ran.out) == (2, "") and arguments[0] in ran.err


@given(st.integers(1, 2**40), st.sampled_from(["", "k", "M", "G", "Ki", "MiB", "GB"]))
def test_sizes_are_read_to_the_byte(number, unit):
    powers = {"": 1, "k": 1000, "M": 10**6, "G": 10**9, "GB": 10**9, "Ki": 1024, "MiB": 2**20}
    if number * powers[unit] <= 2**62:
        assert parse_size(f"{number}{unit}", "--ram") == number * powers[unit]
        assert parse_size(f"{number:,} {unit.lower()}", "--ram") == number * powers[unit]


@pytest.mark.parametrize("text", ["", "G", "0", "1 1", "1e3", "inf", "1i", "-3", "9" * 30, "١G"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="--ram is a size"):
        parse_size(text, "--ram")


def test_fractions_are_rounded():
    assert parse_size("1.5G", "--ram") == 1_500_000_000
    assert parse_size(".5Ki", "--ram") == 512
