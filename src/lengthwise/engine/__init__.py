"""One device: sample, grade, shape, credit, update, save."""

from lengthwise.engine.batches import Task as Task
from lengthwise.engine.method import LossInputs as LossInputs
from lengthwise.engine.method import Method as Method
from lengthwise.engine.models import Policy as Policy
from lengthwise.engine.models import load_policy as load_policy
from lengthwise.engine.models import save_policy as save_policy
from lengthwise.engine.rollouts import Rollouts as Rollouts
from lengthwise.engine.sampler import Sampler as Sampler
from lengthwise.engine.scoring import Scorer as Scorer
from lengthwise.engine.trainer import TrainConfig as TrainConfig
from lengthwise.engine.trainer import Trainer as Trainer

__all__ = [
    "LossInputs",
    "Method",
    "Policy",
    "Rollouts",
    "Sampler",
    "Scorer",
    "Task",
    "TrainConfig",
    "Trainer",
    "load_policy",
    "save_policy",
]
