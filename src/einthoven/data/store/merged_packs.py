"""Small packs become one: a corpus that gets some records every day would else have a pack for each day.

A merged pack has the signals and the entries of the packs before it, one pack after the other. Nothing that points to
these packs changes: each keeps its index, and ``merged.json`` says where its signals are now.

An interrupted merge loses nothing. The merged pack is complete or absent, and it lists the packs that it replaces. A
signal file is deleted after the pack has its ``merged.json``. The next merge deletes what a kill has left.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from einthoven.atomic import PARTIAL, working_folder, write_text
from einthoven.data.store.checksums import (
    MERGED,
    PACK_FILE,
    SIGNALS,
    BlockSums,
    damaged,
    is_merged,
    pack_text,
    read_pack_file,
)
from einthoven.data.store.signals import Signals
from einthoven.files import file_digest, seal, unseal

INDEX = "index.parquet"
TOGETHER = 10  # packs of about the same size that are merged
MOST_ENTRIES = 2**16  # of a merged pack
MOST_BYTES = 2**29  # of its signals
LONGEST_CHAIN = 64  # packs that were merged again and again
_ROWS_PER_GROUP = 2**12  # entries that a reader of an index has in memory at once


class Place(NamedTuple):
    """Where the signals of a pack are: a folder, and the row of the first one."""

    folder: Path
    first_row: int


def find_signals(folder: Path) -> Place:
    """Return where the signals of a pack are now; it need not exist.

    Raises
    ------
    UserError
        If a file that says so is damaged.
    """
    first_row = 0
    for _ in range(LONGEST_CHAIN):
        file = folder / MERGED
        if not file.exists():
            return Place(folder, first_row)
        try:
            content = unseal(file.read_text(encoding="utf-8"))
            first_row += int(content["first_row"])
            # Only the name counts: a pack is merged with packs of its own folder.
            folder = folder.with_name(Path(str(content["into"])).name)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise damaged(folder, f"{MERGED}: {error}") from None
    raise damaged(folder, f"{MERGED} leads to more than {LONGEST_CHAIN} packs")


def merge_packs(pool: Path, leads: int) -> str:
    """Merge packs of about the same size, until there are fewer than `TOGETHER` of each size.

    Only one process merges at a time. On a file system without locks, nothing is merged.

    Returns
    -------
    str
        Why the packs could not be merged, such as a full disk, as a note for the user; empty if nothing went wrong.
        All packs are still there.
    """
    from filelock import FileLock, Timeout

    try:
        packs = [folder for folder in pool.glob("*/") if not folder.name.startswith(PARTIAL)]
        packs = [folder for folder in packs if not is_merged(folder)]
        for folder in packs:
            _replace_merged(folder)
        if len(packs) < TOGETHER:
            return ""
        with FileLock(pool.with_name(f".{pool.name}.merge.lock")).acquire(blocking=False):
            group = _next_group(packs, leads)
            while group:
                packs.append(_merge(pool, group, leads))
                packs = [folder for folder in packs if not is_merged(folder)]
                group = _next_group(packs, leads)
    except Timeout:
        # Another process merges them.
        return ""
    except NotImplementedError:
        return (
            f"{pool}: its packs of records are not merged, because the file system has no locks; they are used as they "
            "are"
        )
    except OSError as error:
        reason = error.strerror or str(error)
        return f"{pool}: its packs of records could not be merged ({reason}); they are used as they are"
    return ""


def _next_group(packs: Iterable[Path], leads: int) -> list[Path]:
    """Return packs that are merged next, the oldest first; none if there are not enough of one size."""
    import pyarrow.parquet as pq

    groups: dict[tuple[int, int], list[tuple[Path, int, int]]] = {}
    for folder in sorted(packs, key=lambda folder: (folder.stat().st_mtime_ns, folder.name)):
        index = pq.read_table(folder / INDEX, columns=["row", "samples"])
        has_signal = index["row"].to_numpy() >= 0
        samples = int(index["samples"].to_numpy()[has_signal].max()) if has_signal.any() else 0
        size = int(math.log(max(1, index.num_rows), TOGETHER))
        length = 2 * leads * samples * int(has_signal.sum())
        groups.setdefault((size, samples), []).append((folder, index.num_rows, length))
    for group in groups.values():
        chosen: list[Path] = []
        entries = 0
        length = 0
        for folder, entries_of_pack, length_of_pack in group:
            if entries + entries_of_pack > MOST_ENTRIES or length + length_of_pack > MOST_BYTES:
                break
            chosen.append(folder)
            entries += entries_of_pack
            length += length_of_pack
        if len(chosen) >= TOGETHER:
            return chosen
    return []


def _merge(pool: Path, packs: list[Path], leads: int) -> Path:
    """Write one pack of several, and let these refer to it. Return its folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = hashlib.sha256("".join(folder.name for folder in packs).encode()).hexdigest()[:16]
    path = pool / name
    with working_folder(pool) as folder:
        sums = BlockSums()
        tables = []
        replaced = []
        first_row = 0
        with (folder / SIGNALS).open("wb") as file:
            for pack in packs:
                if file_digest(pack / INDEX) != read_pack_file(pack)["index"]:
                    raise damaged(pack, f"{INDEX} is not what was written")
                index = pq.read_table(pack / INDEX)
                row = index["row"].to_numpy()
                rows = int(row.max(initial=-1)) + 1
                replaced.append([pack.name, first_row])
                if rows:
                    samples = int(index["samples"].to_numpy()[row >= 0].max())
                    # Reading compares the signals with their checksums.
                    signals = Signals([pack / SIGNALS], [rows], np.arange(rows), leads, samples)
                    for start in range(0, rows, 256):
                        for signal in signals.read(np.arange(start, min(start + 256, rows))):
                            data = signal.tobytes()
                            file.write(data)
                            sums.add(data)
                moved = pa.array(np.where(row >= 0, row + first_row, row))
                tables.append(index.set_column(index.schema.get_field_index("row"), "row", moved))
                first_row += rows
            file.flush()
            os.fsync(file.fileno())
        pq.write_table(pa.concat_tables(tables), folder / INDEX, row_group_size=_ROWS_PER_GROUP)
        text = pack_text(sums, file_digest(folder / INDEX), merged=replaced)
        (folder / PACK_FILE).write_text(text, encoding="utf-8")
        if not path.exists():
            folder.replace(path)
    _replace_merged(path)
    return path


def _replace_merged(path: Path) -> None:
    """Let the packs that a merged pack replaces refer to it, and delete their signals."""
    for name, first_row in read_pack_file(path).get("merged", []):
        old = path.with_name(Path(str(name)).name)
        if not old.is_dir():
            continue
        if not is_merged(old):
            write_text(old / MERGED, seal({"into": path.name, "first_row": int(first_row)}))
        # A process that has the signals open keeps them until it ends.
        (old / SIGNALS).unlink(missing_ok=True)
