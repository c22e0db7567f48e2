"""The one rule for the language of a document: the measured one, or else what the document declares of itself."""

import re
from collections.abc import Mapping, Sequence

MEASURED, DECLARED = "language", "declared_language"  # labels; the second is also a key of metadata
UNDETERMINED = "und"  # what is measured of too few letters

# The codes of ISO 639-2 that have a shorter one in ISO 639-1, which measured labels prefer: three letters, then two.
_SHORT = """
aaraa abkab afraf akaak albsq amham araar argan armhy asmas avaav aveae aymay azeaz bakba bambm baqeu belbe
benbn bihbh bisbi bodbo bosbs brebr bulbg burmy catca cescs chach chece chizh chucu chvcv corkw cosco crecr
cymcy czecs danda deude divdv dutnl dzodz ellel engen epoeo estet euseu eweee faofo fasfa fijfj finfi frafr
frefr fryfy fulff geoka gerde glagd glega glggl glvgv greel grngn gujgu hatht hauha hebhe herhz hinhi hmoho
hrvhr hunhu hyehy iboig iceis idoio iiiii ikuiu ileie inaia indid ipkik islis itait javjv jpnja kalkl kankn
kasks katka kaukr kazkk khmkm kinrw kirky komkv konkg korko kuakj kurku laolo latla lavlv limli linln
litlt ltzlb lublu luglg macmk mahmh malml maomi marmr mayms mkdmk mlgmg mltmt monmn mrimi msams myamy nauna
navnv nblnr ndend ndong nepne nldnl nnonn norno nyany ocioc ojioj orior ormom ossos panpa perfa plipi
polpl porpt pusps quequ rohrm ronro rumro runrn rusru sagsg sansa sinsi slksk slosk slvsl smese smosm snasn
sndsd somso sotst spaes sqisq srdsc srpsr sswss sunsu swasw swesv tahty tamta tattt telte tgktg tgltl thath
tibbo tirti tonto tsntn tsots tuktk turtr twitw uigug ukruk urdur uzbuz venve vievi volvo welcy wlnwa wolwo
xhoxh yidyi yoryo zhaza zhozh zulzu
"""
_OTHERS = {  # former codes, and those for which measured labels have another one
    "cmn": "zh", "fil": "tl", "in": "id", "iw": "he", "ji": "yi", "jw": "jv", "nb": "no", "nob": "no",
}  # fmt: skip
_CODES = {code[:3]: code[3:] for code in _SHORT.split()} | _OTHERS
_TAG = re.compile(r"([a-z]{2,3})(?:[-_.@].*)?", re.IGNORECASE)


def language_of(measured: str | None, declared: str | None) -> str | None:
    """The measured language; where it is missing or undetermined, the declared one as `base_language` has it. What is
    undetermined and not declared stays undetermined."""
    if measured and measured != UNDETERMINED:
        return measured
    return base_language(declared) or measured or None


def base_language(declared: str | None) -> str | None:
    """A declared tag as measured labels are written: `en` of `en-US`, `en_US.UTF-8` and `eng`. None for nothing, for
    `und`, and for what is no tag: a column that is called so may hold anything."""
    found = _TAG.fullmatch((declared or "").strip())
    if found is None:
        return None
    code = found[1].lower()
    return None if code == UNDETERMINED else _CODES.get(code, code)


def check_language(name: str) -> None:
    """ValueError for what no label of a language is, such as `english` and `en-US`."""
    if (base := base_language(name)) != name != UNDETERMINED:
        raise ValueError(f'no label of a language is "{name}": write {base or "a code of ISO 639, such as en"}')


def languages_of(labels: Mapping[str, Sequence[str | None]]) -> Sequence[str | None]:
    """The language of each document of a table, by its two labels; one of them has to be there."""
    if DECLARED not in labels:
        return labels[MEASURED]
    declared = labels[DECLARED]
    measured = labels[MEASURED] if MEASURED in labels else [None] * len(declared)
    return [language_of(*each) for each in zip(measured, declared, strict=True)]
