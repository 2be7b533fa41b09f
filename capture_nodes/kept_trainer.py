"""The operator's size from an earlier session, kept for the next one."""

from __future__ import annotations

from typing import Any

from capture_nodes.retargeting_parameters import RetargetingParameters
from retargeting.errors import InvalidConfiguration, RetargetingError
from retargeting.trainer_reader import TrainerReader
from retargeting.trainer_size import TrainerSize
from retargeting.trainer_store import TrainerStore


class KeptTrainer:
    """`size` is the operator's where one is kept, else None: then it is measured, and kept by `keep`.

    `logger` is a ROS logger. Raises `RetargetingError` on an operator that can name no file.
    """

    def __init__(self, parameters: RetargetingParameters, logger: Any) -> None:
        self._operator = parameters.operator
        self._logger = logger
        self._store = TrainerStore(parameters.trainer_path)
        self.size = self._load()
        self._missing = bool(self._operator) and self.size is None

    def _load(self) -> TrainerSize | None:
        if not self._operator:
            return None
        try:
            return self._store.load(self._operator)
        except InvalidConfiguration as error:
            self._logger.warning(f"the trainer is measured anew: {error}")
            return None

    def keep(self, trainer: TrainerReader) -> None:
        """Once the trainer has engaged; a disk may be slow, so from no thread with a deadline."""
        if not (self._missing and trainer.input.size_is_final and trainer.mapping is not None):
            return
        self._missing = False
        try:
            file = self._store.save(self._operator, trainer.mapping.size)
            self._logger.info(f"the trainer's size is kept in {file}")
        except RetargetingError as error:
            self._logger.warning(str(error))
