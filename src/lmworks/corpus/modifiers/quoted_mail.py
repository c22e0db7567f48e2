"""Messages of mail without what their writers did not write: quotes, signatures, footers, disclaimers.

Lines are told by what programs and people write in several languages: `>` before quoted lines and "On ..., ... wrote:"
above them, "-----Original Message-----" or a block of "From: / Sent: / To: / Subject:" above a whole message, `-- `
above a signature (RFC 3676, section 4.3), the lines of mailing lists below everything. Each line has one rule at most,
so what is cut never overlaps.
"""

import re
from collections.abc import Sequence

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.modifiers.page_layout import cut_lines, split_lines
from lmworks.records import Edit

RULES = (
    "mail.quote",  # quoted lines, the line that says whose they are, and whole messages below
    "mail.forward_header",  # the lines above a message that was passed on; the message itself stays
    "mail.signature",
    "mail.footer",  # of a mailing list, or of the program or device that sent the message
    "mail.disclaimer",
)
_LONGEST_SIGNATURE = 12  # lines
_LONGEST_CLOSING = 7  # lines from "Best regards" on
_LONGEST_FOOTER = 10  # lines
_ATTRIBUTION_LINES = 3  # that "On ..., ... wrote:" may be wrapped over

_QUOTE = re.compile(r"[ \t]{0,3}(?:[A-Z]{1,3}>(?=[ \t])|>)")
_FROM_ESCAPE = re.compile(r">From ")
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


def find_mail_parts(text: str) -> list[TaggedSpan]:
    """What in a message its writer did not write: marks of whole lines, in order, with one of `RULES` each."""
    lines, starts = split_lines(text)
    return [TaggedSpan(edit.rule, edit.start, edit.end) for edit in cut_lines(_line_rules(lines), starts)]


def repair_mail(text: str) -> list[Edit]:
    """Cut what the writer of a message did not write. A ">" that a mailbox put before "From " is taken away (rule
    `mail.from_escape`)."""
    lines, starts = split_lines(text)
    rules = _line_rules(lines)
    edits = cut_lines(rules, starts)
    edits += [
        Edit(start, start + 1, "", "mail.from_escape")
        for line, rule, start in zip(lines, rules, starts, strict=False)
        if not rule and line.startswith(">From ")
    ]
    return sorted(edits)


def _line_rules(lines: Sequence[str]) -> list[str]:
    rules = [""] * len(lines)
    for find in (_quotes, _messages_below, _footers, _disclaimers, _signature):
        find(lines, rules)
    return rules


def _quotes(lines: Sequence[str], rules: list[str]) -> None:
    quoted = [bool(_QUOTE.match(line)) for line in lines]
    for line, is_quoted in enumerate(quoted):
        if not is_quoted:
            continue
        alone = not any(quoted[max(0, line - 1) : line]) and not any(quoted[line + 1 : line + 2])
        if alone and _FROM_ESCAPE.match(lines[line]):
            continue
        rules[line] = "mail.quote"
        if not line or rules[line - 1] != "mail.quote":
            _attribution(lines, rules, line)


def _attribution(lines: Sequence[str], rules: list[str], quote: int) -> None:
    """The line or lines above a quote that say who wrote it, with empty ones between."""
    last = quote - 1
    while last >= max(0, quote - 2) and not lines[last].strip():
        last -= 1
    if last < 0 or rules[last] or not _WROTE.search(lines[last][-120:]):
        return
    for first in range(last, max(-1, last - _ATTRIBUTION_LINES), -1):
        if not lines[first].strip() or rules[first]:
            break
        if _OPENING.match(lines[first].lstrip()):
            rules[first:quote] = ["mail.quote"] * (quote - first)
            return
    if len(lines[last]) <= 100:  # just "Ann Smith wrote:"
        rules[last:quote] = ["mail.quote"] * (quote - last)


def _messages_below(lines: Sequence[str], rules: list[str]) -> None:
    """Headers of a message that was passed on; and a whole message below the reply to it."""
    line = 0
    has_text = False  # above this line, that its writer wrote
    while line < len(lines):
        if rules[line]:
            line += 1
        elif _FORWARDED.match(lines[line]):
            end = _header_end(lines, line + 1)
            rules[line:end] = ["mail.forward_header"] * (end - line)
            line = end
        elif _ORIGINAL.match(lines[line]) or (has_text and _is_reply_header(lines, line)):
            first = line - 1 if line and _RULE.match(lines[line - 1]) else line
            rules[first:] = [rule or "mail.quote" for rule in rules[first:]]
            return
        else:
            has_text = has_text or bool(lines[line].strip() and not _HEADER.match(lines[line]))
            line += 1


def _is_reply_header(lines: Sequence[str], line: int) -> bool:
    """Whether a block of headers begins here, behind an empty line or a rule."""
    above = lines[line - 1]
    if not _SENDER.match(lines[line]) or (above.strip() and not _RULE.match(above)):
        return False
    return _header_end(lines, line) - line >= 3


def _header_end(lines: Sequence[str], line: int) -> int:
    """Behind a block of header lines, which may begin behind an empty one."""
    first = line
    while line < min(first + 2, len(lines)) and not lines[line].strip():
        line += 1
    start = line
    while line < len(lines) and (_HEADER.match(lines[line]) or (line > start and lines[line][:1] in (" ", "\t"))):
        if not lines[line].strip():
            break
        line += 1
    return line if line > start else first


def _footers(lines: Sequence[str], rules: list[str]) -> None:
    for line, text in enumerate(lines):
        if rules[line]:
            continue
        if len(text) < 120 and _DEVICE.match(text):
            rules[line] = "mail.footer"
        elif _RULE.match(text):
            end = line + 1
            while end < len(lines) and end - line <= _LONGEST_FOOTER and not rules[end]:
                end += 1
            block = lines[line + 1 : end]
            blank = next((at for at, each in enumerate(block) if at and not each.strip()), len(block))
            if any(map(_LIST.search, block[:blank])):
                end = line + 1 + blank
                rules[line:end] = ["mail.footer"] * (end - line)


def _disclaimers(lines: Sequence[str], rules: list[str]) -> None:
    """Paragraphs with three words and more of such notices."""
    first = 0
    for line in range(len(lines) + 1):
        if line < len(lines) and lines[line].strip() and not rules[line]:
            continue
        if first < line:
            words = {match[:6].casefold() for text in lines[first:line] for match in _DISCLAIMER.findall(text)}
            if len(words) >= 3:
                rules[first:line] = ["mail.disclaimer"] * (line - first)
        first = line + 1


def _signature(lines: Sequence[str], rules: list[str]) -> None:
    """Below the last `-- `, or from a closing such as "Best regards" on, if few lines are left."""
    own = [line for line, text in enumerate(lines) if text.strip() and not rules[line]]
    for line in own[: -_LONGEST_SIGNATURE - 2 : -1]:
        if _DELIMITER.match(lines[line]):
            _sign(lines, rules, line)
            own = [each for each in own if each < line]
            break
    for line in own[: -_LONGEST_CLOSING - 1 : -1]:
        behind = [lines[each] for each in own if each > line]
        if line != own[0] and _CLOSING.match(lines[line]) and all(len(each.strip()) <= 60 for each in behind):
            _sign(lines, rules, line)
            break


def _sign(lines: Sequence[str], rules: list[str], first: int) -> None:
    for line in range(first, len(lines)):
        rules[line] = rules[line] or "mail.signature"
