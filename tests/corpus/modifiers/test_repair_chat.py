"""Logs of chats: the shared logs of Ubuntu's channel, and small ones in other formats."""

import re
import tarfile

from kit.tables import for_each
from lmworks.corpus.modifiers.chat_log import repair_chat
from noise import check, made_prose
from published_data import DATA, needs_data

LOG = """\
[12:18] <Ann_> hi, Bob|away: can you help?
=== cat [~cat@dsl.example.org]  has joined #ubuntu []
[12:19] <bob> usual: as usual, I can
=== bob is now known as Bob|away
[12:20] <Bob|away> ann_, what is it?
=== Ann_ scrolls up
[12:21]  * Ann_ wonders
[12:21] <usual> !help | Ann_
[12:21] <ubottu> Ann_: Read https://help.example.org
[12:22] <usual> as usual
=== cat [~cat@dsl.example.org]  has left #ubuntu ["bye"]
"""
REPAIRED = """\
user1: hi, user3: can you help?
user3: user4: as usual, I can
user3: user1, what is it?
* user1 scrolls up
* user1 wonders
user4: !help | user1
bot1: user1: Read https://help.example.org
user4: as usual
"""
ONE_LETTER = "[10:00] <a> is there a way\n[10:01] <bob> a: no\n[10:02] <a> a pity"  # within a message it is a word


@for_each(
    ("text", "repaired"),
    [
        (LOG, REPAIRED),
        (ONE_LETTER, "user1: is there a way\nuser2: user1: no\nuser1: a pity"),
        *((text, text) for text in (made_prose(5), "<b> bold\n<i> italic\n", "<a> b\n" * 3 + "prose\n" * 20)),
        *(
            ("\n".join(line.format(nick) for nick in "aba"), "user1: words\nuser2: words\nuser1: words")
            for line in ("[12:18:01] <{}> words", "12:18 <@{}> words", "<{}> words", "(12:18) <+{}> words")
        ),
        ("2004-11-15T12:18:05 < a> b\n" * 3, "user1: b\n" * 3),
    ],
)
def test_a_log_becomes_a_conversation_and_what_is_none_stays(text: str, repaired: str) -> None:
    assert check(text, repair_chat(text)) == repaired


@needs_data
@for_each("year", [2004, 2013])
def test_real_logs(year: int) -> None:
    with tarfile.open(DATA / "ubuntu-irc" / f"{year}.tar.gz") as archive:
        for file in filter(None, map(archive.extractfile, archive)):
            check_log(file.read().decode("utf-8", "replace"))


def check_log(text: str) -> None:
    repaired = check(text, repair_chat(text))
    lines = text.split("\n")
    messages = [line for line in lines if re.match(r"\[\d\d:\d\d\] <", line)]
    nicks = {line[9 : line.index(">")].strip().casefold() for line in messages}
    after = [line for line in repaired.split("\n") if re.match(r"(user|bot)\d+: ", line + " ")]
    assert len(after) == len(messages)
    # actions have a star; in old logs they look like notices, tell no event and begin with the nick of a speaker
    starred = [match for line in lines if (match := re.match(r"(===|\[\d\d:\d\d\]  \*) (\S+)(.*)", line))]
    acting = [match[3] for match in starred if match[1] != "===" or match[2].casefold() in nicks]
    actions = [action for action in acting if not re.search(r"\]  has (joined|left)|is now known as", action)]
    assert len(re.findall(r"^\* (?:user|bot)\d+", repaired, re.M)) == len(actions)
    assert not re.search(r"^(?!(?:user|bot)\d+: ).*(?:has joined #|is now known as)|^\[\d\d:|^===", repaired, re.M)
    # nobody is addressed by name, at the beginning of a message, who speaks in it; one is named as pseudonyms are
    addressed = [match[1].casefold() for match in re.finditer(r"^(?:user|bot)\d+: ([^\s:,]+)[:,]", repaired, re.M)]
    assert not (nicks - {"user1"}) & set(addressed)
    # what is said stays, word for word but for names; in some of these logs, nicks have a space behind "]"
    for line, said_line in zip(messages, after, strict=True):
        said, repeated = line.split(">", 1)[1].split(), said_line.split()[1:]
        assert len(said) - line.count("] ") <= len(repeated) <= len(said)
        if len(said) == len(repeated):
            assert all(a == b or re.search(r"(user|bot)\d", b) for a, b in zip(said, repeated, strict=True))
    assert repair_chat(repaired) == []
