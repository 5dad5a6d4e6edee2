"""An attempt that does not come to an end says so, and not what an earlier one stopped at."""

from __future__ import annotations

import time

from vaelint.core.checked import Checked
from vaelint.core.errors import TargetError
from vaelint.core.result import Request, TargetResult
from vaelint.core.setup import fail
from vaelint.discover.observing import wants_fewer_rows
from vaelint.observe.data.unknown.wishes import Wishes
from vaelint.pipeline.attempts import started_again


def test_what_was_learned_is_not_said_to_be_in_the_way() -> None:
    request = Request("train.py", run=("train.py", "--epochs", "1"), timeout=60.0)
    first = TargetResult("train.py")
    fail(first, TargetError("VAE007", "the script raises AssertionError", "run it with python first"))
    (late,), _ = started_again(first, request, Wishes(), lambda *_: None, lambda _: None, time.perf_counter())
    (finding,) = late.findings
    assert (late.status, finding.code) == ("failed", "VAE006")
    assert finding.message == "no training iteration had ended when the script's share of 60 s was over"
    assert finding.help.startswith("give it more time: vaelint run --timeout 120 train.py --epochs 1")
    assert wants_fewer_rows(Checked(late, request=request)), "a folder's check tries it with smaller batches"
