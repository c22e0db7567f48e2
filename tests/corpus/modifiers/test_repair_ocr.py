"""Errors of OCR against those that were planted; clean text stays as it is."""

from kit.tables import for_each
from lmworks.corpus.modifiers.hyphenation import unbroken_counts
from lmworks.corpus.modifiers.ocr import ocr_corrections, ocr_model, repair_ligatures, repair_ocr
from lmworks.corpus.taggers.ocr_quality import ocr_quality
from lmworks.corpus.taggers.tagger import Text
from lmworks.records import Edit
from noise import Misread, book, book_names, check, made_prose, misread
from published_data import needs_data


def scores(edits: list[Edit], planted: list[Misread]) -> tuple[float, float]:
    """(recall, precision): an edit is right if it puts in what was printed where a word was misread."""
    right = {(each.start, each.end, each.printed) for each in planted}
    found = sum((edit.start, edit.end, edit.replacement) in right for edit in edits)
    return found / len(planted), found / max(1, len(edits))


@needs_data
def test_words_of_a_real_book_are_corrected() -> None:
    text = book("The Time Machine")
    noisy, planted = misread(text, share=0.02)
    recall, precision = scores(repair_ocr(noisy), planted)
    assert len(planted) > 200 and recall >= 0.25 and precision >= 0.9
    others = "\n".join(book(name, 250_000) for name in book_names() if name != "The Time Machine")
    model = ocr_model(unbroken_counts(others))
    better_recall, precision = scores(repair_ocr(noisy, model), planted)
    assert better_recall >= max(0.5, recall) and precision >= 0.9


FREQUENT = "the might which will found ask find down he as is to of and that was for on are with this from have in it"
RARE = "clear claim close cloud show own town crown brown blown lying pie tie die light night right white while"
WORDS = {str(word): 5000 for word in FREQUENT.split()} | {str(word): 100 for word in RARE.split()}
MISREAD = "tlie the, Tlie The, rnight might, vvhich which, wi1l will, f0und found, l8O5 1805, 18O5 1805"
NOT_MISREAD = "ﬁnd, clown, lie, 1st, MP3, iii, 100l, R2D2, lO, o14, 0o755, 1805"  # "clown", not "down"


@for_each("case", f"{MISREAD}, {NOT_MISREAD}".split(", "))
def test_words_and_numbers(case: str) -> None:
    read, *printed = case.split()
    found = ocr_corrections(f"in {read} it", ocr_model(WORDS))
    assert found == ({read: printed[0]} if printed else {})


def test_ligatures_come_apart() -> None:
    text = "ﬁnd the oﬃce, Aﬀair; I aſk"
    assert check(text, repair_ligatures(text)) == "find the office, Affair; I ask"


def test_error_rate_by_page() -> None:
    clean = made_prose(60)
    garbage = "tH1s; l~}ne ~^;: i5n0t r3ad@ble xkcdfgh bbbbb ,;:.!~ " * 40
    text = f"{clean}\f{garbage}\f{clean}"
    found = ocr_quality(Text(text, "book"))
    assert [text[span.start : span.end].strip("\f ") for span in found.spans] == [garbage.strip()]
    assert found.spans[0].rule == "ocr.hopeless" and found.spans[0].score > 0.5
    assert ocr_quality(Text(clean, "book")).scores["ocr_error_rate"] < 0.01 < found.scores["ocr_error_rate"]
