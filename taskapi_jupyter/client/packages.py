"""What a ``TaskAPI`` does with the environments of packages that were built for its jobs."""

from __future__ import annotations

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from taskapi_jupyter.core.contract import BuiltEnvironment
from taskapi_jupyter.core.errors import BadRequest, Conflict, NotFound, NotKept, Unavailable, short, size
from taskapi_jupyter.display import packages as display
from taskapi_jupyter.display.formats import moment

if TYPE_CHECKING:
    from IPython.lib.pretty import PrettyPrinter

_DIGITS = re.compile(r"[0-9a-f]{4,32}")


class PackagesList(list[BuiltEnvironment]):
    """Environments of packages, displayed as a table; those used last come first."""

    def find(self, key: str) -> BuiltEnvironment:
        """Return the one with a key, or whose key begins with these digits; raise as :func:`chosen`."""
        whole = chosen((one.key for one in self), key)
        return next(one for one in self if one.key == whole)

    def __repr__(self) -> str:
        return display.packages_text(self)

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text(repr(self))

    def _repr_html_(self) -> str:
        return display.packages_html(self)


class PackagesAPI(ABC):
    """The part of :class:`TaskAPI` that is about environments of packages."""

    @abstractmethod
    def packages(self) -> PackagesList:
        """Return the environments that were built from requirements, those used last first.

        Each says which Python and packages it has, its size in bytes, how many jobs in progress and which APIs need it.
        Raises ``NotKept`` on a Cortex cluster.
        """

    @abstractmethod
    def delete_packages(self, key: str) -> str:
        """Delete one of these environments; return the server's message.

        An API that needs it stays deployed: its next job builds the environment again.

        Parameters
        ----------
        key
            The environment's key, or its first digits, four or more.

        Raises
        ------
        Conflict
            A job in progress needs it, or a process runs in it or builds it.
        NotFound
            There is none of this key.
        BadRequest
            Several keys begin with these digits, or they are none of a key.
        """

    def purge_packages(self, older_than: float | None = None) -> str:
        """Delete the environments that no job in progress needs; return a message, also of those that can't be deleted.

        Parameters
        ----------
        older_than
            Only those that were last used more than this many days ago, 0 or more; None (default): whenever that was.
        """
        if older_than is not None and not 0 <= older_than < math.inf:
            raise BadRequest(f"older_than must be a number of days from 0 on, not {older_than}")
        before = math.inf if older_than is None else time.time() - older_than * 86_400
        count = freed = 0
        failed: list[str] = []
        for one in self.packages():
            used = moment(one.last_used)
            if one.jobs or (used is not None and used.timestamp() >= before):
                continue
            try:
                self.delete_packages(one.key)
                count, freed = count + 1, freed + one.size
            except (Conflict, NotFound):  # a job needs it by now, or somebody else deleted it
                continue
            except Unavailable as error:  # of this one alone
                failed.append(error.message)
        deleted = f"deleted {count} environment{'' if count == 1 else 's'}" + (f" ({size(freed)})" if count else "")
        return "; ".join([deleted, *failed])


def no_packages(environment: str) -> NotKept:
    """Return the error of an environment that builds none."""
    return NotKept(f"{environment} is a Cortex cluster, which builds no environments: its images have their packages")


def check_digits(given: str) -> str:
    """Return what was given as a key; raise ``BadRequest`` where it can't be the beginning of one."""
    if not _DIGITS.fullmatch(given):
        raise BadRequest(f"no environment has the key {short(given)!r}: give four or more of its digits (0-9, a-f)")
    return given


def chosen(keys: Iterable[str], given: str) -> str:
    """Return the key that is given, or that begins with the digits given, four or more of them.

    Raises ``NotFound`` where none does, ``BadRequest`` where several do, or where these are no digits of a key.
    """
    check_digits(given)
    found = [key for key in keys if key.startswith(given)]
    if not found:
        raise NotFound(f"no environment {given}: `packages` lists those there are")
    if len(found) > 1:
        raise BadRequest(f"{len(found)} environments begin with {given}: {', '.join(key[:12] for key in found[:5])}")
    return found[0]
