"""Records on disk -> batches on the device."""

from einthoven.data.formats.reading import read_record
from einthoven.data.formats.record import Record

__all__ = ["Record", "read_record"]
