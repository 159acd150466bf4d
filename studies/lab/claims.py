"""The statistic of each registered claim of the lab's study."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import mean, median

from studies.lab.numbers import (
    MissingRunError,
    Study,
    average,
    gap,
    number_in,
    of_three,
    rank_correlation,
    readings,
    regret,
    removable,
    test,
)
from studies.summary import Numbers

NEVER = 10**6


def last(run: Numbers, field: str) -> float:
    """Mean of a training metric over the last ten steps."""
    found: float = run["training"]["last"][field]
    return found


def ablation_pairs(study: Study, part: str, other: str, world: str = "witnesses") -> list[tuple[Numbers, Numbers]]:
    """Pairs of the ablation that differ in one part of the setting's name: (with `part`, with `other`)."""
    found = []
    for setting in study.settings("ablation", world, "dler"):
        if part in setting.split("-"):
            partner = "-".join(other if word == part else word for word in setting.split("-"))
            one = study.of("ablation", world, "dler", setting)
            two = study.of("ablation", world, "dler", partner)
            found.append((one[0], two[0]))
    if len(found) < 8:
        raise MissingRunError("ablation")
    return found


def in_either_world(study: Study, method: str) -> list[Numbers]:
    """A method's runs in both worlds, or in the one where it was run."""
    there = [world for world in ("witnesses", "chains") if study.settings("methods", world, method)]
    if not there:
        raise MissingRunError(method)
    return [run for world in there for run in study.of("methods", world, method)]


def _dler_normalisation(study: Study) -> float:
    return mean(regret([group]) - regret([batch]) for batch, group in ablation_pairs(study, "batch", "group"))


def _dler_signal(study: Study) -> float:
    return mean(
        on["training"]["signal"] - off["training"]["signal"] for on, off in ablation_pairs(study, "dynamic", "all")
    )


def _dler_length(study: Study) -> float:
    pairs = ablation_pairs(study, "dynamic", "all")
    return sum(last(off, "mean_tokens") > last(on, "mean_tokens") for on, off in pairs)


def _dler_below(study: Study) -> float:
    runs = in_either_world(study, "dler")
    return mean(
        last(run, "mean_tokens") <= 0.85 * run["training"]["cap"] and last(run, "cut_rate") <= 0.05 for run in runs
    )


def _merge_between(study: Study) -> float:
    base = study.base("chains")["test"]

    def between(run: Numbers) -> bool:
        tuned, merged = test(run), run["merged"]
        ends = ((min(base[f], tuned[f]), merged[f], max(base[f], tuned[f])) for f in ("tokens", "accuracy"))
        return all(low < value < high for low, value, high in ends)

    return of_three(between(run) for run in study.of("methods", "chains", "dler", "cap50"))


def _drpo_rank(study: Study) -> float:
    settings = study.settings("methods", "witnesses", "drpo")
    if len(settings) < 4:
        raise MissingRunError("drpo")
    tokens = [average(study.of("methods", "witnesses", "drpo", s), "tokens") for s in settings]
    return rank_correlation(tokens, [number_in(s) for s in settings])


def _drpo_loss(study: Study) -> float:
    loose, tight = (study.of("methods", "chains", "drpo", s) for s in ("lam0.5", "lam0.1"))
    return average(loose, "accuracy") - average(tight, "accuracy")


def _penalty(study: Study, alpha: str = "0.2") -> list[Numbers]:
    return study.of("baselines", "witnesses", "grpo-lambda", f"all-alpha{alpha}")


def _drpo_against_penalty(study: Study) -> float:
    return regret(_penalty(study)) - regret(study.of("methods", "witnesses", "drpo", "lam0.2"))


def _pushed_down(study: Study) -> float:
    if max(run["training"]["sign_flips"]["most"] for run in study.of("methods", "witnesses", "drpo")) > 0:
        return -1.0
    return float(_penalty(study)[0]["training"]["sign_flips"]["mean"])


def _drpo_kl(study: Study) -> float:
    return median(kl for run in in_either_world(study, "drpo") for kl in run["training"]["columns"]["approx_kl"])


