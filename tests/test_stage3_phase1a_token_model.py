"""Phase 1a: a token is immutable, every field has a rule, and Stage-3 issues none by itself."""

from __future__ import annotations

import ast
import copy
import gc
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from stagegate.stage3.v1 import token_service_pb2

import stage3_service
from servicekit.serving.client_errors import decode_rpc_error
from stage3_service.tokens.credential import credential_key
from stage3_service.tokens.issue import IssuePolicy
from stage3_service.tokens.method_scope import MethodScope
from stage3_service.tokens.refusal import IssueRefused
from stage3_service.tokens.resource_limits import MAX_LIMIT
from stage3_service.tokens.token import CapabilityToken
from tests.harness.stage3 import Stage3UnderTest
from tests.unit.stage3.grants import CLIENT, DIGEST, NOW, OTHER_CLIENT, issue, token

TOKEN_FIELDS = [field.name for field in fields(CapabilityToken)]


def refused(**changes: Any) -> IssueRefused:
    """Return how a token with these changes is refused; it must be."""
    with pytest.raises(IssueRefused) as caught:
        issue(**changes)
    return caught.value


class TestImmutable:
    """A token cannot be changed after it was made."""

    @pytest.mark.parametrize("name", TOKEN_FIELDS)
    def test_no_field_can_be_set(self, name: str) -> None:
        """Setting any field raises and leaves the token as it was."""
        granted = token()
        before = replace(granted)
        with pytest.raises((FrozenInstanceError, AttributeError)):
            setattr(granted, name, getattr(granted, name))
        assert granted == before

    @pytest.mark.parametrize("name", TOKEN_FIELDS)
    def test_no_field_can_be_deleted(self, name: str) -> None:
        """Deleting any field raises."""
        granted = token()
        with pytest.raises((FrozenInstanceError, AttributeError)):
            delattr(granted, name)
        assert hasattr(granted, name)

    def test_no_field_can_be_added(self) -> None:
        """There is no instance dictionary to put one in."""
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            token().role = "admin"  # type: ignore[attr-defined]
        assert not hasattr(token(), "__dict__")

    def test_nothing_mutable_is_reachable_from_a_token(self) -> None:
        """Following every reference of every part finds no list, dict, set or bytearray."""
        pending: list[Any] = [token(max_frequency="1 per 1 seconds", plan_digest=DIGEST)]
        while pending:
            part = pending.pop()
            assert not isinstance(part, list | dict | set | bytearray)
            # Classes and enum members are the program, not the token.
            if type(part).__module__.startswith("stage3_service") and not isinstance(part, str):
                pending.extend(getattr(part, field.name) for field in fields(part))
            elif isinstance(part, tuple):
                pending.extend(gc.get_referents(part))

    def test_method_scope_refuses_item_assignment(self) -> None:
        """The scope is a mapping that can only be read."""
        scope: Any = token().method_scope
        with pytest.raises(TypeError):
            scope["text"] = ("sha256",)
        assert scope["text"] == ("upper", "lower")

    def test_method_scope_hands_no_dict_to_a_hostile_comparison(self) -> None:
        """Comparing hands the other operand the scope itself, not what it is made of."""
        seen: list[object] = []

        class Curious:
            def __eq__(self, other: object) -> bool:
                seen.append(other)
                return True

            def __hash__(self) -> int:
                return 0

        assert token().method_scope == Curious()
        assert [type(other) for other in seen] == [MethodScope]

    def test_lists_handed_in_are_not_kept(self) -> None:
        """Changing what a scope was made from does not change the scope."""
        methods = ["upper"]
        scope = MethodScope((("text", methods),))  # type: ignore[arg-type]
        methods.append("lower")
        assert scope["text"] == ("upper",)

    @pytest.mark.parametrize("name", ["domain_scope", "allowed_trigger_types", "client_identities"])
    def test_a_token_with_a_list_inside_cannot_be_made(self, name: str) -> None:
        """A list would make the grant the property of whoever else holds it."""
        granted = token()
        changes: dict[str, Any] = {name: list(getattr(granted, name))}
        with pytest.raises(TypeError, match=name):
            replace(granted, **changes)

    def test_a_token_with_a_dict_as_scope_cannot_be_made(self) -> None:
        """The scope is the tuple-backed mapping and nothing that looks like it."""
        with pytest.raises(TypeError, match="method_scope"):
            replace(token(), method_scope={"text": ("upper",)})  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [bytearray(32), memoryview(bytes(32)), "ab" * 16])
    def test_a_bound_digest_is_bytes(self, value: Any) -> None:
        """Nothing that can be changed, or compared in another alphabet, names a plan."""
        with pytest.raises(TypeError, match="plan_digest"):
            replace(token(), plan_digest=value)

    def test_copies_are_equal_and_lawful(self) -> None:
        """A copy by any means is the same grant: there is nothing hidden to lose."""
        granted = token()
        assert copy.copy(granted) == granted
        assert copy.deepcopy(granted) == granted
        assert pickle.loads(pickle.dumps(granted)) == granted  # noqa: S301 - made one line above


