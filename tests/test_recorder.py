"""Recorder: what the parts of a run log is shown to who watches it, and only while it runs."""

import io
import logging

from seqtoolkit.host.registry import discover
from seqtoolkit.recorder import Recorder
from seqtoolkit.train.tracking.progress import Progress


def test_what_parts_log_is_shown(tmp_path):
    """A line that a part logs under `seqtoolkit.` at INFO is shown; before and after the run it is not, nor is DEBUG."""
    stream, logger = io.StringIO(), logging.getLogger("seqtoolkit.stranger")
    logger.info("too early")
    level = logging.getLogger("seqtoolkit").level
    recorder = Recorder(None, tmp_path, None, Progress(1, interactive=False, stream=stream), discover(), 0)
    logger.info("took the %s way", "fast")
    logger.debug("of no interest")
    recorder.close()
    logger.info("too late")
    assert stream.getvalue() == "took the fast way\n"
    assert logging.getLogger("seqtoolkit").level == level
