"""Worker: one process of a crew, which runs `python -m seqtoolkit_language.worker DESCRIPTOR`."""

from __future__ import annotations

import os
import sys
import traceback
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from seqtoolkit_language.crew import Failure, Rest


def serve(line: Connection) -> None:
    """Do the tasks of the job that comes first, until None comes; then wait for the end, which the crew brings."""
    inbox: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_listen, args=(line, inbox), daemon=True).start()
    job = inbox.get()
    try:
        while (order := inbox.get()) is not None:
            for step in job.work(*order):
                line.send(step)
        line.send(Rest(job.rest()))
    except ConnectionError:
        pass
    except Exception as error:  # noqa: BLE001  whatever it is, the crew raises it
        line.send(Failure(_portable(error)))
    Event().wait()


def _listen(line: Connection, inbox: SimpleQueue[Any]) -> None:
    """Take in what the crew says; when nobody is there to say anything, be it killed, end this process at once."""
    try:
        while True:
            inbox.put(line.recv())
    except (EOFError, ConnectionError):
        pass
    except Exception:  # noqa: BLE001  a thread's own error would leave the crew waiting
        traceback.print_exc()
    finally:
        os._exit(0)


def _portable(error: Exception) -> Exception:
    """An error as it can be sent: a user's or the system's own as it is, any other as its traceback."""
    if isinstance(error, (ValueError, OSError)):
        return error
    return RuntimeError("".join(traceback.format_exception(error)))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