class TestEqualityAndRepr:
    """Equal tokens are the same grant; nothing printed helps a thief."""

    def test_equal_fields_make_equal_tokens(self) -> None:
        """Two tokens issued with the same inputs are equal and hash alike."""
        assert token() == token()
        assert hash(token()) == hash(token())

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("token_key", sha256(b"x").digest()),
            ("token_id", "tok_" + "0" * 32),
            ("user_id", "bob"),
            ("capability", "other"),
            ("domain_scope", ("notebook", "text")),
            ("method_scope", MethodScope((("text", ("upper",)),))),
            (
                "allowed_trigger_types",
                token(allowed_trigger_types=("manual",)).allowed_trigger_types,
            ),
            ("resource_limits", token(max_invocations=1).resource_limits),
            ("issued_by", "other"),
            ("issued_at", NOW - timedelta(seconds=1)),
            ("expires_at", NOW + timedelta(seconds=1)),
            ("client_identities", (OTHER_CLIENT,)),
            ("plan_digest", DIGEST),
        ],
    )
    def test_every_field_counts_for_equality(self, name: str, value: Any) -> None:
        """Tokens that differ in one field are different."""
        assert replace(token(), **{name: value}) != token()

    def test_method_scope_equals_a_plain_mapping_with_the_same_items(self) -> None:
        """The scope is a mapping: order does not matter, content does."""
        scope = token().method_scope
        assert isinstance(scope, Mapping)
        assert scope == {"notebook": ("append_note",), "text": ("upper", "lower")}
        assert scope != {"text": ("upper", "lower")}
        assert len({scope, MethodScope(tuple(reversed(scope.grants)))}) == 1

    def test_repr_of_a_token_holds_neither_credential_nor_key(self) -> None:
        """Printing a token prints its public reference only."""
        issued = issue()
        text = repr(issued.token) + str(issued.token)
        assert issued.token.token_id in text
        assert issued.credential not in text
        assert repr(issued.token.token_key) not in text
        assert issued.token.token_key.hex() not in text
        assert "token_key" not in text

    def test_repr_of_an_issued_token_holds_no_credential(self) -> None:
        """The value that carries the credential out does not print it either."""
        issued = issue()
        assert issued.credential not in repr(issued)

    def test_the_token_does_not_hold_its_credential(self) -> None:
        """Only the SHA-256 is kept, so that a stolen token replays nothing."""
        issued = issue()
        assert issued.credential not in [getattr(issued.token, name) for name in TOKEN_FIELDS]
        assert issued.token.token_key == sha256(issued.credential.encode()).digest()


class TestCredential:
    """The credential is 256 bits, shown once; the reference is public."""

    def test_credential_is_the_prefix_and_256_bits(self) -> None:
        """`token_` and 43 characters of base64url."""
        credential = issue().credential
        assert credential.startswith("token_")
        assert len(credential) == len("token_") + 43
        assert set(credential[6:]) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        )

    def test_credential_depends_on_its_entropy_alone(self) -> None:
        """Nothing of the request leaks into it."""
        assert issue(user_id="bob").credential == issue().credential
        assert issue(seed=2).credential != issue(seed=1).credential

    def test_reference_says_nothing_about_the_credential(self) -> None:
        """`tok_` and 128 bits of other entropy."""
        issued = issue()
        assert issued.token.token_id.startswith("tok_")
        assert issued.token.token_id[4:] not in issued.token.token_key.hex()

    @pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
    def test_a_credential_of_other_entropy_is_refused(self, length: int) -> None:
        """256 bits, not fewer and not more."""
        from stage3_service.tokens.credential import encode_credential

        with pytest.raises(ValueError, match="32 bytes"):
            encode_credential(bytes(length))

    @pytest.mark.parametrize("presented", ["", "token_", "x" * 10_000, "tökén", "\ud800", "\x00"])
    def test_every_text_has_a_key(self, presented: str) -> None:
        """A malformed credential is looked up like any other: it is simply unknown."""
        assert len(credential_key(presented)) == 32


