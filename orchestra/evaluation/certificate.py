"""The certificate: what a composition is worth, what it cost, and whether one agent would have done for the same money.

Its fields stand in the order in which it is read: verdict, team, success, headline, break-even, components tried,
optimum, spend, settings. It is a frozen record with a `schema_version`, written as JSON; nothing in it is recomputed
when it is read again, and what must agree (the spend with the ledger, the interval with its mean, the ratio with its
formula) is checked whenever one is made or read.

**Money.** Two kinds, never added up. *Equipment* prices (`equipment_usd`, `price_usd`, `budget_usd`) are in the
inventory's unit and written as plain numbers, as in team and inventory files. *Cash* spent on calls is exact to the
nano-dollar: a `Decimal` in Python, a decimal string such as `"0.0123"` in the file; a JSON number with a fraction is
refused there, because a float has lost the amount already. *List* is what calls cost uncached, *paid* what the ledger
paid; a cache hit lists and does not pay.

**Probabilities** are shares from 0 to 1, and intervals are 95 %, unless a field says otherwise. `None` means not
measured or not applicable; zero is a measurement.
"""

import math
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, PlainSerializer, ValidationError, model_validator
from pydantic.json_schema import WithJsonSchema

from graphs.documents import write_text
from graphs.model import AgentGraph, Usd, Value
from orchestra.errors import InputError
from orchestra.evaluation.paired import Verdict

SCHEMA_VERSION = 1
"""Version of the certificate this module writes."""

TEAM = "team"
RETRIEVAL = "retrieval"
IDENTITY = "identity"
SINGLE = "single agent"
EQUIPPED = "single agent with components"
"""The five arms by name; the last two are baselines (a) and (b), at the team's list cost per task."""


def _exact(amount: Any) -> Any:
    if isinstance(amount, float):
        raise ValueError(f'money is written as a decimal string such as "0.0123", got the number {amount!r}')
    return amount


Cash = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(ge=0, decimal_places=9),
    PlainSerializer(lambda amount: format(amount, "f"), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d{1,9})?$", "examples": ["0.0123"]}),
]
"""Cash in USD, exact to the nano-dollar; a decimal string in files."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A probability or a part of a whole."""


class Record(Value):
    """A part of a certificate: frozen, without unknown keys, without infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(Record):
    """A 95 % interval."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"interval from {self.low} to {self.high}: the lower end lies above the upper")
        return self


class Team(Record):
    """What was composed."""

    graph: AgentGraph
    components: tuple[str, ...]
    """Names of the chosen components, in the order they were chosen."""
    equipment_usd: Usd
    """Equipment price of the chosen components together, in the inventory's unit."""
    budget_usd: Usd | None = None
    """Equipment budget it was composed under; `None` means the composer has none."""
    expected_cash_usd: Cash
    """Expected cash per task, at list prices."""


class ArmResult(Record):
    """Success and cost of one way to answer the held-out tasks."""

    arm: str
    """`team`, `retrieval`, `identity`, `single agent` or `single agent with components`."""
    description: str = ""
    """In words: what answers, and how."""
    tasks: int = Field(ge=0)
    """Held-out tasks measured."""
    success: Share
    interval: Interval
    """Of `success`."""
    failures: int = Field(default=0, ge=0)
    """Tasks whose episode ended in an error; they count as not solved."""
    samples_per_task: float = Field(default=1.0, gt=0)
    """k: independent samples voted on per task, as expected; a fractional k is floor or ceiling, drawn per task."""
    list_usd: Cash
    """List cost of all its held-out tasks."""
    paid_usd: Cash
    """What the ledger paid for them."""
    list_usd_per_task: Cash
    """Rounded up to the nano-dollar."""
    cost_of_pass_usd: Cash | None = None
    """List cost of one success; `None` means it never succeeded."""
    equipment_usd: Usd | None = None
    """Equipment price of its components; `None` means it has none."""
    trial_success: Share | None = None
    """Success on the trial split, by which the headline's baseline is chosen; `None` means not measured."""

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if not self.interval.low - 1e-9 <= self.success <= self.interval.high + 1e-9:
            raise ValueError(f"success {self.success} of arm {self.arm!r} lies outside its interval {self.interval}")
        return self


