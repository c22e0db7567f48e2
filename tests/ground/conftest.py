"""A small real index with a hashing encoder, and an engine whose likelihoods are a closed form."""

import pytest

from hashing_encoder import HashingEncoder, make_document
from lmworks.ground.config import AnswerConfig
from lmworks.ground.grounded_answer import Finder
from lmworks.retrieve.config import ChunkConfig, SearchConfig
from lmworks.retrieve.index import Index

# A paragraph longer than `SHORT`, whose sentences are cited one by one.
LONG = "Nothing that anybody would ask about stands in this part of the text, which is here for its length alone. " * 3
TEXTS = {
    "cats": f"# Cats\n\nA cat sleeps for sixteen hours a day. It purrs when it is content. {LONG}\n\n"
    "## Food\n\nCats eat as follows:\n\n- fish on every Friday of the week\n- mice on all other days\n",
    "dogs": f"# Dogs\n\nA dog sleeps for twelve hours a day. It barks at strangers near the gate. {LONG}\n",
    "birds": f"# Birds\n\nMost birds sleep at night, standing on one leg. Owls hunt in the dark. {LONG}\n",
}


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Finder:
    encoder = HashingEncoder()
    index = Index.create(tmp_path_factory.mktemp("finder") / "index", encoder, ChunkConfig(60, 120))
    documents = [make_document(text, uri, "markdown") for uri, text in TEXTS.items()]
    index.sync(documents, encoder)
    config = AnswerConfig(search=SearchConfig(k=3))
    return Finder(index, encoder, config)  # type: ignore[arg-type]
