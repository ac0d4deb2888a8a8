import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from mm1cli import settings, trust
from mm1cli.errors import UsageError
from mm1cli.settings import NAMES, Settings, load

# For each setting two values that differ from each other and, where there is room, the default.
SAMPLES: dict[str, tuple[object, object]] = {
    "model": ("small", "./weights"),
    "models_dir": ("weights", "/srv/models"),
    "device": ("cuda:0", "cuda:1"),
    "chunk_tokens": (1, 65_536),
    "kv": ("int8", "float32"),
    "fast": (True, False),
    "server": ("http://a", "http://b:1"),
    "server_kind": ("llama", "openai"),
    "tokenizer": ("small", "/models/m"),
    "api_key_file": ("key", "/run/key"),
    "context_tokens": (4096, 8192),
    "max_tokens": (1, 9_000),
    "temperature": (0.5, 1.25),
    "top_p": (0.5, 1.0),
    "schema": ("name, year int", "paper.json"),
    "think": ("show", "only"),
    "max_thinking": (0, 99),
    "seed": (7, 2**63 - 1),
    "threads": (1, 16),
    "fit": ("head", "drop-largest"),
    "focus": ("off", "12"),
    "finder": ("mini", "/models/m"),
    "search": ("bm25", "model"),
    "read_seconds": (2.5, 60.0),
    "allow_secrets": (True, False),
    "ocr": (True, False),
    "convert": (True, False),
    "cache_dir": ("kept", "/tmp/kept"),
    "no_cache": (True, False),
    "max_cache": (2.5, 7.0),
    "always_answer": (True, False),
    "write": (True, False),
    "strict": (True, False),
    "strict_citations": (True, False),
    "quiet": (True, False),
    "answer_only": (True, False),
    "offline": (True, False),
    "no_log": (True, False),
}
DEFAULTS = {
    "model": "auto",
    "models_dir": None,
    "server": None,
    "server_kind": "auto",
    "tokenizer": None,
    "api_key_file": None,
    "device": "cpu",
    "chunk_tokens": 1024,
    "kv": None,
    "fast": False,
    "context_tokens": None,
    "max_tokens": 256,
    "temperature": 0.0,
    "top_p": 0.95,
    "schema": None,
    "think": "hide",
    "max_thinking": 4096,
    "seed": 0,
    "threads": None,
    "fit": "focus",
    "focus": "auto",
    "finder": None,
    "search": "both",
    "read_seconds": 20.0,
    "allow_secrets": False,
    "ocr": False,
    "convert": False,
    "cache_dir": None,
    "no_cache": False,
    "max_cache": 20.0,
    "always_answer": False,
    "write": False,
    "strict": False,
    "strict_citations": False,
    "quiet": False,
    "answer_only": False,
    "offline": False,
    "no_log": False,
}
SOURCES = ("config", "project", "environment", "flag")  # lowest first


class Machine:
    """A user's directories, environment and command line, all empty until `say`."""

    def __init__(self, root: Path):
        self.cwd = root / "work"
        self.config_dir = root / "config"
        self.cwd.mkdir()
        self.config_dir.mkdir()
        self.environ: dict[str, str] = {}
        self.flags: dict[str, object | None] = dict.fromkeys(NAMES)

    def say(self, source: str, name: str, value: object) -> str:
        """Set `name` in `source`; the origin that it should be reported to have."""
        if source == "flag":
            self.flags[name] = value
            return "--" + name.replace("_", "-")
        if source == "environment":
            self.environ[f"MM1_{name.upper()}"] = str(value)
            return f"MM1_{name.upper()}"
        path = {
            "project": self.cwd / "mm1.toml",
            "config": self.config_dir / "config.toml",
        }[source]
        spelled = str(value).lower() if isinstance(value, bool) else repr(value)
        path.write_text(f"{name} = {spelled}\n")
        if source == "project":
            trust.trust(self.cwd)
        return "./mm1.toml" if source == "project" else str(path)

    def load(self) -> Settings:
        return load(self.flags, self.environ, self.cwd, self.config_dir)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_every_setting_is_sampled_here():
    assert set(NAMES) == set(SAMPLES) == set(DEFAULTS)


@pytest.mark.parametrize("source", SOURCES)
def test_focus_takes_a_number_however_it_is_spelled(machine: Machine, source: str):
    """Red: focus = 3 in mm1.toml is refused, or --focus 65 reads a corpus over again."""
    machine.say(source, "focus", 3)
    assert machine.load().focus == "3"
    for value in ("0", "65", 65, "on", "03", True, ""):
        if source == "environment" and value == "":
            continue  # counts as unset
        machine.say(source, "focus", value)
        with pytest.raises(UsageError, match="off, auto or a whole number"):
            machine.load()


