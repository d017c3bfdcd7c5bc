"""The details of the training table done wrong, one at a time: the test that stands beside each must reject it.

Every line is a mistake that has been made somewhere. The package is copied with that one line changed, and the test is run on the copy.
"""

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# name: (file, what it says, what it says when it is wrong, the test that sees it)
WRONG = {
    "an ordinary token is the padding": (
        "models/padding.py",
        "return int(tokenizer.eos_token_id or 0)",
        "return 0",
        "models/test_padding.py -k ordinary",
    ),
    "the end token is the padding of a reward model": (
        "models/scalar.py",
        "pad_token_id = own_padding_id(tokenizer)",
        "pad_token_id = tokenizer.eos_token_id",
        "models/test_padding.py -k one_token_early",
    ),
    "the mask is read off the padding token": (
        "models/padding.py",
        "mask[i, length - len(row) :] = 1",
        "mask[i] = (ids[i] != pad_id).long()",
        "models/test_padding.py -k holds_the_end_token",
    ),
    "the end of turn is no label": (
        "train/batching.py",
        "example = TokenizedExample(prompt_ids, answer_ids)",
        "example = TokenizedExample(prompt_ids, answer_ids[:-1])",
        "train/test_batching.py -k stop_token",
    ),
    "positions count the padding": (
        "models/padding.py",
        "(attention_BL.long().cumsum(1) - 1).clamp(min=0)",
        "torch.arange(attention_BL.shape[1], device=attention_BL.device).expand_as(attention_BL)",
        "models/test_decode.py -k left_padded",
    ),
    "logits of the token itself": (
        "models/forest.py",
        "before += [at + prompt - 1, *range(start, start + len(answer) - 1)]",
        "before += [*range(start, start + len(answer))]",
        "train/test_ppo.py -k rollout_against",
    ),
    "the reference at another temperature": (
        "train/agent.py",
        "return token_logprobs(read(forest)[0], forest.targets, self.temperature)",
        "return token_logprobs(read(forest)[0], forest.targets)",
        "train/test_ppo.py -k ratios_are_one",
    ),
    "rollouts from the likeliest tokens only": (
        "models/decode.py",
        "shares = (logits.float() / temperature)",
        "shares = logits.float().masked_fill(logits < logits.topk(2).values[..., -1:], -1e9)",
        "models/test_decode.py -k in_proportion",
    ),
    "the rollout's log-probabilities at another temperature": (
        "models/decode.py",
        "shares.gather(1, token).log()",
        "logits.float().log_softmax(-1).gather(1, token)",
        "train/test_ppo.py -k ratios_are_one",
    ),
    "a multiplier that grows where all is well": (
        "rl/constraint.py",
        "short = self.least - sum(self.recent) / len(self.recent)",
        "short = sum(self.recent) / len(self.recent) - self.least",
        "train/test_optimum.py -k guard",
    ),
    "the stop token is cut off": (
        "models/decode.py",
        "return Decoded(row[: i + 1], stopped=True",
        "return Decoded(row[:i], stopped=True",
        "models/test_decode.py -k keep_their_stop",
    ),
    "a missing end is added to the score": (
        "train/rollout.py",
        "[s if row.stopped else missing for",
        "[s if row.stopped else s + missing for",
        "train/test_ppo.py -k without_an_end",
    ),
    "padding is multiplied away": (
        "rl/masked.py",
        "torch.where(mask.bool(), values, values.new_zeros(())).sum()",
        "(values * mask).sum()",
        "rl/test_losses.py -k padding_never_counts",
    ),
    "soft labels are taken as hard": (
        "rl/losses.py",
        "(1 - p_B) * F.logsigmoid(-difference - margin_B)",
        "0 * F.logsigmoid(-difference - margin_B)",
        "rl/test_losses.py -k cross_entropy",
    ),
    "the logarithm of a sigmoid": (
        "rl/losses.py",
        "p_B * F.logsigmoid(difference - margin_B)",
        "p_B * torch.sigmoid(difference - margin_B).log()",
        "rl/test_losses.py -k far_out",
    ),
    "the margin helps": (
        "rl/losses.py",
        "F.logsigmoid(difference - margin_B)",
        "F.logsigmoid(difference + margin_B)",
        "rl/test_losses.py -k margin_asks",
    ),
    "a ranking's answers change places": (
        "train/reward/dataset.py",
        "answers_before += len(group.prompt_group.answers)",
        "answers_before += 2",
        "train/test_reward_labels.py -k gradient_of_a_ranking",
    ),
    "prompts with many labels count more": (
        "train/reward/labels.py",
        "weight=label.weight / count",
        "weight=label.weight",
        "train/test_reward_labels.py -k same_weight",
    ),
    "a head as small as a transformer's": (
        "models/scalar.py",
        "std=1 / math.sqrt(weight.shape[1] + 1)",
        "std=0.002",
        "models/test_scalar.py -k unit_scale",
    ),
    "the reward before the last token": (
        "models/forest.py",
        "ends.append(start + len(answer) - 1 if answer else at + prompt - 1)",
        "ends.append(start + len(answer) - 2)",
        "models/test_scalar.py -k do_not_depend_on_padding",
    ),
    "the saved deviation is not applied": (
        "models/scalar.py",
        '/ getattr(inner.config, "reward_std", 1.0)',
        "/ 1.0",
        "models/test_scalar.py -k shift_and_scale",
    ),
    "dropout stays on": (
        "models/load.py",
        "module.p = 0.0",
        "pass",
        "train/test_details.py -k dropout",
    ),
    "dropout stays on where its rate is an attribute": (
        "models/load.py",
        "        _clear_rates(module)",
        "        pass",
        "models/test_dropout.py -k agree",
    ),
    "a missing head is drawn at random": (
        "models/scalar.py",
        "        _check_head(name, faults)",
        "        pass",
        "models/test_weights.py -k no_reward_model",
    ),
    "a value head that guesses": (
        "models/heads.py",
        "nn.init.zeros_(self.value.weight)",
        "nn.init.ones_(self.value.weight)",
        "train/test_options.py -k new_value_head",
    ),
    "a reward for moving away": (
        "rl/advantages.py",
        "-kl_coef * (logprobs_BT - ref_logprobs_BT)",
        "kl_coef * (logprobs_BT - ref_logprobs_BT)",
        "rl/test_advantages.py -k sum_to_score",
    ),
    "the score in the padding": (
        "rl/advantages.py",
        "rewards[rows, last.clamp(min=0)] +=",
        "rewards[rows, -1] +=",
        "rl/test_advantages.py -k sum_to_score",
    ),
    "a controller without bounds": (
        "rl/kl.py",
        "error = min(max(kl / self.target - 1, -0.2), 0.2)",
        "error = kl / self.target - 1",
        "rl/test_advantages.py -k controller",
    ),
    "values after the end": (
        "rl/advantages.py",
        "values, rewards = values_BT * mask, rewards_BT * mask",
        "values, rewards = values_BT, rewards_BT * mask",
        "rl/test_advantages.py -k padding_does_not_matter",
    ),
    "returns of whitened advantages": (
        "train/ppo.py",
        "return Targets(whiten(advantages, learnt), returns)",
        "white = whiten(advantages, learnt); return Targets(white, white + rollout.values)",
        "train/test_details.py -k before_whitening",
    ),
    "whitened with the padding": (
        "rl/masked.py",
        "mean = masked_mean(values, mask)\n    scaled",
        "mean = values.mean()\n    scaled",
        "rl/test_losses.py -k whiten_gives",
    ),
    "the better of plain and clipped": (
        "rl/losses.py",
        "loss=_mean(torch.maximum(plain, clipped)",
        "loss=_mean(torch.minimum(plain, clipped)",
        "rl/test_losses.py -k policy_loss_against",
    ),
    "values that are not clipped": (
        "rl/losses.py",
        "near_old = old_values_BT + (values_BT - old_values_BT).clamp(-clip, clip)",
        "near_old = values_BT",
        "rl/test_losses.py -k worse_of_plain",
    ),
    "one permutation for all passes": (
        "train/ppo.py",
        '*key, "epoch", epoch)',
        '*key, "epoch", 0)',
        "train/test_details.py -k fresh_permutation",
    ),
    "a prompt that stands twice is answered alike": (
        "train/ppo.py",
        "*([times[i]] if times[i] else [])",
        "",
        "train/test_details.py -k twice_in_a_batch",
    ),
    "Adam's own epsilon": (
        "train/engine.py",
        "eps=1e-5",
        "eps=1e-8",
        "train/test_details.py -k optimiser",
    ),
    "the mean of means": (
        "rl/losses.py",
        "return -masked_sum(logprobs_BT, mask_BT) / tokens_in_step",
        "return -masked_mean(logprobs_BT, mask_BT)",
        "rl/test_losses.py -k accumulated",
    ),
    "parts that do not add up": (
        "rl/losses.py",
        "masked_sum(values, mask) / total",
        "masked_mean(values, mask)",
        "train/test_processes.py -k gradient_accumulation",
    ),
    "ratios without bounds": (
        "rl/losses.py",
        ".clamp(-20, 20)",
        "",
        "train/test_details.py -k far_ratio",
    ),
    "nothing is kept in mind": (
        "train/ppo.py",
        "self.config.ptx_coef * loss + unused",
        "0.0 * loss + unused",
        "train/test_options.py -k kept_in_mind",
    ),
    "a state without its optimiser": (
        "train/resume.py",
        'engine.restore(tensors, state["engines"][name])',
        "pass",
        "train/test_resume.py -k resumed_training",
    ),
    "answers that see each other": (
        "models/forest.py",
        "seen = causal & ((mine == other) | ((other == 0) & (mine > 0)))",
        "seen = causal & (other >= 0)",
        "models/test_families.py -k one_by_one",
    ),
    "DPO on mean log-probabilities": (
        "train/dpo.py",
        "return sums / packed.lengths() if mean else sums",
        "return sums / packed.lengths()",
        "train/test_dpo.py -k sums_over_the_answer",
    ),
    "IPO's target is twice as far": (
        "rl/losses.py",
        "target = 1 / (2 * beta)",
        "target = 1 / beta",
        "train/test_dpo.py -k to_its_target",
    ),
    "left out, and yet counted": (
        "rl/advantages.py",
        "/ (count - 1).clamp(min=1)\n    return",
        "/ count\n    return",
        "train/test_options.py -k within_a_prompt",
    ),
    "an answer without a score is learnt from": (
        "train/ppo.py",
        "rows = self.rollout.scored.nonzero().flatten().tolist()",
        "rows = list(range(len(self.sizes)))",
        "train/test_scores.py -k moves_no_weight",
    ),
    "an answer without a score counts in its group": (
        "train/ppo.py",
        "config.rollout.samples_per_prompt, rollout.scored)",
        "config.rollout.samples_per_prompt)",
        "train/test_scores.py -k no_better_than",
    ),
    "every score is clipped": (
        "train/scores.py",
        "(SCORE_CLIP if is_normalised(score) else None)",
        "SCORE_CLIP",
        "train/test_scores.py -k only_scores_that",
    ),
    "a mean far from what the values expect": (
        "train/scores.py",
        "cls(clip_of(score, config), 0.0 if is_normalised(score) else None)",
        "cls(clip_of(score, config), 0.0)",
        "train/test_scores.py -k where_that_means",
    ),
    "a head with the deviation of another": (
        "train/reward/trainer.py",
        "set_normalization(scalar, mean=0.0, std=1.0)",
        "pass",
        "train/test_reward.py -k from_a_reward_model",
    ),
    "the tokenizer's end token alone": (
        "models/stopping.py",
        "chat.tokenizer.eos_token_id, chat.end_of_turn]",
        "chat.tokenizer.eos_token_id]",
        "train/test_stopping.py -k stop_tokens",
    ),
    "a NaN that steps": (
        "train/engine.py",
        "if is_finite:\n            self.optimizer.step()",
        "if True:\n            self.optimizer.step()",
        "train/test_engine.py -k nan_gradient",
    ),
    "weights that are not looked at": (
        "train/resume.py",
        "sha256(folder / name) == known",
        "True",
        "train/test_resume.py -k damaged_state",
    ),
    "the reward learns where a label came from": (
        "train/reward/dataset.py",
        "smoothed(preference.p_first, smoothing),",
        'smoothed(preference.p_first, smoothing if preference.source == "ai" else 0.1),',
        "train/test_reward.py -k ignores_the_source",
    ),
    "the reference keeps its adapters": (
        "train/lora.py",
        "layer.enable_adapters(False)",
        "pass",
        "train/test_options.py -k without_its_adapters",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_rejected(name, root, tmp_path):
    file, right, wrong, test = WRONG[name]
    shutil.copytree(
        root / "cai",
        tmp_path / "cai",
        copy_function=os.symlink,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    changed = tmp_path / "cai" / file
    text = changed.read_text()
    assert text.count(right) == 1, f"{file} says {right!r} {text.count(right)} times"
    changed.unlink()
    changed.write_text(text.replace(right, wrong))
    node, _, chosen = test.partition(" -k ")
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        str(root / "tests" / node),
        "-x",
        "-k",
        chosen,
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        command,
        cwd=root,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1, (
        f"{test} does not see it:\n{done.stdout[-2000:]}{done.stderr[-500:]}"
    )
