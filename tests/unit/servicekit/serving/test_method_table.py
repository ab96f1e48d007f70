"""Default deny, asked over every pair."""

import pytest

from servicekit.serving.identity import Identity, IdentityKind
from servicekit.serving.method_table import MethodTable, Rule, no_roles

KINDS = tuple(IdentityKind)


def identity(kind: IdentityKind, name: str = "x") -> Identity:
    """Return some caller of this kind."""
    return Identity(kind, name, f"spiffe://stagegate.test/{kind}/{name}")


TABLE = MethodTable(
    {
        "/a.v1.Plans/Run": Rule(frozenset({IdentityKind.STAGE4})),
        "/a.v1.Tokens/Issue": Rule(frozenset({IdentityKind.OPERATOR}), frozenset({"issuer"})),
        "/a.v1.Plans/Get": Rule(frozenset({IdentityKind.CLIENT, IdentityKind.AUDITOR})),
        "/a.v1.Audit/List": Rule(
            frozenset({IdentityKind.OPERATOR, IdentityKind.AUDITOR}),
            frozenset({"auditor", "halter"}),
            frozenset({IdentityKind.OPERATOR}),
        ),
    }
)
EXPECTED = {
    ("/a.v1.Plans/Run", IdentityKind.STAGE4, None),
    ("/a.v1.Plans/Run", IdentityKind.STAGE4, "issuer"),
    ("/a.v1.Plans/Run", IdentityKind.STAGE4, "halter"),
    ("/a.v1.Tokens/Issue", IdentityKind.OPERATOR, "issuer"),
    ("/a.v1.Plans/Get", IdentityKind.CLIENT, None),
    ("/a.v1.Plans/Get", IdentityKind.CLIENT, "issuer"),
    ("/a.v1.Plans/Get", IdentityKind.CLIENT, "halter"),
    ("/a.v1.Plans/Get", IdentityKind.AUDITOR, None),
    ("/a.v1.Plans/Get", IdentityKind.AUDITOR, "issuer"),
    ("/a.v1.Plans/Get", IdentityKind.AUDITOR, "halter"),
    ("/a.v1.Audit/List", IdentityKind.OPERATOR, "halter"),
    ("/a.v1.Audit/List", IdentityKind.AUDITOR, None),
    ("/a.v1.Audit/List", IdentityKind.AUDITOR, "issuer"),
    ("/a.v1.Audit/List", IdentityKind.AUDITOR, "halter"),
}


@pytest.mark.parametrize("role", [None, "issuer", "halter"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", sorted(TABLE.rules))
def test_every_pair_is_decided_as_written(
    method: str, kind: IdentityKind, role: str | None
) -> None:
    """Every method, every kind, with no role, the right one and another one."""
    roles = frozenset({role}) if role else frozenset()
    permitted = TABLE.permits(identity(kind), lambda _identity: roles, method)
    assert permitted == ((method, kind, role) in EXPECTED)


@pytest.mark.parametrize(
    "method",
    [
        "",
        "/a.v1.Plans/run",
        "a.v1.Plans/Run",
        "/a.v1.Plans/Run/",
        "/a.v1.Plans/Run ",
        "/a.v1.Plans",
        "/a.v1.Plans/*",
        "/A.v1.Plans/Run",
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_is_not_in_the_table_is_nobody_s(kind: IdentityKind, method: str) -> None:
    """Not by case, prefix, blank or pattern."""
    assert not TABLE.permits(identity(kind), lambda _identity: frozenset({"issuer"}), method)


def test_an_empty_table_permits_nothing() -> None:
    """No rules, no calls."""
    assert not MethodTable({}).permits(identity(IdentityKind.STAGE4), no_roles, "/a.v1.Plans/Run")


def test_a_table_does_not_follow_its_source() -> None:
    """A rule added to the mapping later is not in the table, and the table takes none."""
    rules = {"/a.v1.Plans/Run": Rule(frozenset({IdentityKind.STAGE4}))}
    table = MethodTable(rules)
    rules["/a.v1.Plans/Get"] = Rule(frozenset(KINDS))
    assert not table.permits(identity(IdentityKind.CLIENT), no_roles, "/a.v1.Plans/Get")
    with pytest.raises(TypeError):
        table.rules["/a.v1.Plans/Get"] = Rule(frozenset(KINDS))  # type: ignore[index]


@pytest.mark.parametrize(
    "method", ["", "/", "Run", "a.v1.Plans/Run", "/Run", "/a.v1.Plans/", "//Run"]
)
def test_a_rule_for_no_full_method_is_refused(method: str) -> None:
    """It would never match, and its author believes it does."""
    with pytest.raises(ValueError, match="not a full method name"):
        MethodTable({method: Rule(frozenset(KINDS))})


@pytest.mark.parametrize(
    ("kinds", "roles", "bound"),
    [
        ((), (), ()),
        ((), ("issuer",), ()),
        ((IdentityKind.CLIENT,), ("issuer",), (IdentityKind.OPERATOR,)),
        ((IdentityKind.OPERATOR,), (), (IdentityKind.OPERATOR,)),
    ],
)
def test_a_rule_that_cannot_mean_what_it_says_is_refused(
    kinds: tuple[IdentityKind, ...], roles: tuple[str, ...], bound: tuple[IdentityKind, ...]
) -> None:
    """Nobody permitted, a stranger bound, or bound to no role."""
    with pytest.raises(ValueError, match="a rule"):
        Rule(frozenset(kinds), frozenset(roles), frozenset(bound))