def test_defaults(machine: Machine):
    loaded = machine.load()
    assert {name: getattr(loaded, name) for name in NAMES} == DEFAULTS
    assert {loaded.origin(name) for name in NAMES} == {"default"}
    assert loaded == Settings()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", SOURCES)
def test_each_source_sets_each_setting_and_is_named_as_its_origin(
    machine: Machine, source: str, name: str
):
    for value in SAMPLES[name]:
        origin = machine.say(source, name, value)
        loaded = machine.load()
        assert getattr(loaded, name) == value
        assert type(getattr(loaded, name)) is type(value)
        assert loaded.origin(name) == origin
        assert all(loaded.origin(other) == "default" for other in NAMES if other != name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("height", [1, 2, 3])
def test_the_higher_source_wins(machine: Machine, height: int, name: str):
    # Both ways round: a switch set to false on a higher source must beat true below.
    for low_value, high_value in (SAMPLES[name], SAMPLES[name][::-1]):
        for source in SOURCES[:height]:
            machine.say(source, name, low_value)
        origin = machine.say(SOURCES[height], name, high_value)
        loaded = machine.load()
        assert getattr(loaded, name) == high_value
        assert loaded.origin(name) == origin


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("chunk_tokens", "0", "a whole number from 1 to 65,536"),
        ("chunk_tokens", "65537", "a whole number from 1 to 65,536"),
        ("chunk_tokens", "5.5", "a whole number"),
        ("chunk_tokens", "many", "a whole number"),
        ("context_tokens", "0", "a whole number from 1"),
        ("max_tokens", "-1", "a whole number from 1"),
        ("temperature", "-0.1", "from 0"),
        ("temperature", "nan", "from 0"),
        ("temperature", "inf", "from 0"),
        ("top_p", "0", "above 0 and up to 1"),
        ("top_p", "1.01", "above 0 and up to 1"),
        ("seed", "-1", "a whole number from 0"),
        ("threads", "0", "a whole number from 1"),
        ("strict", "maybe", "true or false"),
        ("fit", "some", "one of focus, select, fail, drop-largest, head"),
        ("model", " ", "text that is not empty"),
    ],
)
def test_a_bad_value_is_refused_with_its_origin_and_what_is_allowed(
    machine: Machine, name: str, text: str, allowed: str
):
    machine.environ[f"MM1_{name.upper()}"] = text
    with pytest.raises(UsageError) as caught:
        machine.load()
    message = str(caught.value)
    assert message.startswith(f"MM1_{name.upper()}: {name} must be ")
    assert allowed in message
    assert message.endswith(f"not {text!r}")


@pytest.mark.parametrize(
    "line",
    ["chunk_tokens = true", "chunk_tokens = '5'", "strict = 1", "model = 3", "seed = [1]",
     "temperature = nan", "threads = 2.0"],
)  # fmt: skip
def test_toml_values_must_have_the_right_type(machine: Machine, line: str):
    (machine.cwd / "mm1.toml").write_text(line)
    with pytest.raises(UsageError, match=r"^\./mm1\.toml: \w+ must be "):
        machine.load()


def test_a_whole_number_is_a_fine_temperature(machine: Machine):
    machine.say("project", "temperature", 1)
    assert machine.load().temperature == 1.0


def test_a_bad_value_that_a_higher_source_overrides_is_still_refused(machine: Machine):
    machine.say("project", "seed", -5)
    machine.say("flag", "seed", 5)
    with pytest.raises(UsageError, match=r"\./mm1\.toml: seed"):
        machine.load()


def test_flags_are_checked_too(machine: Machine):
    machine.flags["top_p"] = 2.0
    with pytest.raises(UsageError, match=r"^--top-p: top_p must be .* not 2\.0$"):
        machine.load()


@pytest.mark.parametrize(
    ("key", "meant"), [("temprature", "temperature"), ("max-tokens", "max_tokens")]
)
def test_an_unknown_key_gets_a_suggestion(machine: Machine, key: str, meant: str):
    (machine.cwd / "mm1.toml").write_text(f"{key} = 1\n")
    with pytest.raises(UsageError) as caught:
        machine.load()
    assert str(caught.value) == (f"./mm1.toml: no setting is called '{key}'; did you mean {meant}?")


def test_an_unknown_key_like_no_other_gets_the_list(machine: Machine):
    (machine.config_dir / "config.toml").write_text("zzz = 1\n")
    with pytest.raises(UsageError) as caught:
        machine.load()
    assert all(name in str(caught.value) for name in NAMES)
    assert str(machine.config_dir) in str(caught.value)


