"""Encoding written down plainly, in Python: what a `tokenizer.json` means, and the oracle of the library it is for."""
