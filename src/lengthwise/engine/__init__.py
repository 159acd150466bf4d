"""One device: sample, grade, shape, credit, update, save."""

from lengthwise.engine.backends.transformers_sampler import Sampler as Sampler
from lengthwise.engine.batches import Task as Task
from lengthwise.engine.log_probabilities import Scorer as Scorer
from lengthwise.engine.method import Asked as Asked
from lengthwise.engine.method import BarePrompts as BarePrompts
from lengthwise.engine.method import ExtraLoss as ExtraLoss
from lengthwise.engine.method import LossInputs as LossInputs
from lengthwise.engine.method import Method as Method
from lengthwise.engine.method import Recipe as Recipe
from lengthwise.engine.method import Stage as Stage
from lengthwise.engine.method import StageInputs as StageInputs
from lengthwise.engine.method_validation import rehearse as rehearse
from lengthwise.engine.model_folders import Policy as Policy
from lengthwise.engine.model_folders import load_policy as load_policy
from lengthwise.engine.model_folders import save_policy as save_policy
from lengthwise.engine.rollouts import Rollouts as Rollouts
from lengthwise.engine.trainer import Trainer as Trainer

__all__ = [
    "Asked",
    "BarePrompts",
    "ExtraLoss",
    "LossInputs",
    "Method",
    "Policy",
    "Recipe",
    "Rollouts",
    "Sampler",
    "Scorer",
    "Stage",
    "StageInputs",
    "Task",
    "Trainer",
    "load_policy",
    "rehearse",
    "save_policy",
]
