"""Takes each safety out of the store, in a copy, and shows that the test that guards it goes red.

    python tests/engine/store/mutations.py [NAME ...]

Prints one line per safety; exits 1 if a test stays green without what it guards, or is red with it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
HERE = "tests/engine/store"


@dataclass(frozen=True)
class Mutation:
    """Without `safety`: `old`, once in `path`, becomes `new`, and `test` must fail."""

    safety: str
    path: str
    old: str
    new: str
    test: str


MUTATIONS = {
    "checksum": Mutation(
        "every byte is held against its checksum",
        "engine/store/tensors.py",
        "if check and checksum(tensors, facts) != metadata.get(_CHECKSUM):",
        "if False:",
        "test_int8.py::test_a_scale_that_changed_is_found",
    ),
    "manifest-checksum": Mutation(
        "the manifest carries its own checksum",
        "engine/store/checked_json.py",
        'if body.pop("checksum", None) != _checksum(body):',
        'if body.pop("checksum", None) is None:',
        "test_hostile.py::test_a_manifest_that_was_edited_is_damaged",
    ),
    "sync-bytes": Mutation(
        "a file's bytes are synced before it gets its name",
        "engine/durable.py",
        "os.fsync(file.fileno())",
        "pass",
        "test_power_loss.py",
    ),
    "sync-name": Mutation(
        "a file's name is synced before a manifest stands on it",
        "engine/durable.py",
        "        sync_folder(path.parent)\n",
        "        pass\n",
        "test_power_loss.py",
    ),
    "whole-or-not": Mutation(
        "a file gets its name only when it is whole",
        "engine/durable.py",
        'part = path.with_name(f".mm1-{secrets.token_hex(8)}.part")',
        "part = path",
        "test_kills.py",
    ),
    "manifest-last": Mutation(
        "the manifest is written after all it names",
        "engine/store/writer.py",
        "        if not self._has_end:\n            self._save_segments(whole=False)\n",
        "        self._saved_tokens = len(self._context) // 8 * 8\n"
        "        self._write_manifest(FINISHED)\n"
        "        if not self._has_end:\n            self._save_segments(whole=False)\n",
        "test_power_loss.py",
    ),
    "partial-last": Mutation(
        "what is said to be saved of an unfinished build is saved",
        "engine/store/writer.py",
        "                self._save_segment(caches, first, last)\n            self._saved_tokens",
        "                pass\n            self._saved_tokens",
        "test_kills.py",
    ),
    "tokens-chain": Mutation(
        "the tokens must give the context's hash",
        "engine/store/manifest.py",
        "if chain.at(self.manifest.num_tokens) != self.manifest.chain:",
        "if False:",
        "test_hostile.py::test_other_tokens_of_the_same_number_are_refused",
    ),
    "file-chain": Mutation(
        "a file must say that it is of just these tokens",
        "engine/store/tensors.py",
        "        if metadata.get(name) != value:\n",
        "        if False:\n",
        "test_hostile.py::test_files_that_changed_places_are_refused",
    ),
    "bounds": Mutation(
        "the size of the tokens is checked before they are read",
        "engine/store/manifest.py",
        "if path.stat().st_size != 4 * self.manifest.num_tokens:",
        "if False:",
        "test_hostile.py::test_a_list_of_tokens_longer_than_the_kv_is_refused",
    ),
    "most-tokens": Mutation(
        "counts have bounds",
        "engine/store/checked_json.py",
        "if type(value) is not int or not low <= value <= high:",
        "if type(value) is not int:",
        "test_hostile.py::test_a_forged_manifest_is_refused_before_anything_is_allocated",
    ),
    "shapes": Mutation(
        "shapes and dtypes are those of the model",
        "engine/store/tensors.py",
        "        if got != (want.shape, _DTYPES[want.dtype]):\n",
        "        if False:\n",
        "test_hostile.py::test_kv_of_another_shape_or_dtype_is_refused",
    ),
    "fingerprint": Mutation(
        "a context of another model is refused",
        "engine/store/manifest.py",
        "if self.fingerprint != other.fingerprint:",
        "if False:",
        "test_build.py::test_a_context_of_another_maker_is_refused",
    ),
    "kv": Mutation(
        "int8 and float KV are never mixed",
        "engine/store/manifest.py",
        "if self.kv != other.kv:",
        "if False:",
        "test_int8.py::test_int8_and_floats_are_never_mixed",
    ),
    "version": Mutation(
        "another version of the format is refused",
        "engine/store/checked_json.py",
        'if body.get("version") != VERSION:',
        "if False:",
        "test_hostile.py::test_a_forged_manifest_is_refused_before_anything_is_allocated",
    ),
    "grid": Mutation(
        "a context goes on only from a border of the grid",
        "engine/store/manifest.py",
        "            return common // grid * grid\n",
        "            return common\n",
        "test_build.py::test_a_context_goes_on_only_from_a_border_of_the_grid",
    ),
    "states-with-kv": Mutation(
        "a state is used only where its KV is saved, too",
        "engine/store/manifest.py",
        "common = min(common, manifest.saved_tokens, len(token_ids) - 1)",
        "common = min(common, len(token_ids) - 1)",
        "test_hostile.py::test_a_state_without_its_kv_is_not_used",
    ),
    "lock": Mutation(
        "one process builds at a time",
        "engine/store/store.py",
        "            lock.acquire(blocking=False)\n",
        "            lock = filelock.FileLock(self.folder / f'lock-{id(lock)}')\n"
        "            lock.acquire(blocking=False)\n",
        "test_build.py::test_a_second_builder_waits_and_finds_the_work_done",
    ),
    "read-only": Mutation(
        "what is mapped cannot be written to and counts to no limit",
        "engine/store/tensors.py",
        "access=mmap.ACCESS_READ",
        "access=mmap.ACCESS_COPY",
        "test_memory.py",
    ),
    "release": Mutation(
        "what is saved is released while the build goes on",
        "engine/store/writer.py",
        "                cache.adopt(index, of_layer(mapped, layer), SEGMENT_TOKENS)\n",
        "                of_layer(mapped, layer)\n",
        "test_memory.py",
    ),
    "layer-checksum": Mutation(
        "what a finished layer left is held against its checksum",
        "engine/store/layerwise.py",
        "if digest.hexdigest() != checksum:",
        "if False:",
        "test_state_tensors_hostile.py::test_a_forged_record_is_refused_before_anything_is_allocated",
    ),
    "hidden-checksum": Mutation(
        "hidden states are held against their checksum",
        "engine/store/layerwise.py",
        "if self._hidden.checksum(num_layers) == checksum:",
        "if self._hidden.checksum(num_layers):",
        "test_state_tensors_hostile.py::test_damage_costs_one_layer_where_what_it_read_is_there",
    ),
    "sealed-checksum": Mutation(
        "a file that has its name is held against its checksum",
        "engine/store/partial_file.py",
        "            tensors.load(path, self._expected, self._facts)\n",
        "            pass\n",
        "test_state_tensors_hostile.py::test_a_file_that_has_its_name_is_held_against_its_checksum",
    ),
    "sealed-once": Mutation(
        "a file that has its name is never written to",
        "engine/store/partial_file.py",
        "        if not self.is_sealed:\n            first, last",
        "        if True:\n            self.path = self.final if self.is_sealed else self.path\n"
        "            first, last",
        "test_state_tensors_hostile.py::test_files_with_their_names_are_not_written_to_again",
    ),
    "layer-synced": Mutation(
        "what a layer left is on disk before it is said to be done",
        "engine/store/layerwise.py",
        "            part.sync()\n",
        "            pass\n",
        "test_power_loss.py::test_no_finished_layer_is_lost",
    ),
    "hidden-synced": Mutation(
        "what the next layer reads is on disk before a layer is said to be done",
        "engine/store/layerwise.py",
        "        self._hidden.sync()\n",
        "",
        "test_power_loss.py::test_no_finished_layer_is_lost",
    ),
    "layer-names": Mutation(
        "the names of its files are, too",
        "engine/store/layerwise.py",
        "        durable.sync_folder(self._area)\n",
        "",
        "test_power_loss.py::test_no_finished_layer_is_lost",
    ),
    "two-files": Mutation(
        "what a layer reads stays until it is done",
        "engine/store/hidden_states.py",
        "1 - self._to if is_saved else self._to",
        "self._to",
        "test_power_loss.py::test_no_finished_layer_is_lost",
    ),
    "kept-when-full": Mutation(
        "what was saved stays when the disk is full",
        "engine/store/hidden_states.py",
        "1 - self._to if is_saved else self._to",
        "1 - self._to",
        "test_state_tensors.py::test_a_disk_that_fills_up_costs_nothing_that_was_read",
    ),
    "sealed-synced": Mutation(
        "a file of all layers is on disk before it gets its name",
        "engine/store/partial_file.py",
        "        durable.sync_file(self.path)\n        self.path.replace",
        "        self.path.replace",
        "test_power_loss.py",
    ),
    "one-name": Mutation(
        "a file that is elsewhere too is not written to",
        "engine/store/partial_file.py",
        "if status.st_nlink != 1 and not may_have_names:",
        "if False:",
        "test_state_tensors_hostile.py::test_nothing_outside_is_written_to",
    ),
    "made-anew": Mutation(
        "nor are hidden states written to such a file",
        "engine/store/hidden_states.py",
        "            self._path(parity).unlink(missing_ok=True)\n",
        "",
        "test_state_tensors_hostile.py::test_nothing_outside_is_written_to",
    ),
    "layers-tokens": Mutation(
        "layers are used for just their tokens",
        "engine/store/layer_progress.py",
        "(found.num_tokens, found.chain) != (goal.num_tokens, goal.chain)",
        "found.num_tokens < goal.num_tokens",
        "test_state_tensors.py::test_layers_of_other_tokens_or_another_maker_are_not_used",
    ),
    "layers-maker": Mutation(
        "layers are used for just their model, grid and KV",
        "engine/store/layer_progress.py",
        "why = goal.compatibility.differs_in(found.compatibility)",
        'why = ""',
        "test_state_tensors.py::test_layers_of_other_tokens_or_another_maker_are_not_used",
    ),
    "layers-begin": Mutation(
        "layers are used behind just what they began with",
        "engine/store/store.py",
        "if begin is None or begin.tokens != found.first_token:",
        "if False:",
        "test_state_tensors_hostile.py::test_a_forged_record_is_refused_before_anything_is_allocated",
    ),
    "layers-keep": Mutation(
        "what layers begin with stays as long as they do",
        "engine/store/store.py",
        "            writer.keep()  # so",
        "            pass  # so",
        "test_state_tensors.py::test_what_the_layers_begin_with_outlives_its_lender",
    ),
    "layers-room": Mutation(
        "room for hidden states is asked for",
        "engine/store/store.py",
        "needed += layerwise.hidden_bytes(self._model, num_tokens - reused)",
        "needed += 0",
        "test_state_tensors.py::test_room_for_hidden_states_is_asked_for_before_the_work",
    ),
    "layers-release": Mutation(
        "what a layer saved is released while it goes on",
        "engine/store/layerwise.py",
        "                state.adopt(index, mapped, segment)\n            self",
        "                del mapped\n            self",
        "test_memory.py",
    ),
    "in-memory": Mutation(
        "a build goes on in memory when the disk is full",
        "engine/store/on_disk_error.py",
        "        if self._on_unsaved is None:\n",
        "        if True:\n",
        "test_unsaved.py::test_a_disk_that_fills_up_costs_nothing_that_was_read",
    ),
    "others-files": Mutation(
        "nothing is built, or cleared, beside others' files",
        "engine/store/store.py",
        "        if foreign := saving.do(partial(why_not_built, self.folder)):\n",
        '        if foreign := "":\n',
        "test_owned.py::test_nothing_is_built_or_cleared_beside_others_files",
    ),
    "behind-links": Mutation(
        "nothing is cleared behind a link",
        "engine/store/owned.py",
        "    own = _OWN_LINK if (folder / name).is_symlink() else _OWN\n",
        '    own = re.compile(f"{_OWN.pattern}|kv|states|attachments")\n',
        "test_owned.py::test_nothing_is_cleared_behind_a_link",
    ),
}


def copy_of(root: Path) -> Path:
    for name in ("kernels", "engine", "mm1cli", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def is_green(root: Path, *tests: str) -> bool:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-p",
        "no:cacheprovider",
        "--hypothesis-profile=full",
    ]
    done = subprocess.run(
        [*command, *(f"{HERE}/{test}" for test in tests)],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    if done.returncode not in (0, 1):  # no test was found, or none could be run
        sys.exit(done.stdout + done.stderr)
    return done.returncode == 0


def main(names: list[str]) -> None:
    chosen = {name: MUTATIONS[name] for name in names or MUTATIONS}
    missed = []
    with tempfile.TemporaryDirectory(prefix="mm1-mutations-") as folder:
        root = copy_of(Path(folder) / "mm1")
        if not is_green(root, *sorted({one.test for one in chosen.values()})):
            sys.exit("red before anything was taken out")
        for name, one in chosen.items():
            path = root / one.path
            text = path.read_text(encoding="utf-8")
            if text.count(one.old) != 1:
                sys.exit(
                    f"{name}: {one.path} has changed; its text is there {text.count(one.old)}x"
                )
            path.write_text(text.replace(one.old, one.new), encoding="utf-8")
            if is_green(root, one.test):
                missed.append(name)
            path.write_text(text, encoding="utf-8")
            colour = "GREEN" if name in missed else "red"
            print(f"{colour:<5} {name:<18} {one.test:<75} {one.safety}", flush=True)
    if missed:
        sys.exit(f"not guarded: {', '.join(missed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
