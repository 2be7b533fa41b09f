"""Services of the headset node by which others play, halt and step the trainer's motion."""

from __future__ import annotations

from rclpy.node import Node
from std_srvs.srv import Trigger

from capture_nodes.errors import CaptureError
from capture_nodes.live_frames import LiveFrames
from capture_nodes.played_frames import PlayedFrames
from capture_nodes.replayed_frames import ReplayedFrames
from capture_nodes.sources.source import SourceError
from retargeting.errors import RetargetingError


class RepetitionServices:
    """`~/play`, `~/halt` and `~/step`; what cannot be done is answered with the reason."""

    def __init__(self, node: Node, frames: LiveFrames | PlayedFrames | ReplayedFrames) -> None:
        self._frames = frames
        node.create_service(Trigger, "~/play", self._on_play)
        node.create_service(Trigger, "~/halt", self._on_halt)
        node.create_service(Trigger, "~/step", self._on_step)

    def _on_play(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message = self._frames.play()
            response.success = True
        except (CaptureError, RetargetingError) as error:
            response.success = False
            response.message = str(error)
        return response

    def _on_halt(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._frames.halt()
        response.success = True
        return response

    def _on_step(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            if not isinstance(self._frames, ReplayedFrames):
                raise SourceError("only source:=bag with speed:=0 is played step by step")
            response.message = self._frames.step()
            response.success = True
        except CaptureError as error:
            response.success = False
            response.message = str(error)
        return response
