"""Texts in twenty languages, which are to be told, and none of which is to go for being foreign."""

from pathlib import Path

from mixture.planting import ORIGINALS, PLANTED, Mixture
from mixture.real_texts import news, rights

_LINES = 25  # of a document
_DOCUMENTS = 6  # in a language
# Files of the declaration, by the languages of the news; English has its own.
RIGHTS = {
    "ar": "arb", "de": "deu", "en": "eng", "es": "spa", "fi": "fin", "fr": "fra", "he": "heb", "hi": "hin",
    "it": "ita", "ja": "jpn", "ko": "kor", "nl": "nld", "pl": "pol", "pt": "por_PT", "ru": "rus", "sw": "swh",
    "tr": "tur", "uk": "ukr", "vi": "vie", "zh": "cmn_hans",
}  # fmt: skip


def plant_languages(mixture: Mixture, data: Path) -> None:
    mixture.source("languages", "CC-BY-SA-4.0", kind="web")
    declarations = rights(data)
    for language, lines in news(data).items():
        for number in range(_DOCUMENTS):
            text = "\n\n".join(lines[_LINES * number : _LINES * (number + 1)])
            _write(mixture, f"languages/news/{language}{number}.txt", text, language)
    for language, name in RIGHTS.items():
        if name in declarations:
            _write(mixture, f"languages/rights/{language}.txt", declarations[name], language)
        else:
            mixture.notes.append(f"the declaration of human rights has no file {name}")


def _write(mixture: Mixture, uri: str, text: str, language: str) -> None:
    mixture.write(uri, text, text)
    mixture.plant("language of a document", uri, "language", language)
    mixture.keep("language of a document", uri, text, (PLANTED, ORIGINALS))