def test_a_misspelt_variable_is_refused_and_a_foreign_one_is_not(machine: Machine):
    machine.environ = {"MM1_CACHE_DIRECTORY": "x", "MM1_SEED": "", "SEED": "x"}
    assert machine.load() == Settings()
    machine.environ["MM1_TEMPRATURE"] = "1"
    with pytest.raises(UsageError, match=r"MM1_TEMPRATURE: .* did you mean MM1_TEMPERATURE"):
        machine.load()


@pytest.mark.parametrize(
    "content",
    [b"seed = ", b"\xff\xfe", b"seed = 1\nseed = 2", b"a = " + b"[" * 5000, b"x = '\x1b[31m"],
)
def test_broken_toml_is_one_clear_line(machine: Machine, content: bytes):
    (machine.cwd / "mm1.toml").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        machine.load()
    assert str(caught.value).startswith("./mm1.toml: is not ")
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_refused(machine: Machine):
    (machine.cwd / "mm1.toml").mkdir()
    with pytest.raises(UsageError, match=r"^\./mm1\.toml: cannot be read"):
        machine.load()


def test_a_long_value_is_shortened_and_says_so(machine: Machine):
    machine.environ["MM1_SEED"] = "9" * 6000
    with pytest.raises(UsageError, match=r"… \([\d,]+ more characters\)$"):
        machine.load()


def test_settings_are_frozen_and_know_only_their_names():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().seed = 3  # type: ignore[misc]
    with pytest.raises(KeyError):
        Settings().origin("origins")


def test_without_a_config_dir_the_users_own_is_read(machine: Machine, monkeypatch):
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_config_dir", lambda app: f"{machine.config_dir}/{app}")
    (machine.config_dir / "mm1").mkdir()
    (machine.config_dir / "mm1" / "config.toml").write_text("seed = 11\n")
    assert load({}, {}, machine.cwd).seed == 11


def test_importing_settings_is_cheap():
    code = (
        "import sys, mm1cli.settings; "
        "sys.exit(bool({'torch', 'rich', 'typer', 'platformdirs'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert settings.DEFAULT == "default"


REACHES_OUT = (
    'cache_dir = "../.."\nallow_secrets = true\nquiet = true\nmodel = "/tmp/m"\nseed = 3\n'
)


def test_a_folder_sets_only_what_is_harmless_until_it_is_trusted(machine: Machine):
    """Red: who reads a repository runs its model, or deletes where it says."""
    file = machine.cwd / "mm1.toml"
    file.write_text(REACHES_OUT)
    loaded = machine.load()
    assert loaded == dataclasses.replace(Settings(), seed=3)
    assert loaded.ignored == ("cache_dir", "allow_secrets", "quiet", "model")
    assert loaded.origin("cache_dir") == "default"
    trust.trust(machine.cwd)
    loaded = machine.load()
    assert (loaded.cache_dir, loaded.allow_secrets, loaded.ignored) == ("../..", True, ())
    file.write_text(f"{REACHES_OUT}max_cache = 0\n")  # asked again
    assert machine.load().ignored == ("cache_dir", "allow_secrets", "quiet", "model", "max_cache")
    assert trust.was_trusted(file)
    assert trust.distrust(machine.cwd) and not trust.distrust(machine.cwd)


@pytest.mark.parametrize(
    ("schema", "holds"),
    [("name, year int", True), ("forms/a.json", True), ("../a.json", False), ("/a.json", False),
     ("link/a.json", False)],
)  # fmt: skip
def test_a_folder_names_no_schema_outside_itself(machine: Machine, schema: str, holds: bool):
    """Red: a repository has files of its reader opened."""
    (machine.cwd / "link").symlink_to("/etc")
    (machine.cwd / "mm1.toml").write_text(f'schema = "{schema}"\n')
    assert machine.load().schema == (schema if holds else None)


def test_every_setting_that_reaches_out_needs_trust():
    """Red: a new setting is a repository's to set because nobody thought of it."""
    assert set(NAMES) > settings.HARMLESS
    for name in ("model", "models_dir", "device", "cache_dir", "max_cache", "allow_secrets", "ocr",
                 "convert", "quiet", "always_answer", "answer_only", "offline",
                 "no_log"):  # fmt: skip
        assert name not in settings.HARMLESS


def test_what_somebody_else_could_have_written_trusts_nothing(machine: Machine, monkeypatch):
    """Red: a file of trust that is damaged ends every command, or trusts all."""
    monkeypatch.setenv("MM1_STATE_DIR", str(machine.cwd / "state"))
    (machine.cwd / "state").mkdir()
    (machine.cwd / "mm1.toml").write_text(REACHES_OUT)
    for content in ("", "[]", "{", '{"x": 1}', "[" * 10_000):
        (machine.cwd / "state" / "trusted.json").write_text(content)
        assert machine.load().ignored
