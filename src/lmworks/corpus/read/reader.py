"""Names that moved: `documents` and `extract.charset` have them."""

from lmworks.corpus.documents import Extracted, Extractor, UnusableError
from lmworks.corpus.extract.charset import begins_as_text, decode, normalise_newlines, text_codec, well_formed
from lmworks.corpus.sources.files import read_file

__all__ = ["Extracted", "Extractor", "UnusableError", "begins_as_text", "decode", "normalise_newlines", "read_file"]
__all__ += ["text_codec", "well_formed"]