def _siri_lag(study: Study) -> float:
    found = [run["training"] for run in study.of("methods", "witnesses", "siri", "low18")]
    return mean(run["lag"] if run["agreement"] >= 0.5 else 0 for run in found)


def _siri_cycles(study: Study) -> float:
    lows = [run["training"]["accuracy_at_lows"] for run in in_either_world(study, "siri")]
    return mean(last - first for first, last in lows)


def _siri_constant(study: Study) -> float:
    steady = study.of("baselines", "witnesses", "grpo", "cap68")
    return regret(steady) - regret(study.of("methods", "witnesses", "siri", "low39"))


def _siri_high_low(study: Study) -> float:
    ends = [run["training"]["tokens_low_high"] for run in study.of("methods", "witnesses", "siri")]
    return mean((high - low) / low for low, high in ends)


def _siri_entropy(study: Study) -> float:
    found = []
    for run in study.of("methods", "witnesses", "siri"):
        at = run["training"]["entropy_at_turns"]
        expansions, compressions = (at[1] - at[0] + at[3] - at[2]), (at[2] - at[1] + at[4] - at[3])
        found.append(expansions > compressions)
    return mean(found)


def _siri_shortens(study: Study) -> float:
    base = study.base("chains")["test"]
    runs = study.of("methods", "chains", "siri", "low50")
    return of_three(test(o)["tokens"] < base["tokens"] and test(o)["accuracy"] > base["accuracy"] for o in runs)


def _breaks(study: Study) -> float:
    return float(_penalty(study)[0]["training"]["breaking_step"] or NEVER)


def _breaks_later(study: Study) -> float:
    limit, few = _breaks(study), study.of("methods", "witnesses", "grpo-lambda", "share0.2")
    return of_three((run["training"]["breaking_step"] or NEVER + 1) > limit for run in few)


def _windows(study: Study) -> list[list[Numbers]]:
    """The runs of PPO (a window as long as the longest answer) and of T-PPO."""
    return [study.of("methods", "witnesses", "t-ppo", f"window{window}") for window in (96, 32)]


def _decode_ratio(study: Study) -> float:
    slow, fast = (
        mean(steps for run in runs for steps in run["training"]["columns"]["decode_steps"]) for runs in _windows(study)
    )
    return slow / fast


def decode_steps_to(columns: Numbers, tokens: float) -> float:
    """Decode steps that the first so many trained tokens took, critic warm-up left out."""
    steps = trained = 0.0
    for now, learned in zip(columns["decode_steps"], columns["trained_tokens"], strict=True):
        steps, trained = steps + now, trained + learned
        if trained >= tokens:
            return steps
    return math.inf


def _t_ppo_efficiency(study: Study) -> float:
    found = []
    for pair in zip(*_windows(study), strict=True):
        slow, fast = (run["training"]["columns"] for run in pair)
        least = min(sum(columns["trained_tokens"]) for columns in (slow, fast))
        found.append(decode_steps_to(slow, 0.4 * least) / decode_steps_to(fast, 0.4 * least))
    return mean(found)


def _t_ppo_loss(study: Study) -> float:
    slow, fast = _windows(study)
    return average(fast, "accuracy") - average(slow, "accuracy")


def _t_ppo_stability(study: Study) -> float:
    usual = study.of("methods", "witnesses", "t-ppo", "window32")[0]
    others = [study.of("baselines", "witnesses", "t-ppo", s)[0] for s in ("no-warmup", "lam-critic0.95")]
    return max(last(o, "value_loss") for o in others) / last(usual, "value_loss")


def _adaptive(study: Study, setting: str = "usual", world: str = "chains-modes") -> list[Numbers]:
    return study.of("methods", world, "adaptive", setting)


def _adaptive_gap(study: Study, setting: str = "usual") -> float:
    return gap(_adaptive(study, setting), "1", "5")


def _adaptive_accuracy(study: Study) -> float:
    found = []
    for run in _adaptive(study):
        asked = max(run["measured"][mode]["accuracy"] for mode in ("long", "short"))
        found.append(test(run)["accuracy"] - asked)
    return mean(found)


