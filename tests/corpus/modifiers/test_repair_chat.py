"""Logs of chats: the shared logs of Ubuntu's channel, and small ones in other formats."""

from kit.tables import for_each
from lmworks.corpus.modifiers.chat_log import repair_chat
from noise import check, made_prose

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
