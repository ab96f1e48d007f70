"""Operators, clients, time, a misbehaving domain, and crashes of either service at any point."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from servicekit.store.ledger import Ledger
from stage3_service.tokens.issue import IssueRequest
from tests.simulation.crash_disk import Crashed, Loss, Moment
from tests.simulation.pair_checks import PairChecks
from tests.simulation.pair_world import PATIENCE_S, PairWorld, Request

CALLERS = ("spiffe://stagegate.test/client/cli", "spiffe://stagegate.test/client/other")
METHODS = (
    "effect",
    "echo",
    "fail",
    "unreachable",
    "silent",
    "garbage",
    "raise_error",
    "undeclared",
)
CANARY = "canary-of-the-parameters"
STEPS = st.lists(
    st.sampled_from(["effect"] * 16 + ["echo"] * 4 + list(METHODS[2:])), min_size=1, max_size=3
)
LOSSES = st.sampled_from(list(Loss))

HAPPENINGS = st.tuples(
    st.just("happen"),
    st.integers(0, 2),
    st.sampled_from(["revoke", "halt", "cancel", "deadline", "again", "expire"]),
)
TROUBLES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.none(),
    HAPPENINGS,
    st.tuples(st.just("in the domain"), st.integers(0, 2), st.booleans(), LOSSES),
    st.tuples(st.just("in a commit"), st.integers(0, 3), st.sampled_from(list(Moment)), LOSSES),
    st.tuples(
        st.just("above"),
        st.sampled_from(["before opened", "after opened", "before ended", "after ended"]),
    ),
    st.tuples(st.just("lost answer")),
)


class PairMachine(RuleBasedStateMachine):
    """A credential is a bundle's value; a request is one that may come again."""

    credentials: Bundle[str] = Bundle("credentials")
    requests: Bundle[Request] = Bundle("requests")
    # What all runs together have met.
    met: ClassVar[Counter[str]] = Counter()
    weaken: ClassVar[Callable[[Ledger], None]] = staticmethod(lambda _ledger: None)

    def __init__(self) -> None:
        super().__init__()
        self.world = PairWorld(type(self).weaken)
        self.checks = PairChecks(self.world)
        self.checks.secrets.add(CANARY)
        self.token_ids: dict[str, str] = {}
        self.requests_made = 0

    @initialize(target=credentials)
    def one_token_for_everything(self) -> str:
        """There is always a token that grants what there is."""
        return self._issue(None, 600, METHODS, bearer=True)

    @rule(
        target=credentials,
        most=st.sampled_from([None, 1, 2, 4]),
        lifetime_s=st.sampled_from([30, 600]),
        methods=st.sampled_from([METHODS, METHODS, ("effect",)]),
        bearer=st.booleans(),
    )
    def issue(self, most: Any, lifetime_s: int, methods: tuple[str, ...], *, bearer: bool) -> str:
        """An operator issues a token."""
        return self._issue(most, lifetime_s, methods, bearer=bearer)

    def _issue(
        self, most: int | None, lifetime_s: int, methods: tuple[str, ...], *, bearer: bool
    ) -> str:
        credential, token_id = self.world.issue(
            IssueRequest(
                user_id="ada",
                capability="model",
                domain_scope=("trial",),
                method_scope=(("trial", methods),),
                allowed_trigger_types=("manual",),
                lifetime_s=lifetime_s,
                max_invocations=most,
                max_frequency=None,
                max_response_bytes=None,
                max_total_response_bytes=None,
                client_identities=() if bearer else CALLERS[:1],
                bearer=bearer,
                plan_digest=None,
            )
        )
        self.token_ids[credential] = token_id
        self.checks.secrets.add(credential)
        self.checks.verify()
        return credential

    @rule(
        target=requests,
        credential=credentials,
        steps=STEPS,
        trouble=TROUBLES,
        caller=st.sampled_from([0, 0, 0, 1]),
    )
    def submit(self, credential: str, steps: list[str], trouble: Any, caller: int) -> Request:
        """A client submits a plan; something may happen to it on the way."""
        self.requests_made += 1
        request = Request(
            CALLERS[caller], self._document(credential, steps), f"request-{self.requests_made}"
        )
        self._submit(request, trouble, credential)
        return request

    @rule(
        request=requests,
        credential=credentials,
        change=st.sampled_from(["nothing", "nothing", "nothing", "token", "plan", "caller"]),
        trouble=TROUBLES,
    )
    def submit_again(self, request: Request, credential: str, change: str, trouble: Any) -> None:
        """The same request again, as it was or with one thing changed."""
        document = json.loads(request.document)
        match change:
            case "token":
                document["token_hash"] = credential
            case "plan":
                document["steps"] = document["steps"] * 2
            case "caller":
                request = replace(request, caller=CALLERS[1])
            case _:
                pass
        again = replace(request, document=json.dumps(document).encode())
        self._submit(again, trouble, document["token_hash"])

    @rule(credential=credentials, steps=STEPS)
    def submit_without_a_name(self, credential: str, steps: list[str]) -> None:
        """A client that names no request gets a fresh one from Stage-4."""
        self._submit(Request(CALLERS[0], self._document(credential, steps), ""), None, credential)

    @rule(credential=consumes(credentials), steps=STEPS)
    def revoke(self, credential: str, steps: list[str]) -> None:
        """An operator revokes a token, which is good for replays alone from then on."""
        self.world.revoke(self.token_ids[credential])
        self.checks.verify()
        self._submit(Request(CALLERS[0], self._document(credential, steps), ""), None, credential)

    @rule(
        credential=consumes(credentials),
        steps=STEPS,
        moment=st.sampled_from(list(Moment)),
        loss=LOSSES,
    )
    def die_while_revoking(
        self, credential: str, steps: list[str], moment: Moment, loss: Loss
    ) -> None:
        """A crash during a revocation leaves it whole or not at all."""
        self.world.restart_stage3()
        assert self.world.stage3 is not None
        self.world.stage3.store.announce(0, moment, loss)
        try:
            self.world.revoke(self.token_ids[credential])
        except Crashed:
            self.world.bury_stage3()
        self.world.restart_stage3()
        self._submit(Request(CALLERS[0], self._document(credential, steps), ""), None, credential)

    @rule(
        credential=credentials,
        step=st.integers(0, 1),
        what=st.sampled_from(["halt", "cancel", "deadline", "again"]),
    )
    def stop_in_mid_plan(self, credential: str, step: int, what: str) -> None:
        """What ends a plan that nothing is wrong with ends it before its next step."""
        self._submit(self._named(credential, 3), ("happen", step, what), credential)

    @rule(credential=credentials, other=credentials)
    def repeat_what_ended(self, credential: str, other: str) -> None:
        """The same request again is told the same; with one thing changed it is told nothing."""
        request = self._named(credential, 2)
        for again in (
            request,
            request,
            replace(request, document=self._document(other, ["effect"] * 2)),
            replace(request, document=self._document(credential, ["effect"])),
            replace(request, caller=CALLERS[1]),
        ):
            self._submit(again, None, credential)

    def _named(self, credential: str, steps: int) -> Request:
        self.requests_made += 1
        document = self._document(credential, ["effect"] * steps)
        return Request(CALLERS[0], document, f"request-{self.requests_made}")

    @rule(most=st.sampled_from([1, 2]))
    def spend(self, most: int) -> None:
        """A token is used up, and then it is good for nothing."""
        credential = self._issue(most, 600, METHODS, bearer=False)
        request = Request(CALLERS[0], self._document(credential, ["effect"]), "")
        for _ in range(most + 1):
            self._submit(request, None, credential)

    @rule(credential=credentials, steps=STEPS)
    def halt(self, credential: str, steps: list[str]) -> None:
        """An operator halts the service, and lets it go on."""
        self.world.halt(halted=True)
        self._submit(Request(CALLERS[0], self._document(credential, steps), ""), None, credential)
        self.world.halt(halted=False)
        self.checks.verify()

    @rule(seconds=st.sampled_from([1, 29, 30, 299]))
    def time_passes(self, seconds: int) -> None:
        """The clock advances."""
        self.world.clock.advance(seconds)

    @rule(credential=credentials, steps=STEPS, seconds=st.sampled_from([-1, -1, -10]))
    def clock_is_set_back(self, credential: str, steps: list[str], seconds: int) -> None:
        """A clock that is set back moves no record back, and starts nothing once it is far off."""
        if self.world.stage3 is None:
            return
        self.world.clock.step(seconds)
        self._submit(Request(CALLERS[0], self._document(credential, steps), ""), None, credential)
        self.world.clock.step(-seconds)
        for ledger in (self.world.stage3.ledger, self.world.stage4.log.ledger):
            ledger.acknowledge_clock()

    @rule()
    def late_answer(self) -> None:
        """A step that was given up takes its effect, and answers."""
        self.world.pay_late()
        self.checks.verify()

    @rule(credential=credentials, steps=STEPS, loss=LOSSES, both=st.booleans())
    def stage3_dies_at_rest(
        self, credential: str, steps: list[str], loss: Loss, *, both: bool
    ) -> None:
        """Stage-3 is killed, Stage-4 perhaps too, and while it is down a plan goes nowhere."""
        self.world.kill_stage3(loss)
        if both:
            self.world.kill_stage4()
        self._submit(Request(CALLERS[0], self._document(credential, steps), ""), None, credential)
        self.world.restart_stage3()
        self.checks.verify()

    @rule()
    def stage3_starts(self) -> None:
        """Stage-3 is started again, if a plan took it down."""
        self.world.restart_stage3()
        self.checks.verify()

    @rule()
    def stage4_dies_at_rest(self) -> None:
        """Stage-4 is killed and started again."""
        self.world.kill_stage4()
        self.checks.verify()

    def _document(self, credential: str, steps: list[str]) -> bytes:
        return json.dumps(
            {
                "user_id": "ada",
                "token_hash": credential,
                "trigger_type": "manual",
                "steps": [
                    {
                        "domain": "trial",
                        "method": method,
                        # An output is the client's own; a parameter that is not echoed is nobody's.
                        "parameters": {} if method == "echo" else {"canary": CANARY},
                    }
                    for method in steps
                ],
            }
        ).encode()

    def _submit(self, request: Request, trouble: Any, credential: str) -> None:
        self._announce(request, trouble, credential)
        told = self.world.submit(request)
        if told is not None:
            self.checks.hear(told)
        self.checks.verify()
        if trouble is not None and "halt" in trouble:
            self.world.halt(halted=False)

    def _announce(self, request: Request, trouble: Any, credential: str) -> None:
        world, node = self.world, self.world.stage3
        match trouble:
            case None:
                pass
            case ("lost answer",):
                world.loses_the_answer = True
            case ("above", moment):
                world.stage4.journal.die_at = moment
            case _ if node is None:
                pass
            case ("happen", step, what):
                world.domain.before[step] = self._happening(what, request, credential)
            case ("in a commit", commits, moment, loss):
                node.store.announce(commits, moment, loss)
            case ("in the domain", step, after, loss):

                def die() -> None:
                    node.store.die(loss)
                    raise Crashed

                (world.domain.after if after else world.domain.before)[step] = die
            case _:
                raise AssertionError(trouble)

    def _happening(self, what: str, request: Request, credential: str) -> Callable[[], None]:
        world = self.world

        def happen() -> None:
            match what:
                case "revoke":
                    world.revoke(self.token_ids[credential])
                case "halt":
                    world.halt(halted=True)
                case "cancel":
                    world.client.gone = True
                case "deadline":
                    world.clock.advance(PATIENCE_S)
                case "expire":
                    world.clock.advance(30)
                case _:
                    # The same request while its first submission runs.
                    first, before, after = world.client, world.domain.before, world.domain.after
                    world.domain.before, world.domain.after = {}, {}
                    told = world.submit(request)
                    assert told is not None
                    self.checks.hear(told)
                    assert told.reason == "REQUEST_IN_PROGRESS", told
                    world.client, world.domain.before, world.domain.after = first, before, after

        return happen

    def teardown(self) -> None:
        """Start what is down; tables say what logs say, and no file holds a secret."""
        try:
            self.world.restart_stage3()
            self.checks.verify()
            assert self.world.contradiction() is None
            self.checks.verify_at_rest()
            self.met.update(self.checks.met())
        finally:
            self.world.close()
