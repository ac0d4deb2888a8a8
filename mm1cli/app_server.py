"""`mm1 server`: servers of models that run already."""

import sys

import mm1cli.options as o
from mm1cli.help import App
from mm1cli.session import command_scope
from mm1cli.settings import flags_of

server_app = App("See what a running server of models is, and what mm1 can do with it.")


@server_app.command("probe")
def probe(
    url: o.ServerUrl,
    server_kind: o.ServerKind = None,
    model: o.Model = None,
    tokenizer: o.TokenizerOf = None,
    models_dir: o.ModelsDir = None,
    api_key_file: o.ApiKeyFile = None,
    offline: o.Offline = None,
    as_json: o.Json = False,
) -> None:
    """See what a server is: kind, version, model, context, and what mm1 can do with it."""
    flags = flags_of({**locals(), "server": url})
    with command_scope(flags, json_errors=as_json) as (settings, sink):
        from mm1cli.commands import server

        server.probe(settings, sink, sys.stdout, as_json=as_json)
