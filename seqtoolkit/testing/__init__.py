"""The laws that a plugin author checks: `check_core` and its like; each is one parametrised line of pytest."""

from seqtoolkit.testing.core import CORE_LAWS, check_core
from seqtoolkit.testing.environment import ENVIRONMENT_LAWS, check_environment
from seqtoolkit.testing.kernel import KERNEL_LAWS, check_kernel
from seqtoolkit.testing.law import LawBroken, within
from seqtoolkit.testing.source import SOURCE_LAWS, check_source
from seqtoolkit.testing.task import TASK_LAWS, check_task

__all__ = [
    "CORE_LAWS",
    "ENVIRONMENT_LAWS",
    "KERNEL_LAWS",
    "SOURCE_LAWS",
    "TASK_LAWS",
    "LawBroken",
    "check_core",
    "check_environment",
    "check_kernel",
    "check_source",
    "check_task",
    "within",
]
