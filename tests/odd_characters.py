"""Characters that the rules which cut words look at."""

# Apostrophes with the letters of contractions, a long s that is an s in any case, spaces of all
# kinds, line breaks, numbers of several kinds, combining marks, characters of one to four bytes.
PIECES = [*"aZ'sStTlLvVrReEmMdDſK  \n\r\t09٣½Ⅷé世🙂!?.,-_▁", "\u00a0", "\u3000", "\u2028", "\u0085", "\u0301", "\x1c"]