def _adaptive_length(study: Study) -> float:
    return mean(test(o)["tokens"] / o["measured"]["long"]["tokens"] for o in _adaptive(study))


def _adaptive_rho(study: Study) -> float:
    def easy(setting: str) -> float:
        return mean(test(o)["levels"]["1"]["tokens"] for o in _adaptive(study, setting))

    return easy("no-rho") - easy("usual")


def _dler_shortens(study: Study) -> float:
    base, runs = study.base("chains")["test"], study.of("methods", "chains", "dler", "cap50")
    return of_three(test(o)["tokens"] <= base["tokens"] / 2 and test(o)["accuracy"] >= base["accuracy"] for o in runs)


def _da_dler(study: Study) -> float:
    plain, adaptive = (study.of("methods", "witnesses", m, "cap48") for m in ("dler", "da-dler"))
    ratio = average(adaptive, "tokens") / average(plain, "tokens")
    return ratio if regret(adaptive) <= regret(plain) + 0.01 else math.inf


def _merge_longer(study: Study) -> float:
    return mean(o["merged"]["tokens"] - test(o)["tokens"] for o in study.of("methods", "chains", "dler", "cap50"))


def _drpo_ladder(study: Study) -> float:
    tokens = [average(study.of("baselines", "witnesses", "disco"), "tokens")]
    tokens += [average(study.of("methods", "witnesses", "drpo", f"lam{x}"), "tokens") for x in (0.5, 0.2, 0.1)]
    return float(sum(tokens[i + 1] < tokens[i] for i in range(3)))


def _disco_gains(study: Study) -> float:
    return average(study.of("baselines", "chains", "disco"), "accuracy") - study.base("chains")["test"]["accuracy"]


def _less_regret(worse: tuple[str, str, str], better: tuple[str, str, str]) -> Callable[[Study], float]:
    def statistic(study: Study) -> float:
        one, two = (study.of(suite, "witnesses", m, s) for suite, m, s in (worse, better))
        return regret(one) - regret(two)

    return statistic


def _selective_accuracy(study: Study) -> float:
    few, all_of_them = study.of("methods", "witnesses", "grpo-lambda", "share0.2"), _penalty(study)
    shorter = average(all_of_them, "tokens") < average(few, "tokens")
    return average(few, "accuracy") - average(all_of_them, "accuracy") if shorter else -1.0


def _grpo_longest(study: Study) -> float:
    plain, few = (
        study.of("baselines", "witnesses", "grpo", "usual"),
        study.of("methods", "witnesses", "grpo-lambda", "share0.2"),
    )
    longer = average(plain, "tokens") > average(few, "tokens")
    return average(plain, "accuracy") - average(few, "accuracy") if longer else -1.0


def _alp_allocates(study: Study) -> float:
    def ratio(runs: list[Numbers]) -> float:
        own = [test(o)["distance"]["levels"] for o in runs]
        return mean(levels["0.6"]["readings"] / max(levels["0.97"]["readings"], 0.1) for levels in own)

    capped = study.of("methods", "witnesses", "dler", "cap36")
    return ratio(study.of("baselines", "witnesses", "alp", "usual")) - ratio(capped)


def _best_removable(method: str) -> Callable[[Study], float]:
    def statistic(study: Study) -> float:
        base, found = study.base("chains"), []
        for setting in study.settings("methods", "chains", method):
            runs = study.of("methods", "chains", method, setting)
            if average(runs, "accuracy") >= base["test"]["accuracy"] - 0.01:
                found.append(removable(runs, base))
        if not study.settings("methods", "chains", method):
            raise MissingRunError(method)
        return max(found, default=0.0)

    return statistic


def matched(study: Study) -> list[list[Numbers]]:
    """Settings of witnesses whose mean readings lie between 5 and 12: their runs over seeds."""
    grouped: dict[tuple[str, str, str], list[Numbers]] = {}
    for run in study.runs.values():
        if run["world"] == "witnesses" and run["suite"] != "ablation":
            grouped.setdefault((run["suite"], run["method"], run["setting"]), []).append(run)
    if not grouped:
        raise MissingRunError("witnesses")
    return [runs for runs in grouped.values() if 5 <= readings(runs) <= 12]


