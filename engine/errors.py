"""The engine's own errors; mm1cli gives them exit codes.

EngineError (ValueError)
├── ConfigError       config.json says something impossible or not supported
├── CheckpointError   weights are missing, cut, or of the wrong shape
├── TokenizerError    the tokenizer or chat template is missing or not usable
├── StoreError        a saved context is damaged, unfinished, or made by another model
├── GgufError         a GGUF file is damaged or of a kind the converter does not read
├── GrammarError      a JSON Schema cannot be followed
├── RoomError         the tokens an answer may have are too few for any answer
├── PlacementError    the work does not fit into memory; raised before it starts
└── ServerError       a server is not there, ends midway, or answers as it must not
    ├── KeyRefusedError   it wants a key, or another one
    └── TooLongError      it takes no prompt or no request as long as that
"""


class EngineError(ValueError):
    """`str(error)` is one line for people, whatever a hostile file put into it."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ConfigError(EngineError):
    pass


class CheckpointError(EngineError):
    pass


class TokenizerError(EngineError):
    pass


class StoreError(EngineError):
    pass


class GgufError(EngineError):
    pass


class GrammarError(EngineError):
    pass


class RoomError(EngineError):
    pass


class PlacementError(EngineError):
    pass


class ServerError(EngineError):
    pass


class KeyRefusedError(ServerError):
    pass


class TooLongError(ServerError):
    pass