class TestNames:
    """Every name has a stated, bounded syntax; nothing is a pattern."""

    @pytest.mark.parametrize(
        "user_id",
        ["a", "Alice", "alice@example.test", "u-1_2.x", "00uABC", "a" * 128, "travel_agent"],
    )
    def test_lawful_user_ids_are_accepted_as_they_are(self, user_id: str) -> None:
        """Nothing is normalized."""
        assert token(user_id=user_id).user_id == user_id

    @pytest.mark.parametrize(
        "user_id",
        [
            *("", " ", " alice", "alice ", "al ice", "a" * 129, "-alice", "alice-", ".", "alice\n"),
            *("*", "al*ce", "alice?", "[a-z]", "a|b", "a,b", "^a$", "a%", "a\\b", "(a)", "{a}"),
            *("alicé", "аlice", "alice\u200b", "ａlice", "alice\x00", "a/b", "a;b", "a=b", "a+b"),
        ],
    )
    def test_unlawful_user_ids_are_refused(self, user_id: str) -> None:
        """Empty, long, padded, patterned and look-alike names are no user."""
        assert refused(user_id=user_id).field == "user_id"

    @pytest.mark.parametrize("capability", ["", "*", "a" * 129, " x", "x ", "x\ty", "ä", "a?b"])
    def test_unlawful_capabilities_are_refused(self, capability: str) -> None:
        """The label is bounded too."""
        assert refused(capability=capability).field == "capability"

    def test_capability_is_a_label_and_grants_nothing(self) -> None:
        """Tokens with any label have the scope they were given."""
        assert token(capability="notebook.delete_note").method_scope == token().method_scope

    @pytest.mark.parametrize(
        "domain",
        [
            *("", "*", "text*", "te?t", "text.*", "Text", "TEXT", "tеxt", "1text", "_text"),
            *("text ", " text", "text\n", "t" * 65, "text,notebook", "text|notebook", "%"),
            *("[t]ext", "text-1"),
        ],
    )
    def test_unlawful_domains_are_refused(self, domain: str) -> None:
        """A domain is an exact, lower-case ASCII name."""
        changes: dict[str, Any] = {"domain_scope": (domain,), "method_scope": ((domain, ("m",)),)}
        assert refused(**changes).field == "domain_scope"

    @pytest.mark.parametrize(
        "method", ["", "*", "upper*", "up?er", "Upper", "uрper", "upper ", "u" * 65, "a.b", "a/b"]
    )
    def test_unlawful_methods_are_refused(self, method: str) -> None:
        """A method is an exact, lower-case ASCII name."""
        assert refused(method_scope=(("text", (method,)),)).field == "method_scope.text"

    @pytest.mark.parametrize(
        "identity",
        [
            *(
                "",
                "front",
                "*",
                "spiffe://stagegate.test/client/*",
                "spiffe://stagegate.test/client/",
            ),
            *("spiffe://stagegate.test/client", "spiffe://stagegate.test/operator/x"),
            *("spiffe://stagegate.test/stage4", "spiffe://stagegate.test/domain/x"),
            *("https://stagegate.test/client/x", "spiffe:///client/x", "SPIFFE://a/client/x"),
            *("spiffe://Stagegate.test/client/x", "spiffe://a/client/x/y", "spiffe://a/client/x?y"),
            *("spiffe://a/client/x#y", "spiffe://a/client/x%20", "spiffe://a:1/client/x"),
            *("spiffe://a/client/..", "spiffe://a/client/\u0445", " spiffe://a/client/x"),
            *("spiffe://a/client/x\n", f"spiffe://{'a' * 256}/client/x"),
            *(f"spiffe://a/client/{'x' * 65}", f"spiffe://{'a' * 255}/client/{'x' * 64}"),
        ],
    )
    def test_unlawful_client_identities_are_refused(self, identity: str) -> None:
        """Only a full client identity of SPIFFE form names a caller."""
        assert refused(client_identities=(identity,)).field == "client_identities"

    def test_a_client_of_another_trust_domain_is_refused(self) -> None:
        """With the deployment's trust domain known, a foreign client is a mistake."""
        policy = IssuePolicy(trust_domain="stagegate")
        assert refused(policy=policy).field == "client_identities"
        assert issue(policy=IssuePolicy(trust_domain="stagegate.test")).token == token()


