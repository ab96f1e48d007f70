"""The method table in front of real handlers: default deny, roles, and who hears of a refusal."""

import grpc
import pytest

from servicekit.serving.identity import Identity, IdentityKind
from servicekit.serving.method_table import Rule
from tests.component.servicekit.serving_world import World, call, failure, full, uri

ALICE = Identity(IdentityKind.CLIENT, "alice", uri("client/alice"))
CLIENTS = Rule(frozenset({IdentityKind.CLIENT}))


def never(_request: bytes, _context: grpc.ServicerContext) -> bytes:
    """Fail the test: a refused call has reached its handler."""
    pytest.fail("a refused call reached its handler")


class TestDefaultDeny:
    """A method is called by those its rule names, and by nobody else."""

    @pytest.mark.parametrize("method", ["Hidden", "Absent"])
    def test_a_method_without_a_rule_is_refused_whether_it_exists_or_not(
        self, world: World, method: str
    ) -> None:
        """The two answers are one: a stranger cannot list methods by asking for them."""
        server = world.serve(
            {"Get": never, "Hidden": never}, policy=world.policy({full("Get"): CLIENTS})
        )
        error = failure(world.channel(server), method)
        assert (error.code, error.reason, error.message) == (
            "PERMISSION_DENIED",
            "METHOD_NOT_PERMITTED",
            "this caller may not call this method",
        )
        assert world.refused == [(ALICE, full(method), "METHOD_NOT_PERMITTED")]

    @pytest.mark.parametrize(
        "path", ["stage4", "operator/olga", "auditor/anna", "domain/notes", "client/alice"]
    )
    def test_every_kind_but_the_one_in_the_rule_is_refused(self, world: World, path: str) -> None:
        """One rule, every kind of caller: exactly one gets through."""
        server = world.serve({"Get": lambda _request, _context: b"in"})
        channel = world.channel(server, world.authority.caller(path))
        if path.startswith("client/"):
            assert call(channel, "Get") == b"in"
            assert world.refused == []
        else:
            assert failure(channel, "Get").reason == "METHOD_NOT_PERMITTED"
            assert [facts[0] and facts[0].uri for facts in world.refused] == [uri(path)]

    def test_a_method_with_a_rule_and_no_handler_is_unimplemented(self, world: World) -> None:
        """A permitted caller may know that nothing is there."""
        server = world.serve({}, policy=world.policy({full("Get"): CLIENTS}))
        assert failure(world.channel(server), "Get").code == "UNIMPLEMENTED"
        assert world.refused == []

    def test_an_unknown_method_name_is_recorded_bounded(self, world: World) -> None:
        """The caller chooses the name, so what is kept of it has a limit."""
        server = world.serve({"Get": never})
        assert failure(world.channel(server), "x" * 5000).reason == "METHOD_NOT_PERMITTED"
        assert [len(method) for _identity, method, _reason in world.refused] == [256]


class TestRoles:
    """An operator needs a role; the settings say who has which."""

    def test_only_the_holder_of_a_role_passes(self, world: World) -> None:
        """Two operators, one rule, one of them has the role."""
        roles = {"olga": frozenset({"issuer"}), "otto": frozenset({"halter"})}
        policy = world.policy(
            {full("Issue"): Rule(frozenset({IdentityKind.OPERATOR}), frozenset({"issuer"}))},
            roles_of=lambda identity: roles[identity.name],
        )
        server = world.serve({"Issue": lambda _request, _context: b"done"}, policy=policy)
        olga = world.channel(server, world.authority.caller("operator/olga"))
        otto = world.channel(server, world.authority.caller("operator/otto"))
        assert call(olga, "Issue") == b"done"
        assert failure(otto, "Issue").reason == "METHOD_NOT_PERMITTED"


class TestOnRefused:
    """A refusal that must be recorded is recorded before it is told."""

    def test_a_refusal_that_cannot_be_recorded_is_an_internal_error(self, world: World) -> None:
        """The caller is refused all the same, and learns nothing of the failed record."""

        def fail(*_facts: object) -> None:
            raise OSError("the disk is full")

        server = world.serve({"Get": never}, policy=world.policy({}, on_refused=fail))
        error = failure(world.channel(server), "Get")
        assert (error.code, error.reason) == ("INTERNAL", "INTERNAL")
        assert "disk" not in error.message
