"""Licences that texts state: headers as they are in the wild, in comments of any language; and what is no statement."""

from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.attributes import Attributes
from lmworks.corpus.licence_expressions import GROUPS, normalised, verdict
from lmworks.corpus.taggers.licence import licence, licence_of, with_source
from lmworks.corpus.taggers.tagger import Text

MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy\nof this software and associated "
    'documentation files (the "Software"), to deal\nin the Software without restriction, including\n'
    "to permit persons to whom the Software is\nfurnished to do so"
)
BSD = "1. Redistributions of source code must retain the above copyright notice, this\n   list of conditions and"
ISC = "Permission to use, copy, modify, and/or distribute this software for any\npurpose with or without fee is "
ISC += "hereby granted"
GPL = (
    "This program is free software; you can redistribute it and/or modify\nit under the terms of the GNU {name} as "
    "published by\nthe Free Software Foundation; {version}.\n\nSee the\nGNU {name} for more details.\n\nYou should "
    "have received a copy of the GNU {name}\nalong with this program.  If not, see <https://www.gnu.org/licenses/>."
)
LATER = "either\nversion {} of the License, or (at your option) any later version"
HEADERS = {
    "MIT": f"{MIT}, subject to the following conditions:\n\nThe above copyright notice and this permission notice",
    "MIT-0": f'{MIT}.\n\nTHE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND',
    "BSD-2-Clause": f"{BSD}\n2. Redistributions in binary form must reproduce the above copyright notice",
    "BSD-3-Clause": f"{BSD}\n3. Neither the name of the copyright holder may be\n   used to endorse or promote them",
    "BSD-4-Clause": f"{BSD}\n3. All advertising materials mentioning features or use of this software\n   must display",
    "ISC": f"{ISC}, provided that the above\ncopyright notice and this permission notice appear in all copies.",
    "0BSD": f'{ISC}.\n\nTHE SOFTWARE IS PROVIDED "AS IS"',
    "Apache-2.0": 'Licensed under the Apache License, Version 2.0 (the "License");\nyou may obtain a copy of it at\n\n'
    "    http://www.apache.org/licenses/LICENSE-2.0\n",
    "GPL-2.0-or-later": GPL.format(name="General Public License", version=LATER.format(2)),
    "GPL-2.0-only": GPL.format(name="General Public License", version="version 2"),
    "LGPL-2.1-or-later": GPL.format(name="Lesser General Public License", version=LATER.format(2.1)),
    "AGPL-3.0-only": GPL.format(name="Affero General Public License", version="version 3 of the License"),
    "MPL-2.0": "This Source Code Form is subject to the terms of the Mozilla Public\nLicense, v. 2.0. If a copy of",
    "Unlicense": "This is free and unencumbered software released into the public domain.",
    "Zlib": "1. The origin of this software must not be misrepresented; you must not\n   claim that you wrote",
    "BSL-1.0": "Permission is hereby granted, free of charge, to any person or organization\nobtaining a copy of the",
}


@for_each(("expected", "before"), zip(HEADERS, cycle(["", "# ", " * ", "// ", ";;; ", "-- ", "! "])))
def test_headers_in_comments_of_any_language(expected: str, before: str) -> None:
    header = "\n".join(f"{before}{line}" for line in HEADERS[expected].split("\n"))
    for text in (header, f"/*\n{header}\n */\nint main() {{}}\n", header.replace("\n", "\r\n")):
        found = licence(Text(text))
        assert found.labels == {"licence": expected}
        assert found.spans


