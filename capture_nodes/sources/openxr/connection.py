"""The runtime as long as it is there, and tried again, ever less often, while it is not."""

from __future__ import annotations

from typing import Any

from capture_nodes.sources.openxr.driver import RuntimeFailed, load_pyopenxr
from capture_nodes.sources.openxr.instance import OpenInstance, RuntimeAbsent
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.sources.openxr.session import Session
from capture_nodes.sources.source import SourceError


class Connection:
    """One instance and one session, made anew whenever one of the two was lost.

    trouble: in words, why there is none; "" while there is one. opened: how often one was made.
    """

    def __init__(self, parameters: OpenXrParameters) -> None:
        self._parameters = parameters
        self._xr: Any = None
        self._instance: OpenInstance | None = None
        self.session: Session | None = None
        self.trouble = "not opened yet"
        self.opened = 0
        self.retry_at_s = 0.0
        self._patience_s = parameters.retry_first_s

    @property
    def instance(self) -> OpenInstance | None:
        return self._instance

    def open_first(self, now_s: float) -> None:
        """Raises `SourceError` where no waiting helps: pyopenxr, libGL, a runtime or what we need of it is
        missing.

        A headset that is not plugged in may come.
        """
        self._xr = load_pyopenxr()
        try:
            self._open()
        except RuntimeAbsent as absent:
            self.close()
            raise SourceError(absent.advice) from absent
        except RuntimeFailed as failed:
            self.drop(failed, now_s)
        except SourceError:
            self.close()
            raise

    def open_again(self, now_s: float) -> Session | None:
        """The session, made anew where there is none and it is time to try."""
        if self.session is None and now_s >= self.retry_at_s:
            try:
                self._open()
            except (RuntimeFailed, SourceError) as failed:
                self.drop(failed, now_s)
        return self.session

    def _open(self) -> None:
        self._instance = OpenInstance(self._xr)
        self.session = Session(self._instance, self._parameters)
        self.opened += 1
        self.trouble = ""

    def drop(self, why: Exception, now_s: float, *, willingly: bool = False) -> None:
        """Let go of what is left of it; willingly: the trainer wanted out, there is no hurry to be back."""
        self.close()
        self.trouble = str(why)
        if willingly:
            self._patience_s = self._parameters.retry_longest_s
        self.retry_at_s = now_s + self._patience_s
        self._patience_s = min(2.0 * self._patience_s, self._parameters.retry_longest_s)

    def works(self) -> None:
        """Somebody was tracked: the next loss is a new one."""
        self._patience_s = self._parameters.retry_first_s

    def close(self) -> None:
        instance, self._instance, self.session = self._instance, None, None
        if instance is not None:
            instance.close()
