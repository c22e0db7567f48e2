"""A tokenizer without a trained vocabulary: every byte is a token of its own."""

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from lmworks.tokenizer.tokenizer import Tokenizer


def byte_tokenizer(special: dict[str, str]) -> Tokenizer:
    """256 byte tokens, then the special tokens; a character beyond ASCII is several tokens."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [tokenizers.AddedToken(token, special=True) for token in dict.fromkeys(special.values())]
    )
    if "cls_token" in special:
        frame = [(token, backend.token_to_id(token)) for token in (special["cls_token"], special["sep_token"])]
        backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, frame)
    return Tokenizer(backend, special)
