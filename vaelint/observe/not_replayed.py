"""What cannot be had from a recorded iteration."""

from vaelint.replay.replay import ReplayError


class NotReplayedError(ReplayError):
    """What is asked cannot be had from the recorded iteration; says why."""
