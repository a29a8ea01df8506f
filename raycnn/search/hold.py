"""Who works on a run at a URI: a mark there, renewed while its driver lives. No lock, for object stores have none: two
drivers that start within the same second may both come through."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from raycnn import storage
from raycnn.errors import ClusterError

HOLDER = "run.holder.json"
SILENCE_S = 90.0  # a holder that has said nothing for so long is dead


class Hold:
    """This driver's mark at the URI.

    there: the URI's directory; me: what tells this driver from others; lost: called once, when another driver has
    taken the URI. Methods raise what is in storage.TROUBLE, and KeyError where a mark is none of ours.
    """

    def __init__(self, there: Any, uri: str, me: dict[str, Any], lost: Callable[[], None]) -> None:
        self._there, self._uri, self._me, self._tell_lost = there, uri, me, lost
        self._renewed, self._lost, self._renewing = 0.0, False, threading.Lock()

    def take(self) -> None:
        """Raises ClusterError where another driver holds the URI."""
        self.refuse_held()
        self._renew()

    def refuse_held(self) -> None:
        """As `take`, without a mark."""
        holder = self._holder()
        if holder is not None and not self._is_me(holder):
            silent_s = time.time() - holder["renewed"]
            if silent_s < SILENCE_S:
                raise ClusterError(
                    f"--run {self._uri}: is held by process {holder['pid']} on {holder['host']} since "
                    f"{holder['since']}. Wait for it; if it is dead, {SILENCE_S - silent_s:.0f} s are enough."
                )

    def keep(self, known_s: float = 0.0) -> bool:
        """Whether the URI is still this driver's, which is said there anew.

        known_s: for how long the last answer counts. A machine that slept has been silent, whatever it did before: then
        another driver may hold the URI, or have held it and be done.
        """
        with self._renewing:
            if not self._lost and not 0 <= time.time() - self._renewed < known_s:
                holder = self._holder()
                if holder is not None and self._is_me(holder):
                    self._renew()
                elif storage.is_disk(self._there) and not storage.is_there(self._there, ""):
                    raise FileNotFoundError("the directory is gone")  # as one that is mounted: it may come back
                else:
                    self._lost = True
                    self._tell_lost()
            return not self._lost

    def let_go(self) -> None:
        if self.keep():
            self._there.delete_file(HOLDER)

    def _holder(self) -> dict[str, Any] | None:
        found = storage.read(self._there, HOLDER)
        return None if found is None else json.loads(found)

    def _is_me(self, holder: dict[str, Any]) -> bool:
        return all(holder[key] == self._me[key] for key in self._me)

    def _renew(self) -> None:
        now = time.time()
        storage.write(self._there, HOLDER, json.dumps(self._me | {"renewed": now}).encode())
        self._renewed = now