STATED = """
# SPDX-License-Identifier: MIT => MIT
/* SPDX-License-Identifier: GPL-2.0+ WITH Linux-syscall-note OR BSD-2-Clause */ => \
GPL-2.0-or-later WITH Linux-syscall-note OR BSD-2-Clause
"SPDX-License-Identifier: LicenseRef-My-Own" => LicenseRef-My-Own
// SPDX-License-Identifier: AFL-3.0 (see COPYING) => AFL-3.0
SPDX-License-Identifier: MIT⏎...⏎SPDX-License-Identifier: Apache-2.0 => MIT AND Apache-2.0
see https://creativecommons.org/licenses/by-sa/4.0/ for more => CC-BY-SA-4.0
[CC](http://creativecommons.org/licenses/by-nc-nd/3.0/us/) => CC-BY-NC-ND-3.0
http://creativecommons.org/licenses/by-nd-nc/1.0 => CC-BY-NC-ND-1.0
https://creativecommons.org/publicdomain/zero/1.0/ => CC0-1.0
https://creativecommons.org/publicdomain/mark/1.0/ => CC-PDM-1.0
available under the Creative Commons Attribution-ShareAlike License 4.0; additional terms => CC-BY-SA-4.0
under a Creative Commons Attribution 4.0 International License => CC-BY-4.0
a Creative Commons Attribution-NonCommercial-ShareAlike 3.0 Unported License. => CC-BY-NC-SA-3.0
Creative Commons Attribution-NoDerivs 2.5 => CC-BY-ND-2.5
licensed under a Creative Commons Attribution-Non-Commercial licence => LicenseRef-CC-BY-NC
This article is CC BY-NC 4.0. => CC-BY-NC-4.0
License: CC-BY-SA-3.0 => CC-BY-SA-3.0
released as CC0 1.0 Universal => CC0-1.0
license = "MIT" => MIT
  "license": "(MIT OR Apache-2.0)", => MIT OR Apache-2.0
License: GPL-3.0-or-later WITH GCC-exception-3.1 => GPL-3.0-or-later WITH GCC-exception-3.1
License :: OSI Approved :: MIT License => MIT
This project is released under the MIT License. => MIT
It is licensed under Apache-2.0. => Apache-2.0
# The MIT License (MIT)⏎⏎Copyright (c) 2020 Somebody => MIT
distributed under the 3-Clause BSD License => BSD-3-Clause
licensed under the GNU GPL v2 or later => GPL-2.0-or-later
License: GPLv3+ => GPL-3.0-or-later
under the terms of version 2 of the GNU General Public License as published by the FSF => GPL-2.0-only
released under the GNU General Public License. The program needs Python version 3. => GPL-1.0-or-later
     GNU GENERAL PUBLIC LICENSE⏎            Version 3, 29 June 2007⏎ => GPL-3.0-only
     Apache License⏎            Version 2.0, January 2004⏎ => Apache-2.0
under the terms of the GNU Free Documentation License, Version 1.2 or any later version => GFDL-1.2-or-later
Licensed under either of⏎⏎ * Apache License, Version 2.0⏎ * MIT license⏎⏎at your option. => Apache-2.0 OR MIT
Dual licensed under the MIT license or the GNU GPL v2. => MIT OR GPL-2.0-only
The code is released under the MIT License, and the texts under CC BY 4.0. => MIT AND CC-BY-4.0
I have placed this file into the public domain => LicenseRef-public-domain
SPDX-License-Identifier: Apache-2.0⏎licensed under the GNU GPL v2 => Apache-2.0
"""


@for_each("row", STATED.strip("\n").split("\n"))
def test_statements(row: str) -> None:
    text, _, expected = row.replace("⏎", "\n").partition(" => ")
    found = licence(Text(text))
    assert found.labels == {"licence": expected}
    if "SPDX" in text:
        assert {(span.rule, span.score) for span in found.spans[:1]} == {("licence.tag", 1.0)}


NOTHING = [
    "", "The GNU General Public License was written by Richard Stallman in 1989.",
    "You need a driving licence to submit this.", "He came mit seiner Frau. The colour is #cc0; see the manual.",
    "The play is old, and was never released into the public domain", "Copyright 2020. All rights reserved.",
    "SPDX-License-Identifier: <a licence>",
]  # fmt: skip