class Headline(Record):
    """The team against the better single-agent baseline, on the same held-out tasks."""

    verdict: Verdict
    statement: str
    """The verdict in words, with the number of tasks still needed when it is undecided."""
    baseline: str
    """Arm the team was compared with."""
    chosen_because: str
    """Why this baseline and not the other."""
    difference: float = Field(ge=-1, le=1)
    """Success of the team minus the baseline's, over the same tasks."""
    interval: Interval
    margin: Share
    """Lead a team must have before it counts."""
    tasks: int = Field(ge=1)
    """Held-out tasks that both were measured on."""
    wins: int = Field(ge=0)
    """Tasks on which the team scored higher."""
    losses: int = Field(ge=0)
    """Tasks on which the baseline scored higher."""
    ties: int = Field(ge=0)
    more_tasks: int | None = None
    """When undecided, about how many more tasks would settle it; `None` when decided, or when no number would."""


class BreakEvenResult(Record):
    """After how many queries the team has paid for its search, if the alternative is `against`."""

    against: str
    """Arm that is the alternative."""
    outcome: Literal["after", "never", "the baseline never succeeds"]
    queries: int | None = None
    """How many; `None` unless `outcome` is "after"."""
    low: int | None = None
    """Lower end of the bootstrap interval; `None` means never."""
    high: int | None = None
    """Upper end; `None` means never."""
    never_share: Share
    """Share of bootstrap draws in which the search was never paid back."""
    search_usd: Cash
    """What the search cost."""


class Trial(Record):
    """One component that was tried, in order of arrival."""

    component: str
    skills: tuple[str, ...] = ()
    """Skills it was tried for."""
    value: float | None = None
    """Its value when decided on; `None` means it was never measured (skipped, or broken)."""
    interval: Interval | None = None
    """Of `value`; `None` for a similarity, which is not an estimate."""
    value_source: Literal["trials", "similarity"]
    queries: int = Field(default=0, ge=0)
    """Paired trial queries behind `value`."""
    fresh_value: float | None = None
    """Value measured again on fresh queries, for chosen components: free of the winner's curse."""
    fresh_interval: Interval | None = None
    price_usd: Usd
    """Equipment price."""
    density: float | None = None
    """`value / price_usd`; `None` where there is no value or no price."""
    threshold: float | None = None
    """Density that was asked for at that moment; `None` for composers that ask none."""
    spent_before_usd: Usd | None = None
    """Equipment already bought at that moment."""
    decision: Literal["accepted", "rejected", "skipped", "broken"]
    reason: str


class Optimum(Record):
    """How much of what was possible the choice reached, on measured values."""

    over: Literal["tried", "inventory"]
    """Whether the optimum is over the components tried, or over the whole inventory (`--try-all`)."""
    reached: float
    """Value of the chosen set."""
    value: float
    """Value of the best set found under the same budget."""
    bound: float
    """No set under the budget has more value than this."""
    gap: float = Field(ge=0)
    """`bound - value`; 0 means `value` is proven the optimum."""
    components: tuple[str, ...] = ()
    """The best set found."""
    ratio: float | None = None
    """Competitive ratio reached: `value / reached`; `None` when nothing of value was chosen."""
    guarantee: float | None = None
    """What the threshold rule guarantees, `ln(U / L) + 2` (earlier: `+ 1`); `None` where nothing is guaranteed, as when
    components count that the rule was never offered."""
    lowest_density: float | None = None
    """L: smallest positive value a trial can resolve over the highest price."""
    highest_density: float | None = None
    """U: sum of the skills' weights over the lowest price."""
    clipped: int = Field(default=0, ge=0)
    """Densities outside [L, U], which were clipped."""
    largest_price_share: float | None = None
    """Highest price as a part of the budget; the guarantee assumes that it is small."""

    @model_validator(mode="after")
    def _formulas_hold(self) -> Self:
        _agree("gap", self.gap, self.bound - self.value)
        if self.ratio is not None:
            _agree("ratio", self.ratio * self.reached, self.value)
        if self.guarantee is not None:
            if self.lowest_density is None or self.highest_density is None:
                raise ValueError("a guarantee is printed beside its L and U; give lowest_density and highest_density")
            least = math.log(self.highest_density / self.lowest_density) + 1
            _agree("guarantee", self.guarantee, least if self.guarantee < least + 0.5 else least + 1)
        return self

    @property
    def assumption(self) -> str | None:
        """What the guarantee rests on, in words; `None` when there is no guarantee."""
        if self.guarantee is None or self.largest_price_share is None:
            return None
        return f"the guarantee assumes small prices; here the largest is {self.largest_price_share:.2f} of the budget"


class SpendRow(Record):
    """Cash of one category of calls."""

    category: str
    """Such as `trials`, `held-out: team`, or `unknown` for calls whose cost was never reported."""
    calls: int = Field(ge=0)
    cached_calls: int = Field(default=0, ge=0)
    """Of `calls`, how many the cache answered."""
    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    list_usd: Cash
    paid_usd: Cash