class TestExplicitScope:
    """Nothing is granted by silence, by repetition or by accident."""

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"domain_scope": ()}, "domain_scope"),
            ({"method_scope": ()}, "method_scope"),
            ({"method_scope": (("text", ()),)}, "method_scope.text"),
            ({"allowed_trigger_types": ()}, "allowed_trigger_types"),
            ({"client_identities": ()}, "client_identities"),
        ],
    )
    def test_empty_lists_are_refused(self, changes: dict[str, Any], field: str) -> None:
        """An empty list could be read as everything; it is read as a mistake."""
        assert refused(**changes).field == field

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"domain_scope": ("text", "text", "notebook")}, "domain_scope"),
            ({"method_scope": (("text", ("upper",)), ("text", ("lower",)))}, "method_scope"),
            ({"method_scope": (("text", ("upper", "upper")),)}, "method_scope.text"),
            ({"allowed_trigger_types": ("manual", "manual")}, "allowed_trigger_types"),
            ({"client_identities": (CLIENT, CLIENT)}, "client_identities"),
        ],
    )
    def test_duplicates_are_refused(self, changes: dict[str, Any], field: str) -> None:
        """Naming something twice is a mistake whose meaning is anybody's guess."""
        assert refused(**changes).field == field

    def test_methods_of_a_domain_outside_the_domain_scope_are_refused(self) -> None:
        """The keys of method_scope are a subset of domain_scope."""
        changes: dict[str, Any] = {"domain_scope": ("notebook",)}
        assert refused(**changes).field == "method_scope"

    def test_a_domain_may_be_in_scope_without_methods(self) -> None:
        """It grants nothing, which is what it says."""
        granted = token(method_scope=(("text", ("upper",)),))
        assert "notebook" in granted.domain_scope
        assert not granted.method_scope.permits("notebook", "append_note")

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"domain_scope": tuple(f"d{i}" for i in range(65))}, "domain_scope"),
            (
                {"method_scope": (("text", tuple(f"m{i}" for i in range(257))),)},
                "method_scope.text",
            ),
            (
                {"client_identities": tuple(f"spiffe://a/client/c{i}" for i in range(65))},
                "client_identities",
            ),
        ],
    )
    def test_lists_are_bounded(self, changes: dict[str, Any], field: str) -> None:
        """A grant that nobody can read is refused."""
        assert refused(**changes).field == field

    def test_bearer_is_explicit_and_recorded(self) -> None:
        """A token without named callers says so about itself."""
        granted = token(client_identities=(), bearer=True)
        assert granted.bearer
        assert granted.client_identities == ()

    def test_bearer_with_named_callers_is_refused(self) -> None:
        """Both at once would make the named callers a decoration."""
        assert refused(bearer=True).field == "client_identities"


class TestLife:
    """A token is born once, lives shortly and ends at a stated instant."""

    def test_expiry_is_issue_plus_lifetime(self) -> None:
        """To the microsecond."""
        granted = token(lifetime_s=600)
        assert granted.issued_at == NOW
        assert granted.expires_at == NOW + timedelta(seconds=600)
        assert granted.lifetime_s == 600

    @pytest.mark.parametrize("lifetime_s", [1, 1_800])
    def test_lifetimes_within_the_policy_are_accepted(self, lifetime_s: int) -> None:
        """The bound is inclusive."""
        assert token(lifetime_s=lifetime_s).lifetime_s == lifetime_s

    @pytest.mark.parametrize("lifetime_s", [0, -1, 1_801, 86_400, 2**63, True, 60.0, "60"])
    def test_other_lifetimes_are_refused(self, lifetime_s: Any) -> None:
        """Nothing lives for no time, for too long, or for something that is no integer."""
        assert refused(lifetime_s=lifetime_s).field == "lifetime_seconds"

    def test_the_policy_decides_the_longest_life(self) -> None:
        """It is a setting."""
        longer, shorter = IssuePolicy(max_lifetime_s=3_600), IssuePolicy(max_lifetime_s=60)
        assert issue(lifetime_s=3_600, policy=longer).token.lifetime_s == 3_600
        assert refused(lifetime_s=61, policy=shorter).field == "lifetime_seconds"

    def test_a_token_bound_to_one_plan_and_its_steps_may_live_a_day(self) -> None:
        """The long life is bought with a single use."""
        bound: dict[str, Any] = {"plan_digest": DIGEST, "max_invocations": 2}
        assert token(lifetime_s=86_400, **bound).lifetime_s == 86_400
        assert refused(lifetime_s=86_401, **bound).field == "lifetime_seconds"

    @pytest.mark.parametrize("changes", [{"plan_digest": DIGEST}, {"max_invocations": 2}])
    def test_half_a_binding_buys_no_long_life(self, changes: dict[str, Any]) -> None:
        """Both the digest and the number of invocations are needed."""
        assert refused(lifetime_s=1_801, **changes).field == "lifetime_seconds"

    @pytest.mark.parametrize(
        "instant",
        [datetime(2026, 3, 1), NOW.astimezone(timezone(timedelta(hours=1)))],  # noqa: DTZ001 - naive on purpose
    )
    def test_instants_are_aware_and_in_utc(self, instant: datetime) -> None:
        """A naive instant means something else on every machine."""
        assert refused(now=instant).field == "issued_at"

    def test_a_token_cannot_expire_before_it_is_issued(self) -> None:
        """Not even when it is read back from a store."""
        with pytest.raises(IssueRefused, match="expires_at"):
            replace(token(), expires_at=NOW)

    @pytest.mark.parametrize("length", [0, 31, 33])
    def test_a_plan_digest_has_32_bytes(self, length: int) -> None:
        """Anything else names no plan."""
        assert refused(plan_digest=bytes(length)).field == "plan_digest"


