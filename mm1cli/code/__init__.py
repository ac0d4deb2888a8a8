"""What can be known of a repository without a model. Importing this imports no parser."""

from mm1cli.code.graph import Graph
from mm1cli.code.repo_index import (
    Definition,
    EntryPoint,
    FileFacts,
    Import,
    Mark,
    RepoIndex,
    Status,
)
from mm1cli.code.repository import index_of
from mm1cli.code.summary import as_json, model_text
from mm1cli.code.topological import reading_order, reordered

__all__ = [
    "Definition",
    "EntryPoint",
    "FileFacts",
    "Graph",
    "Import",
    "Mark",
    "RepoIndex",
    "Status",
    "as_json",
    "index_of",
    "model_text",
    "reading_order",
    "reordered",
]
