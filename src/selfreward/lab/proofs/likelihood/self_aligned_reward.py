"""Self-aligned reward (105) on EFF: can the question's own weight tell filler from thinking?

Rules are those of the method card, written down before the run. All arms start from one base, see the
same prompts and draw the same number of completions; generated tokens differ because length is what
is being changed. The group size, Adam's epsilon and the weight of the KL term were chosen on development
prompts: with 0.1 the KL term holds the filler where the base has it. No rule reads self-confidence in the term's
place and the term alone, without correctness; they were added after the others had run.
"""

from __future__ import annotations

from selfreward.lab.proofs.common.efficiency import as_accurate, share_dominated
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import Rule
from selfreward.training.comparison import Arm

RECIPE = "self-aligned-reward"


PROOF = Proof(
    slug="self-aligned-reward",
    id="105",
    claim="Adding to correctness how much the question explains the answer shortens answers without losing "
    "accuracy, and spares hard questions more than a length penalty does.",
    task="embedded:eff",
    main="sar",
    arms=(
        Arm("sar", RECIPE),
        Arm("correct-only", "gold", {"advantage": "centred", "normalise": "dr_grpo"}),
        Arm("length", RECIPE, {"term": "length"}),
        Arm("confidence", RECIPE, {"term": "confidence"}),
        Arm("sar-alone", RECIPE, {"correct_weight": 0.0}),
        Arm("other-question", RECIPE, {"question": "other"}),
    ),
    settings={
        "model": "embedded:eff",
        "adam_eps": 1e-4,
        "eval_every": 20,
        "log_groups": 1,
        "options": {"group_size": 8, "kl": 0.02},
    },
    curves=("eval/pass@1", "eval/length", "eval/hard"),
    rules=(
        Rule(
            "shorter",
            "sar ends with shorter completions than correct-only (upper end of the paired interval below 0)",
            lambda r: r.lead("sar", "correct-only", "length"),
            lambda e: e.high < 0,
        ),
        as_accurate("sar", "correct-only", 0.005),
        Rule(
            "spares the hard",
            "sar ends above the length penalty in accuracy on five and six operations (mean over seeds above 0)",
            lambda r: r.lead("sar", "length", "hard"),
            lambda e: e.value > 0,
        ),
        Rule(
            "not dominated",
            "the length penalty does not beat sar at every point of training, in length and accuracy at once "
            "(share of sar's evaluations that it beats, mean over seeds, below 1)",
            lambda r: share_dominated(r, "sar", "length"),
            lambda e: e.value < 1,
        ),
        Rule(
            "the question matters",
            "with another prompt's question the reward does not shorten as much: sar ends with a smaller share "
            "of filler (upper end of the paired interval below 0)",
            lambda r: r.lead("sar", "other-question", "filler share"),
            lambda e: e.high < 0,
        ),
    ),
)
