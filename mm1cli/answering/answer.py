"""The one path from (corpus, question) to `Answer`.

retrieve and rerank (bm25, then the model's judgement) -> what leads -> prompt -> generate ->
attribute (gain, attention) -> check (quotations, numbers, claims) -> warn.
"""

import json
import time
from collections.abc import Callable, Container, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, partial
from math import nan
from typing import Any

from engine.api import Context, Engine
from mm1cli.answering import abstention, doubts, form, json_schema
from mm1cli.answering.check import check, claims_of, is_carried
from mm1cli.answering.context_source import ContextSource
from mm1cli.answering.generation import Generation, Generator
from mm1cli.answering.in_order import in_order
from mm1cli.answering.json_schema import Schema
from mm1cli.answering.meter import Meter
from mm1cli.answering.prefill import Prefilled, Prefiller
from mm1cli.answering.prompt import Focus, question_prompt
from mm1cli.answering.question import Exchange, Question
from mm1cli.answering.read_facts import ReadFacts, told_facts
from mm1cli.answering.sources import sources
from mm1cli.answering.tool_loop import ToolLoop
from mm1cli.answering.unknown_terms import unknown_terms
from mm1cli.grounding import conflicts
from mm1cli.grounding.attribution import Attributed, attribute
from mm1cli.grounding.citations import QuoteMatch, cite
from mm1cli.grounding.computed import computed
from mm1cli.grounding.conflicts import Conflict
from mm1cli.grounding.entailment import Entailment
from mm1cli.grounding.facts import Facts, facts
from mm1cli.grounding.judgement import judgement
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed
from mm1cli.models import ability
from mm1cli.result import (
    Answer,
    AnswerWarning,
    Citation,
    CitationKind,
    CitationStatus,
    Claim,
    Form,
    Usage,
)
from mm1cli.retrieval.retriever import NUM_PASSAGES, Attend, Evidence, Retriever
from mm1cli.settings import Settings
from mm1cli.sink import Sink, ToolEvent
from mm1cli.tools.formats import ToolFormat
from mm1cli.tools.toolbox import NO_TOOLS, Toolbox, ToolOptions, ToolUse

NUM_QUOTES = 3  # pieces of evidence shown
_SAMPLING = ("max_tokens", "temperature", "top_p", "seed")


@dataclass(frozen=True, slots=True)
class Reply:
    """`text` is told; `said` is the model's and is held against the documents. `words` are the
    model's own where `text` is not."""

    text: str
    said: str
    words: str
    is_found: bool
    generation: Generation
    form: Form = Form.WRITTEN
    seconds: float = 0.0
    uses: tuple[ToolUse, ...] = ()


@dataclass(frozen=True, slots=True)
class _Checked:
    citations: tuple[Citation, ...]
    unverified: tuple[str, ...]
    claims: tuple[Claim, ...]
    computed: tuple[str, ...]


