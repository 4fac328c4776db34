"""Served: a trained model as MLflow's servers take it; MLflow imports this module to load an exported model.

Of an exported model's folder a pipeline is read, which names parts and no code, and weights, which are numbers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqtoolkit.question import Asker
from seqtoolkit.trained import Trained

EXAMPLES = 2
SEEN = 3
"""How many observations an example of a model that acts has."""
_NUMPY = {"f16": np.float16, "f32": np.float32, "f64": np.float64, "i64": np.int64, "i32": np.int32, "u8": np.uint8}
_QUOTED = re.compile(r"`([^`]+)`")


class Questions:
    """A model that is asked in text: a column `question` to columns `answer` and `error`, one of them null."""

    def __init__(self, trained: Trained) -> None:
        """Raises ValueError for a task that takes no questions."""
        self.asker = Asker(trained)

    def predict(self, model_input: Any, params: Any = None) -> Any:  # noqa: ARG002  (MLflow's signature)
        """The answers to the questions of a data frame, in order; one that is none of this task has its `error`."""
        import pandas as pd

        given = list(model_input["question"])
        found = self.asker.stream([each if isinstance(each, str) else "" for each in given])
        rows = [
            (each.answer, each.error)
            if isinstance(asked, str)
            else (None, f"wanted a text, got {type(asked).__name__}")
            for asked, each in zip(given, found, strict=True)
        ]
        return pd.DataFrame(rows, columns=["answer", "error"], dtype=object)

    def example(self) -> Any:
        """Questions that the task understands, as `predict` takes them."""
        import pandas as pd

        source, graph = self.asker.source, self.asker.graph
        told = _QUOTED.findall(source.asks)
        for case in source.cases():
            batch = graph.batch(case.block)
            asked, wanted = batch.inputs[:, 0].numpy(), batch.targets[:, 0].numpy()
            told.append(source.show(asked, wanted, wanted).question)
        understood = [each.question for each in self.asker(list(dict.fromkeys(told))) if each.error is None]
        return pd.DataFrame({"question": understood[:EXAMPLES]})

    def signature(self) -> Any:
        """What `predict` takes and returns, in MLflow's terms."""
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        found = Schema([ColSpec("string", name, required=False) for name in ("answer", "error")])
        return ModelSignature(Schema([ColSpec("string", "question")]), found)


class Tensors:
    """A model over arrays: `inputs` [B T ...] to predictions [B U C], logits or numbers, at the last U steps.

    U is the parameter `answers`, every step where it is 0. A model that acts is given what was seen since an episode began:
    its predictions are a logit for each action, and the value, after each observation.
    """

    def __init__(self, trained: Trained) -> None:
        self.graph = trained.graph
        stages = {stage.key: stage for stage in self.graph.stages}
        self.spec = stages["model.encoder"].reads["inputs"]
        self.head = stages["model.head"].writes["predictions"]

    @torch.no_grad()
    def predict(self, model_input: Any, params: Any = None) -> Any:
        """The predictions for each row, which are all of one length."""
        inputs = torch.as_tensor(np.asarray(model_input, _NUMPY[self.spec.dtype])).transpose(0, 1).contiguous()
        answers = int((params or {}).get("answers", 0)) or None
        return self.graph.model(inputs, answers=answers)[0].transpose(0, 1).contiguous().numpy()

    def example(self) -> Any:
        """Examples of the task, as `predict` takes them."""
        inputs = self._seen() if self.graph.acting else self._batch().inputs
        return inputs.transpose(0, 1).contiguous().numpy()

    def signature(self) -> Any:
        """What `predict` takes and returns, in MLflow's terms; `answers` is as many steps as those of the examples have."""
        from mlflow.models import ModelSignature
        from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

        return ModelSignature(
            Schema([TensorSpec(np.dtype(_NUMPY[self.spec.dtype]), _shape(self.spec.axes))]),
            Schema([TensorSpec(np.dtype(np.float32), _shape(self.head.axes))]),
            ParamSchema([ParamSpec("answers", "long", 0 if self.graph.acting else self._batch().answers)]),
        )

    def _seen(self) -> torch.Tensor:
        """The first observations of some worlds, [T B ...]."""
        environment = self.graph.environment
        none = environment.arrays.zeros((environment.num_envs,), "int64")
        seen = [np.array(environment.reset())]
        seen += [np.array(environment.step(none).observations) for _ in range(SEEN - 1)]
        return torch.from_numpy(np.stack(seen)[:, :EXAMPLES])

    def _batch(self) -> Any:
        return self.graph.batch(self.graph.source.draw(np.arange(EXAMPLES, dtype=np.int64)))


def served(trained: Trained) -> Questions | Tensors:
    """The model as it is served: by questions where its task takes them, and over arrays where not."""
    try:
        return Questions(trained)
    except ValueError:
        return Tensors(trained)


def _load_pyfunc(data_path: str) -> Questions | Tensors:
    """What MLflow calls to load an exported model. Raises ValueError, one line, where it cannot be used here."""
    return served(Trained.find(Path(data_path)))


def _shape(axes: tuple[Any, ...]) -> tuple[int, ...]:
    """The sizes of axes [T B ...], where they are known, as rows of steps [B T ...]."""
    return (-1, -1, *(axis if isinstance(axis, int) else -1 for axis in axes[2:]))