def _best_regret(study: Study) -> float:
    return min((regret(runs) for runs in matched(study)), default=1.0)


def above_fixed(runs: Sequence[Numbers]) -> tuple[float, float]:
    """Accuracy above the best fixed number of readings at the same mean, and its standard error."""
    found = [test(o)["accuracy"] - test(o)["distance"]["best_fixed"] for o in runs]
    count = sum(test(o)["responses"] for o in runs)
    accuracy = average(runs, "accuracy")
    return mean(found), math.sqrt(accuracy * (1 - accuracy) / count)


def _clearly_above_fixed(study: Study) -> float:
    found = [above_fixed(runs) for runs in matched(study)]
    return max((difference - 2 * error for difference, error in found), default=-1.0)


def _best_gap(study: Study) -> float:
    settings = study.settings("methods", "chains-modes", "adaptive")
    return max(_adaptive_gap(study, setting) for setting in settings or ["usual"])


STATISTICS: dict[str, Callable[[Study], float]] = {
    "dler-normalisation": _dler_normalisation,
    "dler-dynamic-signal": _dler_signal,
    "dler-dynamic-length": _dler_length,
    "dler-below-cap": _dler_below,
    "dler-merge": _merge_between,
    "drpo-monotone-witnesses": _drpo_rank,
    "drpo-monotone-chains": _drpo_loss,
    "drpo-against-penalty": _drpo_against_penalty,
    "drpo-pushed-down": _pushed_down,
    "drpo-kl": _drpo_kl,
    "siri-lag": _siri_lag,
    "siri-cycles": _siri_cycles,
    "siri-constant": _siri_constant,
    "grpo-lambda-breaks": _breaks,
    "grpo-lambda-longer": _breaks_later,
    "t-ppo-decode": _decode_ratio,
    "t-ppo-no-loss": _t_ppo_loss,
    "t-ppo-stability": _t_ppo_stability,
    "adaptive-gap-chains": _adaptive_gap,
    "adaptive-gap-witnesses": lambda study: gap(_adaptive(study, world="witnesses-modes"), "0.97", "0.6"),
    "adaptive-accuracy": _adaptive_accuracy,
    "adaptive-length": _adaptive_length,
    "adaptive-switch": lambda study: _adaptive_gap(study) - _adaptive_gap(study, "no-switch"),
    "adaptive-rho": _adaptive_rho,
    "o-dler-shortens": _dler_shortens,
    "o-da-dler-shorter": _da_dler,
    "o-merge-longer": _merge_longer,
    "o-drpo-lambda": _drpo_ladder,
    "o-disco-gains": _disco_gains,
    "o-drpo-rloo-lp": _less_regret(("baselines", "rloo-lp", "usual"), ("methods", "drpo", "lam0.1")),
    "o-siri-high-low": _siri_high_low,
    "o-siri-shortens": _siri_shortens,
    "o-siri-entropy": _siri_entropy,
    "o-grpo-lambda-accuracy": _selective_accuracy,
    "o-grpo-longest": _grpo_longest,
    "o-collapse": lambda study: readings(_penalty(study, "0.6")),
    "o-t-ppo-efficiency": _t_ppo_efficiency,
    "o-dler-optimiser": _less_regret(("baselines", "dler", "group-normalised"), ("methods", "dler", "cap36")),
    "o-alp-allocates": _alp_allocates,
    "o-laser-d": _less_regret(("baselines", "laser", "usual"), ("baselines", "laser-d", "usual")),
    "o-price": _less_regret(("baselines", "rloo-lp", "usual"), ("baselines", "linear-price", "usual")),
    **{f"t-chains-{m}": _best_removable(m) for m in ("dler", "da-dler", "drpo", "siri", "grpo-lambda")},
    "t-witnesses-regret": _best_regret,
    "t-witnesses-fixed": _clearly_above_fixed,
    "t-adaptive": _best_gap,
}