class Answerer:
    """Answers questions about one corpus. What does not depend on the question is done once."""

    def __init__(
        self,
        engine: Engine,
        packed: Packed,
        plan: ReadingPlan,
        settings: Settings,
        sink: Sink,
        source: ContextSource | None = None,
        quotable: QuoteIndex | None = None,
        retriever: Retriever | None = None,
        num_quotes: int = NUM_QUOTES,
        schema: Schema | None = None,
        tools: ToolOptions = NO_TOOLS,
        attend: Attend | None = None,
    ) -> None:
        """`source` is where the context of the documents comes from; None reads them. `quotable`
        is what may be quoted from them, and `retriever` finds evidence in them, if they are at hand
        already. `schema` is that of every question. `tools` are those that the model may call.
        `attend` is another model's, which only finds.
        """
        self._engine, self._packed, self._plan = engine, packed, plan
        self._settings, self._sink = settings, sink
        self._focus = Focus.of(settings.focus)
        self._retriever = retriever or Retriever(
            engine, packed.corpus, sink.progress, settings.search
        )
        self._num_quotes = num_quotes
        self._ability = ability.measured(engine.fingerprint)
        name = "" if self._ability is None else self._ability.name
        says = Entailment(engine).log_odds if engine.capabilities.has_logprobs else None
        self._judgement = judgement(name, says)
        self._quotable = quotable or QuoteIndex(packed.corpus)
        self._read_facts = ReadFacts(packed.corpus)
        self._prefiller = Prefiller(engine, packed, plan, settings, sink, source)
        self._attend = attend
        self._tools = tools.of(packed.corpus, self._quotable) if schema is None else []
        self._tool_options = tools
        if self._tools and not form.sentences_lead(settings, engine.fingerprint):
            sink.note(
                "no tools: with this model a passage is the answer, not what it writes; --write "
                "lets it write, and call them"
            )
        self._grammar = None if schema is None else engine.grammar(schema)
        if self._grammar is not None:
            # Too few tokens for any answer: told before the reading, not after it.
            self._grammar.check_room(settings.max_tokens)
        self._generator = self._generator_to(sink)
        self.last: Exchange | None = None  # what a question that follows has for its history

    def keep_history(self) -> None:
        """Questions follow each other from now on: what one read, the next need not read."""
        self._prefiller.keeps_last = True

    def sampling(self, settings: Settings, stop_texts: Sequence[str] = ()) -> "Answerer":
        """This, writing as long and drawing as `settings` say, up to one of `stop_texts`; what was
        read is shared."""
        changes: dict[str, Any] = {name: getattr(settings, name) for name in _SAMPLING}
        changed = replace(self._settings, **changes)
        if changed == self._settings and not stop_texts:
            return self
        twin = copy(self)
        twin._settings = changed
        twin._prefiller = self._prefiller.with_settings(changed)
        twin._generator = twin._generator_to(self._sink, stop_texts)
        return twin

    def _generator_to(
        self, sink: Sink, stop_texts: Sequence[str] = (), quotable: QuoteIndex | None = None
    ) -> Generator:
        return Generator(
            self._engine,
            self._settings,
            on_token=sink.token,
            on_thinking=sink.thinking,
            on_progress=sink.progress,
            stop_texts=stop_texts,
            quotable=lambda: (quotable or self._quotable).suffixes,
        )

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, told in their order.

        Where the engine prefers batches they are generated at the same time, so that weights are
        read once for all of them; each is what it is alone, and its times are those of all.
        """
        self._note_unmeasured(questions)
        if not self._engine.capabilities.prefers_batches or len(questions) == 1:
            found = []
            for index, question in enumerate(questions):
                self._sink.question(question.text, index, len(questions))
                found.append(self.answer(question))
            return found
        documents = self._prefiller.documents()
        sinks = in_order(self._sink, [question.text for question in questions])
        works = [
            partial(self._with_sink(sink).answer, question)
            for question, sink in zip(questions, sinks, strict=True)
        ]
        shared = None if documents is None else documents.context
        return self._engine.run_shared(works, self._most_tokens(questions), shared)

    def _note_unmeasured(self, questions: Sequence[Question]) -> None:
        leads = {form.leading(self._settings, self._ability, question) for question in questions}
        if self._ability is None and Form.EXTRACT in leads:
            self._sink.note(
                "how often this model is right was never measured, so the best passage is the "
                "answer; --write puts its own sentence first"
            )

    def _most_tokens(self, questions: Sequence[Question]) -> int:
        """What a question and its answer add to what all share."""
        tokenizer, prefiller = self._engine.tokenizer, self._prefiller
        num_head = len(question_prompt(tokenizer, (), "").head.token_ids)
        longest = max(len(tokenizer.encode(question.prompt_text)) for question in questions)
        at_least = self._retriever.most_tokens(self._focus.num_passages or NUM_PASSAGES)
        passages = max(prefiller.read_tokens, at_least) + self._focus.reserved_tokens
        if any(map(self._calls_tools, questions)):
            return prefiller.limit  # nobody knows what tools will tell
        return min(passages + num_head + longest + prefiller.answer_tokens, prefiller.limit)

    def _with_sink(self, sink: Sink) -> "Answerer":
        """This for one question, whose answer `sink` is told."""
        twin = copy(self)
        twin._sink, twin._generator = sink, self._generator_to(sink)
        twin._prefiller = self._prefiller.with_sink(sink)
        return twin

    def answer(self, question: Question) -> Answer:
        """Streams one answer and its citations to the sink, and returns it whole."""
        meter = Meter(self._engine)
        num_passages = self._prefiller.num_candidates
        evidence = self._retriever.find(
            question.sought or question.text,
            self._sink.progress,
            num_passages,
            self._attend or self._prefiller.attended,
        )
        conflict = self._conflict(question, evidence)
        if conflict is not None:
            evidence = conflicts.later_first(evidence, conflict)
        read = self._prefiller.prefill(
            question.prompt_text, evidence, question.history, self._instructions(question)
        )
        reply = self._generate(question, read, evidence)
        attributed = self._attribute(question, evidence, read, reply)
        known = self._known(question, read, reply)
        reply, checked, are_carried = self._checked(question, reply, attributed, known)
        warnings = self._warnings(question, evidence, reply, conflict, are_carried=are_carried)
        for citation in checked.citations:
            self._sink.citation(citation)
        meter.note_prefill(len(read.context), read.really_reused_tokens, read.seconds)
        meter.note_generation(reply.generation, reply.seconds)
        usage = meter.usage(self._packed.num_tokens, read.read_tokens, read.unread_tokens)
        answer = self._answer(question, read, reply, checked, usage, warnings)
        self._sink.answer(answer)
        self.last = Exchange(read.asked, reply.words or reply.text)
        return answer

    def _instructions(self, question: Question) -> str:
        """How to call tools; "" where none may be."""
        if not self._calls_tools(question):
            return ""
        told = [tool.as_json() for tool in self._tools]
        return ToolFormat.of(self._engine.tokenizer).instructions(told)

    def _known(
        self, question: Question, read: Prefilled, reply: Reply
    ) -> list[Callable[[], Facts]]:
        """What an answer may count: what was read, and what tools told."""
        facts = cache(partial(self._read_facts.of, read.passages))
        return [facts, lambda: told_facts(reply.uses, question.text, facts())]

    def _calls_tools(self, question: Question) -> bool:
        """A model whose sentences are not believed is not asked to compute or to search, either."""
        leads = form.leading(self._settings, self._ability, question)
        return bool(self._tools) and leads is Form.WRITTEN

    def _conflict(self, question: Question, evidence: Evidence) -> Conflict | None:
        has_one_value = self._grammar is None and not question.is_instruction
        has_one_value &= self._engine.capabilities.has_logprobs  # pieces of one likelihood
        return conflicts.find(question.text, evidence.pieces) if has_one_value else None

    def _generate(self, question: Question, read: Prefilled, evidence: Evidence) -> Reply:
        began = time.perf_counter()
        quoted = self._most_quoted(evidence, read)
        # What must follow a schema is generated in any case: a refusal would not parse.
        is_wanted = self._grammar is not None or self._settings.always_answer
        leads = form.leading(self._settings, self._ability, question)
        if self._calls_tools(question):
            reply = self._with_tools(read, quoted)
        elif not is_wanted and not abstention.is_answerable(evidence):
            reply = self._withheld(read, quoted)
        elif leads is Form.EXTRACT and evidence.pieces and self._settings.think != "only":
            reply = self._extract(read, evidence, quoted)
        else:
            reply = self._answered(read, quoted)
        return replace(reply, seconds=time.perf_counter() - began)

    def _most_quoted(self, evidence: Evidence, read: Prefilled) -> list[str]:
        """What was read, the likeliest to be quoted first."""
        passages = [one.passage for one in (*evidence.pieces, *evidence.passages)]
        texts = [one.text for one in (*passages, *(read.passages or ()))]
        if read.passages is None:
            blocks = [one.blocks for one in self._packed.corpus.documents]
            texts += [block.text for found in blocks for block in found]
        return texts

    def _answered(self, read: Prefilled, quoted: Sequence[str]) -> Reply:
        generation = self._generator.generate(read.context.fork(), self._grammar, evidence=quoted)
        text = said = generation.text
        if self._grammar is not None and text:
            said = json_schema.values_as_text(text)
        is_found = not abstention.is_refusal(text)
        return Reply(text, said, is_found=is_found, words="", generation=generation)

    def _with_tools(self, read: Prefilled, quoted: Sequence[str]) -> Reply:
        """Told when it is finished: until then what comes may be the beginning of a call."""
        options = self._tool_options
        toolbox = Toolbox(self._tools, most_calls=options.most_calls, approve=options.approve)
        sink = self._sink

        def generate(
            context: Context, begun: str, stops: Sequence[str], told: Sequence[ToolUse]
        ) -> Generation:
            generator = self._generator_to(sink, stops, self._quotable_with(told))
            texts = [*(use.result for use in told), *quoted]
            return generator.generate(context, is_silent=True, evidence=texts, begun=begun)

        loop = ToolLoop(
            self._engine,
            self._settings,
            toolbox,
            generate,
            lambda use: sink.tool(
                ToolEvent(use.call.name, use.call.arguments, use.result, use.is_error)
            ),
        )
        generation = loop.run(read.context)
        text = generation.text
        sink.token(text)
        is_found = not abstention.is_refusal(text)
        return Reply(text, text, "", is_found, generation, uses=tuple(loop.told))

    def _quotable_with(self, told: Sequence[ToolUse]) -> QuoteIndex:
        return self._quotable.joined([use.document for use in told]) if told else self._quotable

    def _extract(self, read: Prefilled, evidence: Evidence, quoted: Sequence[str]) -> Reply:
        """The best piece, told before the model writes anything."""
        text = evidence.pieces[0].passage.text
        self._sink.token(text)
        generation = self._generator.generate(read.context.fork(), is_silent=True, evidence=quoted)
        words = "" if abstention.is_refusal(generation.text) else generation.text.strip()
        return Reply(text, words, words, True, generation, Form.EXTRACT)

    def _withheld(self, read: Prefilled, quoted: Sequence[str]) -> Reply:
        """What is withheld is no answer to be checked."""
        num_documents = len({part.path for part in read.parts})
        text = abstention.not_found(num_documents, read.read_tokens, self._packed.num_tokens)
        self._sink.token(text)
        generation = self._generator.generate(read.context.fork(), is_silent=True, evidence=quoted)
        return Reply(text, "", is_found=False, words=generation.text, generation=generation)

    def _attribute(
        self, question: Question, evidence: Evidence, read: Prefilled, reply: Reply
    ) -> list[Attributed]:
        pieces = evidence.pieces[: self._num_quotes]
        tokenizer = self._engine.tokenizer
        places = [read.map.tokens(one.passage, self._packed, tokenizer) for one in pieces]
        return attribute(
            self._engine,
            read.context,
            question.text,
            reply.words or reply.said,
            reply.generation.token_ids,
            pieces,
            places,
        )

    def _check(
        self,
        question: Question,
        reply: Reply,
        evidence: Sequence[Attributed],
        known: Sequence[Callable[[], Facts]],
    ) -> _Checked:
        cited, unverified = check(reply.said, evidence, self._quotable_with(reply.uses), *known)
        shown = [(one.number, one.text) for one in cited[: len(evidence)]]
        how = computed(reply.said, question.text, shown) if unverified else {}
        how = {number: told for number, told in how.items() if number in unverified}
        cited += [_told_by(use, number) for number, use in enumerate(reply.uses, len(cited) + 1)]
        has_claims = reply.is_found and self._grammar is None
        if reply.form is Form.EXTRACT:  # gains are of the model's words, not of this text
            evidence = [replace(one, gain=None) for one in evidence]
        given = (_asked(question), reply.text, cited, evidence, self._judgement)
        carried = [
            # What was worked out of a passage's numbers is another number there, and no other fact.
            replace(one, against=()) if _has_any(how, reply.text[one.start : one.end]) else one
            for one in (claims_of(*given) if has_claims else ())
        ]
        left = [one for one in unverified if one not in how]
        return _Checked(tuple(cited), tuple(left), tuple(carried), tuple(how.values()))

    def _checked(
        self,
        question: Question,
        reply: Reply,
        evidence: Sequence[Attributed],
        known: Sequence[Callable[[], Facts]],
    ) -> tuple[Reply, _Checked, bool]:
        """And whether what was read carries the model's own sentences, all of them. Under an
        extract these stay only where the extract itself does."""
        checked = self._check(question, reply, evidence, known)
        asked = _asked(question)
        if reply.form is Form.WRITTEN:
            search = self._retriever.search
            if found := sources(asked, reply.text, checked.claims, evidence, search):
                evidence = [*evidence, *found]
                checked = self._check(question, reply, evidence, known)
            are = is_carried(asked, checked.claims, checked.citations, evidence)
            return reply, checked, are
        claims = claims_of(asked, reply.words, checked.citations, evidence, self._judgement)
        are = is_carried(asked, claims, checked.citations, evidence)
        agrees = are and all(1 in claim.citations for claim in claims)
        if not agrees or checked.unverified:
            reply = replace(reply, said="", words="")
            checked = self._check(question, reply, evidence, known)
        return reply, checked, are

    def _warnings(
        self,
        question: Question,
        evidence: Evidence,
        reply: Reply,
        conflict: Conflict | None,
        *,
        are_carried: bool,
    ) -> tuple[AnswerWarning, ...]:
        """None about what a schema or a template asks: that is no question of one answer."""
        if self._grammar is not None or question.is_instruction:
            return ()
        margin = evidence.score_margin
        found = [] if conflict is None else [doubts.disagree(conflict)]
        unknown = unknown_terms(question.text, self._packed.corpus)
        if not reply.is_found:
            refused = None if unknown else doubts.refused_in_doubt(margin, self._ability)
            return tuple(found) if refused is None else (*found, refused)
        if unknown:
            found.append(doubts.not_named(unknown))
        elif doubts.is_doubtful(margin, self._ability, is_carried=are_carried):
            found.append(doubts.may_be_unanswered())
        return tuple(found)

    def _answer(
        self,
        question: Question,
        read: Prefilled,
        reply: Reply,
        checked: _Checked,
        usage: Usage,
        warnings: tuple[AnswerWarning, ...],
    ) -> Answer:
        is_json = self._grammar is not None and reply.text
        return Answer(
            question=question.text,
            text=reply.text,
            citations=checked.citations,
            usage=usage,
            plan=self._plan,
            stop_reason=reply.generation.stop_reason,
            seed=self._settings.seed,
            model_fingerprint=self._engine.fingerprint,
            read=read.parts,
            unverified=checked.unverified,
            claims=checked.claims,
            computed=checked.computed,
            is_found=reply.is_found,
            value=json.loads(reply.text) if is_json else None,
            thinking=reply.generation.thinking,
            words=reply.words,
            form=reply.form,
            warnings=warnings,
        )


def _told_by(use: ToolUse, number: int) -> Citation:
    document = use.document
    whole = QuoteMatch(document, document.blocks[0], 0, len(use.result), CitationStatus.EXACT)
    return cite(number, whole, whole.status, CitationKind.TOOL, score=nan)


def _asked(question: Question) -> str:
    """What one answer is held against; an instruction asks for none."""
    return "" if question.is_instruction else question.text


def _has_any(numbers: Container[str], text: str) -> bool:
    return any(fact.text in numbers for fact in facts(text))
