"""Broken words against the words that were broken."""

from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.modifiers.hyphenation import repair_hyphenation, repair_soft_hyphens
from lmworks.corpus.modifiers.repair import apply_modifiers
from noise import check, made_prose, words_lost, wrapped


def joined(text: str) -> str:
    return check(text, apply_modifiers(text, (repair_hyphenation, repair_soft_hyphens)))


def test_words_of_a_made_text_are_joined() -> None:
    check_joining(made_prose(300), lost=0.02)


def check_joining(text: str, lost: float) -> None:
    broken, breaks = wrapped(text, width=60, hyphenate=0.8)
    assert breaks > 100
    assert words_lost(text, check(broken, repair_hyphenation(broken))) <= lost * breaks


@for_each(("text", "repaired"), [
    ("an exam-\nple of it", "an\nexample of it"), ("example; an (exam-\nple), of it", "example; an\n(example), of it"),
    ("well-known, a well-\nknown man", "well-known, a\nwell-known man"),
    ("wellknown, well-known, wellknown, a well-\nknown man", "wellknown, well-known, wellknown, a\nwellknown man"),
    ("the Anglo-\nSaxon king", "the\nAnglo-Saxon king"), ("EXAM-\nPLE OF IT", "EXAMPLE OF IT"),
    ("in 1914-\n1918 there", "in\n1914-1918 there"), ("two- and three-\nfold", "two- and\nthreefold"),
    ("two- three-\nfold", "two- threefold"), ("for two-\nand threefold", "for two-\nand threefold"),
    ("two, for two-\nor threefold", "two, for two-\nor threefold"), ("the workm-\nen of it", "the\nworkmen of it"),
    ("a mother-in-\nlaw now", "a\nmother-in-law now"),
    ("self-made self-taught self-\nrestraint", "self-made self-taught\nself-restraint"),
    ("a moon lit moon lit moon-\nlit", "a moon lit moon lit\nmoon-lit"), ("exam-\n\nple", "exam-\n\nple"),
    ("an exam-\n\fple of it", "an\n\fexample of it"), ("an exam-  \r\n  ple of it", "an  \r\n  example of it"),
    ("ex\u00adam\u00adple", "example"), ("an exam\u00ad\nple of it", "an\nexample of it"),
    ("to re\u00admem-\nber it, remember", "to\nremember it, remember"), ("a dash--\nand more", "a dash--\nand more"),
    ("a dash -\nand more", "a dash -\nand more"), ("con-\nsti-\ntution of", "constitution of"),
])  # fmt: skip
def test_the_rules(text: str, repaired: str) -> None:
    assert joined(text) == repaired


@given(st.text(st.sampled_from("abA1 \n-\u00ad\f\r,\u2010"), max_size=60))
def test_any_text_gives_edits_that_do_not_meet(text: str) -> None:
    repaired = joined(text)
    assert "\u00ad" not in repaired
    gone = str.maketrans("", "", " \n-\u00ad\f\r\u2010")  # nothing else is touched
    assert repaired.translate(gone) == text.translate(gone)
