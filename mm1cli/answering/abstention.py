"""When to say that the documents do not answer a question, and how.

Some passage must make the question likelier than no passage does, by `MIN_SCORE_MARGIN`. Zero is
the conservative choice: measured (benchmarks/LOG.md), a small model's margin does not tell
documents that answer from documents about the same things, and an answer that is withheld is worse
than one whose evidence can be looked at. A model that itself says that it found nothing is
believed.
"""

from mm1cli.retrieval.retriever import Evidence

MIN_SCORE_MARGIN = 0.0  # nats per token of the question
REFUSAL = "Not found in the documents."  # what prompts/system.txt asks for


def is_answerable(evidence: Evidence) -> bool:
    return bool(evidence.passages) and evidence.score_margin >= MIN_SCORE_MARGIN


def is_refusal(text: str) -> bool:
    """Whether the model's own words say that nothing was found."""
    return text.strip().lower().rstrip(".") == REFUSAL.lower().rstrip(".")


def not_found(num_documents: int, read_tokens: int, corpus_tokens: int) -> str:
    documents = "document" if num_documents == 1 else "documents"
    return (
        f"Not found in the {num_documents:,} {documents} read "
        f"({read_tokens:,} of {corpus_tokens:,} tokens)."
    )
