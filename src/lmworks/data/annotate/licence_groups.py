"""Groups of licences by what they ask for: a policy can say `allow = ["permissive"]` instead of a list of names.

A group is globs of SPDX's names. It holds what is common on the web, in books and in code; what is in none of them can
be named. Which licences suit a purpose is for the user to say: this is no legal advice.
"""

from collections.abc import Mapping

_PUBLIC_DOMAIN = ("0BSD", "CC-PDM-1.0", "CC0-1.0", "LicenseRef-public-domain", "MIT-0", "Unlicense", "WTFPL")
_NOTICES = (
    *("Apache-*", "Artistic-2.0", "BSD-*-Clause", "BSL-1.0", "CC-BY-[0-9]*", "ECL-2.0", "ISC", "LicenseRef-CC-BY"),
    *("MIT", "MS-PL", "NCSA", "ODC-By-1.0", "OpenSSL", "PHP-3.01", "PostgreSQL", "PSF-2.0", "Python-2.0", "X11"),
    "Zlib",
)
_PARTLY_COPYLEFT = ("CDDL-*", "EPL-*", "LGPL-*", "LPPL-*", "MPL-*")
_COPYLEFT = (
    *("AGPL-*", "CC-BY-SA-*", "EUPL-*", "GFDL-*", "GPL-*", "LicenseRef-CC-BY-SA", "ODbL-1.0", "OFL-1.1"),
    *_PARTLY_COPYLEFT,
)

# public_domain    Asks for nothing.
# permissive       ... or for no more than that notices stay and authors are named.
# copyleft         What is made of it must be under the same licence, or its changed files must.
# non_commercial   Allows no commercial use.
# no_derivatives   Allows nothing to be made of it.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "public_domain": _PUBLIC_DOMAIN,
    "permissive": (*_PUBLIC_DOMAIN, *_NOTICES),
    "copyleft": _COPYLEFT,
    "non_commercial": ("CC-BY-NC-*", "LicenseRef-CC-BY-NC*"),
    "no_derivatives": ("CC-BY-ND-*", "CC-BY-NC-ND-*", "LicenseRef-CC-BY-ND", "LicenseRef-CC-BY-NC-ND"),
}


def without_groups(entries: tuple[str, ...]) -> tuple[str, ...]:
    """The entries of a list of licences, with the members of a group in the place of its name."""
    return tuple(glob for entry in entries for glob in GROUPS.get(entry, (entry,)))
