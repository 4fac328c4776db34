"""Dispatch: the training's hold on the process that delivers its outbox: start it, hear from it, let it go."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from seqtoolkit.train.tracking import outbox

logger = logging.getLogger(__name__)
COMMAND = (sys.executable, "-m", "seqtoolkit.train.tracking.delivery")


class Dispatch:
    """The delivery of the run in `folder`, to the store at `uri` or the one that MLflow's settings name."""

    def __init__(self, folder: Path, uri: str | None) -> None:
        """Raises OSError where the process cannot be started."""
        self.store: str | None = None
        self.run: str | None = None
        self.experiment: str | None = None
        self.refusal: str | None = None
        """Why the store will not have the run."""
        self.offline = False
        self._folder = folder
        self._answered = threading.Event()
        self._dismissed = False
        with (folder / outbox.LOG).open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  (our own module, no shell)
                [*COMMAND, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # a Ctrl-C is not meant for it
                env=os.environ | ({} if uri is None else {"MLFLOW_TRACKING_URI": uri}),
            )
        threading.Thread(target=self._listen, name="delivery's reports", daemon=True).start()

    def wait(self, patience: float) -> None:
        """Wait until the store has answered: a file as long as it takes, a server `patience` seconds."""
        while not self._answered.wait(0.05):
            if self.store is not None and not self.store.startswith("sqlite:"):
                if not self._answered.wait(patience):
                    self._report_offline(f"no answer from {self.store}")
                return

    def dismiss(self, timeout: float) -> None:
        """Let the process finish, in at most `timeout` seconds."""
        self._dismissed = True
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("end\n")
            self.process.stdin.close()
        except OSError:
            pass  # it has died, and that has been said
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as reports:
            for line in reports:
                self._hear(json.loads(line))
        if not self._dismissed and self.refusal is None:
            logger.warning("the delivery of %s has died (see %s); all is kept there", self._folder, outbox.LOG)
        self._answered.set()

    def _hear(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "store":
            self.store = event["store"]
        elif kind == "run":
            self.run, self.experiment = event["run"], event["experiment"]
            self._report_online()
            self._answered.set()
        elif kind == "mistake":
            self.refusal = event["text"]
            if self._answered.is_set():
                logger.warning("%s; all is kept in %s", self.refusal, self._folder)
            self._answered.set()
        elif kind == "offline":
            self._report_offline(event["text"])
            self._answered.set()
        elif kind == "online":
            self._report_online()
        else:
            logger.warning("%s", event["text"])

    def _report_offline(self, reason: str) -> None:
        if not self.offline:
            logger.warning("the tracking store does not answer (%s); all is kept in %s meanwhile", reason, self._folder)
        self.offline = True

    def _report_online(self) -> None:
        if self.offline:
            logger.warning("the tracking store answers again")
        self.offline = False


def deliver(folder: Path) -> int:
    """Deliver what runs that have ended could not; return how many items are still undelivered.

    `folder` is a run's folder, or one of many runs' folders. What a living process still works on is left to it.
    """
    waiting = outbox.find(folder)
    if waiting:
        command = [*COMMAND, "--once", *map(str, waiting)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own module)
        for line in done.stdout.splitlines():
            logger.warning("%s", json.loads(line)["text"])
        if done.returncode:
            logger.warning("the outbox cannot be delivered: %s", done.stderr.strip().splitlines()[-1:])
    return sum(map(outbox.backlog, waiting))
