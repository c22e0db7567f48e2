"""The stage `data.tokenize`: finds the vocabulary, which a model may bring, and has it make token shards."""

from lmworks.artefact import StageContext, StageResult
from lmworks.corpus.documents import DOCUMENTS
from lmworks.data.config import TokenizeConfig
from lmworks.data.conversations import CONVERSATIONS
from lmworks.data.stage import shard_conversations, shard_documents
from lmworks.model.tokenizer_lookup import Found, find_renderer, find_tokenizer, own_chat_template
from lmworks.tokenizer.chat_templates import missing_tokens
from lmworks.tokenizer.jinja_template import ChatTemplate
from lmworks.tokenizer.special_tokens import turn_tokens

_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model")


def tokenize(config: TokenizeConfig, context: StageContext) -> StageResult:
    """Token shards of the one input with documents, or of conversations, those set and those that inputs hold, by the
    tokenizer of the one input that has one, or by `config.tokenizer`.

    LookupError for a tokenizer that is not there; ValueError for none or two, and for what cannot be tokenized with it.
    """
    source = _find(config, context)
    made = any((folder / CONVERSATIONS).exists() for folder in context.inputs.values())
    if not config.conversations and not made:
        if config.family or config.quotas or config.length is not None or config.learn != "all":
            raise ValueError("family, learn, length and quotas are of conversations: name those, or leave these out")
        # Special tokens that would let a document speak as someone in a conversation, by the model's chat template.
        template = own_chat_template(source.path)
        marks = turn_tokens(ChatTemplate(template), source.tokenizer) if template else set()
        return shard_documents(config, context, source.tokenizer, marks)
    if documents := [name for name, folder in context.inputs.items() if (folder / DOCUMENTS).exists()]:
        raise ValueError(
            f"conversations come instead of documents: leave out the input {documents[0]}, or the conversations"
        )
    renderer = find_renderer(source, config.family or None)
    if config.family and (missing := missing_tokens(config.family, source.tokenizer)):
        raise ValueError(
            f"the template of the family {config.family} writes {', '.join(missing)}, which {source.name} would read "
            "letter by letter: train one that has them among its special_tokens, or name another family"
        )
    return shard_conversations(config, context, renderer)


def _find(config: TokenizeConfig, context: StageContext) -> Found:
    inputs = [folder for folder in context.inputs.values() if any((folder / name).exists() for name in _FILES)]
    if len(inputs) + bool(config.tokenizer) == 1:
        return find_tokenizer(config.tokenizer, context.base) if config.tokenizer else find_tokenizer(str(inputs[0]))
    if config.tokenizer:
        raise ValueError(
            f"two vocabularies: leave out the setting tokenizer={config.tokenizer} or the input {inputs[0]}"
        )
    if inputs:
        raise ValueError(f"two vocabularies: leave out one of the inputs {', '.join(map(str, inputs))}")
    raise ValueError(
        "there is no vocabulary: read from a stage that trained one, or set tokenizer to a pulled model, a folder or a "
        'file, for example tokenizer="smollm2-135m-instruct"'
    )