@for_each("text", NOTHING)
def test_what_states_nothing(text: str) -> None:
    assert licence(Text(text)) == Attributes()


@for_each("tag", ["Apache-2.0 => Apache-2.0 AND MIT", "MIT OR Apache-2.0 => MIT OR Apache-2.0"])
def test_a_tag_says_not_more_than_a_licence_itself(tag: str) -> None:
    tag, _, expected = tag.partition(" => ")
    assert licence(Text(f"SPDX-License-Identifier: {tag}\n{HEADERS['MIT']}")).labels == {"licence": expected}


PIECES = st.sampled_from(
    [*HEADERS.values(), "SPDX-License-Identifier: ", "MIT", " or ", "(", "license: ", "GPL", "v2", "under the ",
     "İ", "ß", "creative commons attribution", "cc by ", "4.0", "gnu general public license ", "version 3 ", "\n", " "]
)  # fmt: skip


@given(st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join))
def test_any_text_has_spans_within_it_and_a_label_that_is_an_expression(text: str) -> None:
    found = licence(Text(text))
    assert bool(found.labels) == bool(found.spans)
    if found.labels:
        assert normalised(found.labels["licence"]) == found.labels["licence"]
    bounds = [bound for span in found.spans for bound in (span.start, span.end)]
    assert bounds == sorted(bounds) and all(0 <= bound <= len(text) for bound in bounds)


NAMES = st.sampled_from(["MIT", "CC0-1.0", "GPL-3.0-only", "CC-BY-NC-4.0", "CC-BY-4.0", "LicenseRef-mine"])
ENTRIES = st.lists(st.sampled_from([*GROUPS, "MIT", "GPL-*", "CC-BY-4.0"]), max_size=3).map(tuple)


@for_each(
    ("said", "expected"),
    [("MIT", "MIT"), ("mit", "MIT"), ("MIT License", "MIT"), ("Apache License 2.0", "Apache-2.0"),
     ("BSD 3-Clause", "BSD-3-Clause"), ("GNU GPL v2", "GPL-2.0-only"), ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
     ("Creative Commons Attribution-ShareAlike 3.0", "CC-BY-SA-3.0"),
     ("https://creativecommons.org/licenses/by-nc/4.0/", "CC-BY-NC-4.0"), ("cc0", "CC0-1.0"),
     ("Public Domain", "LicenseRef-public-domain"), ("MIT OR GPL-2.0", "MIT OR GPL-2.0-only"),
     ("ODC-By-1.0", "ODC-By-1.0"), ("LicenseRef-ours", "LicenseRef-ours"),
     ("Some-Licence-7", "LicenseRef-Some-Licence-7"), ("Fair", "LicenseRef-Fair"),
     ("All rights reserved.", "LicenseRef-All-rights-reserved"), ("proprietary", "LicenseRef-proprietary"),
     ("©", "LicenseRef-unnamed"),
     # It is passed on with the documents, and with their card.
     ("Copyright Jane <jane.lic@bakery-miller.com>", "LicenseRef-Copyright-Jane-EMAIL"),
     ("unknown", None), ("-", None)],
)  # fmt: skip
def test_names_of_licences_as_sources_write_them(said, expected):
    assert licence_of(said) == expected


@given(st.text())
def test_whatever_a_source_says_becomes_an_expression(said):
    found = licence_of(said)
    assert found is None or normalised(found) == found


@given(NAMES, NAMES, ENTRIES, ENTRIES)
def test_of_source_and_text_the_stricter_holds(source, text, allow, deny):
    labels = with_source(Attributes(labels={"licence": text}), source).labels
    assert (labels["licence_of_source"], labels["licence_in_text"]) == (source, text)
    verdicts = {verdict(each, allow, deny) for each in (source, text)}
    expected = "denied" if "denied" in verdicts else "unknown" if "unknown" in verdicts else "allowed"
    assert verdict(labels["licence"], allow, deny) == expected
