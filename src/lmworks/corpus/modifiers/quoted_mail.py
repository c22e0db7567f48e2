"""Messages of mail without what their writers did not write: quotes, signatures, footers, disclaimers.

Lines are told by what programs and people write in several languages: `>` before quoted lines and "On ..., ... wrote:"
above them, "-----Original Message-----" or a block of "From: / Sent: / To: / Subject:" above a whole message, `-- `
above a signature (RFC 3676, section 4.3), the lines of mailing lists below everything. Each line has one rule at most,
so what is cut never overlaps.
"""

import re
from collections.abc import Sequence

from lmworks.corpus.modifiers.text_lines import cut_lines, split_lines
from lmworks.records import Edit

_LONGEST_SIGNATURE = 12  # lines
_LONGEST_CLOSING = 7  # lines from "Best regards" on
_LONGEST_FOOTER = 10  # lines
_ATTRIBUTION_LINES = 3  # that "On ..., ... wrote:" may be wrapped over

_QUOTE = re.compile(r"[ \t]{0,3}(?:[A-Z]{1,3}>(?=[ \t])|>)")
_WROTE = re.compile(
    r"(?:wrote|writes|said|schrieb|schreibt|écrit|escribió|escreveu|ha scritto|scrive|schreef|skrev|kirjoitti|"
    r"napisał|napsal|пише[тш]?|написал[аи]?|写道|のメッセージ)\b[^\n]{0,80}[:：]\s*\Z",
    re.I,
)
_OPENING = re.compile(r"(?:On|Am|Le|El|Il|Op|Em|Den|Dne|W dniu|Dnia|At|In)\b[^\n]*[0-9]")
_ORIGINAL = re.compile(
    r"[ \t]*[-_]{2,}[ \t]*(?:original message|ursprüngliche nachricht|original-?nachricht|message d'origine|"
    r"mensaje original|messaggio originale|mensagem original|oorspronkelijk bericht|ursprungligt meddelande|"
    r"исходное сообщение|reply message)[ \t]*[-_]{2,}",
    re.I,
)
_FORWARDED = re.compile(
    r"[ \t]*(?:[-_=]{2,}[ \t]*(?:forwarded (?:message|by)|weitergeleitete nachricht|"
    r"message (?:transféré|réexpédié)|mensaje reenviado|messaggio inoltrato|mensagem encaminhada|"
    r"doorgestuurd bericht)|begin forwarded message|"
    r"anfang der weitergeleiteten (?:nachricht|e-mail)|début du message (?:transféré|réexpédié))",
    re.I,
)
_SENDER = re.compile(r"[ \t>]*[*_]{0,2}(?:from|von|de|da|van|от)[ \t]?[*_]{0,2}:", re.I)
_HEADER = re.compile(
    r"[ \t>]*[*_]{0,2}(?:from|sent|date|to|cc|bcc|subject|reply-to|importance|attachments|von|gesendet|datum|an|"
    r"betreff|antwort an|de|envoyé|à|objet|enviado(?: el)?|para|asunto|assunto|data|da|inviato|a|oggetto|van|"
    r"verzonden|aan|onderwerp|от|отправлено|кому|тема)[ \t]?[*_]{0,2}:",
    re.I,
)
_DELIMITER = re.compile(r"--[ \t]?\r?\Z")
_RULE = re.compile(r"[ \t]*([-_=*~])\1{4,}[ \t]*\r?\Z")
_LIST = re.compile(
    r"unsubscribe|mailing list|mailman/listinfo|listinfo\.cgi|lists\.[\w.]+/|list-?archive|posting guide|majordomo|"
    r"yahoo!? groups|to post to this (?:list|group)|google groups|you received this (?:message|e-?mail) because|"
    r"abmelden|austragen|désinscri|darse de baja|annulla(?:re)? (?:la )?iscrizione",
    re.I,
)
_DEVICE = re.compile(
    r"[ \t]*(?:sent from my |sent (?:via|with|using) |get (?:outlook|gmail) for |von meinem .{1,40} gesendet|"
    r"gesendet (?:mit|von) |envoyé (?:de|depuis) mon |enviado desde mi |enviado do meu |inviato da(?:l mio)? |"
    r"verzonden (?:vanaf|met) |skickat från min |do you yahoo!\?|this (?:message|e-?mail) was (?:sent|scanned))",
    re.I,
)
_DISCLAIMER = re.compile(
    r"confidential|intended (?:solely |only )?(?:for|recipient)|privileged|legally|notify the sender|"
    r"delete (?:this|the)|unauthori[sz]ed|disclos|virus|strictly prohibited|received (?:this|it) in error|"
    r"vertraulich|irrtümlich|unbefugt|destinataire|confidentiel|confidencial|destinatario|riservat",
    re.I,
)
_CLOSING = re.compile(
    r"[ \t]*(?:(?:with )?(?:best|kind|warm|kindest|warmest)(?: (?:regards|wishes))?|regards|cheers|many thanks|"
    r"thanks(?: again| in advance)?|thank you|yours(?: (?:sincerely|truly|faithfully|ever))?|sincerely(?: yours)?|"
    r"mit (?:freundlichen|besten|herzlichen) grü(?:ß|ss)en|(?:viele|liebe|beste|schöne) grü(?:ß|ss)e|mfg|"
    r"(?:bien )?cordialement|bien à vous|salutations|(?:un )?saludos?|atentamente|cordiali saluti|distinti saluti|"
    r"abraços|atenciosamente|met vriendelijke groet(?:en)?|vänliga hälsningar)[ \t]*[,.!]?[ \t]*\r?\Z",
    re.I,
)


