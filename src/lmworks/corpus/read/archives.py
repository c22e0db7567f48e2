"""Archives: zip and tar, whose members are records or containers in turn.

Nothing is written to the disk, so that a name can point nowhere; links, devices and what is encrypted are refused.
"""

import io
from collections.abc import Iterable, Iterator

from lmworks.corpus.read.container import Inner, Member, as_record, contained
from lmworks.corpus.read.record import Item, Limits, Refused
from lmworks.corpus.read.streams import DamagedError, Meter, buffered
from lmworks.corpus.read.tar_members import tar_members
from lmworks.corpus.read.zip_members import zip_members


@contained
def read_zip(
    stream: io.BufferedReader, limits: Limits, inner: Inner = as_record, meter: Meter | None = None
) -> Iterator[Item]:
    """Each member by `inner`. A damaged member costs itself.

    `meter` is that of the source in which the archive lies; without one the archive is the source. A stream that cannot
    be sought is refused, since the directory of a zip file is at its end.
    """
    if not stream.seekable():
        yield Refused("", "a zip file is read from its end, and this stream cannot be sought: store it as a file")
        return
    if meter is None:
        meter = Meter(limits.ratio)
        stream = buffered(stream, meter)
    yield from _each(zip_members(stream, limits, meter), limits, inner, meter)


@contained
def read_tar(
    stream: io.BufferedReader, limits: Limits, inner: Inner = as_record, meter: Meter | None = None
) -> Iterator[Item]:
    """Each member by `inner`, in one pass over a stream that is not compressed. Where it is cut off, reading ends with
    one refusal; a damaged header costs what lies before the next one. `meter` as in `read_zip`."""
    members = tar_members(stream)
    yield from _each(members, limits, inner, meter or Meter(limits.ratio), independent=False)


def _each(
    members: Iterable[Member | Refused], limits: Limits, inner: Inner, meter: Meter, independent: bool = True
) -> Iterator[Item]:
    for member in members:
        if isinstance(member, Refused):
            yield member
            continue
        try:
            yield from inner(member, limits)
        except DamagedError as error:
            yield Refused(member.name, str(error))
            if not independent:  # they share one stream, which has ended
                return
        if meter.exceeded:
            yield Refused("", f"{meter.reason}; what follows is not read")
            return
