"""Saved contexts: how long saving and restoring take, what int8 KV costs, llama.cpp beside them."""
