"""Records on disk -> batches on the device."""

from einthoven.data.formats.records import Record, read_record

__all__ = ["Record", "read_record"]
