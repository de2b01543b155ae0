"""Episodes to what is trained on: sequences with several trained spans, their credit, their weights, and packed rows.

Token ids and log-probabilities are those that were sampled; nothing is tokenised again. The steps, in order:
`strands` reads episodes, `credit_rows` gives the estimators of `training.advantages` their record and spreads their
figures over tokens, `AGGREGATIONS` says how much each token counts, and `packed` lays strands out for forward passes.
"""

from training.samples.credit import CreditRows, NoReward, credit_rows, grouped, groups
from training.samples.packing import Batch, Segment, packed, unpacked
from training.samples.reading import ContinuityBroken, NotTrainable, strands
from training.samples.record import Floats, Ids, Span, Strand, Strands
from training.samples.selection import Teaching, Trained
from training.samples.weighting import AGGREGATIONS

__all__ = [
    "AGGREGATIONS",
    "Batch",
    "ContinuityBroken",
    "CreditRows",
    "Floats",
    "Ids",
    "NoReward",
    "NotTrainable",
    "Segment",
    "Span",
    "Strand",
    "Strands",
    "Teaching",
    "Trained",
    "credit_rows",
    "grouped",
    "groups",
    "packed",
    "strands",
    "unpacked",
]
