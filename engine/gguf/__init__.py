"""GGUF files, llama.cpp's format: read as they are, or converted to directories.

`file` and `info` read files, `architectures` names what is in them, `tokenizer` makes their
tokenizer, `convert` writes directories. Importing any but `blocks` and `convert` imports no torch.
"""
