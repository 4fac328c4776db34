"""Assess: a trained model on any split and difficulty of its task, as tables, files and pictures.

>>> from seqtoolkit.assess import evaluate, keep
>>> from seqtoolkit.trained import Trained
>>> trained = Trained.find("20261122-234634-program_eval-e090")
>>> found = evaluate(trained, ["source.length=1..5", "source.nesting=1..3"])
>>> keep(found, trained)
"""

from seqtoolkit.assess.assessment import Assessment, Cell
from seqtoolkit.assess.evaluation import evaluate
from seqtoolkit.assess.file import Kept, keep

__all__ = ["Assessment", "Cell", "Kept", "evaluate", "keep"]
