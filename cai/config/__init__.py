"""The run file and the training file: one frozen section per stage, checked before anything starts."""

from cai.config.sections import *  # noqa: F403
from cai.config.sections import Section as Section
