"""Characters that no text has, which stand for markup of MediaWiki between the steps of reading a page."""

KEPT, KEPT_END = "\x01", "\x02"  # around the number of a text that is to be kept as it is
GONE = "\x03"  # something was left out here
BREAK = "\x04"  # a line break within a line
QUOTE_BEGIN, QUOTE_END = "\x05", "\x06"  # each alone on a line
QUOTE_BEGINS, QUOTE_ENDS = f"\n{QUOTE_BEGIN}\n{GONE}", f"\n{QUOTE_END}\n{GONE}"
BLOCK = f"\n\n{GONE}"  # the border of a paragraph; spaces behind it are no indentation
ALL = "\x01-\x06"  # for a class of a regular expression
