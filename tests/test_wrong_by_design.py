"""Mutation tests: each detail of training is done wrong, and the test beside it must fail.

Each mutation is a mistake that has been made somewhere. The package is copied with one line
changed, and the test runs on the copy.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest

# name of the mistake: (file, the right code, the wrong code, the test that must fail)
WRONG = {
    "an ordinary token is the padding": (
        "models/packing/padding.py",
        "return int(tokenizer.eos_token_id or 0)",
        "return 0",
        "models/test_padding.py -k ordinary",
    ),
    "the end token is the padding of a reward model": (
        "models/scalar.py",
        "pad_token_id = own_padding_id(chat.tokenizer)",
        "pad_token_id = chat.tokenizer.eos_token_id",
        "models/test_padding.py -k one_token_early",
    ),
    "the mask is read off the padding token": (
        "models/packing/padding.py",
        "mask = [[0] * (length - len(row)) + [1] * len(row) for row in rows]\n    return torch.tensor(padded, device=device), torch.tensor(mask, device=device)\n\n\ndef pad_right",
        "mask = [[int(i != pad_id) for i in row] for row in padded]\n    return torch.tensor(padded, device=device), torch.tensor(mask, device=device)\n\n\ndef pad_right",
        "models/test_padding.py -k holds_the_end_token",
    ),
    "the end of turn is no label": (
        "models/chat_template/format.py",
        "return prompt_ids, answer_ids + ([closing] if isinstance(closing, int) else [])",
        "return prompt_ids, answer_ids",
        "train/test_batching.py -k stop_token",
    ),
    "positions count the padding": (
        "models/packing/padding.py",
        "(attention_BL.long().cumsum(1) - 1).clamp(min=0)",
        "torch.arange(attention_BL.shape[1], device=attention_BL.device).expand_as(attention_BL)",
        "models/test_decode.py -k left_padded",
    ),
    "a letter is taken for the option in its place": (
        "feedback/choices.py",
        "shares[number] = share",
        "shares[place] = share",
        "evaluate/test_multiple_choice.py -k longer_wins",
    ),
    "the first of equally likely options is chosen": (
        "evaluate/choice_figures.py",
        "return len(set(best) & set(correct)) / len(best)",
        "return float(best[0] in correct)",
        "evaluate/test_multiple_choice.py -k exactly_one_half",
    ),
    "a given text is scored by its first token": (
        "backends/local.py",
        "if not request.whole and len(",
        "if len(",
        "evaluate/test_multiple_choice.py -k scored_whole",
    ),
    "logits of the token itself": (
        "models/packing/layout.py",
        "sources += [prompt_end, *range(answer_start, answer_start + len(answer) - 1)]",
        "sources += [*range(answer_start, answer_start + len(answer))]",
        "train/test_ppo.py -k rollout_against",
    ),
    "the reference at another temperature": (
        "train/ppo/actor_critic.py",
        "return token_logprobs(logits, packed.targets, self.temperature)",
        "return token_logprobs(logits, packed.targets)",
        "train/test_ppo.py -k ratios_are_1",
    ),
    "rollouts from the likeliest tokens only": (
        "models/decode.py",
        "probabilities = (logits.float() / temperature)",
        "probabilities = logits.float().masked_fill(logits < logits.topk(2).values[..., -1:], -1e9)",
        "models/test_decode.py -k in_proportion",
    ),
    "the rollout's log-probabilities at another temperature": (
        "models/decode.py",
        "probabilities.gather(1, token).log()",
        "logits.float().log_softmax(-1).gather(1, token)",
        "train/test_ppo.py -k ratios_are_1",
    ),
    "a multiplier that grows while the constraint is met": (
        "rl/constraint.py",
        "shortfall = self.bound - sum(self.recent) / len(self.recent)",
        "shortfall = sum(self.recent) / len(self.recent) - self.bound",
        "train/test_optimum.py -k constraint",
    ),
    "the stop token is cut off": (
        "models/decode.py",
        "return Decoded(row[: i + 1], stopped=True",
        "return Decoded(row[:i], stopped=True",
        "models/test_decode.py -k keep_their_stop",
    ),
    "a missing end is added to the score": (
        "train/ppo/reward_scaling.py",
        "normalized.where(rollout.stopped, self.missing_eos_score)",
        "normalized.where(rollout.stopped, normalized + self.missing_eos_score)",
        "train/test_ppo.py -k missing_eos",
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
        "models/packing/layout.py",
        "answer_ends.append(answer_start + len(answer) - 1 if answer else prompt_end)",
        "answer_ends.append(answer_start + len(answer) - 2)",
        "models/test_scalar.py -k do_not_depend_on_padding",
    ),
    "the saved deviation is not applied": (
        "models/scalar.py",
        "(scores - mean) / std",
        "(scores - mean)",
        "models/test_scalar.py -k shift_and_scale",
    ),
    "dropout stays on": (
        "models/load.py",
        "module.p = 0.0",
        "pass",
        "models/test_dropout.py -k off_in_training",
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
        "train/test_ppo_variants.py -k value_head_starts",
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
        "error = min(max(error, -MAX_RELATIVE_ERROR), MAX_RELATIVE_ERROR)",
        "pass",
        "rl/test_advantages.py -k controller",
    ),
    "values after the end": (
        "rl/advantages.py",
        "values, rewards = values_BT * mask, rewards_BT * mask",
        "values, rewards = values_BT, rewards_BT * mask",
        "rl/test_advantages.py -k padding_does_not_matter",
    ),
    "returns of whitened advantages": (
        "train/ppo/update.py",
        "return Targets(whiten(advantages, mask), returns)",
        "white = whiten(advantages, mask); return Targets(white, white + rollout.values)",
        "train/test_ppo.py -k before_whitening",
    ),
    "whitened with the padding": (
        "rl/masked.py",
        "mean = masked_mean(values, mask)\n    scaled",
        "mean = values.mean()\n    scaled",
        "rl/test_losses.py -k whiten_gives",
    ),
    "the smaller of unclipped and clipped loss": (
        "rl/losses.py",
        "loss=_mean(torch.maximum(unclipped, clipped), mask_BT, num_tokens),\n        clip_fraction=_mean((clipped > unclipped).float(), mask_BT, num_tokens),\n        approx_kl",
        "loss=_mean(torch.minimum(unclipped, clipped), mask_BT, num_tokens),\n        clip_fraction=_mean((clipped > unclipped).float(), mask_BT, num_tokens),\n        approx_kl",
        "rl/test_losses.py -k policy_loss_against",
    ),
    "values that are not clipped": (
        "rl/losses.py",
        "near_old = old_values_BT + (values_BT - old_values_BT).clamp(-clip_range, clip_range)",
        "near_old = values_BT",
        "rl/test_losses.py -k worse_of_plain",
    ),
    "one permutation for all passes": (
        "train/ppo/update.py",
        '*key, "epoch", epoch)',
        '*key, "epoch", 0)',
        "train/test_ppo.py -k fresh_permutation",
    ),
    "the same seed for a repeated prompt": (
        "train/ppo/prompts.py",
        "update, prompt, *key)",
        "update, prompt)",
        "train/test_ppo.py -k repeated_prompts",
    ),
    "Adam's own epsilon": (
        "train/engine.py",
        "eps=1e-5",
        "eps=1e-8",
        "train/test_engine.py -k adamw",
    ),
    "the mean of means": (
        "rl/losses.py",
        "return -masked_sum(logprobs_BT, mask_BT) / tokens_in_step",
        "return -masked_mean(logprobs_BT, mask_BT)",
        "rl/test_losses.py -k accumulated",
    ),
    "micro-batches that do not add up": (
        "rl/losses.py",
        "masked_sum(values, mask) / num_tokens",
        "masked_mean(values, mask)",
        "train/test_processes.py -k gradient_accumulation",
    ),
    "ratios without bounds": (
        "rl/losses.py",
        ".clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)",
        "",
        "rl/test_losses.py -k far_ratio",
    ),
    "PPO-ptx without its loss": (
        "train/ppo/ptx.py",
        "total = self.coef * loss",
        "total = 0.0 * loss",
        "train/test_ppo_variants.py -k ptx",
    ),
    "a state without its optimiser": (
        "train/resume.py",
        'engine.restore(tensors, state["engines"][name])',
        "pass",
        "train/test_resume.py -k resumed_training",
    ),
    "answers that see each other": (
        "models/packing/layout.py",
        "visible = causal & (same_segment | answer_to_prompt)",
        "visible = causal & (key >= PROMPT_SEGMENT)",
        "models/test_families.py -k one_by_one",
    ),
    "DPO on mean log-probabilities": (
        "train/answers.py",
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
    "RLOO divides by the whole group": (
        "rl/advantages.py",
        "totals) / (groups.counts - 1).clamp(min=1)",
        "totals) / groups.counts",
        "train/test_ppo_variants.py -k rloo_and_grpo_advantages",
    ),
    "an answer without a score is learned from": (
        "train/ppo/update.py",
        "rows = self.rollout.scored.nonzero().flatten().tolist()",
        "rows = list(range(len(self.sizes)))",
        "train/test_scores.py -k nothing_from_unscored",
    ),
    "an answer without a score counts in its group": (
        "train/ppo/update.py",
        "samples, rollout.scored)",
        "samples)",
        "train/test_scores.py -k best_of_its_group",
    ),
    "every score is clipped": (
        "train/ppo/reward_scaling.py",
        "SCORE_CLIP if is_normalized(score) or config.rollout.normalize_scores else None",
        "SCORE_CLIP",
        "train/test_scores.py -k shifts_others",
    ),
    "scores far from what the critic expects": (
        "train/ppo/reward_scaling.py",
        "self.shift = float(masked_mean(rollout.values, rollout.mask))",
        "self.shift = 0.0",
        "train/test_scores.py -k shifts_others",
    ),
    "a head with the deviation of another": (
        "train/reward/trainer.py",
        "set_normalization(scalar, mean=0.0, std=1.0)",
        "pass",
        "train/test_reward.py -k from_a_reward_model",
    ),
    "the tokenizer's end token alone": (
        "models/chat_template/ending.py",
        "Ending(known | {token}, (), token, text",
        "Ending(known, (), token, text",
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
        "train/test_lora.py -k lora_reference",
    ),
    "observations of a conversation are independent": (
        "evaluate/intervals.py",
        "np.add.at(totals, [index[name] for name in clusters], rows)",
        "return rows",
        "evaluate/test_intervals.py -k slow_loop",
    ),
    "each pair of ratings is compared alone": (
        "evaluate/bradley_terry.py",
        "largest = (np.abs(drawn - centers[:, None]) / errors[:, None]).max(0)",
        "largest = (np.abs(drawn - centers[:, None]) / errors[:, None])[0]",
        "evaluate/test_bradley_terry.py -k tukey",
    ),
    "the error of the judge is not in the interval": (
        "evaluate/judge_error.py",
        "influence[data.labeled] = (errors - errors.mean()) / n",
        "influence[data.labeled] = 0",
        "evaluate/test_judge_error.py -k by_hand",
    ),
    "the hit rates are taken as known": (
        "evaluate/judge_error.py",
        "influence[data.labeled] += moved * [-1, 1]",
        "influence[data.labeled] += 0",
        "evaluate/test_judge_error.py -k wide_as_its_labels",
    ),
    "equal answers are left out": (
        "evaluate/win_rates.py",
        "return [_tie(pair) if is_equal(pair) else next(labels) for pair in pairs]",
        "return [next(labels) for pair in pairs if not is_equal(pair)]",
        "evaluate/test_win_rates.py -k equal_answers",
    ),
}


def test_mutations_apply(root):
    """Every mutation changes one place, and the test that must kill it exists."""
    problems = []
    for name, (file, right, _, test) in WRONG.items():
        count = (root / "cai" / file).read_text(encoding="utf-8").count(right)
        path, _, keyword = test.partition(" -k ")
        tests = re.findall(r"def (test_\w+)", (root / "tests" / path).read_text(encoding="utf-8"))
        if count != 1:
            problems.append(f"{name}: {right!r} is {count} times in {file}")
        if not any(keyword in test for test in tests):
            problems.append(f"{name}: {path} has no test with {keyword!r} in its name")
    assert problems == []


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_mutation_is_killed(name, root, tmp_path):
    file, right, wrong, test = WRONG[name]
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "cai", tmp_path / "cai", copy_function=os.symlink, ignore=ignored)
    mutated = tmp_path / "cai" / file
    text = mutated.read_text(encoding="utf-8")
    mutated.unlink()  # a symbolic link to the original
    mutated.write_text(text.replace(right, wrong), encoding="utf-8")
    path, _, keyword = test.partition(" -k ")
    # without the project's own options: stopped early, several workers exit with another code
    options = ["-x", "-k", keyword, "-p", "no:cacheprovider", "-o", "addopts="]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", str(root / "tests" / path), *options],
        cwd=root,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    output = done.stdout[-2000:] + done.stderr[-500:]
    assert done.returncode == 1, f"{test} does not fail:\n{output}"