class TestResourceLimits:
    """Limits are positive integers that every reader understands alike."""

    @pytest.mark.parametrize(
        "name", ["max_invocations", "max_response_bytes", "max_total_response_bytes"]
    )
    @pytest.mark.parametrize("value", [0, -1, MAX_LIMIT + 1, True, False, 1.0, "1"])
    def test_other_numbers_are_refused(self, name: str, value: Any) -> None:
        """Zero, negatives, booleans, fractions and what a double cannot hold."""
        assert refused(**{name: value}).field == f"resource_limits.{name}"

    @pytest.mark.parametrize(
        "name", ["max_invocations", "max_response_bytes", "max_total_response_bytes"]
    )
    @pytest.mark.parametrize("value", [1, MAX_LIMIT])
    def test_the_bounds_are_accepted(self, name: str, value: int) -> None:
        """One and 2^53-1 are numbers like others."""
        assert getattr(token(**{name: value}).resource_limits, name) == value

    @pytest.mark.parametrize(
        "text", ["1 per 1 seconds", "5 per 60 seconds", "1000000 per 86400 seconds"]
    )
    def test_frequencies_are_parsed_exactly(self, text: str) -> None:
        """What is printed is what was given."""
        assert str(token(max_frequency=text).resource_limits.max_frequency) == text

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                "5",
                "5 per second",
                "5/minute",
                "5 per 60",
                "5 per 60 second",
                "five per 60 seconds",
            ),
            *("0 per 60 seconds", "5 per 0 seconds", "-5 per 60 seconds", "+5 per 60 seconds"),
            *("05 per 60 seconds", "5 per 060 seconds", "5.0 per 60 seconds", "5e1 per 60 seconds"),
            *(" 5 per 60 seconds", "5 per 60 seconds ", "5  per 60 seconds", "5 per 60 seconds\n"),
            *("5 PER 60 SECONDS", "5 per 60 Seconds", "5\tper 60 seconds", "5\u00a0per 60 seconds"),
            *("٥ per 60 seconds", "5 per ６０ seconds", "5_0 per 60 seconds", "* per 60 seconds"),
            *("1000001 per 60 seconds", "5 per 86401 seconds", "9" * 5_000 + " per 60 seconds"),
            *("5 per 60 minutes", "5 per 60 seconds per user", "5 per 60 seconds,1 per 1 seconds"),
        ],
    )
    def test_other_frequencies_are_refused(self, text: str) -> None:
        """One spelling only; everything else is refused, not interpreted."""
        assert refused(max_frequency=text).field == "resource_limits.max_frequency"


