"""Red here means that a model is asked something else than whether a text says a sentence."""

import pytest

from engine.api import Turn
from engine.engine import Engine
from mm1cli.grounding.entailment import Entailment
from mm1cli.prompts import prompt


def test_log_odds_are_those_of_yes_against_no_behind_the_conversation(llama):
    """Red: another text or sentence is asked about, or the conversation is not in front."""
    engine = Engine(llama, chunk_tokens=64)
    asked = Entailment(engine)
    texts = ["The rat is there.", "The hat is here."]
    odds = asked.log_odds("A rat is there.", texts)
    pieces = engine.tokenizer.chat([Turn("system", (prompt("entailment"),))])
    for text, found in zip(texts, odds, strict=True):
        before, behind = asked._pieces(text, "A rat is there.")
        assert before[: len(pieces) - 1] == pieces[:-1]
        told = "".join(piece.text for piece in behind)
        assert text in told and "A rat is there." in told
        ids = [i for piece in (*before, *behind) for i in engine.tokenizer.encode_piece(piece)]
        yes, no = (engine.tokenizer.encode(word)[:1] for word in ("yes", "no"))
        score = engine.new_context().score
        wanted = float(score(yes, given=ids)) - float(score(no, given=ids))
        assert found == pytest.approx(wanted, abs=1e-4)
    assert odds[0] != pytest.approx(odds[1], abs=1e-6)


def test_what_was_asked_once_is_not_asked_again(llama, monkeypatch):
    """Red: one more quote, found afterwards, doubles what judging costs."""
    asked = Entailment(Engine(llama, chunk_tokens=64))
    first = asked.log_odds("A rat is there.", ["The rat is there."])
    both = Entailment(asked._engine).log_odds("A rat is there.", ["The rat is there.", "A hat."])
    read = []
    right = asked._log_odds
    monkeypatch.setattr(asked, "_log_odds", lambda ids: read.append(ids) or right(ids))
    again = asked.log_odds("A rat is there.", ["The rat is there.", "A hat."])
    assert again == pytest.approx(both, abs=1e-5) and again[0] == first[0] and len(read) == 1
    asked.log_odds("A hat is there.", ["A hat."])
    assert len(read) == 2
