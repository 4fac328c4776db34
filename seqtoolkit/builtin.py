"""The host's own parts, brought by an entry point like anyone's."""

from seqtoolkit.sdk import hookimpl


@hookimpl
def sources() -> dict[str, str]:
    """Streams made of streams."""
    return {"mix": "seqtoolkit.flow.mix:Mix"}


@hookimpl
def transforms() -> dict[str, str]:
    """Changes to blocks."""
    return {"reverse": "seqtoolkit.flow.transform:Reverse"}


@hookimpl
def batches() -> dict[str, str]:
    """Ways to make batches."""
    return {"pad": "seqtoolkit.flow.batch:Pad", "stack": "seqtoolkit.flow.batch:Stack"}


@hookimpl
def encoders() -> dict[str, str]:
    """Inputs to vectors."""
    return {
        "conv": "seqtoolkit.flow.convolution:Convolution",
        "embed": "seqtoolkit.flow.encoder:Embed",
        "linear": "seqtoolkit.flow.encoder:Project",
    }


@hookimpl
def cores() -> dict[str, str]:
    """What a memory is compared with."""
    return {"feedforward": "seqtoolkit.flow.feedforward:Feedforward"}


@hookimpl
def heads() -> dict[str, str]:
    """Outputs to predictions."""
    return {
        "actor_critic": "seqtoolkit.flow.policy:ActorCritic",
        "mlp": "seqtoolkit.flow.head:MLP",
        "softmax": "seqtoolkit.flow.softmax:Softmax",
        "adaptive_softmax": "seqtoolkit.flow.softmax:AdaptiveSoftmax",
    }


@hookimpl
def losses() -> dict[str, str]:
    """What training minimises."""
    return {
        "cross_entropy": "seqtoolkit.flow.loss:CrossEntropy",
        "negative_log_likelihood": "seqtoolkit.flow.loss:NegativeLogLikelihood",
    }


@hookimpl
def metrics() -> dict[str, str]:
    """What evaluation reports."""
    return {
        "accuracy": "seqtoolkit.flow.metric:Accuracy",
        "perplexity": "seqtoolkit.flow.metric:Perplexity",
        "sequence_accuracy": "seqtoolkit.flow.metric:SequenceAccuracy",
    }


@hookimpl
def optimizers() -> dict[str, str]:
    """Gradients to steps."""
    return {name: f"seqtoolkit.train.optimize:{name}" for name in ("adam", "adamw", "rmsprop", "sgd")}


@hookimpl
def schedules() -> dict[str, str]:
    """How the learning rate moves."""
    return {name: f"seqtoolkit.train.schedule:{name}" for name in ("constant", "cosine", "exponential", "linear")}


@hookimpl
def learners() -> dict[str, str]:
    """Ways to learn."""
    own = {name: f"seqtoolkit.train.learner:{name.title()}" for name in ("supervised", "truncated")}
    return {**own, "actor_critic": "seqtoolkit.train.actor_critic:ActorCritic"}


@hookimpl
def trackers() -> dict[str, str]:
    """Where runs are recorded."""
    return {
        "mlflow": "seqtoolkit.train.tracking:MLflowTracker",
        "none": "seqtoolkit.train.tracking:NullTracker",
    }