class Spend(Record):
    """Where the cash went. The rows add up to the ledger exactly, to the nano-dollar."""

    rows: tuple[SpendRow, ...]
    settled_usd: Cash
    """What the ledger settled."""
    unknown_usd: Cash = Decimal(0)
    """What stays booked in full because its cost was never reported."""
    cap_usd: Cash | None = None
    """The search budget; `None` means no cap was set."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        paid, booked = self.paid_usd, self.settled_usd + self.unknown_usd
        if paid != booked:
            raise ValueError(f"the rows pay {paid} USD, the ledger booked {booked} USD; a call belongs to one category")
        return self

    @property
    def paid_usd(self) -> Decimal:
        """All rows together, as paid."""
        return sum((row.paid_usd for row in self.rows), Decimal(0))

    @property
    def list_usd(self) -> Decimal:
        """All rows together, at list prices."""
        return sum((row.list_usd for row in self.rows), Decimal(0))


class Settings(Record):
    """What it takes to make this certificate again."""

    composer: str
    seed: int
    model: str
    fingerprint: str
    """Changes whenever the same request could be answered otherwise."""
    run_id: str
    """The run in the store; `orchestra traces show` finds it."""
    store: str | None = None
    """URL of the store that holds the run."""
    started: datetime
    finished: datetime
    tasks: str
    """The tasks file."""
    inventory: str
    """The inventory file."""
    search_budget_usd: Cash | None = None
    """Cash allowed for calls; `None` means no cap."""
    version: str
    """Of Orchestra."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Everything else that was set, by flag name."""


class Certificate(Record):
    """What a composition is worth and what it cost."""

    schema_version: int = SCHEMA_VERSION
    verdict: str
    """The whole in one line."""
    team: Team
    success: tuple[ArmResult, ...]
    """On held-out tasks: the team, `retrieval`, `identity`, baselines (a) and (b); those that were measured."""
    headline: Headline | None = None
    """`None` means that the evaluation did not get there; `incomplete` says why."""
    break_even: tuple[BreakEvenResult, ...] = ()
    """Against the headline's baseline, and against `identity`."""
    components: tuple[Trial, ...] = ()
    """Every component tried, in order of arrival."""
    optimum: Optimum | None = None
    """`None` means that no values were measured."""
    spend: Spend
    settings: Settings
    incomplete: str | None = None
    """Why parts are missing, such as a budget that ran out; `None` means that nothing is."""

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        arms = [result.arm for result in self.success]
        named = [entry.against for entry in self.break_even] + ([self.headline.baseline] if self.headline else [])
        problems = [f"arm {arm!r} appears twice in `success`" for arm in sorted(set(arms)) if arms.count(arm) > 1]
        problems += [f"{arm!r} is compared with but not in `success`" for arm in named if arm not in arms]
        if self.headline is None and self.incomplete is None:
            problems.append("without a headline, `incomplete` says why")
        if self.schema_version > SCHEMA_VERSION:
            problems.append(
                f"schema_version {self.schema_version} is newer than {SCHEMA_VERSION}; update orchestra-mas"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def arm(self, name: str) -> ArmResult:
        """The result of one arm.

        Raises:
            KeyError: when it was not measured.
        """
        for result in self.success:
            if result.arm == name:
                return result
        raise KeyError(name)


def write_certificate(certificate: Certificate, path: Path) -> None:
    """Write `certificate` as JSON, fields in reading order."""
    write_text(certificate.model_dump_json(indent=2) + "\n", path)


def read_certificate(path: Path) -> Certificate:
    """The certificate in a JSON file.

    Raises:
        InputError: when the file is missing or is not a certificate; every defect is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as cause:
        raise InputError(f"cannot read certificate {str(path)!r}: {cause.strerror}; check the path") from cause
    try:
        return Certificate.model_validate_json(text)
    except ValidationError as cause:
        defects = (
            f"  - {'.'.join(map(str, defect['loc'])) or 'file'}: {defect['msg'].removeprefix('Value error, ')}"
            for defect in cause.errors(include_url=False)
        )
        raise InputError(
            f"{str(path)!r} is not a certificate; `orchestra schema certificate` prints its form:\n"
            + "\n".join(defects)
        ) from cause


def _agree(name: str, written: float, follows: float) -> None:
    if not math.isclose(written, follows, rel_tol=1e-6, abs_tol=1e-9):
        raise ValueError(f"{name} does not follow from its parts: they give {follows:.6g}, written is {written:.6g}")
