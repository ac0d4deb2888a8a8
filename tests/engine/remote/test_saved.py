"""Red here means a context over a server is taken up unproved, or its folder is believed."""

import json

import pytest

from engine.errors import StoreError
from engine.protocols import ContextPlan
from engine.remote import saved
from engine.remote.saved import Proof, build, open_saved
from engine.store.manifest import OpenedContext
from engine.store.owned import why_foreign

IDS, QUESTION, VOCAB = [*range(1, 400)], [7, 8, 9], 500
MODEL = "f" * 64


class Server:
    """Implements `Dialect` as far as contexts need it; `shift` is how another model judges."""

    def __init__(self, keeps=True, shift=0.0):
        self.keeps, self.shift = keeps, shift
        self.slots, self.did, self.memory = {}, [], []

    def warm(self, token_ids, on_progress):
        on_progress(len(token_ids), len(token_ids))
        reused = len(token_ids) - 1 if self.memory == list(token_ids) else 0
        self.memory = list(token_ids)
        self.did.append(("warm", reused))
        return reused

    def score(self, token_ids, tail):
        return [-0.5 * one + self.shift for one in tail]

    def save(self, name):
        if not self.keeps:
            return 0
        self.slots[name] = len(self.memory)
        return len(self.memory)

    def holds(self, token_ids):
        return self.memory == list(token_ids)

    def restore(self, name):
        self.did.append("restore")
        self.memory = IDS
        return self.slots.get(name, 0)

    def forget(self):
        self.did.append("forget")
        self.memory = []


def built(folder, server):
    plan = ContextPlan(IDS, attachments={"a.txt": b"text"})
    return build(folder, plan, MODEL, server, QUESTION)


def opened(folder, server, model=MODEL):
    notes = []
    server.did.clear()
    context = open_saved(folder, model, server, VOCAB, on_note=notes.append)
    assert list(context.token_ids) == IDS
    return context.reused_tokens, server.did, notes


def test_a_slot_is_used_when_it_is_proved_and_else_all_is_read_again(tmp_path):
    """Red: a server answers from the state of another model, or reads what it has."""
    folder, server = tmp_path / "c", Server()
    assert built(folder, server).is_saved and not why_foreign(folder)
    assert OpenedContext.read(folder).attachment("a.txt") == b"text"
    assert opened(folder, server) == (len(IDS) - 1, [], []), "what is in memory is restored"
    server.memory = [5]
    assert opened(folder, server) == (len(IDS), ["restore"], [])
    server.memory, server.shift = [5], 0.1
    reused, did, (note,) = opened(folder, server)
    assert (reused, did) == (0, ["restore", "forget", ("warm", 0)]) and "another model's" in note
    server.memory, server.shift = [5], 0.0
    (name,) = server.slots
    server.slots[name] -= 1
    assert opened(folder, server)[1][1] == "forget", "a slot of other tokens"
    server.slots.clear()
    assert opened(folder, server)[0] == len(IDS) - 1
    with pytest.raises(StoreError, match="made by another model"):
        opened(folder, server, "0" * 64)


def test_a_server_without_slots_reads_again_and_it_is_said(tmp_path):
    server = Server(keeps=False)
    assert not built(tmp_path / "c", server).is_saved
    reused, did, (note,) = opened(tmp_path / "c", Server())
    assert (reused, did) == (0, [("warm", 0)]) and "no slots" in note


@pytest.mark.parametrize(
    "told",
    [
        {},
        [],
        {"question": [1], "log_p": []},
        {"question": [1, VOCAB], "log_p": [-1.0]},
        {"question": [1, 2], "log_p": [float("nan")]},
        {"question": [1, 2], "log_p": [-1.0, -1.0]},
        {"question": [1] * 10_000, "log_p": [-1.0] * 9_999},
    ],
)
def test_a_proof_that_is_none_is_refused(told):
    with pytest.raises(StoreError, match=saved.NAME):
        Proof.loads(json.dumps(told).encode(), VOCAB)
