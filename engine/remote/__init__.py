"""Engines that run elsewhere: a llama-server, vLLM, SGLang, or what speaks OpenAI's chat API."""
