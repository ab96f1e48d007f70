"""The machine that drives a real executor over a real ledger, and the naive model beside it.

After every rule the log holds exactly the events that the model demands, I1 to I7 and I9 hold over
all of it, and its root is the root over the stored leaves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
)

from servicekit.tlog.tree import Frontier
from stage3_service.tokens.issue import IssueRequest
from tests.simulation.gates_model import Grant, Model, Plan, PlanStep, Submission, Told
from tests.simulation.stage3_world import Stage3World, digest_of, grown, spelled
from tests.system.invariants import LogInvariants

CALLERS = ("spiffe://stagegate.test/client/cli", "spiffe://stagegate.test/client/other")
TRIAL = ("echo", "effect", "fail", "unreachable", "silent", "garbage", "raise_error", "undeclared")
EVERYTHING = {"trial": TRIAL, "strict": ("echo",), "ghost": ("echo",)}
NOBODYS = "token_" + "A" * 43

STEPS = st.sampled_from(
    [
        *[PlanStep("trial", "effect")] * 6,
        *[PlanStep("trial", "echo", '{"v":7}')] * 4,
        *[PlanStep("trial", "echo", '{"padding":"' + "x" * 300 + '"}')] * 2,
        *[PlanStep("strict", "echo", '{"n":1}')] * 2,
        PlanStep("strict", "echo", "{}"),
        *[PlanStep("trial", method) for method in TRIAL[2:]],
        PlanStep("ghost", "echo"),
    ]
)
PLANS = st.builds(
    Plan,
    user_id=st.just("ada"),
    trigger_type=st.just("manual"),
    steps=st.lists(STEPS, min_size=1, max_size=3).map(tuple),
    bound_path=st.sampled_from([None, None, None, "v", "effects"]),
).map(lambda plan: plan if len(plan.steps) > 1 else replace(plan, bound_path=None))
# At most one thing about a submission is not as its token wants it.
STRAY = st.sampled_from([*[None] * 9, "user", "caller", "trigger", "token", "time", "plan"])
SCOPES: st.SearchStrategy[dict[str, tuple[str, ...]]] = st.sampled_from(
    [
        *[EVERYTHING] * 4,
        {"trial": ("effect",)},
        {"trial": ("echo", "effect"), "strict": ("echo",)},
        {"strict": ("echo",)},
    ]
)
LIMITS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"max_invocations": 1},
        {"max_invocations": 2},
        {"max_invocations": 5},
        {"max_frequency": (1, 60)},
        {"max_frequency": (2, 60)},
        {"max_frequency": (2, 600), "max_invocations": 3},
        {"max_response_bytes": 13},
        {"max_response_bytes": 100, "max_total_response_bytes": 200},
        {"max_total_response_bytes": 4096},
        {"max_total_response_bytes": 4110},
        {"max_total_response_bytes": 9000},
    ]
)
MOSTLY_NONE = [None] * 5


class GatesMachine(RuleBasedStateMachine):
    """Operators, clients, time and misbehaving domains, in any order."""

    credentials: Bundle[str] = Bundle("credentials")
    submissions: Bundle[Submission] = Bundle("submissions")

    def __init__(self) -> None:
        super().__init__()
        self.world = Stage3World()
        self.model = Model(self.world.clock.now_us())
        self.token_ids: dict[str, str] = {}
        self.frontier = Frontier()
        self.log_invariants = LogInvariants()
        self.told: dict[str, list[Told]] = {"world": [], "model": []}
        self.world.happen = self._happen_in_the_world
        self.model.happen = self._happen_in_the_model
        self.plans_seen = 0

    # What may happen, as a rule of its own or while a step runs

    def _happen_in_the_world(self, what: Any) -> None:
        match what:
            case Submission():
                self.told["world"].append(self.world.submit(what))
            case ("revoke", str(credential)):
                self.world.revoke(self.token_ids[credential])
            case ("halt", bool(halted)):
                self.world.halt(halted=halted)
            case ("advance", int(seconds)):
                self.world.clock.advance(seconds)
            case _:
                raise AssertionError(what)

    def _happen_in_the_model(self, what: Any) -> None:
        match what:
            case Submission():
                self.told["model"].append(self.model.submit(what))
            case ("revoke", str(credential)):
                self.model.revoke(credential)
            case ("halt", bool(halted)):
                self.model.halt(halted=halted)
            case ("advance", int(seconds)):
                self.model.now_us += seconds * 1_000_000
            case _:
                raise AssertionError(what)

    def happen(self, what: Any) -> None:
        """Let it happen in both, and compare all that can be seen."""
        self._happen_in_the_world(what)
        self._happen_in_the_model(what)
        self._compare()

    def _compare(self) -> None:
        assert self.told["world"] == self.told["model"]
        seen = self.frontier.size
        new = self.world.events_from(seen)
        assert [spelled(event) for _, event in new] == self.model.events[seen:]
        effects = self.world.trial.effects
        assert effects == self.model.effects
        self.log_invariants.follow(event for _, event in new)
        self.log_invariants.verify_effects(effects)
        # I7: the root over the stored leaves is the published root.
        self.frontier = grown(self.frontier, [leaf for leaf, _ in new])
        head = self.world.head()
        assert (head.size, head.root) == (self.frontier.size, self.frontier.root())

    # Rules

    @initialize(target=credentials)
    def one_token_for_everything(self) -> str:
        """There is always a token that grants what there is."""
        return self._issue(EVERYTHING, {}, 600, bearer=False, user="ada", bound_to=None)

    @rule(
        target=credentials,
        scope=SCOPES,
        limits=LIMITS,
        lifetime_s=st.sampled_from([30, 600, 1800]),
        bearer=st.booleans(),
        user=st.sampled_from(["ada"] * 4 + ["bob"]),
    )
    def issue(self, scope: Any, limits: Any, lifetime_s: int, *, bearer: bool, user: str) -> str:
        """An operator issues a token."""
        return self._issue(scope, limits, lifetime_s, bearer=bearer, user=user, bound_to=None)

    @rule(
        target=credentials,
        plan=PLANS,
        spare=st.sampled_from([0, 0, 0, 1]),
        lifetime_s=st.sampled_from([600, 7200]),
    )
    def issue_bound(self, plan: Plan, spare: int, lifetime_s: int) -> str:
        """An operator issues a token for one plan, with a long life or an ordinary one."""
        limits = {"max_invocations": len(plan.steps) + spare}
        return self._issue(EVERYTHING, limits, lifetime_s, bearer=True, user="ada", bound_to=plan)

    def _issue(
        self,
        scope: dict[str, tuple[str, ...]],
        limits: dict[str, Any],
        lifetime_s: int,
        *,
        bearer: bool,
        user: str,
        bound_to: Plan | None,
    ) -> str:
        plans, window_s = limits.get("max_frequency", (None, 0))
        callers = () if bearer else CALLERS[:1]
        credential, token_id = self.world.issue(
            IssueRequest(
                user_id=user,
                capability="model",
                domain_scope=tuple(scope),
                method_scope=tuple(scope.items()),
                allowed_trigger_types=("manual",),
                lifetime_s=lifetime_s,
                max_invocations=limits.get("max_invocations"),
                max_frequency=plans and f"{plans} per {window_s} seconds",
                max_response_bytes=limits.get("max_response_bytes"),
                max_total_response_bytes=limits.get("max_total_response_bytes"),
                client_identities=callers,
                bearer=bearer,
                plan_digest=None if bound_to is None else digest_of(bound_to),
            )
        )
        self.token_ids[credential] = token_id
        self.model.issue(
            credential,
            Grant(
                token_id=token_id,
                user_id=user,
                callers=frozenset(callers),
                bearer=bearer,
                triggers=frozenset({"manual"}),
                scope={domain: frozenset(methods) for domain, methods in scope.items()},
                issued_us=self.model.now_us,
                lifetime_s=lifetime_s,
                bound_to=bound_to,
                max_invocations=limits.get("max_invocations"),
                max_plans=plans,
                window_s=window_s,
                max_response_bytes=limits.get("max_response_bytes"),
                max_total_bytes=limits.get("max_total_response_bytes"),
            ),
        )
        self._compare()
        return credential

    @rule(credential=consumes(credentials), plan=PLANS)
    def revoke(self, credential: str, plan: Plan) -> None:
        """An operator revokes a token, and once more; it is good for nothing from then on."""
        self.happen(("revoke", credential))
        self.happen(self._submission(plan, credential))
        self.happen(("revoke", credential))

    @rule(seconds=st.sampled_from([1, 29, 30, 59, 60, 299]))
    def time_passes(self, seconds: int) -> None:
        """The clock advances, often to exactly where something ends."""
        self.happen(("advance", seconds))

    @rule(credential=credentials, plan=PLANS)
    def halt(self, credential: str, plan: Plan) -> None:
        """An operator halts the service, perhaps once more, and lets it go on."""
        self.happen(("halt", True))
        self.happen(self._submission(plan, credential))
        self.happen(("halt", True))
        self._resume()

    def _resume(self) -> None:
        self.happen(("halt", False))

    @rule(
        target=submissions,
        plan=PLANS,
        credential=credentials,
        stray=STRAY,
        request=st.sampled_from([*MOSTLY_NONE, "r1"]),
        times=st.sampled_from([1, 1, 1, 3]),
        during=st.lists(
            st.sampled_from([*MOSTLY_NONE, "cancel", "timeout", ("advance", 30), ("halt", True)]),
            max_size=2,
        ),
    )
    def submit(
        self,
        plan: Plan,
        credential: str,
        stray: str | None,
        request: str | None,
        times: int,
        during: list[Any],
    ) -> Submission:
        """A client submits a plan, or a few alike; while steps run, something else may happen."""
        submission = self._submission(plan, credential, during=tuple(during), request=request)
        plan = submission.plan
        match stray:
            case "user":
                submission = replace(submission, plan=replace(plan, user_id="eve"))
            case "caller":
                submission = replace(submission, caller=CALLERS[1])
            case "trigger":
                submission = replace(submission, plan=replace(plan, trigger_type="scheduled"))
            case "token":
                submission = replace(submission, credential=NOBODYS)
            case "time":
                submission = replace(submission, time_left=False)
            case "plan":
                submission = replace(submission, plan=replace(plan, steps=plan.steps * 2))
            case _:
                pass
        for number in range(times):
            self.happen(
                replace(
                    submission,
                    plan_id=f"{submission.plan_id}.{number}",
                    request_id=f"{submission.request_id}.{number}",
                )
            )
            self._resume()
        return replace(
            submission,
            plan_id=f"{submission.plan_id}.0",
            request_id=f"{submission.request_id}.0",
        )

    @rule(
        credential=credentials,
        steps=st.integers(1, 2),
        pauses=st.lists(st.sampled_from([1, 30, 59, 60]), min_size=1, max_size=4),
    )
    def spend(self, credential: str, steps: int, pauses: list[int]) -> None:
        """A client uses a token up with plans that nothing is wrong with, at the limits' pace."""
        plan = Plan("ada", "manual", (PlanStep("trial", "effect"),) * steps)
        for seconds in pauses:
            self.happen(self._submission(plan, credential))
            self.happen(("advance", seconds))

    @rule(
        credential=credentials,
        at=st.integers(0, 2),
        how=st.sampled_from(["cancel", "timeout", ("halt", True), ("advance", 299)]),
    )
    def stop_in_mid_plan(self, credential: str, at: int, how: Any) -> None:
        """Whatever ends a plan that nothing is wrong with ends it before its next step."""
        plan = Plan("ada", "manual", (PlanStep("trial", "effect"),) * 3)
        self.happen(self._submission(plan, credential, during=(None,) * at + (how,)))
        self._resume()

    @rule(plan=PLANS, credential=consumes(credentials))
    def revoke_while_a_step_runs(self, plan: Plan, credential: str) -> None:
        """The very token of the running plan: its next step must not start."""
        self.happen(self._submission(plan, credential, during=(("revoke", credential),)))

    @rule(plan=PLANS, credential=credentials, seconds=st.sampled_from([30, 60, 299]))
    def let_time_pass_while_a_step_runs(self, plan: Plan, credential: str, seconds: int) -> None:
        """The token may expire under the running plan."""
        self.happen(self._submission(plan, credential, during=(("advance", seconds),) * 2))

    @rule(outer=PLANS, inner=PLANS, credential=credentials, same=st.booleans())
    def submit_while_a_step_runs(
        self, outer: Plan, inner: Plan, credential: str, *, same: bool
    ) -> None:
        """Another plan of the same token uses it up in between, or the same request comes again."""
        first = self._submission(outer, credential)
        second = self._submission(inner, credential)
        if same:
            second = replace(first, plan_id=second.plan_id)
        self.happen(replace(first, during=(second,)))

    @rule(
        earlier=submissions,
        credential=credentials,
        plan=PLANS,
        change=st.sampled_from(["nothing", "nothing", "token", "plan", "plan_id"]),
    )
    def resubmit(self, earlier: Submission, credential: str, plan: Plan, change: str) -> None:
        """The same request again: as it was, or with one thing changed."""
        again = replace(earlier, plan_id=self._fresh_plan_id(), during=())
        match change:
            case "token":
                again = replace(again, credential=credential)
            case "plan":
                again = replace(again, plan=replace(plan, user_id=earlier.plan.user_id))
            case "plan_id":
                again = replace(again, plan_id=earlier.plan_id)
            case _:
                pass
        self.happen(again)

    def _submission(
        self,
        plan: Plan,
        credential: str,
        *,
        during: tuple[Any, ...] = (),
        request: str | None = None,
    ) -> Submission:
        """Return a submission as the token wants it: its user, and the plan that it is bound to."""
        grant = self.model.grants.get(credential)
        if grant is not None:
            plan = grant.bound_to or replace(plan, user_id=grant.user_id)
        plan_id = self._fresh_plan_id()
        return Submission(
            plan, credential, CALLERS[0], request or f"only-{plan_id}", plan_id, during=during
        )

    def _fresh_plan_id(self) -> str:
        self.plans_seen += 1
        return f"plan-{self.plans_seen}"

    def teardown(self) -> None:
        """Close the store, whose tables say what its log says."""
        contradiction = self.world.contradiction()
        self.world.close()
        assert contradiction is None
