"""The settings of run files and training files: one frozen section per stage."""

from cai.config.base import Section as Section
from cai.config.feedback import Audit as Audit
from cai.config.feedback import Compare as Compare
from cai.config.feedback import Evaluate as Evaluate
from cai.config.feedback import Judge as Judge
from cai.config.feedback import Prompts as Prompts
from cai.config.feedback import Revise as Revise
from cai.config.feedback import Sampling as Sampling
from cai.config.load import ParsedConfig as ParsedConfig
from cai.config.load import load_config as load_config
from cai.config.load import load_settings as load_settings
from cai.config.load import load_training as load_training
from cai.config.load import parse_config as parse_config
from cai.config.run import Data as Data
from cai.config.run import Models as Models
from cai.config.run import RunConfig as RunConfig
from cai.config.run import TrainingConfig as TrainingConfig
from cai.config.training import DPO as DPO
from cai.config.training import PPO as PPO
from cai.config.training import SFT as SFT
from cai.config.training import Constraint as Constraint
from cai.config.training import Monitor as Monitor
from cai.config.training import PPORollout as PPORollout
from cai.config.training import Reward as Reward
from cai.config.training import RewardEnsemble as RewardEnsemble
from cai.config.training import Training as Training
