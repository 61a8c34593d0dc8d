"""Trust in the stores, folders and registered models that the folder of a run names. It can come from a stranger."""

from __future__ import annotations

import os
from pathlib import Path

from einthoven import trust
from einthoven.errors import UserError
from einthoven.tracking.database import is_store, sqlite_file
from einthoven.tracking.server import VARIABLE, lacks_password, without_password


def check_store(uri: str, named_in: Path) -> None:
    """Refuse a tracking store on another machine, and one that would be created outside of the working folder.

    `named_in` is the file in the folder of the run that has the address.
    """
    if lacks_password(uri):
        raise UserError(
            f"{named_in}: names {trust.printable(uri)}; expected this address, with its password, in {VARIABLE}."
        )
    if is_trusted_address(uri) or not _needs_trust(uri):
        return
    address = trust.printable(without_password(uri))
    raise UserError(
        f"{named_in}: names the tracking store {address}, which is not a file of this machine that holds runs; "
        f"add --trust {address} to the command if results may be written there."
    )


def _needs_trust(uri: str) -> bool:
    """Return whether a run folder that names this store needs ``--trust``.

    Three kinds of stores do not need it: the store of ``MLFLOW_TRACKING_URI``, a file in the working folder, and a file
    of this machine that is already a store.
    """
    if uri == os.environ.get(VARIABLE):
        return False
    file = sqlite_file(uri)
    if file is None:
        return True
    return not (is_in_working_folder(file) or is_store(file))


def check_registration(register: object, alias: object, named_in: Path) -> None:
    """Refuse a name (and alias) in the model registry that the user does not trust. It can come from a stranger."""
    if not register:
        return
    address = registration_address(register, alias)
    if not is_trusted_address(address):
        raise UserError(
            f"{named_in}: asks to register its model as {trust.printable(address)} in the model registry; add "
            f"--trust {trust.printable(address)} to the command if you want that."
        )


def registration_address(register: object, alias: object) -> str:
    """Return the address of a registered model: ``models:/NAME``, or ``models:/NAME@ALIAS``."""
    return f"models:/{register}@{alias}" if alias else f"models:/{register}"


def trusted_for(uri: str, register: object = None, alias: object = None) -> list[str]:
    """Return what a command needs behind ``--trust`` for the store and the registered model of a run.

    The addresses contain no password.
    """
    names = [without_password(uri)] if _needs_trust(uri) else []
    if register:
        names.append(registration_address(register, alias))
    return names


def check_location(location: object, named_in: Path) -> None:
    """Refuse a place for the files of runs that is neither in the working folder nor trusted."""
    if location is None or is_trusted_address(location):
        return
    text = str(location)
    if "://" not in text and is_in_working_folder(Path(text)):
        return
    raise UserError(
        f"{named_in}: names {trust.printable(text)} as the place for files of runs; "
        f"add --trust {trust.printable(text)} to the command if results may be written there."
    )


def is_trusted_address(address: object) -> bool:
    """Return whether the user trusts exactly this address. A password in the address need not be typed again."""
    return str(address) in trust.trusted() or without_password(str(address)) in trust.trusted()


def is_in_working_folder(path: Path) -> bool:
    """Return whether a path leads into the folder that the command runs in."""
    try:
        return path.resolve().is_relative_to(Path.cwd())
    except (OSError, ValueError, RuntimeError):
        # The path is too long, contains a zero byte, or is a circle of links.
        return False