def repair_mail(text: str) -> list[Edit]:
    """Cut what the writer of a message did not write. A ">" that a mailbox put before "From " is taken away.

    Rules: `mail.quote` for quoted lines, the line that says whose they are, and whole messages below;
    `mail.forward_header` for the lines above a message that was passed on; `mail.signature`; `mail.footer` of a mailing
    list, or of the program or device that sent the message; `mail.disclaimer`; `mail.from_escape`.
    """
    lines, starts = split_lines(text)
    rules = [""] * len(lines)
    for find in (_quotes, _messages_below, _footers, _disclaimers, _signature):
        find(lines, rules)
    edits = cut_lines(rules, starts)
    edits += [
        Edit(start, start + 1, "", "mail.from_escape")
        for line, rule, start in zip(lines, rules, starts, strict=False)
        if not rule and line.startswith(">From ")
    ]
    return sorted(edits)


def _quotes(lines: Sequence[str], rules: list[str]) -> None:
    quoted = [False, *(bool(_QUOTE.match(line)) for line in lines), False]
    for line, text in enumerate(lines):
        alone = not quoted[line] and not quoted[line + 2]
        if not quoted[line + 1] or (alone and text.startswith(">From ")):
            continue
        rules[line] = "mail.quote"
        if not line or rules[line - 1] != "mail.quote":
            first = _attribution(lines, rules, line)
            rules[first:line] = ["mail.quote"] * (line - first)


def _attribution(lines: Sequence[str], rules: Sequence[str], quote: int) -> int:
    """The first of the lines above a quote that say who wrote it, with empty ones between; the quote itself where there
    are none."""
    last = quote - 1
    while last >= max(0, quote - 2) and not lines[last].strip():
        last -= 1
    if last < 0 or rules[last] or not _WROTE.search(lines[last][-120:]):
        return quote
    for first in range(last, max(-1, last - _ATTRIBUTION_LINES), -1):
        if not lines[first].strip() or rules[first]:
            break
        if _OPENING.match(lines[first].lstrip()):
            return first
    return last if len(lines[last]) <= 100 else quote  # just "Ann Smith wrote:"


def _messages_below(lines: Sequence[str], rules: list[str]) -> None:
    """Headers of a message that was passed on; and a whole message below the reply to it."""
    line = 0
    has_text = False  # above this line, that its writer wrote
    while line < len(lines):
        if not rules[line] and _FORWARDED.match(lines[line]):
            end = _header_end(lines, line + 1)
            rules[line:end] = ["mail.forward_header"] * (end - line)
            line = end
            continue
        if not rules[line]:
            if _ORIGINAL.match(lines[line]) or (has_text and _is_reply_header(lines, line)):
                first = line - 1 if line and _RULE.match(lines[line - 1]) else line
                rules[first:] = [rule or "mail.quote" for rule in rules[first:]]
                return
            has_text = has_text or bool(lines[line].strip() and not _HEADER.match(lines[line]))
        line += 1


def _is_reply_header(lines: Sequence[str], line: int) -> bool:
    """Whether a block of headers begins here, behind an empty line or a rule."""
    above = lines[line - 1]
    is_set_off = not above.strip() or bool(_RULE.match(above))
    return bool(_SENDER.match(lines[line])) and is_set_off and _header_end(lines, line) - line >= 3


def _header_end(lines: Sequence[str], line: int) -> int:
    """The line behind a block of header lines, which may begin behind an empty one."""
    start = line
    while start < min(line + 2, len(lines)) and not lines[start].strip():
        start += 1
    end = start
    while end < len(lines) and lines[end].strip():
        if not _HEADER.match(lines[end]) and (end == start or lines[end][0] not in " \t"):
            break
        end += 1
    return end if end > start else line


def _footers(lines: Sequence[str], rules: list[str]) -> None:
    for line, text in enumerate(lines):
        if rules[line]:
            continue
        if len(text) < 120 and _DEVICE.match(text):
            rules[line] = "mail.footer"
        elif _RULE.match(text):
            end = line + 1
            while end < len(lines) and end - line <= _LONGEST_FOOTER and not rules[end]:
                if end > line + 1 and not lines[end].strip():
                    break
                end += 1
            if any(map(_LIST.search, lines[line + 1 : end])):
                rules[line:end] = ["mail.footer"] * (end - line)


def _disclaimers(lines: Sequence[str], rules: list[str]) -> None:
    """Paragraphs with three words and more of such notices."""
    first = 0
    for line in range(len(lines) + 1):
        if line < len(lines) and lines[line].strip() and not rules[line]:
            continue
        words = {match[:6].casefold() for text in lines[first:line] for match in _DISCLAIMER.findall(text)}
        if len(words) >= 3:
            rules[first:line] = ["mail.disclaimer"] * (line - first)
        first = line + 1


def _signature(lines: Sequence[str], rules: list[str]) -> None:
    """Mark what is below the last `-- `, or from a closing such as "Best regards" on, if few lines are left."""
    own = [line for line, text in enumerate(lines) if text.strip() and not rules[line]]
    start = next((line for line in own[: -_LONGEST_SIGNATURE - 2 : -1] if _DELIMITER.match(lines[line])), len(lines))
    own = [line for line in own if line < start]
    for line in own[: -_LONGEST_CLOSING - 1 : -1]:
        short = all(len(lines[each].strip()) <= 60 for each in own if each > line)
        if line != own[0] and _CLOSING.match(lines[line]) and short:
            start = line
            break
    rules[start:] = [rule or "mail.signature" for rule in rules[start:]]