class TestWhoIssues:
    """Tokens come from operators; Stage-3 makes none."""

    def test_issuer_is_the_name_handed_in(self) -> None:
        """The request has no say in it."""
        assert token(issued_by="opal").issued_by == "opal"

    @pytest.mark.parametrize("issued_by", ["", "*", "op al", "öpal", "a" * 129])
    def test_unlawful_issuers_are_refused(self, issued_by: str) -> None:
        """The issuer's name has the rule of a user's."""
        assert refused(issued_by=issued_by).field == "issued_by"

    def test_a_request_cannot_name_issuer_reference_or_times(self) -> None:
        """What identifies a token is not the asker's to choose."""
        from stage3_service.tokens.issue import IssueRequest

        asked = {field.name for field in fields(IssueRequest)}
        assert not asked & {"issued_by", "token_id", "token_hash", "token_key", "issued_at"}
        assert not asked & {"expires_at"}

    def test_only_the_operators_door_calls_issue(self) -> None:
        """Outside its own module, `issue_token` is known to the operators' servicers alone.

        In particular it is known to nothing that a plan reaches.
        """
        root = Path(stage3_service.__file__).parent
        knowing = {
            path.relative_to(root).as_posix()
            for path in root.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if "issue_token" in {getattr(node, key, None) for key in ("id", "attr", "name")}
        }
        assert "tokens/issue.py" in knowing
        assert knowing <= {"tokens/issue.py", "wire/operator_servicers.py"}

    def test_there_is_no_way_to_renew_extend_or_delegate(self) -> None:
        """A token has no method that makes another; a new one is a new decision of an operator."""
        public = {name for name in dir(CapabilityToken) if not name.startswith("_")}
        assert public == {*TOKEN_FIELDS, "lifetime_s"}

    def test_time_and_entropy_are_arguments(self) -> None:
        """The same inputs give the same token in every process."""
        assert issue() == issue()
        assert issue(now=NOW.astimezone(UTC) + timedelta(seconds=1)) != issue()


class TestAtTheOperatorsDoor:
    """The rules hold where tokens are really issued, and the store keeps no credential."""

    def test_the_credential_is_shown_once_and_never_again(self, stage3: Stage3UnderTest) -> None:
        """Neither reading nor listing returns it, and no event holds it or its hash."""
        issued = stage3.issue()
        assert len(issued.token_hash) == 49
        request = token_service_pb2.GetTokenRequest(token_id=issued.token.token_id)
        listing = stage3.tokens().ListTokens(token_service_pb2.ListTokensRequest())
        shown = f"{stage3.tokens().GetToken(request)}{listing}{stage3.events()}"
        assert issued.token.token_id in shown
        assert issued.token_hash not in shown
        assert credential_key(issued.token_hash).hex() not in shown

    def test_the_store_holds_no_credential(self, stage3: Stage3UnderTest, tmp_path: Path) -> None:
        """Whoever steals every file has nothing to present."""
        issued = stage3.issue()
        files = [path for path in (tmp_path / "stage3").rglob("*") if path.is_file()]
        held = b"".join(path.read_bytes() for path in files)
        assert issued.token.token_id.encode() in held
        assert issued.token_hash.encode() not in held
        assert issued.token_hash.removeprefix("token_").encode() not in held

    def test_the_issuer_is_the_certificates_name(self, stage3: Stage3UnderTest) -> None:
        """And so says the log."""
        issued = stage3.issue()
        assert issued.token.issued_by == "oona"
        (event,) = stage3.events(event_type="TOKEN_ISSUED")
        assert event["token_id"] == issued.token.token_id
        assert "oona" in str(event)

    @pytest.mark.parametrize(
        "changes",
        [
            {"user_id": "*"},
            {"scope": {}},
            {"scope": {"text": ()}},
            {"scope": {"*": ("upper",)}},
            {"scope": {"text": ("*",)}},
            {"allowed_trigger_types": []},
            {"client_identities": []},
            {"client_identities": ["spiffe://elsewhere.test/client/cli"]},
            {"lifetime_seconds": 0},
            {"lifetime_seconds": 1_801},
            {"limits": {"max_frequency": "often"}},
            {"limits": {"max_invocations": 0}},
            {"plan_digest": b"short"},
        ],
        ids=str,
    )
    def test_an_unlawful_token_is_refused_and_leaves_nothing(
        self, stage3: Stage3UnderTest, changes: dict[str, Any]
    ) -> None:
        """INVALID_ARGUMENT with the field, no token, no TOKEN_ISSUED."""
        with pytest.raises(grpc.RpcError) as caught:
            stage3.issue(**changes)
        error = decode_rpc_error(caught.value)
        assert error.code == "INVALID_ARGUMENT"
        assert len(error.violations) == 1
        assert stage3.events(event_type="TOKEN_ISSUED") == []
        listing = stage3.tokens().ListTokens(token_service_pb2.ListTokensRequest())
        assert list(listing.tokens) == []
